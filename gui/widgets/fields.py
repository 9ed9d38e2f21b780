"""Input fields that need more than their Qt class gives."""

from __future__ import annotations

from PySide6.QtWidgets import QSpinBox

INDENT = 7


def spin_box(low: int, high: int, value: int, name: str) -> QSpinBox:
    """A field for a whole number; ``name`` is what a screen reader says."""
    made = QSpinBox()
    made.setRange(low, high)
    made.setValue(value)
    made.setGroupSeparatorShown(True)
    made.setKeyboardTracking(False)
    made.setAccessibleName(name)
    made.lineEdit().setTextMargins(INDENT, 0, 0, 0)  # a style sheet's padding does not reach the text
    return made
