"""Input fields that need more than their Qt class gives."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtGui import QWheelEvent
from PySide6.QtWidgets import QSpinBox

INDENT = 7


class PatientSpinBox(QSpinBox):
    """Turns with the wheel only while it has the focus, so that scrolling a page past it changes nothing."""

    def wheelEvent(self, event: QWheelEvent) -> None:
        if self.hasFocus():
            super().wheelEvent(event)
        else:
            event.ignore()


def spin_box(low: int, high: int, value: int, name: str) -> QSpinBox:
    """A field for a whole number; ``name`` is what a screen reader says."""
    made = PatientSpinBox()
    made.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    made.setRange(low, high)
    made.setValue(value)
    made.setGroupSeparatorShown(True)
    made.setKeyboardTracking(False)
    made.setAccessibleName(name)
    made.lineEdit().setTextMargins(INDENT, 0, 0, 0)  # a style sheet's padding does not reach the text
    return made
