"""How lanes and marks of a division are painted, on cards and on the ribbon alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from PySide6.QtCore import QLineF, QPointF, QRectF, Qt
from PySide6.QtGui import QBrush, QColor, QPainter, QPainterPath, QPen, QPixmap, QPolygonF

from gui.widgets.division_model import Box, Form

STRIPE: Final = 5
"""Pixels, along the edge of the tile."""
MARK_SIZE: Final = 9.0
HALO_ROOM: Final = 14.0
"""Height of a band whose seam has room to be a strip."""

Colour = Callable[[str], QColor]


class LanePainter:
    """Paints boxes; keeps the stripes it made for as long as it lives."""

    def __init__(self, colour: Colour, ground: QColor, ratio: float) -> None:
        """``colour``: of a node; ``ground``: where no node runs anything; ``ratio``: device pixels per pixel."""
        self._colour, self._ground, self._ratio = colour, ground, ratio
        self._stripes: dict[tuple[str, ...], QBrush] = {}

    def lane(self, painter: QPainter, boxes: Sequence[Box], outline: QRectF, radius: float) -> None:
        path = QPainterPath()
        path.addRoundedRect(outline, radius, radius)
        painter.save()
        painter.setClipPath(path)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)
        for box in boxes:
            self._box(painter, box)
        painter.restore()

    def _box(self, painter: QPainter, box: Box) -> None:
        area = QRectF(box.left, box.top, box.width, box.height)
        if box.form is Form.NOWHERE:
            painter.fillRect(area, self._ground)
        elif box.form is Form.COPIES:
            painter.fillRect(area, self.stripes(box.nodes))
        else:
            painter.fillRect(area, self._colour(box.nodes[0]))
        if box.form is Form.TERMS:
            painter.fillRect(area, QBrush(QColor(0, 0, 0, 130), Qt.BrushStyle.Dense6Pattern))
        if box.form in {Form.BANDS, Form.TERMS, Form.STRIPS} and not box.first:
            self._seam(painter, area, halo=box.form is Form.STRIPS)

    def _seam(self, painter: QPainter, area: QRectF, *, halo: bool) -> None:
        """Between bands; that of a halo is a pale strip, for the rows that both sides need."""
        tall = 3.0 if halo and area.height() > HALO_ROOM else 1.0
        colour = QColor(255, 255, 255, 200) if halo else QColor(0, 0, 0, 90)
        painter.fillRect(QRectF(area.left(), area.top() - tall / 2, area.width(), tall), colour)

    def stripes(self, nodes: tuple[str, ...]) -> QBrush:
        """Slanting stripes in the colours of ``nodes``."""
        if nodes not in self._stripes:
            self._stripes[nodes] = striped([self._colour(node) for node in nodes], self._ratio)
        return self._stripes[nodes]


def striped(colours: Sequence[QColor], ratio: float) -> QBrush:
    """A brush of slanting stripes that repeats without a seam."""
    side = STRIPE * len(colours)
    tile = QPixmap(round(side * ratio), round(side * ratio))
    tile.setDevicePixelRatio(ratio)
    painter = QPainter(tile)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.fillRect(QRectF(0, 0, side, side), colours[0])
    painter.setPen(Qt.PenStyle.NoPen)
    for turn in range(2):
        for place, colour in enumerate(colours):
            left = turn * side + place * STRIPE
            painter.setBrush(colour)
            painter.drawPolygon(
                _shape((left, 0), (left + STRIPE, 0), (left + STRIPE - side, side), (left - side, side))
            )
    painter.end()
    return QBrush(tile)


def draw_mark(painter: QPainter, kind: str, centre: QPointF, ink: QColor, size: float = MARK_SIZE) -> None:
    """The sign of a kind of exchange, each of another shape."""
    x, y, half = centre.x(), centre.y(), size / 2
    painter.setPen(QPen(ink, 1.4))
    painter.setBrush(ink)
    match kind:
        case "all-reduce":
            painter.drawEllipse(centre, half, half)
        case "reduce-scatter":
            painter.drawPolygon(_shape((x - half, y - half), (x + half, y - half), (x, y + half)))
        case "all-gather":
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawPolygon(_shape((x, y - half), (x + half, y), (x, y + half), (x - half, y)))
        case "all-to-all":
            painter.drawLine(QLineF(x - half, y - half, x + half, y + half))
            painter.drawLine(QLineF(x - half, y + half, x + half, y - half))
        case "halo":
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawLine(QLineF(x - half, y - 2.5, x + half, y - 2.5))
            painter.drawLine(QLineF(x - half, y + 2.5, x + half, y + 2.5))
        case _:
            painter.drawPolygon(_shape((x - half, y - half), (x + half, y), (x - half, y + half)))


def _shape(*corners: tuple[float, float]) -> QPolygonF:
    return QPolygonF([QPointF(x, y) for x, y in corners])


def draw_edge(painter: QPainter, lines: Sequence[tuple[float, float, float]], ink: QColor, ground: QColor) -> None:
    """An edge that is moved: a line in every run that has it, each (left, right, y), and a grip in the widest."""
    strokes = [QLineF(left, y, right, y) for left, right, y in lines]
    for colour, width in ((ground, 4.0), (ink, 2.0)):
        painter.setPen(QPen(colour, width))
        painter.drawLines(strokes)
    left, right, y = max(lines, key=lambda line: line[1] - line[0])
    grip = QRectF((left + right) / 2 - 13, y - 5, 26, 10)
    painter.setPen(QPen(ink, 2))
    painter.setBrush(ground)
    painter.drawRoundedRect(grip, 5, 5)
    painter.setPen(QPen(ink, 1))
    for dy in (-1.5, 1.5):
        painter.drawLine(QLineF(grip.center().x() - 5, y + dy, grip.center().x() + 5, y + dy))
