"""How the ribbon of whole layers is painted; where its parts lie is in ``ribbon_geometry``."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from msgspec import Struct
from PySide6.QtCore import QLineF, QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QFontMetricsF, QPainter, QPainterPath, QPen, QPolygonF

from gui.colours import Tokens, text_on
from gui.widgets.ribbon_frame import FramePainter
from gui.widgets.ribbon_geometry import LANE_OF_MANY, MARGIN, PROFILE, RADIUS, SQUEEZE, Geometry, cell_edges, spread
from gui.widgets.ribbon_model import RibbonModel
from gui.widgets.units import nbytes


class Segment(Struct, frozen=True):
    """A run of layers on one node. ``row`` counts lanes from the top."""

    node: str
    name: str
    detail: str
    colour: QColor
    first: int
    last: int
    row: int


class RibbonPainter(FramePainter):
    """Paints a ribbon of whole layers in the colours of a theme."""

    _g: Geometry

    def __init__(self, painter: QPainter, tokens: Tokens, geometry: Geometry, model: RibbonModel) -> None:
        super().__init__(painter, tokens, geometry, model)
        self._accent, self._bad, self._surface = QColor(tokens.accent), QColor(tokens.bad), QColor(tokens.surface)

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
        self._p.setPen(QPen(QColor(0, 0, 0, 84), 1))
        self._p.drawLines([QLineF(edge, strip.top(), edge, strip.bottom()) for edge in cell_edges(edges)])

    def _caption(self, segment: Segment, box: QRectF) -> None:
        if self._upright(segment, box.adjusted(-10, 4, 10, -4)) or box.width() < 24:
            return
        p, line = self._p, self._metrics.height()
        if box.height() < line - 1:  # no room above the layers: over them
            box = QRectF(box.left(), box.top(), box.width(), box.height() + self._g.cells)
        if box.height() < line - SQUEEZE:
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
            if self._metrics.horizontalAdvance(detail) <= place.width():
                p.drawText(place, Qt.AlignmentFlag.AlignLeft, detail)

    def _upright(self, segment: Segment, box: QRectF) -> bool:
        """The name from the bottom to the top, where it has room so and not from left to right; whether it has."""
        p, bold = self._p, self._p.font()
        bold.setBold(True)
        advance = QFontMetricsF(bold).horizontalAdvance(segment.name)
        tall = box.height() > max(box.width(), 2 * LANE_OF_MANY)
        if not tall or advance <= box.width() - 20 or box.width() < self._metrics.height() - SQUEEZE:
            return False
        p.save()
        p.translate(box.center().x(), box.bottom())
        p.rotate(-90)
        p.setFont(bold)
        p.setPen(text_on(segment.colour))
        name = QFontMetricsF(bold).elidedText(segment.name, Qt.TextElideMode.ElideRight, box.height())
        place = QRectF(0, -self._metrics.height() / 2, box.height(), self._metrics.height())
        p.drawText(place, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter, name)
        p.restore()
        return True

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
