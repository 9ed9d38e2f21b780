"""shardboard without a subcommand: open the panel, as a process of its own."""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import core
from core.errors import InputError

PANEL_PACKAGES = ("PySide6", "pyqtgraph", "onnx", "onnx_ir", "PIL")


def run(_options: argparse.Namespace) -> int:
    require_panel()
    if not has_display():
        raise InputError(
            "The panel needs a display, and there is none here.", hint="shardboard demo --headless works without one."
        )
    process = subprocess.Popen([*panel_command()], env=panel_environment())
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue  # the panel got it too and closes in order


def require_panel() -> None:
    """Raises InputError when a package of the panel is not installed."""
    missing = [name for name in PANEL_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"The panel needs packages that are not installed: {', '.join(missing)}.",
            hint="Run: pip install 'shardboard[gui]'",
        )


def has_display() -> bool:
    """Whether a window can be opened."""
    if not sys.platform.startswith("linux"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or os.environ.get("QT_QPA_PLATFORM"))


def panel_command() -> list[str]:
    return [sys.executable, "-m", "gui"]


def panel_environment() -> dict[str, str]:
    """Ours, with the folder that holds the packages first: the panel is found whatever the working folder is."""
    root = str(Path(core.__file__).resolve().parent.parent)
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
