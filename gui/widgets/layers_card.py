"""The layers of the model as the chosen strategy runs them, the fields of that strategy, and what the signs mean.

Its height follows from the number of nodes and from the model alone: nothing below it moves when another strategy is
chosen.
"""

from __future__ import annotations

from typing import Final

from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QSizePolicy, QStackedLayout, QWidget

from core.plan.plan_reading import MOST_ITEMS
from gui.theme import XS, M, S
from gui.widgets.basics import Card, ElidedLabel, button, column, label
from gui.widgets.division_parts import DivisionParts
from gui.widgets.fields import spin_box
from gui.widgets.ribbon import Ribbon
from gui.widgets.ribbon_geometry import room_for
from gui.widgets.strategy_options import StrategyOptions

SPARE: Final = 2
WIDE: Final = 880
"""Pixels; in fewer, names of fields are short."""


class LayersCard(Card):
    """GUI thread."""

    def __init__(self) -> None:
        super().__init__(self.tr("Layers"), margin=M)
        self.ribbon = Ribbon()
        self.division = DivisionParts()
        self.options = StrategyOptions()
        self.items = spin_box(1, MOST_ITEMS, 1, self.tr("Items in a micro-batch"))
        self.balance = button(self.tr("Balance"), icon="balance")
        self.balance.setToolTip(
            self.tr("Put all cuts where the slowest stage is fastest; a double click on a cut places that one alone")
        )
        self._items_name = label("", "small")
        self.legend = ElidedLabel("small")
        self.words = ElidedLabel("small")
        self.refusal = ElidedLabel("warn")
        for field in (self.options, self._items_name, self.items, self.balance):
            self.tools.addWidget(field)
        tools: tuple[QWidget, ...] = (self.balance, self.items, self.options.tensor_axis)
        for tool in tools:
            tool.ensurePolished()
        highest = max(tool.sizeHint().height() for tool in tools)
        self.tools.addStrut(highest + SPARE)  # as high with all of them as without
        signs, said = QWidget(), QWidget()
        self._signs, self._said = QStackedLayout(signs), QStackedLayout(said)
        for stack, parts in (
            (self._signs, (self.legend, self.division.legend)),
            (self._said, (self.words, self.division.totals, self.refusal)),
        ):
            for part in parts:
                stack.addWidget(part)
        self.division.legend.ensurePolished()
        signs.setFixedHeight(self.division.legend.line_height)
        said.setFixedHeight(self.division.totals.sizeHint().height())
        below = column(signs, said, spacing=XS, margins=(M, 0, M, 0))
        for shown in (self.options.problem, self.ribbon, self.division.ribbon):
            self.body.addWidget(shown)
        self.body.addLayout(below)
        self.body.setSpacing(XS)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        self._divided = False
        self.show_divided(False)
        self._name_fields()

    def show_divided(self, divided: bool) -> None:
        """Which of the two ribbons is shown."""
        self._divided = divided
        self.ribbon.setVisible(not divided)
        self.division.ribbon.setVisible(divided)
        self._signs.setCurrentWidget(self.division.legend if divided else self.legend)
        self._show_said()

    def set_room(self, nodes: int, *, low: bool) -> None:
        """Height for so many nodes; ``low``: the page has little of it."""
        room = room_for(nodes, low=low)
        self.ribbon.set_room(room)
        self.division.ribbon.set_room(room)

    def say(self, signs: str, words: str) -> None:
        """Of a plan that divides no layers: what its signs mean, and what it comes to."""
        self.legend.setText(signs)
        self.words.setText(words)

    def refuse(self, words: str) -> None:
        """Why something was not done, in the place of what the plan comes to; "" when that is past."""
        self.refusal.setText(words)
        self._show_said()

    def _show_said(self) -> None:
        usual = self.division.totals if self._divided else self.words
        self._said.setCurrentWidget(self.refusal if self.refusal.text() else usual)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._name_fields()

    def _name_fields(self) -> None:
        wide = self.width() >= WIDE
        self._items_name.setText(self.tr("Items per micro-batch") if wide else self.tr("Items"))
        self._items_name.setToolTip(self.tr("Items per micro-batch"))
        self.options.set_narrow(not wide)
        self.tools.setSpacing(M if wide else S)
