"""How far each node is while a plan is deployed, and that it was proved right when it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt
from PySide6.QtGui import QColor
from PySide6.QtWidgets import QGridLayout, QLabel, QWidget

from gui.theme import L, S
from gui.widgets.basics import Dot, label
from gui.widgets.node_budget import clear_layout
from gui.widgets.progress_bar import ProgressBar
from gui.widgets.units import nbytes

if TYPE_CHECKING:
    from core.cluster.deployment import DeployProgress


class DeployRows(QWidget):
    """A row for each node: name, phase, bar, bytes."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._grid = QGridLayout()
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(L)
        self._grid.setVerticalSpacing(S)
        self._grid.setColumnStretch(3, 1)
        self.setLayout(self._grid)
        self._rows: dict[str, tuple[QLabel, ProgressBar, QLabel]] = {}

    def begin(self, nodes: Sequence[tuple[str, str, QColor]]) -> None:
        """``nodes``: id, name, colour."""
        clear_layout(self._grid)
        self._rows = {}
        for place, (node_id, name, colour) in enumerate(nodes):
            bar = ProgressBar(self.tr("Progress of {0}").format(name))
            phase, size = label(self.tr("waiting"), "caption"), label("", "caption")
            size.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            size.setMinimumWidth(size.fontMetrics().horizontalAdvance("000.0 MiB of 000.0 MiB"))
            phase.setMinimumWidth(phase.fontMetrics().horizontalAdvance("comparing outputs "))
            for column, part in enumerate((Dot(colour), label(name), phase, bar, size)):
                self._grid.addWidget(part, place, column)
            self._rows[node_id] = (phase, bar, size)

    def take(self, progress: DeployProgress) -> None:
        """Show the newest of a node; one that is ready waits for the comparison with the whole model."""
        if progress.node not in self._rows:
            return
        phase, bar, size = self._rows[progress.node]
        phase.setText(self.phase_words("verify" if progress.phase == "ready" else progress.phase))
        share = progress.sent_bytes / progress.total_bytes if progress.total_bytes else 1.0
        if progress.phase == "reserve":
            share = 0.0
        bar.show_share(share)
        if progress.total_bytes:
            size.setText(self.tr("{0} of {1}").format(nbytes(progress.sent_bytes), nbytes(progress.total_bytes)))
        elif progress.phase != "reserve":
            size.setText(self.tr("weights are there already"))

    def all_at(self, phase: str) -> None:
        """Every node reached ``phase``."""
        for words, bar, _ in self._rows.values():
            words.setText(self.phase_words(phase))
            bar.show_share(1.0)

    def phase_words(self, phase: str) -> str:
        match phase:
            case "reserve":
                return self.tr("reserving")
            case "ship":
                return self.tr("receiving weights")
            case "load":
                return self.tr("loading")
            case "verify":
                return self.tr("comparing outputs")
            case "ready":
                return self.tr("ready")
            case _:
                return phase
