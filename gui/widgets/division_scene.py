"""What a ribbon of divided layers shows at a certain size: worked out once, then painted."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np
from msgspec import Struct
from PySide6.QtCore import QCoreApplication, QLineF, QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QFontMetricsF, QPainter, QPen

from core.plan.division import Division
from gui.colours import text_on
from gui.theme import Theme
from gui.widgets.division_model import KINDS, Box, Form, Lane, Mark, Run, boxes_of, marks_of, runs_of, shown_exchanges
from gui.widgets.division_paint import MARK_SIZE, Colour, LanePainter, draw_mark
from gui.widgets.division_words import Name
from gui.widgets.ribbon_frame import FramePainter
from gui.widgets.ribbon_geometry import RADIUS, SQUEEZE, Frame, Size, cell_edges, framed
from gui.widgets.ribbon_model import RibbonModel

TRACK: Final = 16.0
"""Height of a row of marks."""
BAND: Final = 32.0
"""Height that a node's band gets where all share alike."""
LEAST_BAND: Final = 6.0
LEAST_LANE: Final = 96.0
GRAB: Final = 7.0
"""Pixels on each side of a mark within which it is taken by the mouse."""
LANES: Final = 200.0
"""Height of all lanes together where there are many."""
CAPTION: Final = 64.0
"""Pixels; a narrower run has no room for names."""


class LaneParts(Struct, frozen=True, eq=False):
    """What is drawn of one replica at the present size."""

    lane: Lane
    runs: tuple[Run, ...]
    boxes: tuple[Box, ...]
    marks: tuple[Mark, ...]
    outline: QRectF


class Scene(Struct, frozen=True, eq=False):
    """Everything that is drawn, but for what follows the mouse and the keys."""

    model: RibbonModel
    total: float | None
    """Seconds of the whole model, where the widths are times."""
    geometry: Frame
    parts: tuple[LaneParts, ...] = ()
    """Of each replica; nothing while the division is not known."""
    marks: tuple[Mark, ...] = ()
    """In rows above the lanes: those of the first replica."""
    kinds: tuple[str, ...] = ()
    """Of exchange, one for each row of marks."""
    cells: tuple[QLineF, ...] = ()
    """Between layers."""

    def track_y(self, kind: str) -> float:
        """The middle of a row of marks."""
        return 2.0 + (self.kinds.index(kind) + 0.5) * TRACK

    def mark_at(self, place: QPointF) -> int:
        """The mark under ``place``; -1: none."""
        gaps = [
            abs(mark.x - place.x()) if abs(self.track_y(mark.kind) - place.y()) <= TRACK / 2 else GRAB + 1
            for mark in self.marks
        ]
        nearest = min(range(len(gaps)), key=gaps.__getitem__, default=-1)
        return nearest if nearest >= 0 and gaps[nearest] <= GRAB else -1

    def layer_at(self, place: QPointF) -> int:
        """The layer under ``place``; -1: none."""
        g = self.geometry
        if not self.parts or not g.lanes_top <= place.y() <= g.axis_top:
            return -1
        u = g.u(place.x())
        return self.model.layer_at(u) if 0 <= u <= 1 else -1


def scene_of(
    model: RibbonModel, total: float | None, division: Division | None, lanes: Sequence[Lane], size: Size
) -> Scene:
    """``lanes``: of ``division``, which is left out where it is of another model."""
    if division is None or len(division.layers) != len(model):
        return Scene(model, total, _frame(size, (), 0, model))
    exchanges = shown_exchanges(division)
    kinds = tuple(kind for kind in KINDS if any(one.kind == kind for one in exchanges))
    g = _frame(size, lanes, len(kinds), model)
    edges = g.left + model.edges * g.width
    parts = []
    for row, lane in enumerate(lanes):
        top, runs = g.lane_top(row), runs_of(lane, edges)
        outline = QRectF(g.left, top, g.width, g.lane_height)
        marks = marks_of(shown_exchanges(division, row), edges)
        parts.append(LaneParts(lane, runs, boxes_of(runs, edges, top, g.lane_height), marks, outline))
    return Scene(model, total, g, tuple(parts), marks_of(exchanges, edges), kinds, tuple(_layer_lines(g, edges)))


def _layer_lines(g: Frame, edges: np.ndarray) -> list[QLineF]:
    """Between layers, lane by lane for each."""
    return [
        QLineF(edge, g.lane_top(row), edge, g.lane_top(row) + g.lane_height)
        for edge in cell_edges(edges.tolist())
        for row in range(g.rows)
    ]


def _frame(size: Size, lanes: Sequence[Lane], tracks: int, model: RibbonModel | None) -> Frame:
    """``tracks``: rows of marks above the lanes."""
    rows = max(1, len(lanes))
    group = max((lane.widest_group for lane in lanes), default=1)
    wanted = max(LEAST_LANE if rows == 1 else 0.0, group * BAND)
    usual = min(wanted, max(group * LEAST_BAND, LANES / rows))
    lanes_top = 2.0 + tracks * TRACK + (4 if tracks else 0)
    return framed(size, model, rows, lanes_top, usual=usual, least=LEAST_BAND * group)


def _tr(text: str) -> str:
    return QCoreApplication.translate("division", text)


class ScenePainter:
    """Paints a scene, and what follows the mouse and the keys over it."""

    def __init__(self, painter: QPainter, scene: Scene, colour: Colour, name: Name) -> None:
        self._p, self._scene, self._colour, self._name = painter, scene, colour, name

    def scene(self, ratio: float, note: str = "", bad: bool = False) -> None:
        """``ratio``: device pixels per pixel; ``note``: said where no lanes are known, as an error where ``bad``."""
        scene = self._scene
        brush = LanePainter(self._colour, Theme.of().colour("border"), ratio)
        if not scene.parts:
            self._waiting(note, bad=bad)
        for row, parts in enumerate(scene.parts):
            brush.lane(self._p, parts.boxes, parts.outline, RADIUS)
            self._layer_cells(row)
            self._captions(parts)
            self._links(parts)
        self._tracks()
        frame = FramePainter(self._p, Theme.of().tokens, scene.geometry, scene.model)
        frame.bands()
        frame.axis(scene.total)

    def hovered(self, layer: int) -> None:
        """The layer under the mouse."""
        FramePainter(self._p, Theme.of().tokens, self._scene.geometry, self._scene.model).highlight(layer)

    def selected(self, layer: int, *, focused: bool) -> None:
        g = self._scene.geometry
        left, right = (g.x(float(self._scene.model.edges[e])) for e in (layer, layer + 1))
        self._p.setBrush(Qt.BrushStyle.NoBrush)
        box = QRectF(left, g.lanes_top, max(3.0, right - left), g.lanes_bottom - g.lanes_top)
        self._p.setPen(QPen(Theme.of().colour("surface"), 4))
        self._p.drawRect(box)
        self._p.setPen(QPen(Theme.of().colour("accent" if focused else "text"), 2))
        self._p.drawRect(box)

    def held(self, lane: int, layer: int, node: str) -> None:
        """The part of a layer whose node the keys are at."""
        parts, g = self._scene.parts[lane], self._scene.geometry
        left, right = (g.x(float(self._scene.model.edges[e])) for e in (layer, layer + 1))
        pattern = parts.lane.of(layer)
        alike = pattern.form in {Form.COPIES, Form.WHOLE}
        top = parts.outline.top()
        for one, share in pattern.parts:
            height = parts.outline.height() * (1 / len(pattern.parts) if alike else share)
            if one == node:
                box = QRectF(left, top, max(3.0, right - left), max(2.0, height))
                self._p.fillRect(box, QColor(255, 255, 255, 70))
                self._p.setBrush(Qt.BrushStyle.NoBrush)
                self._p.setPen(QPen(Theme.of().colour("surface"), 5))
                self._p.drawRect(box)
                self._p.setPen(QPen(Theme.of().colour("accent"), 3))
                self._p.drawRect(box)
            top += height

    def mark(self, mark: Mark, ink: str) -> None:
        """Larger where it stands for several exchanges."""
        theme, many = Theme.of(), len(mark.exchanges) > 1
        centre = QPointF(mark.x, self._scene.track_y(mark.kind))
        self._p.setPen(Qt.PenStyle.NoPen)
        self._p.setBrush(theme.colour("surface"))
        self._p.drawEllipse(centre, MARK_SIZE * 0.75, MARK_SIZE * 0.75)
        draw_mark(self._p, mark.kind, centre, theme.colour(ink), MARK_SIZE + 2 if many else MARK_SIZE - 2)

    def _waiting(self, note: str, *, bad: bool) -> None:
        """The lane before anything is known of it."""
        theme, g = Theme.of(), self._scene.geometry
        box = QRectF(g.left, g.lane_top(0), g.width, g.lane_height)
        self._p.setPen(QPen(theme.colour("border_strong"), 1, Qt.PenStyle.DashLine))
        self._p.setBrush(theme.colour("sunken"))
        self._p.drawRoundedRect(box.adjusted(0.5, 0.5, -0.5, -0.5), RADIUS, RADIUS)
        self._p.setPen(theme.colour("bad" if bad else "muted"))
        flags = int(Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap)
        self._p.drawText(box.adjusted(GRAB, GRAB, -GRAB, -GRAB), flags, note)

    def _layer_cells(self, row: int) -> None:
        ink = Theme.of().colour("surface")
        ink.setAlphaF(0.35)
        self._p.setPen(QPen(ink, 1))
        rows = self._scene.geometry.rows
        self._p.setRenderHint(QPainter.RenderHint.Antialiasing, False)  # hundreds of lines: a third of the time
        self._p.drawLines(self._scene.cells[row::rows])
        self._p.setRenderHint(QPainter.RenderHint.Antialiasing, True)

    def _captions(self, parts: LaneParts) -> None:
        """Names in the widest free stretch of every set of nodes, where there is room."""
        line = QFontMetricsF(self._p.font()).height()
        widest: dict[tuple[str, ...], tuple[float, float, Run]] = {}
        for run in parts.runs:
            nodes = tuple(node for node, _ in run.pattern.parts)
            left, width = self._free_stretch(run, parts.marks)
            plain = run.pattern.form not in {Form.COPIES, Form.NOWHERE}
            if plain and width >= CAPTION and width > widest.get(nodes, (0.0, 0.0, run))[1]:
                widest[nodes] = (left, width, run)
        for left, width, run in widest.values():
            self._caption(parts.outline, run, QRectF(left, 0, width, line))

    def _free_stretch(self, run: Run, marks: Sequence[Mark]) -> tuple[float, float]:
        """Left edge and width of the widest part of a run that no link crosses."""
        left, right = (self._scene.geometry.x(float(self._scene.model.edges[e])) for e in (run.first, run.last))
        ends = [left, *(mark.x for mark in sorted(marks, key=lambda mark: mark.x) if left < mark.x < right), right]
        return max(((a, b - a) for a, b in pairwise(ends)), key=lambda stretch: stretch[1])

    def _caption(self, outline: QRectF, run: Run, room: QRectF) -> None:
        """``room``: from where to where, and the height of a line."""
        top = outline.top()
        for node, share in run.pattern.parts:
            height = outline.height() * share
            width = room.width() - 14
            metrics = QFontMetricsF(self._p.font())
            name = self._name(node)
            full = name if run.pattern.form is Form.WHOLE else _tr("{0}  {1} %").format(name, round(share * 100))
            short = metrics.elidedText(name, Qt.TextElideMode.ElideMiddle, width)
            text = next((words for words in (full, name, short) if metrics.horizontalAdvance(words) <= width), "")
            if height >= room.height() - SQUEEZE and text:
                self._p.setPen(text_on(self._colour(node)))
                place = QRectF(room.left() + 8, top, width, height)
                self._p.drawText(place, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, text)
            top += height

    def _links(self, parts: LaneParts) -> None:
        """A line through the bands of the nodes that exchange something, a dot on each."""
        theme = Theme.of()
        surface, ink = theme.colour("surface"), theme.colour("text")
        lines, dots = [], []
        for mark in parts.marks:
            heights = self._ends(parts, mark)
            if len(heights) > 1:
                lines.append(QLineF(mark.x, min(heights), mark.x, max(heights)))
                dots += [QPointF(mark.x, y) for y in heights]
        self._p.setPen(QPen(surface, 3))
        self._p.drawLines(lines)
        self._p.setPen(QPen(ink, 1.2))
        self._p.drawLines(lines)
        self._p.setPen(QPen(surface, 1))
        self._p.setBrush(ink)
        for dot in dots:
            self._p.drawEllipse(dot, 2.8, 2.8)

    def _ends(self, parts: LaneParts, mark: Mark) -> list[float]:
        """Middles of the bands, of the layer that needs the exchange or of the one before, that take part."""
        nodes = {node for exchange in mark.exchanges for a, b, _ in exchange.links for node in (a, b)}
        found: dict[str, float] = {}
        layer = mark.exchanges[0].layer
        layers = len(parts.lane.ids)
        layer = layer if 0 <= layer < layers else layers - 1
        for at in (layer, layer - 1):
            if at < 0:
                continue
            pattern = parts.lane.of(at)
            alike = pattern.form in {Form.COPIES, Form.WHOLE}
            shares = [1 / len(pattern.parts)] * len(pattern.parts) if alike else [s for _, s in pattern.parts]
            below = 0.0
            for (node, _), share in zip(pattern.parts, shares, strict=True):
                if node in nodes and share > 0:
                    found.setdefault(node, parts.outline.top() + parts.outline.height() * (below + share / 2))
                below += share
        return list(found.values())

    def _tracks(self) -> None:
        theme, g = Theme.of(), self._scene.geometry
        faint = theme.colour("border")
        for kind in self._scene.kinds:
            y = self._scene.track_y(kind)
            self._p.setPen(QPen(faint, 1))
            self._p.drawLine(QLineF(g.left, y, g.left + g.width, y))
        for mark in self._scene.marks:
            self.mark(mark, "text")
