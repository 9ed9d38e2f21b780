"""The panel with three local agents: processor share and the GUI thread's longest pause, watching and while a job runs.

python -m tests.bench.panel [--seconds 10]        (QT_QPA_PLATFORM=offscreen where there is no display)
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

import psutil
from PySide6.QtCore import QEventLoop, Qt, QTimer

from core.plan.form import NodeId, PlanRequest
from gui.app import has_display, make_application, steady_interpreter
from gui.bridge import Bridge, Phase
from gui.main_window import MainWindow
from tests.bench.options import emit, options

NODES = 3
TICK_MS = 5


class Heart:
    """A timer of the GUI thread; the longest time between two beats, less its own interval, is a pause."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._last = time.perf_counter()
        self._timer = QTimer(timerType=Qt.TimerType.PreciseTimer, interval=TICK_MS)
        self._timer.timeout.connect(self._beat)
        self._timer.start()

    def _beat(self) -> None:
        now = time.perf_counter()
        self.longest = max(self.longest, now - self._last - TICK_MS / 1000)
        self._last = now

    def reset(self) -> None:
        self.longest, self._last = 0.0, time.perf_counter()


def main() -> None:
    chosen = options(__doc__, model="digits-cnn", micro_batch=20)
    if not has_display():
        os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    steady_interpreter()
    began = time.perf_counter()
    app = make_application(sys.argv[:1])
    bridge = Bridge()
    window = MainWindow(bridge, restore=False)
    window.show()
    turn(0.1)
    usable = time.perf_counter() - began
    bridge.start(local=NODES)
    until(lambda: len(own(bridge)) == NODES and all(node in bridge.speeds for node in own(bridge)))
    bridge.openModel(chosen.model)
    until(lambda: bridge.profile is not None)
    window.show_page("monitor")
    heart = Heart()
    watching = measure(heart, chosen.seconds)
    bridge.setRequest(PlanRequest("replicate", tuple(own(bridge)), chosen.micro_batch))
    until(lambda: bridge.prediction is not None)
    bridge.deploy()
    until(lambda: bridge.phase is Phase.DEPLOYED)
    bridge.run("random:2000", repeat=1_000_000)
    until(lambda: bridge.progress is not None and bridge.progress.items_done > 0)
    running = measure(heart, chosen.seconds)
    bridge.stop()
    until(lambda: bridge.phase is not Phase.RUNNING)
    window.close()
    emit(
        "panel",
        chosen,
        limit="GUI thread never paused over 50 ms; under 0.15 of a core while plotting 3 agents",
        window_shown_s=round(usable, 3),
        watching=watching,
        running=running,
    )
    app.quit()


def own(bridge: Bridge) -> list[NodeId]:
    return [node.id for node in bridge.nodes if bridge.is_local(node.id)]


def measure(heart: Heart, seconds: float) -> dict[str, float]:
    turn(2.0)
    process = psutil.Process()
    heart.reset()
    start, before = time.perf_counter(), process.cpu_times()
    turn(seconds)
    after = process.cpu_times()
    used = after.user + after.system - before.user - before.system
    return {
        "core_share": round(used / (time.perf_counter() - start), 3),
        "longest_pause_ms": round(heart.longest * 1000, 1),
    }


def turn(seconds: float) -> None:
    """Let the GUI thread work for a while."""
    loop = QEventLoop()
    QTimer.singleShot(int(seconds * 1000), loop.quit)
    loop.exec()


def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.perf_counter() + seconds
    while not condition():
        assert time.perf_counter() < end, "it did not happen in time"
        turn(0.02)


if __name__ == "__main__":
    main()
