"""Start of the panel: options, application object, window."""

from __future__ import annotations

import argparse
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from PySide6.QtCore import QCoreApplication, QLocale, QSettings, Qt, QTimer, QTranslator
from PySide6.QtGui import QGuiApplication, QIcon
from PySide6.QtWidgets import QApplication

import core
from core.errors import InputError, ShardboardError
from core.paths import config_dir
from gui.bridge import Bridge
from gui.main_window import MainWindow
from gui.plurals import EnglishPlurals
from gui.theme import APP_ICON, Theme
from gui.widgets.dialogs import split_address
from resources import resource_path

SIGNAL_MS: Final = 250
SWITCH_SECONDS: Final = 0.001
"""How long a worker may keep Python's lock from the GUI thread; the default of 5 ms shows while a run goes on."""
OLDEST_GENERATION: Final = 1000
"""Collections of the middle generation before the oldest is looked through: with a large model open that takes 70 to
90 ms, all threads waiting."""


def steady_interpreter() -> None:
    """Settings of Python itself that keep the GUI thread from waiting for workers or for the garbage collector."""
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.set_threshold(*gc.get_threshold()[:2], OLDEST_GENERATION)


def make_application(argv: Sequence[str]) -> QApplication:
    """The application object with name, theme and translations; one a process."""
    QCoreApplication.setOrganizationName("shardboard")
    QCoreApplication.setApplicationName("shardboard")
    QCoreApplication.setApplicationVersion(core.__version__)
    QSettings.setDefaultFormat(QSettings.Format.IniFormat)
    QSettings.setPath(QSettings.Format.IniFormat, QSettings.Scope.UserScope, str(config_dir()))
    QGuiApplication.setHighDpiScaleFactorRoundingPolicy(Qt.HighDpiScaleFactorRoundingPolicy.PassThrough)
    app = QApplication([*argv])
    app.setApplicationDisplayName("Shardboard")
    app.installTranslator(EnglishPlurals(app))
    translator = QTranslator(app)
    folder = str(resource_path("translations"))
    if translator.load(QLocale(), "shardboard", "_", folder):
        app.installTranslator(translator)
    app.setWindowIcon(QIcon(str(resource_path("icons", f"{APP_ICON}.svg"))))
    Theme.of()
    return app


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m gui", description="The Shardboard panel.")
    parser.add_argument("model", nargs="?", help="an ONNX file, or a model of the library by its key")
    parser.add_argument("--node", action="append", default=[], metavar="HOST:PORT", help="reach a node by address")
    parser.add_argument("--local", type=int, default=0, metavar="N", help="start N agents on this machine")
    parser.add_argument("--demo", action="store_true", help="start local agents, deploy a bundled model and run it")
    parser.add_argument("--nodes", type=int, default=3, metavar="N", help="with --demo: local agents to start")
    parser.add_argument("--seconds", type=float, default=8.0, metavar="S", help="with --demo: seconds to run")
    parser.add_argument("--screenshots", type=Path, metavar="DIR", help="with --demo: save a picture of each page")
    parser.add_argument("--result", type=Path, metavar="FILE", help="with --demo: write the run's report as JSON")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    options = parse(sys.argv[1:] if argv is None else argv)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(name)s: %(message)s")
    try:
        return run_panel(options)
    except ShardboardError as error:
        print(error, file=sys.stderr)
        return error.exit_code


def has_display() -> bool:
    """Whether a person can see a window: a display server, and no platform chosen that draws nowhere."""
    if os.environ.get("QT_QPA_PLATFORM", "").split(":")[0] in {"offscreen", "minimal", "vnc"}:
        return False
    if sys.platform in {"win32", "darwin"}:
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def read_address(text: str) -> tuple[str, int]:
    """(host, port) of HOST[:PORT]. Raises InputError."""
    found = split_address(text)
    if found is None:
        raise InputError(f"'{text}' is not an address.", hint="Give HOST or HOST:PORT, as in lab-pc:7420.")
    return found


def run_panel(options: argparse.Namespace) -> int:
    if not has_display():
        if not options.demo:
            raise InputError(
                "There is no display for the panel.",
                hint="Start it on a desktop, use the command line (shardboard run ...), or add --demo for a tour.",
            )
        os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    addresses = [read_address(text) for text in options.node]
    steady_interpreter()
    app = make_application(sys.argv[:1])
    bridge = Bridge()
    window = MainWindow(bridge, restore=has_display())
    gc.freeze()  # what lives as long as the window need not be looked through again and again
    leave = stop_on_signals(window)
    try:
        return drive(app, window, options, addresses)
    finally:
        leave()


def stop_on_signals(window: MainWindow) -> Callable[[], None]:
    """Close the window in order when asked to end from outside; returns the function that undoes this."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in kept:
        signal.signal(number, lambda _number, _frame: QTimer.singleShot(0, window.close))
    awake = QTimer(window)
    awake.timeout.connect(lambda: None)  # Python looks at signals only when it runs
    awake.start(SIGNAL_MS)

    def leave() -> None:
        for number, handler in kept.items():
            signal.signal(number, handler)

    return leave


def drive(
    app: QApplication, window: MainWindow, options: argparse.Namespace, addresses: Sequence[tuple[str, int]]
) -> int:
    """Show the window and stay until it closes."""
    bridge = window.bridge
    if options.demo:
        from gui.demo import Demo  # noqa: PLC0415 - only the demo needs it

        demo = Demo(window, options, interactive=has_display())
        window.show()
        QTimer.singleShot(0, demo.start)
        app.exec()
        return demo.exit_code
    window.show()
    bridge.start(addresses=addresses, local=options.local)
    if options.model:
        bridge.openModel(options.model)
        window.show_page("model")
    return app.exec()
