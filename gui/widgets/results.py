"""Results as a grid of tiles: the picture, the best classes with bars, a mark for right or wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PySide6.QtCore import QAbstractListModel, QModelIndex, QPersistentModelIndex, QRectF, QSize, Qt, QTimer, Signal
from PySide6.QtGui import QColor, QFontMetricsF, QImage, QPainter, QPen, QPixmap, QResizeEvent, QShowEvent
from PySide6.QtWidgets import QListView, QStyle, QStyledItemDelegate, QStyleOptionViewItem, QWidget

from gui.colours import blend
from gui.results_view import ReadResult, read_result
from gui.theme import XS, M, S, Theme
from gui.widgets.units import percent, quantity
from gui.work.running import Result

Index = QModelIndex | QPersistentModelIndex
RESULT_ROLE: Final = Qt.ItemDataRole.UserRole + 1
PICTURE_ROLE: Final = Qt.ItemDataRole.UserRole + 2
KEPT: Final = 240
"""Results that stay in the grid; older ones make room."""
FLUSH_MS: Final = 250
"""Painting tiles takes the processor from agents on this machine, and nobody reads more of them a second."""
TILE: Final = QSize(216, 112)
"""The smallest tile; tiles widen to fill a row."""
LOW: Final = 84
PICTURE: Final = 72


class ResultsModel(QAbstractListModel):
    """The newest results first. Arriving ones are gathered and shown together, a few times a second."""

    flushed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._labels: tuple[str, ...] = ()
        self._rows: list[ReadResult] = []
        self._pictures: dict[int, QPixmap] = {}
        self._waiting: list[Result] = []
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(FLUSH_MS)
        self._timer.timeout.connect(self.flush)
        self.right = 0
        self.judged = 0
        """Results shown so far whose right label is known, and how many of them were right."""

    def set_labels(self, labels: Sequence[str]) -> None:
        self._labels = tuple(labels)

    def clear(self) -> None:
        self.beginResetModel()
        self._rows, self._waiting, self._pictures = [], [], {}
        self.right = self.judged = 0
        self.endResetModel()
        self.flushed.emit()

    def add(self, items: Sequence[Result]) -> None:
        """Take results in; they appear a little later."""
        self._waiting += items
        del self._waiting[:-KEPT]
        view = self.parent()
        seen = not self._rows or not isinstance(view, QWidget) or view.isVisible()
        if seen and not self._timer.isActive():  # the first make the view appear; what nobody sees then waits
            self._timer.start()

    def flush(self) -> None:
        """Show what has been waiting."""
        new = [read_result(item, self._labels) for item in reversed(self._waiting)]
        self._waiting = []
        if not new:
            return
        surplus = len(self._rows) + len(new) - KEPT
        if surplus > 0:
            self.beginRemoveRows(QModelIndex(), len(self._rows) - surplus, len(self._rows) - 1)
            for row in self._rows[-surplus:]:
                self._pictures.pop(id(row), None)
            del self._rows[-surplus:]
            self.endRemoveRows()
        self.beginInsertRows(QModelIndex(), 0, len(new) - 1)
        self._rows[:0] = new
        self.endInsertRows()
        for row in new:
            if row.right is not None:
                self.judged += 1
                self.right += row.right
        self.flushed.emit()

    @property
    def results(self) -> tuple[ReadResult, ...]:
        """Newest first."""
        return tuple(self._rows)

    def rowCount(self, _parent: Index = QModelIndex()) -> int:  # noqa: B008 - Qt's signature
        return len(self._rows)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        row = self._rows[index.row()]
        if role == RESULT_ROLE:
            return row
        if role == PICTURE_ROLE:
            return self._picture(row)
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.AccessibleTextRole):
            return self._words(row)
        if role == Qt.ItemDataRole.ToolTipRole:
            return row.item.name or row.text or None
        return None

    def _words(self, row: ReadResult) -> str:
        name = row.item.name or self.tr("item {0}").format(row.item.index + 1)
        if not row.guesses:
            return f"{name}: {row.text}"
        right = {None: "", True: self.tr(", right"), False: self.tr(", wrong")}[row.right]
        return f"{name}: {row.guesses[0].label}{right}"

    def _picture(self, row: ReadResult) -> QPixmap | None:
        if row.item.picture is None:
            return None
        key = id(row)
        if key not in self._pictures:
            self._pictures[key] = to_pixmap(row.item.picture)
        return self._pictures[key]


def to_pixmap(picture: npt.NDArray[Any]) -> QPixmap:
    """A pixmap of (height, width) or (height, width, 1 | 3 | 4) uint8; copies, so the array may go."""
    pixels = np.ascontiguousarray(picture[..., 0] if picture.ndim == 3 and picture.shape[2] == 1 else picture)
    height, width = pixels.shape[:2]
    formats = {2: QImage.Format.Format_Grayscale8, 3: QImage.Format.Format_RGB888, 4: QImage.Format.Format_RGBA8888}
    kind = formats[2 if pixels.ndim == 2 else pixels.shape[2]]
    image = QImage(pixels.tobytes(), width, height, pixels.strides[0], kind)
    return QPixmap.fromImage(image.copy())


class ResultDelegate(QStyledItemDelegate):
    """Draws one tile."""

    def __init__(self, view: QListView) -> None:
        super().__init__(view)
        self._view = view

    def sizeHint(self, _option: QStyleOptionViewItem, _index: Index) -> QSize:
        return self._view.gridSize()

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: Index) -> None:
        theme = Theme.of()
        result: ReadResult = index.data(RESULT_ROLE)
        box = QRectF(option.rect).adjusted(XS, XS, -XS, -XS)
        selected = bool(option.state & QStyle.StateFlag.State_Selected)
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(QPen(theme.colour("accent" if selected else "border"), 1))
        painter.setBrush(theme.colour("accent_soft" if selected else "sunken"))
        painter.drawRoundedRect(box.adjusted(0.5, 0.5, -0.5, -0.5), 6, 6)
        inner = box.adjusted(M - 2, M - 2, -M + 2, -S)
        line = QFontMetricsF(theme.font(-1)).height()
        self._foot(painter, QRectF(inner.left(), inner.bottom() - line, inner.width(), line), result)
        content = inner.adjusted(0, 0, 0, -line - 2)
        picture: QPixmap | None = index.data(PICTURE_ROLE)
        if picture is not None:
            side = min(float(PICTURE), content.height())
            self._picture(painter, QRectF(content.left(), content.top(), side, side), picture)
            content.setLeft(content.left() + side + M - 2)
        if result.guesses:
            self._guesses(painter, content, result)
        else:
            self._values(painter, content, result.text)
        painter.restore()

    def _picture(self, painter: QPainter, box: QRectF, picture: QPixmap) -> None:
        """Small pictures keep their pixels sharp."""
        small = max(picture.width(), picture.height()) < PICTURE
        scale = min(box.width() / picture.width(), box.height() / picture.height())
        width, height = picture.width() * scale, picture.height() * scale
        target = QRectF(box.center().x() - width / 2, box.center().y() - height / 2, width, height)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform, not small)
        painter.drawPixmap(target, picture, QRectF(picture.rect()))

    def _values(self, painter: QPainter, area: QRectF, text: str) -> None:
        """Outputs that are no classes: name, then values; one value alone is set large."""
        theme = Theme.of()
        lines = text.split("\n")
        name, _, value = lines[0].partition(": ")
        alone = len(lines) == 1 and " " not in value.strip()
        if not alone:
            painter.setFont(theme.font(-1))
            painter.setPen(theme.colour("text"))
            flags = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop | Qt.TextFlag.TextWordWrap
            painter.drawText(area, int(flags), text)
            return
        painter.setFont(theme.font(-1))
        painter.setPen(theme.colour("muted"))
        painter.drawText(area, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop, name)
        painter.setFont(theme.font(5, bold=True))
        painter.setPen(theme.colour("text"))
        top = QFontMetricsF(theme.font(-1)).height()
        painter.drawText(area.adjusted(0, top, 0, 0), Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop, value)

    def _guesses(self, painter: QPainter, area: QRectF, result: ReadResult) -> None:
        theme = Theme.of()
        height = area.height() / 3
        for place, guess in enumerate(result.guesses):
            first = place == 0
            row = QRectF(area.left(), area.top() + place * height, area.width(), height)
            font = theme.font(0 if first else -1, bold=first)
            metrics = QFontMetricsF(font)
            painter.setFont(font)
            value = (
                "" if np.isnan(guess.value) else percent(guess.value) if result.probabilities else quantity(guess.value)
            )
            room = row.width() - metrics.horizontalAdvance(value) - S
            words = QRectF(row.left(), row.top(), row.width(), height - 6)
            painter.setPen(theme.colour("text" if first else "muted"))
            label = metrics.elidedText(guess.label, Qt.TextElideMode.ElideRight, room)
            painter.drawText(words, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter, label)
            painter.drawText(words, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, value)
            if result.probabilities:
                self._bar(painter, QRectF(row.left(), row.bottom() - 6, row.width(), 3), guess.value, first=first)

    def _bar(self, painter: QPainter, track: QRectF, share: float, *, first: bool) -> None:
        theme = Theme.of()
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(theme.colour("border"))
        painter.drawRoundedRect(track, 1.5, 1.5)
        colour = theme.colour("accent")
        painter.setBrush(colour if first else blend(colour, theme.colour("border"), 0.55))
        if share > 0.004:
            painter.drawRoundedRect(QRectF(track.left(), track.top(), track.width() * min(1.0, share), 3), 1.5, 1.5)

    def _foot(self, painter: QPainter, area: QRectF, result: ReadResult) -> None:
        theme = Theme.of()
        font = theme.font(-1)
        metrics = QFontMetricsF(font)
        painter.setFont(font)
        right = 0.0
        if result.right is not None:
            token, text = ("good", self.tr("✓ right")) if result.right else ("bad", self._wrong(result))
            painter.setPen(theme.colour(token))
            painter.drawText(area, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, text)
            right = metrics.horizontalAdvance(text) + S
        painter.setPen(QColor(theme.tokens.faint))
        name = result.item.name or self.tr("item {0}").format(result.item.index + 1)
        shown = metrics.elidedText(name, Qt.TextElideMode.ElideMiddle, area.width() - right)
        painter.drawText(area, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter, shown)

    def _wrong(self, result: ReadResult) -> str:
        return self.tr("✗ is {0}").format(result.expected)


class ResultsGrid(QListView):
    """The tiles. ``picked`` tells a ReadResult."""

    picked = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.results = ResultsModel(self)
        self.setModel(self.results)
        self.setItemDelegate(ResultDelegate(self))
        self.setProperty("role", "bare")
        self.setViewMode(QListView.ViewMode.IconMode)
        self.setResizeMode(QListView.ResizeMode.Adjust)
        self.setMovement(QListView.Movement.Static)
        self.setUniformItemSizes(True)
        self.setGridSize(TILE)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOn)
        self.setSpacing(0)
        self.setVerticalScrollMode(QListView.ScrollMode.ScrollPerPixel)
        self.setAccessibleName(self.tr("Results"))
        self.selectionModel().currentChanged.connect(self._tell)
        self.results.flushed.connect(self._fit)

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self.results.flush()

    def resizeEvent(self, event: QResizeEvent) -> None:
        self._fit()
        super().resizeEvent(event)

    def _fit(self) -> None:
        """Tiles as wide as fills the row, and lower where there is neither a picture nor a list of classes."""
        newest = next(iter(self.results.results), None)
        plain = newest is not None and newest.item.picture is None and not newest.guesses and "\n" not in newest.text
        room = self.viewport().width() - 1
        size = QSize(room // max(1, room // TILE.width()), LOW if plain else TILE.height())
        if self.gridSize() != size:
            self.setGridSize(size)

    def _tell(self, current: QModelIndex, _previous: QModelIndex) -> None:
        if current.isValid():
            self.picked.emit(current.data(RESULT_ROLE))
