"""Cards in rows of equal width, and a panel beside them where there is room for it, else further below."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from PySide6.QtCore import QSize, Signal
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QGridLayout, QHBoxLayout, QSizePolicy, QVBoxLayout, QWidget

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
        self._most = MOST_COLUMNS
        self._columns = 0
        self._grid = QGridLayout()
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setSpacing(spacing)
        self.setLayout(self._grid)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Minimum)
        self._lay_out(self._columns_in(self.width_of(self._most)))

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

    def set_most(self, columns: int) -> None:
        """So many cards beside one another at most; after their least size changed, too."""
        self._most = columns
        self._lay_out(self._columns_in(self.width()))
        self.updateGeometry()

    def width_of(self, columns: int) -> int:
        """Pixels that so many cards beside one another need."""
        return columns * self._least + (columns - 1) * self._spacing

    @property
    def _least(self) -> int:
        return max((card.minimumSizeHint().width() for card in self._cards), default=0)

    def _columns_in(self, width: int) -> int:
        return columns_for(width, len(self._cards), self._least, self._spacing, self._most)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._lay_out(self._columns_in(self.width()))

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
    """A grid of cards with a panel at its right where both have room; else the panel is in ``below``, which belongs
    under whatever matters more."""

    moved = Signal()
    """The panel is at its other place: the Tab key has another way."""

    def __init__(self, grid: CardGrid, panel: QWidget, least: int, share: float, spacing: int) -> None:
        """``least``: pixels that the panel needs beside the cards; ``share``: of the width, that it is given."""
        super().__init__()
        self._cards, self._panel, self._least, self._share, self._spacing = grid, panel, least, share, spacing
        self._may, self._is_beside = True, False
        self.below = QWidget()
        self._under = QVBoxLayout()
        self._line = QHBoxLayout()
        for layout in (self._under, self._line):
            layout.setContentsMargins(0, 0, 0, 0)
            layout.setSpacing(spacing)
        self.below.setLayout(self._under)
        self._line.addWidget(grid, 1)
        self._under.addWidget(panel)
        self.setLayout(self._line)
        self._arrange()

    @property
    def is_beside(self) -> bool:
        return self._is_beside

    def allow(self, beside: bool) -> None:
        """Whether the panel may be beside the cards at all."""
        self._may = beside
        self._arrange()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._arrange()

    def minimumSizeHint(self) -> QSize:
        return QSize(self._cards.minimumSizeHint().width(), super().minimumSizeHint().height())

    def _arrange(self) -> None:
        room = self.width() - self._spacing - self._cards.width_of(MOST_COLUMNS)
        beside = self._may and room >= self._least
        if beside:
            self._panel.setFixedWidth(min(room, max(self._least, round(self.width() * self._share))))
        else:
            self._panel.setMinimumWidth(0)
            self._panel.setMaximumWidth(ANY_WIDTH)
        if beside != self._is_beside:
            self._is_beside = beside
            (self._line if beside else self._under).addWidget(self._panel)
            self.moved.emit()
        self.below.setVisible(not beside)


def columns_for(width: int, cards: int, least: int, spacing: int, most: int = MOST_COLUMNS) -> int:
    """Cards beside one another in ``width`` pixels, at most ``most``."""
    most = max(1, min(cards, most, (width + spacing) // (least + spacing)))
    full = [columns for columns in range(1, most + 1) if cards % columns == 0]
    return full[-1] if full and full[-1] * 2 > most else most
