"""From the first line of output to the end: signals, stdin, restarts, and what cannot start."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.agent.driver import (
    POSIX,
    ROOT,
    WAIT,
    AgentProcess,
    Linear,
    Workstation,
    deploy_linear,
)

Start = Callable[..., AgentProcess]
NewStation = Callable[..., Workstation]


def test_stdin_signals_and_open_connections_end_it_cleanly(start: Start, new_station: NewStation) -> None:
    agent = start()
    deploy_linear(new_station(agent), agent, Linear(8, 3))
    assert agent.process.stdin is not None
    agent.process.stdin.close()
    assert agent.process.wait(WAIT) == 0


@pytest.mark.skipif(not POSIX, reason="signals are POSIX")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_it(start: Start, number: int) -> None:
    agent = start()
    assert agent.terminate(number) == 0
    assert "Traceback" not in agent.errors


def test_identity_and_trust_survive_a_restart(start: Start, new_station: NewStation) -> None:
    agent = start(name="same")
    station = new_station(agent)
    identity, port = agent.id, agent.control_port
    control = station.control(agent)
    control.hello()
    agent.kill()
    again = start(name="same", port=port)
    assert again.id == identity
    assert control.hello().info.id == identity


def test_words_for_what_cannot_start(start: Start, tmp_path: Path) -> None:
    agent = start(name="one")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for options, words in (
            (["--port", str(port), "--state-dir", str(tmp_path / "two")], f"Port {port} on 127.0.0.1 is in use"),
            (["--port", "0", "--state-dir", str(tmp_path / "one" / "state")], "Another agent is running"),
            (["--port", "0", "--key-file", str(tmp_path / "missing")], "cannot be read"),
        ):
            state = [] if "--state-dir" in options else ["--state-dir", str(tmp_path / "three")]
            command = [sys.executable, "-m", "agent", "--bind", "127.0.0.1", "--no-announce", *options, *state]
            ended = subprocess.run(
                command, cwd=ROOT, capture_output=True, text=True, timeout=WAIT, stdin=subprocess.DEVNULL, check=False
            )
            assert ended.returncode == 2
            assert words in ended.stderr
            assert "Traceback" not in ended.stderr
    assert agent.process.poll() is None
