"""The tour without a display, as a process of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import psutil
import pytest
from PySide6.QtGui import QImage

from core.run.report import RunReport
from gui.main_window import PAGE_NAMES

ROOT = Path(__file__).resolve().parents[2]


def panel(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    return subprocess.run(
        [sys.executable, "-m", "gui", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.slow
def test_the_demo_takes_a_picture_of_every_page_and_reports_the_run(tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    done = panel("--demo", "--nodes", "2", "--seconds", "4", "--screenshots", str(tmp_path), "--result", str(result))
    assert done.returncode == 0, done.stderr
    for number, name in enumerate(PAGE_NAMES, start=1):
        picture = QImage(str(tmp_path / f"{number:02d}-{name}.png"))
        assert (picture.width(), picture.height()) == (1440, 900), name
    report = msgspec.json.decode(result.read_bytes(), type=RunReport)
    assert report.verified
    assert report.items > 100
    assert len(report.nodes) == 2
    assert "Traceback" not in done.stderr


def test_a_demo_that_cannot_write_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = panel("--demo", "--screenshots", str(tmp_path / "file" / "pictures"))
    assert done.returncode == 2
    assert "cannot be written" in done.stderr


def test_without_a_display_the_panel_says_what_to_do_instead() -> None:
    done = panel()
    assert done.returncode == 2
    assert "no display" in done.stderr


def test_an_address_that_is_none_is_refused() -> None:
    done = panel("--demo", "--node", "not an address")
    assert done.returncode == 2
    assert "not an address" in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there are no POSIX signals on Windows")
def test_a_panel_that_is_told_to_end_takes_its_agents_with_it() -> None:
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    command = [sys.executable, "-m", "gui", "--demo", "--nodes", "2", "--seconds", "60"]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE) as process:
        try:
            agents = wait_for_agents(process.pid, 2)
            process.send_signal(signal.SIGTERM)
            process.wait(40)
        finally:
            process.kill()
    assert process.returncode == 0
    assert not [agent for agent in agents if agent.is_running() and agent.status() != psutil.STATUS_ZOMBIE]


def wait_for_agents(pid: int, count: int) -> list[psutil.Process]:
    """The agents among the children of a process, once there are ``count``."""
    panel_process = psutil.Process(pid)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        agents = [child for child in panel_process.children() if "agent" in child.cmdline()]
        if len(agents) >= count:
            return agents
        with contextlib.suppress(psutil.TimeoutExpired):
            panel_process.wait(0.1)
    raise AssertionError("the panel started no agents")
