"""The table of compared strategies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QPersistentModelIndex, Qt, Signal
from PySide6.QtGui import QBrush, QFont
from PySide6.QtWidgets import QHeaderView, QTableView, QWidget

from gui.bench import Line, fastest
from gui.theme import Theme
from gui.widgets import units
from gui.widgets.node_table import prepare_table

Index = QModelIndex | QPersistentModelIndex
STRATEGY, RATE, PREDICTED, ERROR, LATENCY, SPEEDUP, EFFICIENCY, NODES = range(8)
NUMBERS: Final = frozenset({RATE, PREDICTED, ERROR, LATENCY, SPEEDUP, EFFICIENCY})
NEAR: Final = 0.10
FAR: Final = 0.25


class BenchTableModel(QAbstractTableModel):
    """Rows are strategies in the order in which they were run."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
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

    def rowCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008 - Qt's signature
        return 0 if parent.isValid() else len(self.lines)

    def columnCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008 - Qt's signature
        return 0 if parent.isValid() else NODES + 1

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if orientation is not Qt.Orientation.Horizontal:
            return None
        if role == Qt.ItemDataRole.TextAlignmentRole:
            side = Qt.AlignmentFlag.AlignRight if section in NUMBERS else Qt.AlignmentFlag.AlignLeft
            return side | Qt.AlignmentFlag.AlignVCenter
        if role == Qt.ItemDataRole.ToolTipRole:
            return {
                ERROR: self.tr("Measured against predicted items/s: −10 % is a tenth less than predicted"),
                LATENCY: self.tr("Median under load; a micro-batch also waits for others"),
                SPEEDUP: self.tr("Against one node alone, measured"),
                EFFICIENCY: self.tr("Against the sum of what each node would do alone"),
            }.get(section)
        if role != Qt.ItemDataRole.DisplayRole:
            return None
        return (
            self.tr("Strategy"),
            self.tr("Items/s"),
            self.tr("Predicted"),
            self.tr("Error"),
            self.tr("Latency p50"),
            self.tr("Speed-up"),
            self.tr("Efficiency"),
            self.tr("Nodes"),
        )[section]

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        line, column = self.lines[index.row()], index.column()
        match role:
            case Qt.ItemDataRole.DisplayRole:
                return self._text(line, column)
            case Qt.ItemDataRole.TextAlignmentRole if column in NUMBERS:
                return Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
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
            return line.why.partition("\n")[0] if column == NODES else units.DASH
        return {
            RATE: units.quantity(row.throughput),
            PREDICTED: units.quantity(row.predicted_throughput),
            ERROR: units.signed_percent(row.error),
            LATENCY: units.seconds(row.latency_p50_ms / 1e3),
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
            LATENCY: 104,
            SPEEDUP: 92,
            EFFICIENCY: 92,
        }.items():
            header.resizeSection(column, width)
        header.setSectionResizeMode(NODES, QHeaderView.ResizeMode.Stretch)
        self.selectionModel().currentRowChanged.connect(lambda _now, _before: self.chosen.emit(self.chosen_line()))
        self.compared.modelReset.connect(lambda: self.chosen.emit(None))
        Theme.of().changed.connect(self.viewport().update)

    def chosen_line(self) -> Line | None:
        row = self.currentIndex().row()
        return self.compared.lines[row] if 0 <= row < len(self.compared.lines) else None
