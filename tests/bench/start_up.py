"""From the command to a usable panel: the process starts, three local agents are ready, the model is predicted.

python -m tests.bench.start_up [--repeats 3]
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import psutil

from tests.bench.options import emit, options

USABLE = """
import sys, time
from PySide6.QtCore import QTimer
from gui import app as panel
from gui.main_window import MainWindow
shown = MainWindow.showEvent
def show(self, event):
    shown(self, event)
    QTimer.singleShot(0, lambda: (print(time.time(), flush=True), watch(self)))
def watch(window):
    bridge, timer = window.bridge, QTimer(window, interval=20)
    def look():
        if bridge.prediction is not None and len(bridge.speeds) >= 3:
            print(time.time(), flush=True)
            timer.stop()
            window.close()
    timer.timeout.connect(look)
    timer.start()
MainWindow.showEvent = show
sys.exit(panel.main(["--demo"]))
"""


def main() -> None:
    chosen = options(__doc__, model="digits-cnn", micro_batch=30)
    environment = {**os.environ}
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        environment |= {"QT_QPA_PLATFORM": "offscreen"}
    shown, predicted = [], []
    for _ in range(chosen.repeats):
        with tempfile.TemporaryDirectory() as home:
            began = time.time()
            process = psutil.Popen(
                [sys.executable, "-c", USABLE],
                env={**environment, "SHARDBOARD_HOME": home},
                stdout=-1,
                stderr=-3,
                text=True,
                cwd=Path(__file__).parents[2],
            )
            moments = [float(line) for line in process.communicate(timeout=60)[0].split()]
            shown.append(round(moments[0] - began, 2))
            predicted.append(round(moments[1] - began, 2))
    emit("start_up", chosen, limit="usable in under 5 s", window_s=shown, nodes_ready_and_predicted_s=predicted)


if __name__ == "__main__":
    main()
