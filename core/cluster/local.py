"""Throw-away agents on this machine, as separate processes that cannot outlive the one that started them.

Each agent's standard input is a pipe held open here; agents quit when it closes, also when this process is killed.
They share this workstation's key file, so they are paired without a code.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import psutil
from msgspec import Struct

import core
from core.cluster.opening import shared_key_path
from core.errors import InputError, UnreachableError
from core.plan.form import NodeId
from core.wire.keys import load_or_create_key_file

log = logging.getLogger(__name__)

START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 5.0
LOOPBACK: Final = "127.0.0.1"
ANY_ADDRESS: Final = "0.0.0.0"  # noqa: S104 - every socket is encrypted and asks for a paired key
MOST_AGENTS: Final = 64
_FOLDER: Final = "shardboard-local"
_LEFT_SECONDS: Final = 24 * 3600.0
_WINDOWS_FLAGS: Final = getattr(subprocess, "CREATE_NO_WINDOW", 0) | getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)


class LocalAgent(Struct, frozen=True):
    """A running agent process."""

    id: NodeId
    name: str
    host: str
    control_port: int
    data_port: int
    pairing_port: int
    pid: int


class _Ready(Struct, frozen=True):
    """The line that an agent prints when it listens."""

    id: NodeId
    name: str
    control_port: int
    data_port: int
    pairing_port: int
    pid: int


class _Process:
    """One agent process and the thread that reads its standard output."""

    def __init__(self, command: list[str], log_path: Path) -> None:
        self._log_path = log_path
        self._ready: _Ready | None = None
        self._spoke = threading.Event()
        with log_path.open("wb") as log_file:
            self.popen = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log_file,
                env=_environment(),
                # Its own group: Ctrl-C in the terminal is for us, who stop the job in order and then the agents.
                start_new_session=os.name == "posix",
                creationflags=_WINDOWS_FLAGS,
            )
        self._reader = threading.Thread(target=self._read, name="agent-stdout", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            if self._ready is None:
                try:
                    self._ready = msgspec.json.decode(line, type=_Ready)
                except msgspec.DecodeError:
                    log.warning("an agent printed %r", line)
                else:
                    self._spoke.set()
        self._spoke.set()

    def wait_ready(self, deadline: float) -> _Ready:
        """Raises UnreachableError with the agent's own last words when it ends or says nothing in time."""
        self._spoke.wait(max(0.0, deadline - time.monotonic()))
        if self._ready is None:
            raise UnreachableError(f"A local agent did not start: {self._last_words()}")
        return self._ready

    def _last_words(self) -> str:
        lines = self._log_path.read_text(errors="replace").strip().splitlines()
        if lines:
            return lines[-1]
        return f"it said nothing within {START_SECONDS:.0f} s." if self.popen.poll() is None else "it ended at once."

    def kill(self) -> None:
        """End it at once, as a crash or a pulled plug would."""
        self.popen.kill()
        self.popen.wait(STOP_SECONDS)
        self._finish()

    def ask_to_stop(self) -> None:
        if self.popen.stdin is not None and not self.popen.stdin.closed:
            self.popen.stdin.close()

    def stop(self, deadline: float) -> None:
        """Wait for it to end by itself, then make it."""
        self.ask_to_stop()
        try:
            self.popen.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            log.warning("agent %d did not stop by itself", self.popen.pid)
            self.popen.kill()
            self.popen.wait(STOP_SECONDS)
        self._finish()

    def _finish(self) -> None:
        self.ask_to_stop()
        self._reader.join(STOP_SECONDS)
        if self.popen.stdout is not None:
            self.popen.stdout.close()


class LocalAgents:
    """The agents that one call of ``start_local_agents`` started; a context manager that stops them."""

    def __init__(self, folder: tempfile.TemporaryDirectory[str] | None) -> None:
        self._folder = folder
        self._processes: list[_Process] = []
        self.agents: tuple[LocalAgent, ...] = ()

    def adopt(self, process: _Process) -> None:
        """From now on it is stopped with the others."""
        self._processes.append(process)

    def await_ready(self, host: str, deadline: float) -> None:
        self.agents = tuple(
            LocalAgent(r.id, r.name, host, r.control_port, r.data_port, r.pairing_port, r.pid)
            for r in (process.wait_ready(deadline) for process in self._processes)
        )

    def kill(self, index: int) -> None:
        """End one agent without warning, for demonstrations and tests."""
        self._processes[index].kill()

    def alive(self, index: int) -> bool:
        return self._processes[index].popen.poll() is None

    def close(self) -> None:
        """Stop all; safe to call twice."""
        deadline = time.monotonic() + STOP_SECONDS
        for process in self._processes:
            process.ask_to_stop()
        for process in self._processes:
            process.stop(deadline)
        self._processes.clear()
        if self._folder is not None:
            self._folder.cleanup()

    def __enter__(self) -> LocalAgents:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def start_local_agents(
    count: int,
    *,
    threads: int = 1,
    pin: bool = True,
    cpu_limits: Sequence[float] | None = None,
    memory_limit: int | None = None,
    link_limit: int | None = None,
    announce: bool = False,
    state_root: Path | None = None,
    names: Sequence[str] | None = None,
) -> LocalAgents:
    """Start ``count`` agents side by side and wait until all listen.

    Args:
        threads: threads each agent computes with.
        pin: bind agent i to the i-th core where the machine has one for it.
        cpu_limits: share of the time each may compute (0..1]; shorter than ``count``: the rest are not limited.
        memory_limit: bytes each may use.
        link_limit: bits per second each may send and receive.
        announce: over mDNS too, and reachable from other machines; otherwise on the loopback address only.
        state_root: folder for the agents' state; None: a temporary one that ``close`` removes.
        names: what people call them; None: local-1, local-2, ...

    Raises:
        InputError: ``count`` is not between 1 and 64.
        UnreachableError: an agent did not start, with its own words. Those that did are stopped.
    """
    if not 1 <= count <= MOST_AGENTS:
        raise InputError(f"{count} local agents cannot be started: choose 1 to {MOST_AGENTS}.")
    key_file = shared_key_path()
    load_or_create_key_file(key_file)
    folder = _own_folder() if state_root is None else None
    root = state_root if state_root is not None else Path(folder.name if folder is not None else "")
    agents = LocalAgents(folder)
    cores = usable_cores() if pin else ()
    deadline = time.monotonic() + START_SECONDS
    try:
        for index in range(count):
            state = root / f"agent-{index + 1}"
            state.mkdir(parents=True, exist_ok=True)
            options = {
                "--name": names[index] if names is not None and index < len(names) else f"local-{index + 1}",
                "--bind": ANY_ADDRESS if announce else LOOPBACK,
                "--threads": str(threads),
                "--key-file": str(key_file),
                "--state-dir": str(state),
                "--pin": str(cores[index]) if index < len(cores) else None,
                "--cpu-limit": str(cpu_limits[index]) if cpu_limits is not None and index < len(cpu_limits) else None,
                "--memory-limit": str(memory_limit) if memory_limit is not None else None,
                "--link-limit": str(link_limit) if link_limit is not None else None,
            }
            given = [part for option, value in options.items() if value is not None for part in (option, value)]
            quiet = [] if announce else ["--no-announce"]
            command = [*agent_command(), "--port", "0", "--ready-json", "--exit-with-stdin", *quiet, *given]
            agents.adopt(_Process(command, state / "agent.log"))
        agents.await_ready(LOOPBACK, deadline)
    except BaseException:
        agents.close()
        raise
    return agents


def _own_folder() -> tempfile.TemporaryDirectory[str]:
    """Named after this process. Those of processes that were killed, and could not clean up, are removed after a day:
    they hold gigabytes of weights."""
    for left in Path(tempfile.gettempdir()).glob(f"{_FOLDER}-*-*"):
        pid = left.name.removeprefix(f"{_FOLDER}-").partition("-")[0]
        with contextlib.suppress(OSError):  # another process may be removing it too
            old = time.time() - left.stat().st_mtime > _LEFT_SECONDS
            if old and pid.isdecimal() and not psutil.pid_exists(int(pid)):
                shutil.rmtree(left, ignore_errors=True)
    return tempfile.TemporaryDirectory(prefix=f"{_FOLDER}-{os.getpid()}-", ignore_cleanup_errors=True)


def agent_command() -> list[str]:
    """How this installation starts an agent."""
    return [sys.executable, "-m", "agent"]


def usable_cores() -> tuple[int, ...]:
    """Logical cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def _environment() -> dict[str, str]:
    """Ours, with the folder that holds the packages first: agents are found whatever the working folder is."""
    root = str(Path(core.__file__).resolve().parent.parent)
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
