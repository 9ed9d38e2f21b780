"""The ribbon of a plan that divides layers: bands in the colours of the nodes, and links where something travels.

Mouse: over a layer or a mark it says what runs where and what travels; a click shows it in the inspector. Keys: the
left and right arrows go from layer to layer, with Ctrl from mark to mark, Home and End to the ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import pairwise
from typing import Final

import numpy as np
from msgspec import Struct
from PySide6.QtCore import QEvent, QLineF, QPoint, QPointF, QRectF, QSize, QSizeF, Qt, Signal
from PySide6.QtGui import (
    QAccessible,
    QAccessibleEvent,
    QFocusEvent,
    QFontMetricsF,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QPixmap,
    QResizeEvent,
)
from PySide6.QtWidgets import QSizePolicy, QToolTip, QWidget

from core.plan.division import Division
from gui.colours import text_on
from gui.theme import Theme
from gui.widgets import division_words as said
from gui.widgets import ribbon_words
from gui.widgets.division_model import (
    KINDS,
    Box,
    Form,
    Lane,
    Mark,
    Run,
    boxes_of,
    lanes_of,
    marks_of,
    runs_of,
    shown_exchanges,
)
from gui.widgets.division_paint import MARK_SIZE, Colour, LanePainter, draw_mark
from gui.widgets.division_words import Name
from gui.widgets.ribbon_model import RibbonModel
from gui.widgets.ribbon_paint import BAND_WIDTH, FINEST_CELL, LANE_GAP, MARGIN, RADIUS, Geometry, RibbonPainter

TRACK: Final = 16.0
"""Height of a row of marks."""
BAND: Final = 24.0
"""Height that a node's band gets where all share alike."""
LEAST_LANE: Final = 66.0
LANES: Final = 200.0
"""Height of all lanes together where there are many."""
GRAB: Final = 7.0
CAPTION: Final = 64.0
"""Pixels; a narrower run has no room for names."""


class LaneParts(Struct, frozen=True, eq=False):
    """What is drawn of one replica at the present size."""

    lane: Lane
    runs: tuple[Run, ...]
    boxes: tuple[Box, ...]
    marks: tuple[Mark, ...]
    outline: QRectF


class DivisionRibbon(QWidget):
    """See the module's docstring. GUI thread."""

    layerPicked = Signal(int)
    markPicked = Signal(object)
    """A Mark."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._model: RibbonModel | None = None
        self._total: float | None = None
        self._division: Division | None = None
        self._colour: Colour = lambda _node: Theme.of().colour("faint")
        self._name: Name = str
        self._lanes: tuple[Lane, ...] = ()
        self._parts: tuple[LaneParts, ...] = ()
        self._tracks: tuple[Mark, ...] = ()
        self._kinds: tuple[str, ...] = ()
        self._cells: list[QLineF] = []
        self._frame: QPixmap | None = None
        """Everything but what follows the mouse and the keys."""
        self._selected = -1
        self._hover_layer = -1
        self._hover_mark = -1
        self._geometry = _arrange(600, 15, (), 0, None)
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName(self.tr("How the layers are divided"))
        Theme.of().changed.connect(self._restyle)

    # ---------------------------------------------------------------- what is shown

    def set_model(self, model: RibbonModel | None, total: float | None) -> None:
        """``total``: seconds of the whole model, where the widths are times; None where they are multiply-adds."""
        self._model, self._total, self._division = model, total, None
        self._lanes = ()
        self._selected = self._hover_layer = self._hover_mark = -1
        self._arrange()

    def set_division(self, division: Division | None, colour: Colour, name: Name) -> None:
        """``colour`` and ``name`` of a node; None: being worked out, the layers are grey."""
        self._colour, self._name = colour, name
        if division is not self._division:
            self._division = division
            self._lanes = lanes_of(division) if division is not None else ()
            self._hover_mark = -1
        self._arrange()

    @property
    def nodes(self) -> tuple[str, ...]:
        """Those that take part."""
        return tuple(dict.fromkeys(node for lane in self._lanes for node in lane.nodes))

    @property
    def selected(self) -> int:
        """The layer that the inspector shows; -1: none."""
        return self._selected

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of exchange that are marked."""
        return self._kinds

    @property
    def forms(self) -> frozenset[Form]:
        """Looks of layers that occur."""
        return frozenset(pattern.form for lane in self._lanes for pattern in lane.patterns)

    def marks(self) -> tuple[Mark, ...]:
        return self._tracks

    def boxes(self) -> Sequence[Box]:
        """Everything that is filled at the present size."""
        return [box for parts in self._parts for box in parts.boxes]

    def point_at(self, layer: int) -> QPoint:
        """A point over the middle of ``layer``."""
        assert self._model is not None
        middle = float(self._model.edges[layer] + self._model.edges[layer + 1]) / 2
        return QPoint(round(self._geometry.x(middle)), round(self._geometry.lane_top(0) + 8))

    def mark_point(self, index: int) -> QPoint:
        """The middle of mark ``index``."""
        mark = self._tracks[index]
        return QPoint(round(mark.x), round(self._track_y(mark.kind)))

    # ---------------------------------------------------------------- size

    def _arrange(self) -> None:
        line = float(self.fontMetrics().height())
        fits = self._division is not None and self._model is not None
        fits = fits and len(self._division.layers) == len(self._model or ())  # type: ignore[union-attr]
        shown = self._lanes if fits else ()
        exchanges = shown_exchanges(self._division) if fits and self._division is not None else ()
        self._kinds = tuple(kind for kind in KINDS if any(one.kind == kind for one in exchanges))
        self._geometry = _arrange(self.width(), line, shown, len(self._kinds), self._model)
        self._frame = None
        self._parts = ()
        self._tracks = ()
        self._cells = []
        if self._model is not None and shown and self._division is not None:
            edges = self._geometry.left + self._model.edges * self._geometry.width
            self._tracks = marks_of(exchanges, edges)
            self._cells = self._layer_lines(edges)
            self._parts = tuple(self._lane_parts(at, lane, edges) for at, lane in enumerate(shown))
        self.setFixedHeight(round(self._geometry.height))
        self._describe()
        self.update()

    def _lane_parts(self, row: int, lane: Lane, edges: np.ndarray) -> LaneParts:
        assert self._division is not None
        g = self._geometry
        top = g.lane_top(row)
        runs = runs_of(lane, edges)
        marks = marks_of(shown_exchanges(self._division, row), edges)
        outline = QRectF(g.left, top, g.width, g.lane_height)
        return LaneParts(lane, runs, boxes_of(runs, edges, top, g.lane_height), marks, outline)

    def _layer_lines(self, edges: np.ndarray) -> list[QLineF]:
        """Between layers; where they are finer than the eye, several share a cell."""
        g = self._geometry
        lines, last = [], float(edges[0])
        for edge in edges[1:-1].tolist():
            if edge - last >= FINEST_CELL:
                lines += [QLineF(edge, g.lane_top(row), edge, g.lane_top(row) + g.lane_height) for row in range(g.rows)]
                last = edge
        return lines

    def sizeHint(self) -> QSize:
        return QSize(900, round(self._geometry.height))

    def minimumSizeHint(self) -> QSize:
        return QSize(320, round(self._geometry.height))

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        if event.size().width() != event.oldSize().width():
            self._arrange()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() in (QEvent.Type.FontChange, QEvent.Type.StyleChange):
            self._arrange()

    def _restyle(self) -> None:
        self._frame = None
        self.update()

    # ---------------------------------------------------------------- painting

    def paintEvent(self, _event: QPaintEvent) -> None:
        if self._model is None or not len(self._model):
            return
        if self._frame is None or self._frame.devicePixelRatio() != self.devicePixelRatioF():
            self._frame = self._paint_frame(self._model)
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.drawPixmap(0, 0, self._frame)
        if self._hover_layer >= 0:
            RibbonPainter(painter, Theme.of().tokens, self._geometry, self._model).highlight(self._hover_layer)
        if self._selected >= 0 and self._parts:
            self._paint_selected(painter)
        if 0 <= self._hover_mark < len(self._tracks):
            self._paint_mark(painter, self._tracks[self._hover_mark], "accent")
        painter.end()

    def _paint_frame(self, model: RibbonModel) -> QPixmap:
        theme, ratio = Theme.of(), self.devicePixelRatioF()
        made = QPixmap((QSizeF(self.size()) * ratio).toSize())
        made.setDevicePixelRatio(ratio)
        made.fill(Qt.GlobalColor.transparent)
        painter = QPainter(made)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setFont(self.font())
        brush = LanePainter(self._colour, theme.colour("border"), ratio)
        if not self._parts:
            self._paint_waiting(painter)
        for row, parts in enumerate(self._parts):
            brush.lane(painter, parts.boxes, parts.outline, RADIUS)
            self._paint_cells(painter, row)
            self._paint_captions(painter, parts)
            self._paint_links(painter, parts)
        self._paint_tracks(painter)
        frame = RibbonPainter(painter, theme.tokens, self._geometry, model)
        frame.bands()
        frame.axis(self._total)
        painter.end()
        return made

    def _paint_waiting(self, painter: QPainter) -> None:
        """The lane before anything is known of it."""
        theme, g = Theme.of(), self._geometry
        box = QRectF(g.left, g.lane_top(0), g.width, g.lane_height)
        painter.setPen(QPen(theme.colour("border_strong"), 1, Qt.PenStyle.DashLine))
        painter.setBrush(theme.colour("sunken"))
        painter.drawRoundedRect(box.adjusted(0.5, 0.5, -0.5, -0.5), RADIUS, RADIUS)

    def _paint_cells(self, painter: QPainter, row: int) -> None:
        ink = Theme.of().colour("surface")
        ink.setAlphaF(0.35)
        painter.setPen(QPen(ink, 1))
        rows = self._geometry.rows
        painter.drawLines(self._cells[row::rows])

    def _paint_captions(self, painter: QPainter, parts: LaneParts) -> None:
        """Names in the widest free stretch of every set of nodes, where there is room."""
        line = QFontMetricsF(painter.font()).height()
        widest: dict[tuple[str, ...], tuple[float, float, Run]] = {}
        for run in parts.runs:
            nodes = tuple(node for node, _ in run.pattern.parts)
            left, width = self._free_stretch(run, parts.marks)
            plain = run.pattern.form not in {Form.COPIES, Form.NOWHERE}
            if plain and width >= CAPTION and width > widest.get(nodes, (0.0, 0.0, run))[1]:
                widest[nodes] = (left, width, run)
        for left, width, run in widest.values():
            self._caption(painter, parts.outline, run, QRectF(left, 0, width, line))

    def _free_stretch(self, run: Run, marks: Sequence[Mark]) -> tuple[float, float]:
        """Left edge and width of the widest part of a run that no link crosses."""
        assert self._model is not None
        left, right = (self._geometry.x(float(self._model.edges[e])) for e in (run.first, run.last))
        ends = [left, *(mark.x for mark in sorted(marks, key=lambda mark: mark.x) if left < mark.x < right), right]
        return max(((a, b - a) for a, b in pairwise(ends)), key=lambda stretch: stretch[1])

    def _caption(self, painter: QPainter, outline: QRectF, run: Run, room: QRectF) -> None:
        """``room``: from where to where, and the height of a line."""
        top = outline.top()
        for node, share in run.pattern.parts:
            height = outline.height() * share
            if height >= room.height():
                text = self._name(node)
                if run.pattern.form is not Form.WHOLE:
                    text = self.tr("{0}  {1} %").format(text, round(share * 100))
                width = room.width() - 14
                shown = QFontMetricsF(painter.font()).elidedText(text, Qt.TextElideMode.ElideRight, width)
                painter.setPen(text_on(self._colour(node)))
                place = QRectF(room.left() + 8, top, width, height)
                painter.drawText(place, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, shown)
            top += height

    def _paint_links(self, painter: QPainter, parts: LaneParts) -> None:
        """A line through the bands of the nodes that exchange something, a dot on each."""
        theme = Theme.of()
        surface, ink = theme.colour("surface"), theme.colour("text")
        lines, dots = [], []
        for mark in parts.marks:
            heights = self._ends(parts, mark)
            if len(heights) > 1:
                lines.append(QLineF(mark.x, min(heights), mark.x, max(heights)))
                dots += [QPointF(mark.x, y) for y in heights]
        painter.setPen(QPen(surface, 3))
        painter.drawLines(lines)
        painter.setPen(QPen(ink, 1.2))
        painter.drawLines(lines)
        painter.setPen(QPen(surface, 1))
        painter.setBrush(ink)
        for dot in dots:
            painter.drawEllipse(dot, 2.8, 2.8)

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

    def _paint_selected(self, painter: QPainter) -> None:
        assert self._model is not None
        g = self._geometry
        left, right = (g.x(float(self._model.edges[e])) for e in (self._selected, self._selected + 1))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        box = QRectF(left, g.lanes_top, max(3.0, right - left), g.lanes_bottom - g.lanes_top)
        painter.setPen(QPen(Theme.of().colour("surface"), 4))
        painter.drawRect(box)
        painter.setPen(QPen(Theme.of().colour("accent" if self.hasFocus() else "text"), 2))
        painter.drawRect(box)

    def _paint_tracks(self, painter: QPainter) -> None:
        theme, g = Theme.of(), self._geometry
        faint = theme.colour("border")
        for kind in self._kinds:
            y = self._track_y(kind)
            painter.setPen(QPen(faint, 1))
            painter.drawLine(QLineF(g.left, y, g.left + g.width, y))
        for mark in self._tracks:
            self._paint_mark(painter, mark, "text")

    def _paint_mark(self, painter: QPainter, mark: Mark, ink: str) -> None:
        """Larger where it stands for several exchanges."""
        theme, many = Theme.of(), len(mark.exchanges) > 1
        centre = QPointF(mark.x, self._track_y(mark.kind))
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(theme.colour("surface"))
        painter.drawEllipse(centre, MARK_SIZE * 0.75, MARK_SIZE * 0.75)
        draw_mark(painter, mark.kind, centre, theme.colour(ink), MARK_SIZE + 2 if many else MARK_SIZE - 2)

    def _track_y(self, kind: str) -> float:
        return 2.0 + (self._kinds.index(kind) + 0.5) * TRACK

    # ---------------------------------------------------------------- mouse and keys

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        place = event.position()
        self._hover_mark = self._mark_at(place)
        self._hover_layer = self._layer_at(place) if self._hover_mark < 0 else -1
        html = ""
        if self._hover_mark >= 0 and self._model is not None:
            html = said.mark_tip(self._tracks[self._hover_mark], self._model.layers, self._name)
        elif self._hover_layer >= 0:
            html = self._layer_tip(self._hover_layer)
        if html:
            QToolTip.showText(event.globalPosition().toPoint() + QPoint(4, 12), html, self)
        else:
            QToolTip.hideText()
        self.update()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        if event.button() != Qt.MouseButton.LeftButton:
            return
        mark, layer = self._mark_at(event.position()), self._layer_at(event.position())
        if mark >= 0:
            self.markPicked.emit(self._tracks[mark])
        elif layer >= 0:
            self._select(layer)

    def leaveEvent(self, _event: QEvent) -> None:
        self._hover_layer = self._hover_mark = -1
        self.update()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        key = Qt.Key(event.key())
        if self._model is None or key not in {Qt.Key.Key_Left, Qt.Key.Key_Right, Qt.Key.Key_Home, Qt.Key.Key_End}:
            super().keyPressEvent(event)
            return
        last = len(self._model) - 1
        if key in {Qt.Key.Key_Home, Qt.Key.Key_End}:
            self._select(0 if key == Qt.Key.Key_Home else last)
            return
        step = 1 if key == Qt.Key.Key_Right else -1
        if event.modifiers() & Qt.KeyboardModifier.ControlModifier:
            self._select(self._next_exchange(step))
        else:
            self._select(min(max(self._selected + step, 0), last))

    def _next_exchange(self, step: int) -> int:
        """The next layer before which something travels."""
        assert self._model is not None
        places = sorted({one.layer for mark in self._tracks for one in mark.exchanges if one.layer >= 0})
        beyond = [p for p in places if (p > self._selected if step > 0 else p < self._selected)]
        if not beyond:
            return max(self._selected, 0)
        return beyond[0] if step > 0 else beyond[-1]

    def focusInEvent(self, event: QFocusEvent) -> None:
        super().focusInEvent(event)
        self.update()

    def focusOutEvent(self, event: QFocusEvent) -> None:
        super().focusOutEvent(event)
        self.update()

    def _select(self, layer: int) -> None:
        self._selected = layer
        self._describe()
        self.update()
        self.layerPicked.emit(layer)

    def _layer_at(self, place: QPointF) -> int:
        g = self._geometry
        if self._model is None or not self._parts or not g.lanes_top <= place.y() <= g.axis_top:
            return -1
        u = g.u(place.x())
        return self._model.layer_at(u) if 0 <= u <= 1 else -1

    def _mark_at(self, place: QPointF) -> int:
        gaps = [
            abs(mark.x - place.x()) if abs(self._track_y(mark.kind) - place.y()) <= TRACK / 2 else GRAB + 1
            for mark in self._tracks
        ]
        nearest = min(range(len(gaps)), key=gaps.__getitem__, default=-1)
        return nearest if nearest >= 0 and gaps[nearest] <= GRAB else -1

    # ---------------------------------------------------------------- words

    def _layer_tip(self, layer: int) -> str:
        assert self._model is not None
        lines = [ribbon_words.layer_words(self._model, layer, timed=self._total is not None, node="")]
        if self._division is not None:
            divided = self._division.layers[layer]
            op = self._model.layers[layer].op
            lines.append(escape(said.layer_words(divided, op, self._name)))
            why = said.why_not_split(self._division, self._model.layers[layer])
            lines += [f"<i>{escape(why)}</i>"] if why else []
        return "<br>".join(lines)

    def _describe(self) -> None:
        """What a screen reader says."""
        if self._model is None:
            words = self.tr("No model")
        elif self._division is None or not self._parts:
            words = self.tr("%n layer(s)", "", len(self._model)) + " · " + self.tr("working out how they are divided")
        elif self._selected >= 0:
            layer = self._model.layers[self._selected]
            words = f"{layer.name}: {said.layer_words(self._division.layers[self._selected], layer.op, self._name)}"
        else:
            words = self.tr("%n layer(s)", "", len(self._model)) + ". " + said.totals_words(self._division)
        if words != self.accessibleDescription():
            self.setAccessibleDescription(words)
            QAccessible.updateAccessibility(QAccessibleEvent(self, QAccessible.Event.DescriptionChanged))


def _arrange(width: float, line: float, lanes: Sequence[Lane], tracks: int, model: RibbonModel | None) -> Geometry:
    """``line``: height of a line of text; ``tracks``: rows of marks above the lanes."""
    inner = max(1.0, width - 2 * MARGIN)
    bands = model.band_rows(int(inner / BAND_WIDTH)) if model else ()
    rows = max(1, len(lanes))
    lanes_top = 2.0 + tracks * TRACK + (4 if tracks else 0)
    group = max((lane.widest_group for lane in lanes), default=1)
    wanted = max(LEAST_LANE if rows == 1 else 0.0, group * BAND)
    lane_height = min(wanted, max(group * 6.0, LANES / rows))
    bands_top = lanes_top + rows * lane_height + (rows - 1) * LANE_GAP + 4
    band_height = line + 6
    axis_top = bands_top + len(bands) * band_height + (4 if bands else 0)
    return Geometry(
        left=MARGIN,
        width=inner,
        pill_top=0.0,
        pill_height=0.0,
        profile_top=0.0,
        lanes_top=lanes_top,
        lane_height=lane_height,
        cells=0.0,
        rows=rows,
        bands_top=bands_top,
        band_height=band_height,
        bands=bands,
        axis_top=axis_top,
        height=axis_top + line + 6,
    )
