"""The ribbon of a plan that divides layers, what its signs mean, and what the division comes to: parts to lay out."""

from __future__ import annotations

from PySide6.QtCore import QCoreApplication

from core.plan.division import Division
from gui.widgets.clamped_label import ClampedLabel
from gui.widgets.division_legend import DivisionLegend, Entry, form_entries
from gui.widgets.division_paint import Colour
from gui.widgets.division_ribbon import DivisionRibbon
from gui.widgets.division_words import Name, kind_word, totals_words


class DivisionParts:
    """GUI thread."""

    def __init__(self) -> None:
        self.ribbon = DivisionRibbon()
        self.legend = DivisionLegend(lines=1)
        self.totals = ClampedLabel("small")

    def show_division(
        self, division: Division | None, colour: Colour, name: Name, *, problem: str = "", working: bool = False
    ) -> None:
        """``colour`` and ``name`` of a node; without a division ``problem`` says why there is none."""
        tr = QCoreApplication.translate
        waiting = tr("division", "Working out how the layers are divided…") if working else ""
        later = tr("division", "Known when the layers are timed.")
        self.ribbon.set_note(problem or waiting or later, bad=bool(problem))
        self.ribbon.set_division(division, colour, name, waiting=working and not problem)
        if division is None:
            if self.ribbon.division is None:
                self.legend.show_entries((), colour)
            self.totals.setText(waiting)
        else:
            kinds = [Entry(kind_word(kind), kind=kind) for kind in self.ribbon.kinds]
            self.legend.show_entries([*form_entries(self.ribbon.forms, self.ribbon.nodes), *kinds], colour)
            self.totals.setText(totals_words(division))
