"""The table of compared strategies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from PySide6.QtCore import QModelIndex, Qt, Signal
from PySide6.QtGui import QBrush, QFont
from PySide6.QtWidgets import QHeaderView, QTableView, QWidget

from gui.bench import Line, fastest
from gui.theme import Theme
from gui.widgets import units
from gui.widgets.tables import RIGHT, Column, Index, TableModel, prepare_table

STRATEGY, RATE, PREDICTED, ERROR, LATENCY, SPEEDUP, EFFICIENCY, NODES = range(8)
NEAR: Final = 0.10
FAR: Final = 0.25


class BenchTableModel(TableModel):
    """Rows are strategies in the order in which they were run."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        tr = self.tr
        self.columns = (
            Column(tr("Strategy")),
            Column(tr("Items/s"), number=True),
            Column(tr("Predicted"), number=True),
            Column(
                tr("Error"),
                number=True,
                tip=tr("Measured against predicted items/s: −10 % is a tenth less than predicted"),
            ),
            Column(tr("Latency p50"), number=True, tip=tr("Median under load, against what was predicted of it")),
            Column(tr("Speed-up"), number=True, tip=tr("Against one node alone, measured")),
            Column(tr("Efficiency"), number=True, tip=tr("Against the sum of what each node would do alone")),
            Column(tr("Nodes")),
        )
        self.lines: tuple[Line, ...] = ()
        self._fastest = ""

    def set_lines(self, lines: Sequence[Line]) -> None:
        if len(lines) < len(self.lines):
            self.beginResetModel()
            self.lines = tuple(lines)
            self.endResetModel()
        elif len(lines) > len(self.lines):
            self.beginInsertRows(QModelIndex(), len(self.lines), len(lines) - 1)
            self.lines = tuple(lines)
            self.endInsertRows()
        self._fastest = fastest(lines)
        if lines:
            self.dataChanged.emit(self.index(0, 0), self.index(len(lines) - 1, NODES))

    @property
    def rows(self) -> int:
        return len(self.lines)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        line, column = self.lines[index.row()], index.column()
        match role:
            case Qt.ItemDataRole.DisplayRole:
                return self._text(line, column)
            case Qt.ItemDataRole.TextAlignmentRole if self.columns[column].number and line.row is not None:
                return RIGHT
            case Qt.ItemDataRole.ToolTipRole:
                return line.why or (self._text(line, column) if column in {STRATEGY, NODES} else None)
            case Qt.ItemDataRole.ForegroundRole:
                return self._ink(line, column)
            case Qt.ItemDataRole.FontRole if line.strategy == self._fastest and column in {STRATEGY, RATE}:
                font = QFont()
                font.setBold(True)
                return font
        return None

    def _ink(self, line: Line, column: int) -> QBrush | None:
        if line.row is None:
            return QBrush(Theme.of().colour("muted"))
        if column != ERROR:
            return None
        error = abs(line.row.error)
        return QBrush(Theme.of().colour("good" if error <= NEAR else "warn" if error <= FAR else "bad"))

    def _text(self, line: Line, column: int) -> str:
        row = line.row
        if column == STRATEGY:
            return self.tr("{0} · fastest").format(line.strategy) if line.strategy == self._fastest else line.strategy
        if row is None:
            return line.why.partition("\n")[0] if column == RATE else ""
        return {
            RATE: units.quantity(row.throughput),
            PREDICTED: units.quantity(row.predicted_throughput),
            ERROR: units.signed_percent(row.error),
            LATENCY: self.tr("{0}, {1}").format(
                units.seconds(row.latency_p50_ms / 1e3), units.signed_percent(row.loaded_latency_error)
            ),
            SPEEDUP: f"{row.speedup:.2f}" if row.speedup is not None else units.DASH,
            EFFICIENCY: units.percent(row.efficiency),
            NODES: ", ".join(row.nodes),
        }[column]


class BenchTable(QTableView):
    """``chosen`` says the line that is selected, or None."""

    chosen = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self.compared = BenchTableModel(self)
        self.setModel(self.compared)
        self.setAccessibleName(self.tr("Compared strategies"))
        prepare_table(self)
        header = self.horizontalHeader()
        for column, width in {
            STRATEGY: 210,
            RATE: 84,
            PREDICTED: 92,
            ERROR: 76,
            LATENCY: 132,
            SPEEDUP: 92,
            EFFICIENCY: 92,
        }.items():
            header.resizeSection(column, width)
        header.setSectionResizeMode(NODES, QHeaderView.ResizeMode.Stretch)
        self.selectionModel().currentRowChanged.connect(lambda _now, _before: self.chosen.emit(self.chosen_line()))
        self.compared.modelReset.connect(lambda: self.chosen.emit(None))
        self.compared.modelReset.connect(self.clearSpans)
        self.compared.dataChanged.connect(lambda *_cells: self._span_reasons())
        Theme.of().changed.connect(self.viewport().update)

    def _span_reasons(self) -> None:
        """Why a strategy was not run takes the place of all its figures."""
        for at, line in enumerate(self.compared.lines):
            columns = 1 if line.row is not None else NODES - RATE + 1
            if self.columnSpan(at, RATE) != columns:
                self.setSpan(at, RATE, 1, columns)

    def chosen_line(self) -> Line | None:
        row = self.currentIndex().row()
        return self.compared.lines[row] if 0 <= row < len(self.compared.lines) else None
