"""Work over the depth of a model: a slim bar chart, first layer on the left."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
from PySide6.QtCore import QEvent, QPoint, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QMouseEvent, QPainter, QPaintEvent
from PySide6.QtWidgets import QSizePolicy, QToolTip, QWidget

from core.model.types import Layer
from gui.theme import Theme
from gui.widgets.formats import count

HEIGHT = 64
BAR = 5
"""Pixels for a bar where layers are finer than that: several share one, and the highest shows."""


class WorkOverview(QWidget):
    """Bars as high as a layer's multiply-adds. ``picked`` tells the layer clicked."""

    picked = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._layers: tuple[Layer, ...] = ()
        self._macs = np.zeros(0)
        self._hover = -1
        self._marked = -1
        self.setMouseTracking(True)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setFixedHeight(HEIGHT)
        self.setAccessibleName(self.tr("Multiply-adds over the depth of the model"))

    def set_layers(self, layers: Sequence[Layer]) -> None:
        self._layers = tuple(layers)
        self._macs = np.array([layer.macs for layer in layers], dtype=np.float64)
        self._hover = self._marked = -1
        self.update()

    def mark(self, layer: int) -> None:
        """Show where ``layer`` is; -1: nowhere."""
        self._marked = layer
        self.update()

    def sizeHint(self) -> QSize:
        return QSize(600, HEIGHT)

    def bars(self) -> tuple[np.ndarray, np.ndarray]:
        """Edges in layers [n + 1] and heights 0..1 [n] of the bars drawn at the present width."""
        size = len(self._macs)
        wanted = max(1, min(size, self.width() // BAR))
        edges = np.linspace(0, size, wanted + 1).astype(int)
        heights = np.maximum.reduceat(self._macs, edges[:-1]) if size else np.zeros(0)
        top = heights.max() if size else 0.0
        return edges, heights / top if top > 0 else heights

    def paintEvent(self, _event: QPaintEvent) -> None:
        if not len(self._macs):
            return
        theme = Theme.of()
        painter = QPainter(self)
        painter.setPen(Qt.PenStyle.NoPen)
        edges, heights = self.bars()
        scale = self.width() / len(self._macs)
        plain, lit, track = theme.colour("accent"), theme.colour("text"), theme.colour("border")
        floor = self.height() - 1
        for first, last, height in zip(edges[:-1].tolist(), edges[1:].tolist(), heights.tolist(), strict=True):
            gap = 1.0 if (last - first) * scale > 3 else 0.0
            box = QRectF(first * scale, 0, max(1.0, (last - first) * scale - gap), floor)
            painter.fillRect(QRectF(box.left(), floor - 1, box.width(), 1), track)
            box.setTop(floor - max(1.0, height * (floor - 2)))
            shown = first <= self._hover < last or first <= self._marked < last
            painter.fillRect(box, lit if shown else plain)
        painter.end()

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        layer = self._layer_at(event.position().x())
        if layer >= 0:
            what = self._layers[layer]
            macs = self.tr("{0} multiply-adds").format(count(what.macs))
            text = f"<b>{escape(what.name)}</b><br>{escape(what.op)}<br>{macs}"
            QToolTip.showText(event.globalPosition().toPoint() + QPoint(4, 12), text, self)
        if layer != self._hover:
            self._hover = layer
            self.update()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        layer = self._layer_at(event.position().x())
        if layer >= 0 and event.button() == Qt.MouseButton.LeftButton:
            self.picked.emit(layer)

    def leaveEvent(self, _event: QEvent) -> None:
        self._hover = -1
        self.update()

    def _layer_at(self, x: float) -> int:
        """The layer under ``x``; where several share a bar, the one with the most work."""
        if not len(self._macs) or not 0 <= x < self.width():
            return -1
        layer = int(x * len(self._macs) / self.width())
        edges, _ = self.bars()
        bar = int(np.searchsorted(edges, layer, side="right")) - 1
        first, last = int(edges[bar]), int(edges[bar + 1])
        return first + int(self._macs[first:last].argmax())
