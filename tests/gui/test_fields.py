"""Fields: a number under the mouse does not turn while a page is scrolled past it."""

from __future__ import annotations

from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QWheelEvent
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from gui.widgets.fields import spin_box


def wheel() -> QWheelEvent:
    none = Qt.KeyboardModifier.NoModifier
    at = QPointF(5, 5)
    return QWheelEvent(
        at, at, QPoint(0, 0), QPoint(0, 120), Qt.MouseButton.NoButton, none, Qt.ScrollPhase.NoScrollPhase, False
    )


def test_the_wheel_turns_a_number_only_with_the_focus(qtbot: QtBot, application: QApplication) -> None:
    field = spin_box(1, 100, 8, "Items")
    qtbot.addWidget(field)
    field.show()
    field.activateWindow()
    qtbot.waitExposed(field)
    field.clearFocus()
    event = wheel()
    field.wheelEvent(event)
    assert field.value() == 8
    assert not event.isAccepted()
    field.setFocus()
    qtbot.waitUntil(field.hasFocus)
    field.wheelEvent(wheel())
    assert field.value() == 9
    assert field.accessibleName() == "Items"
