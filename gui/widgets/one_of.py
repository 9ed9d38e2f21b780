"""One of several widgets, which alone takes room: unlike a QStackedWidget, which is as large as the largest."""

from __future__ import annotations

from PySide6.QtWidgets import QVBoxLayout, QWidget


class OneOf(QWidget):
    """The first that is added is shown."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[QWidget] = []
        self._current = 0
        self._column = QVBoxLayout()
        self._column.setContentsMargins(0, 0, 0, 0)
        self.setLayout(self._column)

    def addWidget(self, part: QWidget) -> None:
        self._parts.append(part)
        self._column.addWidget(part)
        part.setVisible(len(self._parts) - 1 == self._current)

    def currentIndex(self) -> int:
        return self._current

    def currentWidget(self) -> QWidget:
        return self._parts[self._current]

    def setCurrentIndex(self, index: int) -> None:
        if index != self._current:
            self._parts[self._current].hide()
            self._current = index
            self._parts[index].show()
