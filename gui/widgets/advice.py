"""What sets the pace of a plan, in words, and the best single change of it as a button."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QWidget

from gui.theme import S
from gui.widgets.basics import IconLabel, column, label, row
from gui.widgets.clamped_label import ClampedLabel, ElidedButton

if TYPE_CHECKING:
    from core.plan.improving import Change

LEAST: Final = (240, 90)
"""Pixels of the buttons; the first is the better change and stays readable longer."""


class Advice(QWidget):
    """``taken`` is a Change that a person wants; hidden while no bottleneck is named."""

    taken = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self._changes: tuple[Change, ...] = ()
        self._icon = IconLabel("info", 16, "warn")
        self.words = ClampedLabel()
        self.none = label(self.tr("No single change brings 1 %."), "small")
        self.buttons = tuple(ElidedButton(least=least) for least in LEAST)
        said = row(self._icon, spacing=S)
        said.addWidget(self.words, 1)
        line = row(self.none, spacing=S)
        for at, made in enumerate(self.buttons):
            made.setProperty("role", "" if at else "primary")
            made.setAccessibleName(self.tr("The best change"))
            made.clicked.connect(partial(self._take, at))
            line.addWidget(made)
        line.addStretch(1)
        self.buttons[0].ensurePolished()
        changes = QWidget()
        changes.setFixedHeight(self.buttons[0].sizeHint().height())  # as high with buttons as without them
        changes.setLayout(line)
        self.setLayout(column(said, changes, spacing=S))
        policy = self.sizePolicy()
        policy.setRetainSizeWhenHidden(True)  # the rows below must not move when a bottleneck is found
        self.setSizePolicy(policy)
        self.show_changes(None)
        self.hide()

    def show_bottleneck(self, words: str) -> None:
        """``words`` without a full stop; "" when there is nothing to say."""
        self.words.setText(self.tr("Bottleneck: {0}.").format(words) if words else "")
        self.setVisible(bool(words))

    def show_changes(self, changes: Sequence[Change] | None) -> None:
        """None: not known yet."""
        self._changes = tuple(changes or ())[: len(LEAST)]
        if any(made.hasFocus() and at >= len(self._changes) for at, made in enumerate(self.buttons)):
            self.setFocus()  # until there is a change again: else it would go to some row of the nodes
        self.none.setVisible(changes is not None and not self._changes)
        for at, made in enumerate(self.buttons):
            made.setVisible(at < len(self._changes))
            if at < len(self._changes):
                made.setText(self._changes[at].words)
                made.setAccessibleName(self._changes[at].words)
                words = self.tr("{0}. Change the plan so; it can be undone.")
                made.setToolTip(words.format(self._changes[at].words))
        if self.hasFocus() and self._changes:
            self.buttons[0].setFocus()

    def _take(self, at: int, _checked: bool = False) -> None:
        if at < len(self._changes):
            self.taken.emit(self._changes[at])
