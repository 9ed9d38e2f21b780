"""Undo and redo as buttons with their usual keys."""

from __future__ import annotations

from PySide6.QtGui import QKeySequence, QUndoStack
from PySide6.QtWidgets import QWidget
from shiboken6 import isValid

from gui.widgets.basics import button, row


class UndoButtons(QWidget):
    """GUI thread. Enabled while there is something to undo or redo; the tool tips say what."""

    def __init__(self, stack: QUndoStack) -> None:
        super().__init__()
        self._stack = stack
        self.undo, self.redo = button("", stack.undo, icon="undo"), button("", stack.redo, icon="redo")
        for tool, keys, words in (
            (self.undo, QKeySequence.StandardKey.Undo, self.tr("Undo")),
            (self.redo, QKeySequence.StandardKey.Redo, self.tr("Redo")),
        ):
            tool.setShortcut(QKeySequence(keys))
            tool.setAccessibleName(words)
        self.setLayout(row(self.undo, self.redo))
        stack.indexChanged.connect(self._show)
        self._show()

    def _show(self) -> None:
        stack = self._stack
        if not isValid(stack):  # it tells its end, too
            return
        for tool, able, name, text in (
            (self.undo, stack.canUndo(), self.tr("Undo"), stack.undoText()),
            (self.redo, stack.canRedo(), self.tr("Redo"), stack.redoText()),
        ):
            words = f"{name}: {text}" if text else name
            tool.setEnabled(able)
            tool.setToolTip(f"{words} ({tool.shortcut().toString(QKeySequence.SequenceFormat.NativeText)})")
            tool.setAccessibleDescription(words)
