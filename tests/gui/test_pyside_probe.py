"""PySide6 6.12.0 with Python 3.11 loses a reference to None on every void call, until the interpreter aborts."""

from __future__ import annotations

import sys

from PySide6.QtWidgets import QApplication, QWidget

CALLS = 1000


def test_void_calls_keep_their_reference_to_none(qapp: QApplication) -> None:
    widget = QWidget()
    widget.update()
    before = sys.getrefcount(None)
    for _ in range(CALLS):
        widget.update()
    lost = before - sys.getrefcount(None)
    assert lost < CALLS // 10, "choose another PySide6: this one aborts after some minutes (see pyproject.toml)"
