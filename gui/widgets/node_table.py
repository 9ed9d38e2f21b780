"""The table of nodes: a read-only model over the bridge's nodes, and the delegate that draws states."""

from __future__ import annotations

from typing import Any, Final

from PySide6.QtCore import QRect, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QBrush, QColor, QFontMetrics, QIcon, QPainter, QPixmap, QResizeEvent
from PySide6.QtWidgets import (
    QHeaderView,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QTableView,
    QWidget,
)

from core.cluster.node import Node, NodeState
from gui.bridge import Bridge
from gui.shard_words import shards_words
from gui.theme import Theme
from gui.widgets import units
from gui.widgets.measured_words import benchmark_words, links_words
from gui.widgets.states import KINDS, state_meaning, state_word
from gui.widgets.tables import RIGHT, Column, Index, TableModel, prepare_table

NAME, STATE, CORES, MEMORY, SPEED, RTT, LINK, ADDRESS, REASON = range(9)
WIDTHS: Final = {NAME: 118, STATE: 106, CORES: 78, MEMORY: 84, SPEED: 72, RTT: 98, LINK: 98, ADDRESS: 132}
NARROW: Final = 900
"""Pixels in which not all columns have room."""
SPARED: Final = 60
"""Of the columns that are then left out, what the name gets."""


class NodeTableModel(TableModel):
    """Rows are the bridge's nodes in its order."""

    def __init__(self, bridge: Bridge, parent: QWidget) -> None:
        super().__init__(parent)
        tr = self.tr
        self.columns = (
            Column(tr("Node")),
            Column(tr("State")),
            Column(tr("Threads"), number=True),
            Column(tr("Memory"), number=True),
            Column(
                tr("Speed"),
                number=True,
                tip=tr("Measured, for the model that is open; 1.0 is this workstation with one thread"),
            ),
            Column(
                tr("Round trip"),
                number=True,
                tip=tr("Of a small message from this workstation and its answer; of a heartbeat until measured"),
            ),
            Column(
                tr("Link"),
                number=True,
                tip=tr("Between this workstation and the node, measured through the encrypted data socket"),
            ),
            Column(tr("Address")),
            Column(tr("Remark")),
        )
        self._bridge = bridge
        self._nodes: tuple[Node, ...] = ()
        self._dots: dict[str, QIcon] = {}
        bridge.nodesChanged.connect(self.refresh)
        bridge.nodeChanged.connect(lambda _id: self.refresh())
        bridge.speedsChanged.connect(self.refresh)
        bridge.measurementsChanged.connect(self.refresh)
        bridge.phaseChanged.connect(lambda _phase: self.refresh())
        self.refresh()

    def refresh(self) -> None:
        before, self._nodes = self._nodes, self._bridge.nodes
        if [n.id for n in before] != [n.id for n in self._nodes]:
            self.beginResetModel()
            self.endResetModel()
        elif self._nodes:
            self.dataChanged.emit(self.index(0, 0), self.index(len(self._nodes) - 1, REASON))

    def node(self, row: int) -> Node | None:
        return self._nodes[row] if 0 <= row < len(self._nodes) else None

    def row_of(self, node_id: str) -> int:
        return next((i for i, n in enumerate(self._nodes) if n.id == node_id), -1)

    @property
    def rows(self) -> int:
        return len(self._nodes)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        node = self._nodes[index.row()]
        column = index.column()
        match role:
            case Qt.ItemDataRole.DisplayRole:
                return self._text(node, column)
            case Qt.ItemDataRole.DecorationRole if column == NAME:
                return self._dot(self._bridge.colour(node.id), hollow=node.state is NodeState.LOST)
            case Qt.ItemDataRole.ForegroundRole if node.state is NodeState.LOST:
                return QBrush(Theme.of().colour("bad" if column in {STATE, REASON} else "muted"))
            case Qt.ItemDataRole.TextAlignmentRole if self.columns[column].number:
                return RIGHT
            case Qt.ItemDataRole.ToolTipRole:
                return self._tip(node, column)
            case Qt.ItemDataRole.UserRole:
                return node
        return None

    def _text(self, node: Node, column: int) -> str:
        info = node.info
        match column:
            case 0:
                return node.name
            case 1:
                return state_word(node.state)
            case 2:
                return self.tr("{0} of {1}").format(info.threads, info.cores) if info else units.DASH
            case 3:
                return units.nbytes(info.memory_limit) if info else units.DASH
            case 4:
                speed = self._bridge.speeds.get(node.id)
                return f"{speed:.2f}" if speed is not None else units.DASH
            case 5:
                return units.seconds(self._round_trip(node)) if node.state is not NodeState.LOST else units.DASH
            case 6:
                link = self._bridge.link_between("", node.id)
                return units.bits_per_s(link.bytes_per_s) if link is not None else units.DASH
            case 7:
                return node.address
        return self._remark(node)

    def _round_trip(self, node: Node) -> float | None:
        """As measured; until then, of a heartbeat."""
        link = self._bridge.link_between("", node.id)
        return link.round_trip_s if link is not None else node.rtt_s

    def _tip(self, node: Node, column: int) -> str | None:
        if column in {STATE, REASON}:
            remark = self._remark(node) if column == REASON else node.reason
            return f"{state_meaning(node.state)} {remark}".strip()
        if column == SPEED:
            return "\n".join(benchmark_words(self._bridge, node.id)) or None
        if column in {RTT, LINK}:
            return "\n".join(links_words(self._bridge, node.id)) or None
        return None

    def _remark(self, node: Node) -> str:
        deployment = self._bridge.deployment
        shards = deployment.plan.on_node(node.id) if deployment is not None else ()
        if shards and node.state is NodeState.BUSY:
            return shards_words(shards)
        if node.reason:
            return node.reason
        stale = self._bridge.stale.get(node.id)
        if stale:
            return stale[0]
        if node.state is NodeState.BUSY and node.owner:
            return self.tr("held by {0}").format(node.owner)
        if node.info is not None and node.info.cpu_limit < 1:
            return self.tr("CPU limited to {0}").format(units.percent(node.info.cpu_limit))
        return ""

    def _dot(self, colour: QColor, *, hollow: bool) -> QIcon:
        key = f"{colour.name()}{hollow}"
        if key not in self._dots:
            pixmap = QPixmap(24, 24)
            pixmap.fill(Qt.GlobalColor.transparent)
            painter = QPainter(pixmap)
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            painter.setPen(colour)
            painter.setBrush(Qt.BrushStyle.NoBrush if hollow else colour)
            painter.drawEllipse(QRectF(3, 3, 18, 18))
            painter.end()
            pixmap.setDevicePixelRatio(2.0)
            self._dots[key] = QIcon(pixmap)
        return self._dots[key]


class StateDelegate(QStyledItemDelegate):
    """Draws a node's state as a pill."""

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: Index) -> None:
        node = index.data(Qt.ItemDataRole.UserRole)
        self.initStyleOption(option, index)
        text, option.text = option.text, ""
        style = option.widget.style()
        style.drawControl(style.ControlElement.CE_ItemViewItem, option, painter, option.widget)
        draw_pill(painter, option.rect.adjusted(8, 0, -4, 0), text, node.state)

    def sizeHint(self, option: QStyleOptionViewItem, index: Index) -> QSize:
        return super().sizeHint(option, index) + QSize(16, 0)


def draw_pill(painter: QPainter, area: QRect, text: str, state: NodeState) -> None:
    """A state's word in its colours, vertically centred at the left of ``area``."""
    theme = Theme.of()
    kind = KINDS[state]
    ink = theme.colour({"info": "accent", "": "muted"}.get(kind, kind))
    ground = theme.colour({"info": "accent_soft", "": "raised"}.get(kind, f"{kind}_soft"))
    font = theme.font(-1, bold=True)
    metrics = QFontMetrics(font)
    width = min(area.width(), metrics.horizontalAdvance(text) + 18)
    box = QRectF(area.left(), area.center().y() - 8.5, width, 19)
    painter.save()
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(ground)
    painter.drawRoundedRect(box, 9.5, 9.5)
    painter.setFont(font)
    painter.setPen(ink)
    painter.drawText(
        box, Qt.AlignmentFlag.AlignCenter, metrics.elidedText(text, Qt.TextElideMode.ElideRight, width - 12)
    )
    painter.restore()


class NodeTable(QTableView):
    """The nodes; ``chosen`` says the id of the one selected, or "" when the selection went."""

    chosen = Signal(str)

    def __init__(self, bridge: Bridge) -> None:
        super().__init__()
        self.nodes = NodeTableModel(bridge, self)
        self.setModel(self.nodes)
        self.setItemDelegateForColumn(STATE, StateDelegate(self))
        self.setAccessibleName(self.tr("Nodes"))
        prepare_table(self)
        header = self.horizontalHeader()
        for column, width in WIDTHS.items():
            header.resizeSection(column, width)
        header.setSectionResizeMode(REASON, QHeaderView.ResizeMode.Stretch)
        self.selectionModel().currentRowChanged.connect(lambda now, _before: self._choose(now.row()))
        Theme.of().changed.connect(self.viewport().update)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Where there is little room, names are whole and links are told by the picture above."""
        super().resizeEvent(event)
        narrow = self.width() < NARROW
        for column in (RTT, LINK):
            self.setColumnHidden(column, narrow)
        self.setColumnWidth(NAME, WIDTHS[NAME] + (SPARED if narrow else 0))

    def choose(self, node_id: str) -> None:
        row = self.nodes.row_of(node_id)
        if row >= 0:
            self.selectRow(row)

    def chosen_node(self) -> Node | None:
        return self.nodes.node(self.currentIndex().row())

    def _choose(self, row: int) -> None:
        node = self.nodes.node(row)
        self.chosen.emit(node.id if node else "")
