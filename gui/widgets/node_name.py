"""A node's colour and name in a row of the table, to be dragged onto a stage of the ribbon."""

from __future__ import annotations

from typing import Final

from PySide6.QtCore import QMimeData, QPoint, Qt
from PySide6.QtGui import QDrag, QMouseEvent
from PySide6.QtWidgets import QApplication, QWidget

from gui.theme import S
from gui.widgets.basics import Dot, ElidedLabel, column, row
from gui.widgets.node_ribbon import NODE_MIME

NAME_WIDTH: Final = 138


class NodeName(QWidget):
    """Colour and name; can be dragged onto a stage of the ribbon."""

    def __init__(self, node_id: str) -> None:
        super().__init__()
        self._id = node_id
        self._pressed: QPoint | None = None
        self.dot = Dot()
        self.name = ElidedLabel()
        self.note = ElidedLabel("small")
        words = column(None, self.name, self.note, None, spacing=1)
        both = row(self.dot, spacing=S)
        both.addLayout(words, 1)
        self.setLayout(both)
        self.setMinimumWidth(NAME_WIDTH)
        self.setCursor(Qt.CursorShape.OpenHandCursor)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        self._pressed = event.position().toPoint() if event.button() == Qt.MouseButton.LeftButton else None

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        if self._pressed is None:
            return
        if (event.position().toPoint() - self._pressed).manhattanLength() < QApplication.startDragDistance():
            return
        self._pressed = None
        drag = QDrag(self)
        data = QMimeData()
        data.setData(NODE_MIME, self._id.encode())
        drag.setMimeData(data)
        drag.setPixmap(self.grab())
        drag.setHotSpot(QPoint(10, self.height() // 2))
        drag.exec(Qt.DropAction.MoveAction)
