"""What both ribbons paint alike: the modules under the lanes, the axis of time, the layer under the mouse."""

from __future__ import annotations

import numpy as np
from PySide6.QtCore import QLineF, QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QFontMetricsF, QPainter, QPen

from gui.colours import Tokens
from gui.widgets.formats import tick
from gui.widgets.ribbon_geometry import Frame, nice_step
from gui.widgets.ribbon_model import Band, RibbonModel
from gui.widgets.units import seconds


class FramePainter:
    """Paints in the colours of a theme."""

    def __init__(self, painter: QPainter, tokens: Tokens, frame: Frame, model: RibbonModel) -> None:
        self._p, self._g, self._model = painter, frame, model
        self._text, self._muted = QColor(tokens.text), QColor(tokens.muted)
        self._metrics = QFontMetricsF(painter.font())

    def highlight(self, layer: int) -> None:
        """The layer under the mouse."""
        g, model = self._g, self._model
        left, right = g.x(float(model.edges[layer])), g.x(float(model.edges[layer + 1]))
        glow = QColor(255, 255, 255, 70)
        for row in range(g.rows):
            self._p.fillRect(QRectF(left, g.lane_top(row), max(1.0, right - left), g.lane_height), glow)

    def bands(self) -> None:
        for row, bands in enumerate(self._g.bands):
            short = row > 0 and not all(self._fits(band) for band in bands)
            for band in bands:
                self._band(band, row, short=short)

    def _fits(self, band: Band) -> bool:
        width = float(self._model.edges[band.last] - self._model.edges[band.first]) * self._g.width
        return self._metrics.horizontalAdvance(band.label) <= width - 6

    def _band(self, band: Band, row: int, *, short: bool) -> None:
        """``short``: numbers alone, where a row has no room for whole names."""
        g, p = self._g, self._p
        left, right = (g.x(float(self._model.edges[e])) for e in (band.first, band.last))
        top = g.bands_top + row * g.band_height
        line = QColor(self._muted)
        line.setAlphaF(0.55)
        p.setPen(QPen(line, 1))
        inset = 1.5 if right - left > 5 else 0.0
        p.drawLine(QLineF(left + inset, top + 1, right - inset, top + 1))
        room = right - left - 6
        number = band.label.rsplit(".", 1)[-1]
        text = number if number.isdigit() and (short or not self._fits(band)) else band.label
        if self._metrics.horizontalAdvance(text) > room:
            text = self._metrics.elidedText(text, Qt.TextElideMode.ElideRight, room)
            if len(text) < 4 or number.isdigit():
                return
        p.setPen(self._muted if row else self._text)
        p.drawText(QRectF(left, top + 3, right - left, g.band_height - 3), Qt.AlignmentFlag.AlignHCenter, text)

    def axis(self, total_seconds: float | None) -> None:
        """Ticks of time, where the widths are times."""
        if not total_seconds:
            return
        g, p = self._g, self._p
        done = np.concatenate(([0.0], np.cumsum(self._model.costs)))
        scale = total_seconds / done[-1] if done[-1] > 0 else 0.0
        step = nice_step(total_seconds, max(2, int(g.width / 90)))
        p.setPen(self._muted)
        end = seconds(total_seconds)
        end_left = g.x(1) - self._metrics.horizontalAdvance(end)
        for i in range(1, int(total_seconds / step) + 1):
            x = g.x(float(np.interp(i * step, done * scale, self._model.edges)))
            text = tick(i * step, step)
            half = self._metrics.horizontalAdvance(text) / 2
            if x + half > end_left - 10:
                break
            p.drawLine(QLineF(x, g.axis_top, x, g.axis_top + 3))
            p.drawText(QPointF(x - half, g.axis_top + 4 + self._metrics.ascent()), text)
        p.drawText(QPointF(g.x(0), g.axis_top + 4 + self._metrics.ascent()), "0")
        p.drawText(QPointF(end_left, g.axis_top + 4 + self._metrics.ascent()), end)
