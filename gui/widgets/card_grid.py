"""Cards in rows of equal width, and a panel beside them where there is room for it, else below."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from PySide6.QtCore import QSize
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QBoxLayout, QGridLayout, QSizePolicy, QWidget

MOST_COLUMNS: Final = 3
"""More would leave the panel beside them flat."""
ANY_WIDTH: Final = (1 << 24) - 1
"""Qt's own limit."""


class CardGrid(QWidget):
    """Lays its cards out anew when another number of them fits beside one another, or their order changes."""

    def __init__(self, cards: Sequence[QWidget], spacing: int) -> None:
        super().__init__()
        self._cards = tuple(cards)
        self._spacing = spacing
        self._columns = 0
        self._grid = QGridLayout()
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setSpacing(spacing)
        self.setLayout(self._grid)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Minimum)
        self._lay_out(columns_for(self.width_of(MOST_COLUMNS), len(self._cards), self._least, spacing))

    @property
    def cards(self) -> tuple[QWidget, ...]:
        """As they lie, row by row; the Tab key follows them."""
        return self._cards

    def set_order(self, cards: Sequence[QWidget]) -> None:
        """The same cards in another order."""
        if tuple(cards) == self._cards:
            return
        self._cards = tuple(cards)
        for one, other in pairwise(self._cards):
            QWidget.setTabOrder(one, other)
        self._lay_out(self._columns, anew=True)

    def width_of(self, columns: int) -> int:
        """Pixels that so many cards beside one another need."""
        return columns * self._least + (columns - 1) * self._spacing

    @property
    def _least(self) -> int:
        return max((card.minimumSizeHint().width() for card in self._cards), default=0)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._lay_out(columns_for(self.width(), len(self._cards), self._least, self._spacing))

    def minimumSizeHint(self) -> QSize:
        return QSize(self._least, super().minimumSizeHint().height())

    def _lay_out(self, columns: int, *, anew: bool = False) -> None:
        if columns == self._columns and not anew:
            return
        for column in range(self._columns):
            self._grid.setColumnStretch(column, 0)
        self._columns = columns
        for at, card in enumerate(self._cards):
            self._grid.addWidget(card, at // columns, at % columns)
        for column in range(columns):
            self._grid.setColumnStretch(column, 1)


class Beside(QWidget):
    """A grid of cards with a panel at its right where both have room, else below it."""

    def __init__(self, grid: CardGrid, panel: QWidget, least: int, share: float, spacing: int) -> None:
        """``least``: pixels that the panel needs beside the cards; ``share``: of the width, that it is given."""
        super().__init__()
        self._cards, self._panel, self._least, self._share, self._spacing = grid, panel, least, share, spacing
        self._line = QBoxLayout(QBoxLayout.Direction.TopToBottom)
        self._line.setContentsMargins(0, 0, 0, 0)
        self._line.setSpacing(spacing)
        self._line.addWidget(grid, 1)
        self._line.addWidget(panel)
        self.setLayout(self._line)
        self._arrange()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._arrange()

    def minimumSizeHint(self) -> QSize:
        return QSize(max(self._cards.minimumSizeHint().width(), self._least), super().minimumSizeHint().height())

    def _arrange(self) -> None:
        room = self.width() - self._spacing - self._cards.width_of(MOST_COLUMNS)
        beside = room >= self._least
        if beside:
            self._panel.setFixedWidth(min(room, max(self._least, round(self.width() * self._share))))
        else:
            self._panel.setMinimumWidth(0)
            self._panel.setMaximumWidth(ANY_WIDTH)
        wanted = QBoxLayout.Direction.LeftToRight if beside else QBoxLayout.Direction.TopToBottom
        if self._line.direction() != wanted:
            self._line.setDirection(wanted)


def columns_for(width: int, cards: int, least: int, spacing: int) -> int:
    """Cards beside one another in ``width`` pixels, at most MOST_COLUMNS."""
    most = max(1, min(cards, MOST_COLUMNS, (width + spacing) // (least + spacing)))
    full = [columns for columns in range(1, most + 1) if cards % columns == 0]
    return full[-1] if full and full[-1] * 2 > most else most
