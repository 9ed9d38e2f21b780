"""Cards in rows of equal width: as many in a row as have room, with a full last row where that is possible."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QSize
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QGridLayout, QSizePolicy, QWidget


class CardGrid(QWidget):
    """Lays its cards out anew when another number of them fits beside one another."""

    def __init__(self, cards: Sequence[QWidget], least: int, spacing: int) -> None:
        """``least``: width that a card needs, in pixels."""
        super().__init__()
        self._cards = tuple(cards)
        self._least, self._spacing = least, spacing
        self._columns = 0
        self._grid = QGridLayout()
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setSpacing(spacing)
        self.setLayout(self._grid)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Minimum)
        self._lay_out(columns_for(3 * (least + spacing), len(self._cards), least, spacing))

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._lay_out(columns_for(self.width(), len(self._cards), self._least, self._spacing))

    def minimumSizeHint(self) -> QSize:
        return QSize(self._least, super().minimumSizeHint().height())

    def _lay_out(self, columns: int) -> None:
        if columns == self._columns:
            return
        for column in range(self._columns):
            self._grid.setColumnStretch(column, 0)
        self._columns = columns
        for at, card in enumerate(self._cards):
            self._grid.addWidget(card, at // columns, at % columns)
        for column in range(columns):
            self._grid.setColumnStretch(column, 1)


def columns_for(width: int, cards: int, least: int, spacing: int) -> int:
    """Cards beside one another in ``width`` pixels."""
    most = max(1, min(cards, (width + spacing) // (least + spacing)))
    full = [columns for columns in range(1, most + 1) if cards % columns == 0]
    return full[-1] if full and full[-1] * 2 > most else most
