"""How the ribbon is painted, apart from where its parts lie and what the mouse and the keys do with it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from msgspec import Struct
from PySide6.QtCore import QLineF, QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QFontMetricsF, QPainter, QPainterPath, QPen, QPolygonF

from gui.colours import Tokens, text_on
from gui.widgets.formats import tick
from gui.widgets.ribbon_geometry import FINEST_CELL, MARGIN, PROFILE, RADIUS, Geometry, nice_step, spread
from gui.widgets.ribbon_model import Band, RibbonModel
from gui.widgets.units import nbytes, seconds


class Segment(Struct, frozen=True):
    """A run of layers on one node. ``row`` counts lanes from the top."""

    node: str
    name: str
    detail: str
    colour: QColor
    first: int
    last: int
    row: int


class RibbonPainter:
    """Paints one frame of the ribbon in the colours of a theme."""

    def __init__(self, painter: QPainter, tokens: Tokens, geometry: Geometry, model: RibbonModel) -> None:
        self._p = painter
        self._g = geometry
        self._model = model
        self._text = QColor(tokens.text)
        self._muted = QColor(tokens.muted)
        self._accent = QColor(tokens.accent)
        self._bad = QColor(tokens.bad)
        self._surface = QColor(tokens.surface)
        self._metrics = QFontMetricsF(painter.font())

    # ---------------------------------------------------------------- bytes that would cross

    def profile(self) -> None:
        """The silhouette of the bytes that would cross at each position; a valley cuts cheaply."""
        model, g = self._model, self._g
        if not model.positions or g.lanes_top - g.profile_top < PROFILE:
            return
        sizes = np.array([max(1, model.crossing_bytes(p)) for p in model.positions], dtype=np.float64)
        heights = np.maximum(np.sqrt(sizes / sizes.max()), 0.06) * (g.lanes_top - g.profile_top - 2)
        floor_y = g.lanes_top - 2
        points = [QPointF(g.x(0), floor_y)]
        xs = [g.x(float(model.edges[p])) for p in model.positions]
        middles = [(a + b) / 2 for a, b in pairwise(xs)]
        for left, right, height in zip([g.x(0), *middles], [*middles, g.x(1)], heights, strict=True):
            points += [QPointF(left, floor_y - float(height)), QPointF(right, floor_y - float(height))]
        points.append(QPointF(g.x(1), floor_y))
        fill = QColor(self._muted)
        fill.setAlphaF(0.22)
        self._p.setPen(Qt.PenStyle.NoPen)
        self._p.setBrush(fill)
        self._p.setRenderHint(QPainter.RenderHint.Antialiasing, False)
        self._p.drawPolygon(QPolygonF(points))
        self._p.setRenderHint(QPainter.RenderHint.Antialiasing, True)

    # ---------------------------------------------------------------- lanes

    def segment(self, segment: Segment) -> None:
        model, g, p = self._model, self._g, self._p
        left, right = g.x(float(model.edges[segment.first])), g.x(float(model.edges[segment.last]))
        gap_left = 0.0 if segment.first == 0 else 1.0
        gap_right = 0.0 if segment.last == len(model) else 1.0
        box = QRectF(left + gap_left, g.lane_top(segment.row), right - left - gap_left - gap_right, g.lane_height)
        path = QPainterPath()
        path.addRoundedRect(box, RADIUS, RADIUS)
        p.save()
        p.setPen(Qt.PenStyle.NoPen)
        p.fillPath(path, segment.colour)
        p.setClipPath(path)
        self._shade_bands(segment, box)
        self._cells(segment, QRectF(box.left(), box.bottom() - g.cells, box.width(), g.cells))
        p.restore()
        self._caption(segment, box.adjusted(10, 0, -10, -g.cells))

    def _shade_bands(self, segment: Segment, box: QRectF) -> None:
        """Every other module a little darker, so that modules show within a stage."""
        for i, band in enumerate(self._g.bands[-1] if self._g.bands else ()):
            if i % 2 and band.first < segment.last and band.last > segment.first:
                left, right = (self._g.x(float(self._model.edges[e])) for e in (band.first, band.last))
                self._p.fillRect(QRectF(left, box.top(), right - left, box.height()), QColor(0, 0, 0, 18))

    def _cells(self, segment: Segment, strip: QRectF) -> None:
        """The layers, each a cell as wide as its time; where they are finer than the eye, several share a cell."""
        self._p.fillRect(strip, QColor(0, 0, 0, 26))
        edges = (self._g.left + self._model.edges[segment.first : segment.last + 1] * self._g.width).tolist()
        lines, last = [], edges[0]
        for edge in edges[1:-1]:
            if edge - last >= FINEST_CELL:
                lines.append(QLineF(edge, strip.top(), edge, strip.bottom()))
                last = edge
        self._p.setPen(QPen(QColor(0, 0, 0, 84), 1))
        self._p.drawLines(lines)

    def _caption(self, segment: Segment, box: QRectF) -> None:
        if box.width() < 24:
            return
        p, line = self._p, self._metrics.height()
        if box.height() < line - 1:  # no room above the layers: over them
            box = QRectF(box.left(), box.top(), box.width(), box.height() + self._g.cells)
        if box.height() < line - 3:
            return
        plain, bold = p.font(), p.font()
        bold.setBold(True)
        two = bool(segment.detail) and box.height() >= 2 * line
        name = QFontMetricsF(bold).elidedText(segment.name, Qt.TextElideMode.ElideRight, box.width())
        advance = QFontMetricsF(bold).horizontalAdvance(name)
        top = box.center().y() - line * (1.0 if two else 0.5)
        p.setPen(text_on(segment.colour))
        p.setFont(bold)
        p.drawText(QRectF(box.left(), top, box.width(), line), Qt.AlignmentFlag.AlignLeft, name)
        p.setFont(plain)
        below = QRectF(box.left(), top + line, box.width(), line)
        beside = QRectF(box.left() + advance + 12, top, box.width() - advance - 12, line)
        place = below if two else beside
        if place.width() >= 24:
            fits = self._metrics.horizontalAdvance(segment.detail) <= place.width()
            detail = segment.detail if fits else segment.detail.partition(" · ")[0]
            detail = self._metrics.elidedText(detail, Qt.TextElideMode.ElideRight, place.width())
            p.drawText(place, Qt.AlignmentFlag.AlignLeft, detail)

    def highlight(self, layer: int) -> None:
        """The layer under the mouse."""
        g, model = self._g, self._model
        left, right = g.x(float(model.edges[layer])), g.x(float(model.edges[layer + 1]))
        glow = QColor(255, 255, 255, 70)
        for row in range(g.rows):
            self._p.fillRect(QRectF(left, g.lane_top(row), max(1.0, right - left), g.lane_height), glow)

    def cursor(self, layer: int, row: int, *, focused: bool) -> None:
        """The layer that the keys are at."""
        g = self._g
        left, right = (g.x(float(self._model.edges[e])) for e in (layer, layer + 1))
        top = g.lane_top(row) + g.lane_height - g.cells  # the caption above stays free
        box = QRectF(left, top, max(3.0, right - left), g.cells)
        self._p.setBrush(Qt.BrushStyle.NoBrush)
        self._p.setPen(QPen(self._surface, 4))
        self._p.drawRect(box)
        self._p.setPen(QPen(self._accent if focused else self._text, 2))
        self._p.drawRect(box)

    def pin(self, layer: int) -> None:
        """A layer that stays on its node: a pin stuck into its cell."""
        g, p = self._g, self._p
        x = g.x(float(self._model.edges[layer] + self._model.edges[layer + 1]) / 2)
        foot = g.lane_top(0) + g.lane_height - 3
        head = QPointF(x, foot - 14)
        for colour, width in ((self._surface, 4.0), (self._text, 1.6)):
            p.setPen(QPen(colour, width, Qt.PenStyle.SolidLine, Qt.PenCapStyle.RoundCap))
            p.drawLine(QLineF(x, head.y(), x, foot))
        p.setPen(QPen(self._surface, 1.5))
        p.setBrush(self._text)
        p.drawEllipse(head, 4.6, 4.6)
        p.setPen(Qt.PenStyle.NoPen)
        p.setBrush(self._surface)
        p.drawEllipse(head, 1.6, 1.6)

    def drop_target(self, segment: Segment) -> None:
        g = self._g
        left, right = (g.x(float(self._model.edges[e])) for e in (segment.first, segment.last))
        self._p.setBrush(Qt.BrushStyle.NoBrush)
        self._p.setPen(QPen(self._accent, 2))
        box = QRectF(left, g.lane_top(segment.row), right - left, g.lane_height)
        self._p.drawRoundedRect(box.adjusted(1, 1, -1, -1), RADIUS, RADIUS)

    # ---------------------------------------------------------------- handles

    def handles(self, cuts: Sequence[int], active: int, focused: bool, *, barred: bool = False) -> list[QRectF]:
        """Draw the handles; returns the box of each pill, for hit tests. ``barred``: the active one goes no further."""
        g = self._g
        xs = [g.x(float(self._model.edges[cut])) for cut in cuts]
        texts = [nbytes(self._model.crossing_bytes(cut)) for cut in cuts]
        widths = [self._metrics.horizontalAdvance(text) + 20 for text in texts]
        centres = spread(xs, widths, g.left - MARGIN + 2, g.left + g.width + MARGIN - 2, 6)
        boxes = []
        for i, (x, text, width, centre) in enumerate(zip(xs, texts, widths, centres, strict=True)):
            box = QRectF(centre - width / 2, g.pill_top, width, g.pill_height)
            self._handle(x, box, text, active=i == active, ring=focused and i == active, barred=barred)
            boxes.append(box)
        return boxes

    def _handle(self, x: float, box: QRectF, text: str, *, active: bool, ring: bool, barred: bool) -> None:
        p, g = self._p, self._g
        lit = self._bad if barred else self._accent
        colour = lit if active else self._text
        p.setPen(QPen(self._surface, 4))
        p.drawLine(QLineF(x, g.lanes_top - 1, x, g.lanes_bottom + 1))
        p.setPen(QPen(colour, 2))
        foot = QPointF(x, g.profile_top + 2)
        p.drawPolyline(QPolygonF([QPointF(box.center().x(), box.bottom()), foot, QPointF(x, g.lanes_bottom + 3)]))
        middle = g.lane_top(0) + g.lane_height / 2
        grip = QRectF(x - 5, middle - 13, 10, 26)
        p.setBrush(self._surface)
        p.drawRoundedRect(grip, 5, 5)
        p.setPen(QPen(colour, 1))
        for dx in (-1.5, 1.5):
            p.drawLine(QLineF(x + dx, middle - 5, x + dx, middle + 5))
        p.setPen(QPen(colour, 2 if ring else 1))
        p.setBrush(lit if active else self._surface)
        p.drawRoundedRect(box.adjusted(1, 1, -1, -1), box.height() / 2 - 1, box.height() / 2 - 1)
        p.setPen(text_on(lit) if active else self._text)
        p.drawText(box, Qt.AlignmentFlag.AlignCenter, text)

    # ---------------------------------------------------------------- modules and time

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
