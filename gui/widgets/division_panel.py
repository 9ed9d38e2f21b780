"""The ribbon of a plan that divides layers, what its signs mean, and what the division comes to."""

from __future__ import annotations

from PySide6.QtWidgets import QWidget

from core.plan.division import Division
from gui.theme import XS, S
from gui.widgets.basics import column, label, set_look
from gui.widgets.division_legend import DivisionLegend, Entry, form_entries
from gui.widgets.division_paint import Colour
from gui.widgets.division_ribbon import DivisionRibbon
from gui.widgets.division_words import Name, kind_word, totals_words


class DivisionPanel(QWidget):
    """GUI thread."""

    def __init__(self) -> None:
        super().__init__()
        self.ribbon = DivisionRibbon()
        self.legend = DivisionLegend()
        self.totals = label("", "small", wrap=True)
        below = column(self.legend, self.totals, spacing=XS, margins=(S + XS, 0, S + XS, 0))
        self.setLayout(column(self.ribbon, below, spacing=S))

    def show_division(
        self, division: Division | None, colour: Colour, name: Name, *, problem: str = "", working: bool = False
    ) -> None:
        """``colour`` and ``name`` of a node; without a division ``problem`` says why there is none."""
        self.ribbon.set_division(division, colour, name, waiting=working and not problem)
        if division is None:
            if self.ribbon.division is None:
                self.legend.show_entries((), colour)
            waiting = self.tr("Working out how the layers are divided…") if working else ""
            self.totals.setText(problem or waiting)
        else:
            kinds = [Entry(kind_word(kind), kind=kind) for kind in self.ribbon.kinds]
            self.legend.show_entries([*form_entries(self.ribbon.forms, self.ribbon.nodes), *kinds], colour)
            self.totals.setText(totals_words(division))
        set_look(self.totals, "role", "bad" if problem else "small")
