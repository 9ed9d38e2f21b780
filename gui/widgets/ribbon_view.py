"""What the ribbon shows, how large it is and how it is painted; what the mouse and the keys do is in ``ribbon``."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from PySide6.QtCore import QEvent, QPoint, QPointF, QRectF, QSize, QSizeF, Qt
from PySide6.QtGui import QColor, QPainter, QPaintEvent, QPixmap, QResizeEvent
from PySide6.QtWidgets import QWidget

from gui.pins import Kept
from gui.theme import Theme
from gui.widgets import ribbon_words as words
from gui.widgets.node_ribbon import NodeRibbon
from gui.widgets.ribbon_geometry import Size, arrange
from gui.widgets.ribbon_model import Move, RibbonModel
from gui.widgets.ribbon_paint import RibbonPainter, Segment
from gui.widgets.tips import stacked
from gui.widgets.units import nbytes

GRAB = 7.0
"""Pixels on each side of a cut within which it is taken by the mouse."""


class RibbonNode(Struct, frozen=True):
    """A node as the ribbon shows it. ``detail``: a second line, such as its time per micro-batch."""

    id: str
    name: str
    colour: QColor
    detail: str = ""


class RibbonView(NodeRibbon):
    """GUI thread."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._model: RibbonModel | None = None
        self._total: float | None = None
        self._nodes: tuple[RibbonNode, ...] = ()
        self._pins: Kept = ()
        self._pipeline = False
        self._cuts: tuple[int, ...] = ()
        self._before_drag: tuple[int, ...] | None = None
        self._move: Move | None = None
        """The last move of the cut that is dragged."""
        self._active = -1
        self._at = -1
        self._lane = 0
        self._on_layers = False
        self._hover_layer = -1
        self._hover_cut = -1
        self._pills: list[QRectF] = []
        self._drawn: tuple[tuple[object, ...], QPixmap] | None = None
        """The backdrop, and what it was painted from."""
        self._room = 0.0
        self._geometry = arrange(Size(600, 15), 1, None, cut=False)
        self.setAccessibleName(self.tr("Model ribbon"))

    # ---------------------------------------------------------------- what is shown

    def set_model(self, model: RibbonModel | None, total: float | None) -> None:
        """``total``: seconds of the whole model, where the widths are times; None where they are multiply-adds."""
        if model is None or self._model is None or model.layers != self._model.layers:
            self._at = -1
            self._before_drag = self._move = None
        self._model, self._total = model, total
        self._hover_layer = self._hover_cut = -1
        self._arrange()

    def set_room(self, room: float) -> None:
        """Pixels for everything above the modules, whatever the plan; 0: as high as the plan needs."""
        if room != self._room:
            self._room = room
            self._arrange()

    def set_plan(self, nodes: Sequence[RibbonNode], cuts: Sequence[int], *, pipeline: bool, pins: Kept = ()) -> None:
        """Stages in order (``pipeline``), or a lane for each replica; ``pins``: layers that stay on a stage."""
        self._nodes, self._pipeline, self._pins = tuple(nodes), pipeline, pins if pipeline else ()
        if self._before_drag is None:
            self._cuts = tuple(cuts) if pipeline else ()
        self._active = min(self._active, len(self._cuts) - 1)
        self._lane = min(self._lane, max(0, len(nodes) - 1)) if not pipeline else 0
        self._on_layers = self._on_layers or not self._cuts
        if self.hasFocus():
            self._active = max(self._active, 0 if self._cuts else -1)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus if self._nodes else Qt.FocusPolicy.NoFocus)
        self._arrange()

    @property
    def cuts(self) -> tuple[int, ...]:
        return self._cuts

    @property
    def active_cut(self) -> int:
        """Index of the cut that the keys move; -1: none."""
        return self._active

    @property
    def selected(self) -> int:
        """The layer that the keys are at, or that was clicked; -1: none."""
        return self._at if self._on_layers else -1

    def handle_position(self, index: int) -> QPoint:
        """Where cut ``index`` can be taken by the mouse."""
        assert self._model is not None
        x = self._geometry.x(float(self._model.edges[self._cuts[index]]))
        return QPoint(round(x), round(self._geometry.lane_top(0) + self._geometry.lane_height / 2))

    def point_at(self, layer: int, lane: int = 0) -> QPoint:
        """A point over the middle of ``layer``."""
        assert self._model is not None
        middle = float(self._model.edges[layer] + self._model.edges[layer + 1]) / 2
        return QPoint(round(self._geometry.x(middle)), round(self._geometry.lane_top(lane) + 8))

    def segments(self) -> tuple[Segment, ...]:
        """What is drawn: a segment for each stage, or a lane for each replica."""
        if self._model is None:
            return ()
        stages = self._model.stages(self._cuts)
        return tuple(
            Segment(
                node=node.id,
                name=node.name,
                detail=node.detail,
                colour=node.colour,
                first=stages[i].start if self._pipeline else 0,
                last=stages[i].stop if self._pipeline else len(self._model),
                row=0 if self._pipeline else i,
            )
            for i, node in enumerate(self._nodes)
            if not self._pipeline or i < len(stages)
        )

    # ---------------------------------------------------------------- nodes

    def nodes_shown(self) -> tuple[str, ...]:
        return tuple(node.id for node in self._nodes)

    def look_of(self, node: str) -> tuple[str, QColor]:
        found = next(one for one in self._nodes if one.id == node)
        return found.name, found.colour

    def node_at(self, place: QPointF) -> str:
        segment = self._segment_under(place)
        return segment.node if segment is not None else ""

    def node_of(self, layer: int, lane: int = 0) -> str:
        """Which node runs ``layer``, in which lane."""
        for segment in self.segments():
            if segment.first <= layer < segment.last and (self._pipeline or segment.row == lane):
                return segment.node
        return ""

    # ---------------------------------------------------------------- size

    def _arrange(self) -> None:
        rows = 1 if self._pipeline else max(1, len(self._nodes))
        size = Size(self.width(), float(self.fontMetrics().height()), self._room)
        self._geometry = arrange(size, rows, self._model, cut=self._pipeline)
        self.setFixedHeight(round(self._geometry.height))
        self._describe()
        self.update()

    def sizeHint(self) -> QSize:
        return QSize(900, round(self._geometry.height))

    def minimumSizeHint(self) -> QSize:
        return QSize(320, round(self._geometry.height))

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._arrange()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() in (QEvent.Type.FontChange, QEvent.Type.StyleChange, QEvent.Type.PaletteChange):
            self._arrange()

    # ---------------------------------------------------------------- painting

    def paintEvent(self, _event: QPaintEvent) -> None:
        if self._model is None or not len(self._model):
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setFont(self.font())
        painter.drawPixmap(0, 0, self._backdrop())
        brush = RibbonPainter(painter, Theme.of().tokens, self._geometry, self._model)
        segments = self.segments()
        for segment in segments:
            brush.segment(segment)
        if self._hover_layer >= 0:
            brush.highlight(self._hover_layer)
        for segment in segments:
            if segment.node in (self._target, self._carried):
                brush.drop_target(segment)
        if self._on_layers and self._at >= 0:
            brush.cursor(self._at, self._lane, focused=self.hasFocus())
        on_cut = (self.hasFocus() and not self._on_layers) or self._before_drag is not None
        barred = self._move is not None and self._move.refusal is not None
        lit = self._active if on_cut else self._hover_cut
        self._pills = brush.handles(self._cuts, lit, on_cut and self.hasFocus(), barred=barred)
        for layer, _ in self._pins:
            brush.pin(layer)
        self.paint_carried(painter)
        painter.end()

    def _backdrop(self) -> QPixmap:
        """What stays while a cut moves: bytes that would cross, modules, time. Painted anew when any of it changes."""
        assert self._model is not None
        ratio = self.devicePixelRatioF()
        key = (self._model, self._total, self._geometry, self._pipeline, ratio, Theme.of().tokens, self.font())
        if self._drawn is None or self._drawn[0] != key:
            made = QPixmap((QSizeF(self.width(), self._geometry.height) * ratio).toSize())
            made.setDevicePixelRatio(ratio)
            made.fill(Qt.GlobalColor.transparent)
            painter = QPainter(made)
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            painter.setFont(self.font())
            brush = RibbonPainter(painter, Theme.of().tokens, self._geometry, self._model)
            brush.profile()
            brush.bands()
            brush.axis(self._total)
            painter.end()
            self._drawn = (key, made)
        return self._drawn[1]

    # ---------------------------------------------------------------- what is at a place

    def _cut_under(self, point: QPointF) -> int:
        assert self._model is not None
        for i, box in enumerate(self._pills[: len(self._cuts)]):
            if box.contains(point):
                return i
        if not self._geometry.profile_top <= point.y() <= self._geometry.lanes_bottom + 4:
            return -1
        gaps = [abs(self._geometry.x(float(self._model.edges[cut])) - point.x()) for cut in self._cuts]
        nearest = min(range(len(gaps)), key=gaps.__getitem__, default=-1)
        return nearest if nearest >= 0 and gaps[nearest] <= GRAB else -1

    def _over_lanes(self, point: QPointF) -> bool:
        within = 0 <= self._geometry.u(point.x()) <= 1
        return within and self._geometry.lanes_top <= point.y() <= self._geometry.axis_top

    def _segment_under(self, point: QPointF) -> Segment | None:
        if self._model is None or not self._over_lanes(point):
            return None
        layer = self._model.layer_at(self._geometry.u(point.x()))
        for segment in self.segments():
            top, reach = self._geometry.lane_top(segment.row), self._geometry.lane_height + self._geometry.gap
            if segment.first <= layer < segment.last and (self._pipeline or top <= point.y() <= top + reach):
                return segment
        return None

    # ---------------------------------------------------------------- words

    def _layer_words(self, layer: int, segment: Segment | None) -> str:
        """``segment``: the stage or lane that the mouse is at."""
        assert self._model is not None
        node = segment.name if segment is not None else ""
        text = words.layer_words(self._model, layer, timed=self._total is not None, node=node)
        kept = segment is not None and layer in dict(self._pins)
        return f"{text}<br>{self.tr('kept there, wherever the cuts go')}" if kept else text

    def _cut_words(self, index: int, move: Move | None = None) -> str:
        """``move``: why it went no further belongs to the words."""
        assert self._model is not None
        lines = [words.cut_words(self._model, index, self._cuts[index])]
        lines += [self._figure] if move is not None and self._figure else []
        lines += [f"<b>{self._why_not(move)}</b>"] if move is not None and move.refusal else []
        return stacked(*lines)

    def _why_not(self, move: Move) -> str:
        assert self._model is not None
        stage = dict(self._pins).get(move.kept, -1)
        return words.refusal_words(move, self._model, self._nodes[stage].name if stage >= 0 else "")

    def _describe(self) -> None:
        """What a screen reader says."""
        if self._model is None:
            self.describe(self.tr("No model"))
        elif self._on_layers and 0 <= self._at < len(self._model):
            self.describe(self._layer_said())
        elif not self._cuts:
            names = ", ".join(node.name for node in self._nodes)
            self.describe(self.tr("%n layer(s)", "", len(self._model)) + " · " + names)
        else:
            shown = max(self._active, 0)
            said = self.tr(
                "Cut {0} of {1}, before layer {2} ({3}), {4} cross. Left and Right move it; Return has it placed; "
                "Down goes to the layers."
            )
            self.describe(
                said.format(
                    shown + 1,
                    len(self._cuts),
                    self._cuts[shown],
                    self._model.layers[self._cuts[shown]].name,
                    nbytes(self._model.crossing_bytes(self._cuts[shown])),
                )
            )

    def _layer_said(self) -> str:
        assert self._model is not None
        node = self.node_of(self._at, self._lane)
        name = self.look_of(node)[0] if node else ""
        kept = self.tr(", kept there") if self._at in dict(self._pins) else ""
        said = self.tr("Layer {0} of {1}, {2}, on {3}{4}. Delete leaves {3} out; Return opens a menu.")
        return said.format(self._at + 1, len(self._model), self._model.layers[self._at].name, name, kept)
