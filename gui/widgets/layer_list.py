"""The layers of a model as a tree of modules: a Qt item model that adapts the plain layers, and its view."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from PySide6.QtCore import QAbstractItemModel, QModelIndex, QPersistentModelIndex, QRectF, Qt, Signal
from PySide6.QtGui import QColor, QFontMetrics, QPainter
from PySide6.QtWidgets import QHeaderView, QStyledItemDelegate, QStyleOptionViewItem, QTreeView, QWidget

from core.model.types import Layer
from gui.theme import Theme
from gui.widgets.formats import count
from gui.widgets.ribbon_model import module_paths
from gui.widgets.units import DASH, nbytes

Index = QModelIndex | QPersistentModelIndex
NAME, OPERATOR, PARAMETERS, MACS, SHAPE, SIZE = range(6)
SHARE_ROLE: Final = Qt.ItemDataRole.UserRole + 1
"""Share of the model's multiply-adds, 0..1."""
OPEN_LAYERS: Final = 60
"""A tree with no more rows than this is shown unfolded."""


class TreeRow:
    """A module or a layer. Sums cover everything below it."""

    __slots__ = ("children", "layer", "layers", "macs", "name", "output_bytes", "parameters", "parent", "position")

    def __init__(self, name: str, parent: TreeRow | None, layer: Layer | None = None) -> None:
        self.name = name
        self.parent = parent
        self.layer = layer
        self.children: list[TreeRow] = []
        self.position = 0
        self.layers = 1 if layer else 0
        self.parameters = layer.parameters if layer else 0
        self.macs = layer.macs if layer else 0
        self.output_bytes = layer.output_bytes if layer else 0

    def add(self, child: TreeRow) -> TreeRow:
        child.position = len(self.children)
        self.children.append(child)
        return child


def build_tree(layers: Sequence[Layer]) -> TreeRow:
    """Layers under their modules, in order of first appearance; a module that only holds another is joined with it."""
    root = TreeRow("", None)
    modules: dict[tuple[str, ...], TreeRow] = {(): root}
    for layer, path in zip(layers, module_paths(layers), strict=True):
        for depth in range(1, len(path) + 1):
            if path[:depth] not in modules:
                above = modules[path[: depth - 1]]
                modules[path[:depth]] = above.add(TreeRow(path[depth - 1], above))
        home = modules[path]
        home.add(TreeRow(layer.name, home, layer))
    _sum(root)
    _join_chains(root)
    return root


def _sum(row: TreeRow) -> None:
    for child in row.children:
        _sum(child)
        row.layers += child.layers
        row.parameters += child.parameters
        row.macs += child.macs


def _join_chains(row: TreeRow) -> None:
    for position, child in enumerate(row.children):
        only = child
        while len(only.children) == 1 and only.layer is None:
            below = only.children[0]
            if below.layer is not None:
                break
            below.name = f"{only.name} / {below.name}"
            only = below
        only.parent, only.position = row, position
        row.children[position] = only
        _join_chains(only)


class LayerTreeModel(QAbstractItemModel):
    """Modules and layers with their parameters, multiply-adds and outputs."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._root = TreeRow("", None)
        self._by_index: dict[int, TreeRow] = {}

    def set_layers(self, layers: Sequence[Layer]) -> None:
        self.beginResetModel()
        self._root = build_tree(layers)
        self._by_index = {}
        self._collect(self._root)
        self.endResetModel()

    def _collect(self, row: TreeRow) -> None:
        if row.layer is not None:
            self._by_index[row.layer.index] = row
        for child in row.children:
            self._collect(child)

    @property
    def modules(self) -> int:
        """Rows at the top that hold others."""
        return sum(1 for row in self._root.children if row.children)

    def row_of(self, index: Index) -> TreeRow:
        """The module or layer at ``index``."""
        return index.internalPointer() if index.isValid() else self._root

    def index_of_layer(self, layer: int) -> QModelIndex:
        row = self._by_index.get(layer)
        return self.createIndex(row.position, 0, row) if row else QModelIndex()

    def index(self, row: int, column: int, parent: Index = QModelIndex()) -> QModelIndex:  # noqa: B008 - Qt's signature
        above = self.row_of(parent)
        if 0 <= row < len(above.children):
            return self.createIndex(row, column, above.children[row])
        return QModelIndex()

    def parent(self, index: Index) -> QModelIndex:  # type: ignore[override] # the overload without arguments is QObject's
        above = self.row_of(index).parent if index.isValid() else None
        if above is None or above is self._root:
            return QModelIndex()
        return self.createIndex(above.position, 0, above)

    def rowCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008
        return len(self.row_of(parent).children) if parent.column() <= 0 else 0

    def columnCount(self, parent: Index = QModelIndex()) -> int:  # noqa: ARG002, B008
        return 6

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if orientation is not Qt.Orientation.Horizontal:
            return None
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return _alignment(section)
        if role == Qt.ItemDataRole.ToolTipRole and section == MACS:
            return self.tr("Multiply-adds, and their share of the model's")
        if role != Qt.ItemDataRole.DisplayRole:
            return None
        titles = (
            self.tr("Layer"),
            self.tr("Operator"),
            self.tr("Parameters"),
            self.tr("MACs"),
            self.tr("Output"),
            self.tr("Size"),
        )
        return titles[section]

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        row = self.row_of(index)
        if role == Qt.ItemDataRole.DisplayRole:
            return self._text(row, index.column())
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return _alignment(index.column())
        if role == SHARE_ROLE and index.column() == MACS:
            return row.macs / self._root.macs if self._root.macs else 0.0
        if role == Qt.ItemDataRole.ForegroundRole and index.column() not in (NAME, MACS):
            return Theme.of().colour("muted")
        if role == Qt.ItemDataRole.ToolTipRole and index.column() == NAME:
            return row.layer.name if row.layer else row.name
        return None

    def _text(self, row: TreeRow, column: int) -> str:
        match column:
            case 0:
                return row.name
            case 1:
                return row.layer.op if row.layer else self.tr("%n layer(s)", "", row.layers)
            case 2:
                return count(row.parameters) if row.parameters else DASH
            case 3:
                return count(row.macs) if row.macs else DASH
            case 4:
                return shape_text(row.layer.output_shape).replace(" ", "") if row.layer else ""
            case _:
                return nbytes(row.output_bytes) if row.layer else ""


def shape_text(shape: Sequence[int | str | None] | None) -> str:
    """``1 × 3 × 224 × 224``; a dimension without a size is a question mark."""
    if shape is None:
        return "?"
    return " × ".join("?" if size is None else str(size) for size in shape) or "1"


def _alignment(column: int) -> Qt.AlignmentFlag:
    side = Qt.AlignmentFlag.AlignRight if column in (PARAMETERS, MACS, SIZE) else Qt.AlignmentFlag.AlignLeft
    return side | Qt.AlignmentFlag.AlignVCenter


class ShareDelegate(QStyledItemDelegate):
    """Draws a thin bar under the text, as long as the row's share of the work."""

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: Index) -> None:
        super().paint(painter, option, index)
        share = index.data(SHARE_ROLE) or 0.0
        area = QRectF(option.rect).adjusted(10, 0, -8, -3)
        bar = QRectF(area.left(), area.bottom() - 3, area.width(), 3)
        theme = Theme.of()
        painter.save()
        painter.setPen(Qt.PenStyle.NoPen)
        track = QColor(theme.tokens.border)
        painter.setBrush(track)
        painter.drawRoundedRect(bar, 1.5, 1.5)
        if share > 0:
            painter.setBrush(theme.colour("accent"))
            painter.drawRoundedRect(QRectF(bar.left(), bar.top(), max(2.0, bar.width() * share), 3), 1.5, 1.5)
        painter.restore()


class LayerList(QTreeView):
    """The tree with sensible columns. ``picked`` tells the layer's index, or the first layer of a module."""

    picked = Signal(object)
    """A TreeRow."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._tree = LayerTreeModel(self)
        self.setModel(self._tree)
        self.setProperty("role", "bare")
        self.setUniformRowHeights(True)
        self.setAllColumnsShowFocus(True)
        self.setItemDelegateForColumn(MACS, ShareDelegate(self))
        self.setAccessibleName(self.tr("Layers"))
        header = self.header()
        header.setStretchLastSection(False)
        header.setSectionResizeMode(NAME, QHeaderView.ResizeMode.Stretch)
        header.setMinimumSectionSize(64)
        for column, sample in ((OPERATOR, 15), (PARAMETERS, 14), (MACS, 13), (SHAPE, 21), (SIZE, 12)):
            header.setSectionResizeMode(column, QHeaderView.ResizeMode.Interactive)
            title = QFontMetrics(Theme.of().font(-1, bold=True)).horizontalAdvance(
                str(self._tree.headerData(column, Qt.Orientation.Horizontal))
            )
            header.resizeSection(column, max(title + 24, self.fontMetrics().averageCharWidth() * sample))
        self.selectionModel().currentChanged.connect(self._tell)

    def set_layers(self, layers: Sequence[Layer]) -> None:
        self._tree.set_layers(layers)
        if len(layers) <= OPEN_LAYERS:
            self.expandAll()
        elif self._tree.modules == 1:
            self.expandToDepth(0)
        self.setRootIsDecorated(self._tree.modules > 0)

    def show_layer(self, layer: int) -> None:
        """Unfold, scroll to and select the layer."""
        index = self._tree.index_of_layer(layer)
        if index.isValid():
            self.scrollTo(index, QTreeView.ScrollHint.PositionAtCenter)
            self.setCurrentIndex(index)

    def _tell(self, current: QModelIndex, _previous: QModelIndex) -> None:
        if current.isValid():
            self.picked.emit(self._tree.row_of(current))
