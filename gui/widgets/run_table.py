"""The list of runs as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PySide6.QtCore import QDateTime, Qt, Signal
from PySide6.QtWidgets import QAbstractItemView, QHeaderView, QTableView, QWidget

from core.run.history import RunSummary
from gui.widgets import units
from gui.widgets.tables import RIGHT, Column, Index, TableModel, prepare_table

WHEN, MODEL, STRATEGY, NODES, ITEMS, RATE, LATENCY = range(7)


def when_words(started: float) -> str:
    """Local date and time of a Unix time."""
    return QDateTime.fromSecsSinceEpoch(int(started)).toString("yyyy-MM-dd HH:mm:ss")


class RunTableModel(TableModel):
    """Rows are runs, newest first."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        tr = self.tr
        self.columns = (
            Column(tr("Started")),
            Column(tr("Model")),
            Column(tr("Strategy")),
            Column(tr("Nodes")),
            Column(tr("Items"), number=True),
            Column(tr("Items/s"), number=True),
            Column(tr("Latency p50"), number=True),
        )
        self._runs: tuple[RunSummary, ...] = ()

    def set_runs(self, runs: Sequence[RunSummary]) -> None:
        self.beginResetModel()
        self._runs = tuple(runs)
        self.endResetModel()

    def run(self, row: int) -> RunSummary:
        return self._runs[row]

    def row_of(self, run_id: int) -> int:
        return next((i for i, run in enumerate(self._runs) if run.id == run_id), -1)

    @property
    def rows(self) -> int:
        return len(self._runs)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        run, column = self._runs[index.row()], index.column()
        if role == Qt.ItemDataRole.TextAlignmentRole and self.columns[column].number:
            return RIGHT
        if role == Qt.ItemDataRole.ToolTipRole and column == NODES:
            return ", ".join(run.nodes)
        if role == Qt.ItemDataRole.ToolTipRole and column == STRATEGY:
            return run.strategy
        if role != Qt.ItemDataRole.DisplayRole:
            return None
        return (
            when_words(run.started),
            run.model,
            run.strategy,
            ", ".join(run.nodes),
            units.quantity(run.items),
            units.quantity(run.throughput),
            units.seconds(run.latency_p50_ms / 1e3),
        )[column]


class RunTable(QTableView):
    """Runs; several can be selected. ``chosen`` says the ids, in the order of the table."""

    chosen = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self.runs = RunTableModel(self)
        self.setModel(self.runs)
        prepare_table(self)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setAccessibleName(self.tr("Runs"))
        header = self.horizontalHeader()
        for column, width in {WHEN: 170, MODEL: 130, STRATEGY: 146, ITEMS: 76, RATE: 84, LATENCY: 112}.items():
            header.resizeSection(column, width)
        header.setSectionResizeMode(NODES, QHeaderView.ResizeMode.Stretch)
        self.selectionModel().selectionChanged.connect(lambda _in, _out: self.chosen.emit(self.chosen_ids()))

    def set_runs(self, runs: Sequence[RunSummary]) -> None:
        """Show ``runs`` and keep selected what still is there."""
        kept = self.chosen_ids()
        self.runs.set_runs(runs)
        for run_id in kept:
            self.choose(run_id)
        self.chosen.emit(self.chosen_ids())

    def choose(self, run_id: int, *, chosen: bool = True) -> None:
        """Select one more run, or one less."""
        row = self.runs.row_of(run_id)
        if row >= 0:
            flags = self.selectionModel().SelectionFlag
            change = flags.Select if chosen else flags.Deselect
            self.selectionModel().select(self.runs.index(row, 0), change | flags.Rows)

    def chosen_ids(self) -> list[int]:
        rows = sorted(index.row() for index in self.selectionModel().selectedRows())
        return [self.runs.run(row).id for row in rows if row < self.runs.rowCount()]
