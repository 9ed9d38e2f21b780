"""The ribbon: the model's layers from left to right, in the colour of the node that runs them, with cuts to drag.

Mouse: drag a cut; double click on it and the planner places it; drag a stage or lane onto another. Keys: Tab goes from
cut to cut, the arrow keys move the cut by one layer, with Ctrl by one module, Home and End as far as it goes, Return
has the planner place it. Down goes to the layers: the arrow keys go through them, with Ctrl from node to node, and Up
goes back to the cuts. Escape gives a drag up. See ``gui.widgets.node_ribbon`` for what is done with nodes.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from PySide6.QtCore import QEvent, QPoint, QPointF, QRectF, QSize, QSizeF, Qt, Signal
from PySide6.QtGui import QColor, QFocusEvent, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPixmap, QResizeEvent
from PySide6.QtWidgets import QToolTip, QWidget

from gui.pins import Kept
from gui.theme import Theme
from gui.widgets import ribbon_words as words
from gui.widgets.node_ribbon import NODE_MIME, NodeRibbon, Spot
from gui.widgets.ribbon_model import Move, RibbonModel
from gui.widgets.ribbon_paint import LANE_GAP, LANE_OF_MANY, RibbonPainter, Segment, arrange
from gui.widgets.units import nbytes

__all__ = ["NODE_MIME", "Ribbon", "RibbonNode"]

GRAB = 7.0
"""Pixels on each side of a cut within which it is taken by the mouse."""
LANE_REACH = LANE_OF_MANY + LANE_GAP
BY_NODE = Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier


class RibbonNode(Struct, frozen=True):
    """A node as the ribbon shows it. ``detail``: a second line, such as its time per micro-batch."""

    id: str
    name: str
    colour: QColor
    detail: str = ""


class Ribbon(NodeRibbon):
    """See the module's docstring. All methods run on the GUI thread."""

    cutsMoved = Signal(tuple)
    """While a cut is dragged: the cuts as they would be."""
    cutsChanged = Signal(tuple, tuple)
    """A cut was moved: cuts before, cuts after."""
    placeRequested = Signal(int)
    """The planner is to place this cut, and no other."""

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
        self._geometry = arrange(600, 1, None, False, 15)
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

    def spot_at(self, place: QPointF) -> Spot | None:
        if self._model is None:
            return None
        cut = self._cut_under(place)
        if cut >= 0:
            return Spot(cut=cut)
        segment = self._segment_under(place)
        if segment is None:
            return None
        self._go_to(self._model.layer_at(self._geometry.u(place.x())), segment.row)
        return Spot(layer=self._at, node=segment.node)

    def spot_of_keys(self) -> tuple[Spot, QPoint] | None:
        if not self._on_layers and self._active >= 0:
            return Spot(cut=self._active), self.handle_position(self._active)
        if self._at < 0:
            return None
        return Spot(layer=self._at, node=self.node_of(self._at, self._lane)), self.point_at(self._at, self._lane)

    # ---------------------------------------------------------------- size

    def _arrange(self) -> None:
        rows = 1 if self._pipeline else max(1, len(self._nodes))
        line = float(self.fontMetrics().height())
        self._geometry = arrange(self.width(), rows, self._model, self._pipeline, line)
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
            if self._pipeline:
                brush.profile()
            brush.bands()
            brush.axis(self._total)
            painter.end()
            self._drawn = (key, made)
        return self._drawn[1]

    # ---------------------------------------------------------------- mouse

    @property
    def gesturing(self) -> bool:
        return super().gesturing or self._before_drag is not None

    def mousePressEvent(self, event: QMouseEvent) -> None:
        if event.button() != Qt.MouseButton.LeftButton or self._model is None:
            return
        taken = self._cut_under(event.position())
        if taken >= 0:
            self._active, self._before_drag, self._on_layers = taken, self._cuts, False
            self._move = None
            self.setCursor(Qt.CursorShape.SplitHCursor)
        elif self._over_lanes(event.position()):
            self.take_node(event)
            segment = self._segment_under(event.position())
            row = segment.row if segment is not None else 0
            self._go_to(self._model.layer_at(self._geometry.u(event.position().x())), row)
            self.layerPicked.emit(self._at)
        self.update()

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        if self._model is None:
            return
        if self._before_drag is not None:
            self._drag_to(event)
            return
        if self.carry_node(event):
            return
        self._hover_cut = self._cut_under(event.position())
        over = self._hover_cut < 0 and self._over_lanes(event.position())
        self._hover_layer = self._model.layer_at(self._geometry.u(event.position().x())) if over else -1
        place = event.globalPosition().toPoint()
        if self._hover_cut >= 0:
            self.setCursor(Qt.CursorShape.SplitHCursor)
            self.tell(place, self._cut_words(self._hover_cut))
        else:
            if over and len(self._nodes) > 1:
                self.setCursor(Qt.CursorShape.OpenHandCursor)
            else:
                self.unsetCursor()
            self.tell(place, self._layer_words(self._hover_layer) if over else "")
        self.update()

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        if event.button() != Qt.MouseButton.LeftButton or self.drop_node() or self._before_drag is None:
            return
        before, after = self._before_drag, self._cuts
        self._end_drag(edited=before != after)
        if before != after:
            self.cutsChanged.emit(before, after)
        self._describe()

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        cut = self._cut_under(event.position()) if self._model is not None else -1
        if cut >= 0 and event.button() == Qt.MouseButton.LeftButton:
            self._end_drag(edited=False)
            self.placeRequested.emit(cut)

    def leaveEvent(self, _event: QEvent) -> None:
        self._hover_layer = self._hover_cut = -1
        self.update()

    def give_up(self) -> None:
        if self._before_drag is not None:
            self._cuts = self._before_drag
            self._end_drag(edited=False)
        super().give_up()

    def _end_drag(self, *, edited: bool) -> None:
        self._before_drag = self._move = None
        self.unsetCursor()
        QToolTip.hideText()
        self.gestureEnded.emit(edited)
        self.update()

    def _drag_to(self, event: QMouseEvent) -> None:
        assert self._model is not None
        u = self._geometry.u(event.position().x())
        position = self._model.position_at(u)
        if position is None:
            return
        self._told = event.globalPosition().toPoint()
        self._take(self._model.move(self._cuts, self._active, self._beyond(u, position), self._pins))
        barred = self._move is not None and self._move.refusal is not None
        self.setCursor(Qt.CursorShape.ForbiddenCursor if barred else Qt.CursorShape.SplitHCursor)
        self.tell(self._told, self.words_of_gesture())

    def _beyond(self, u: float, position: int) -> int:
        """A mouse beyond the ends of the ribbon means a stage without layers, which is refused with a reason."""
        assert self._model is not None
        if u < 0:
            return 0
        return len(self._model) if u > 1 else position

    def _take(self, move: Move) -> None:
        self._move = move
        if move.cuts != self._cuts:
            self._cuts, self._figure = move.cuts, ""
            self.cutsMoved.emit(self._cuts)
        if move.refusal:
            self.refused.emit(self._why_not(move))
        self._describe()
        self.update()

    def _why_not(self, move: Move) -> str:
        assert self._model is not None
        stage = dict(self._pins).get(move.kept, -1)
        return words.refusal_words(move, self._model, self._nodes[stage].name if stage >= 0 else "")

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
            top = self._geometry.lane_top(segment.row)
            if segment.first <= layer < segment.last and (self._pipeline or top <= point.y() <= top + LANE_REACH):
                return segment
        return None

    # ---------------------------------------------------------------- keys

    def keyPressEvent(self, event: QKeyEvent) -> None:
        key = Qt.Key(event.key())
        if self._model is None:
            super().keyPressEvent(event)
        elif key == Qt.Key.Key_Escape and self.gesturing:
            self.give_up()
        elif not (self._key_on_layer(key, event) if self._on_layers else self._key_on_cut(key, event)):
            super().keyPressEvent(event)

    def _key_on_cut(self, key: Qt.Key, event: QKeyEvent) -> bool:
        assert self._model is not None
        if self._active < 0:
            return False
        direction = {Qt.Key.Key_Left: -1, Qt.Key.Key_Right: 1}.get(key)
        if direction is not None:
            by_module = bool(event.modifiers() & Qt.KeyboardModifier.ControlModifier)
            step = self._model.step_group if by_module else self._model.step
            self._move_by_key(step(self._cuts, self._active, direction, self._pins))
        elif key in (Qt.Key.Key_Home, Qt.Key.Key_End):
            end = 0 if key == Qt.Key.Key_Home else len(self._model)
            move = self._model.move(self._cuts, self._active, end, self._pins)
            self._move_by_key(Move(move.cuts, None))
        elif key in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self.placeRequested.emit(self._active)
        elif key == Qt.Key.Key_Down:
            self._go_to(self._cuts[self._active], 0)
        else:
            return False
        return True

    def _key_on_layer(self, key: Qt.Key, event: QKeyEvent) -> bool:
        """Whether the key meant something for the layer or its node."""
        assert self._model is not None
        at, last = max(self._at, 0), len(self._model) - 1
        node = self.node_of(at, self._lane)
        step = {Qt.Key.Key_Left: -1, Qt.Key.Key_Up: -1, Qt.Key.Key_Right: 1, Qt.Key.Key_Down: 1}.get(key)
        if step is not None and event.modifiers() & BY_NODE == BY_NODE:
            if node:
                self.nodeMoved.emit(node, step)
                self._follow(node)
        elif key in (Qt.Key.Key_Left, Qt.Key.Key_Right):
            by_node = bool(event.modifiers() & Qt.KeyboardModifier.ControlModifier)
            self._pick(self._next_start(at, step or 1) if by_node else min(max(at + (step or 1), 0), last))
        elif key in (Qt.Key.Key_Up, Qt.Key.Key_Down) and not self._pipeline:
            self._go_to(at, min(max(self._lane + (step or 1), 0), len(self._nodes) - 1))
        elif key == Qt.Key.Key_Up and self._cuts:
            self._on_layers, self._active = False, max(self._active, 0)
        elif key in (Qt.Key.Key_Home, Qt.Key.Key_End):
            self._pick(0 if key == Qt.Key.Key_Home else last)
        elif key == Qt.Key.Key_Delete and node:
            self.nodeRemoved.emit(node)
        elif key in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self.ask_menu()
        else:
            return False
        self._describe()
        self.update()
        return True

    def _next_start(self, at: int, step: int) -> int:
        """The next layer, in this direction, with which a stage begins."""
        starts = [0, *self._cuts, len(self._model or ()) - 1]
        beyond = [start for start in starts if (start > at if step > 0 else start < at)]
        return at if not beyond else beyond[0] if step > 0 else beyond[-1]

    def _follow(self, node: str) -> None:
        """Stay with a node that changed its place."""
        found = next((segment for segment in self.segments() if segment.node == node), None)
        if found is not None:
            inside = found.first <= self._at < found.last
            self._go_to(self._at if inside else found.first, found.row)

    def _pick(self, layer: int) -> None:
        self._go_to(layer, self._lane)
        self.layerPicked.emit(layer)

    def _go_to(self, layer: int, lane: int) -> None:
        self._at, self._lane, self._on_layers = layer, lane, True
        self._describe()
        self.update()

    def _move_by_key(self, move: Move) -> None:
        before = self._cuts
        self._told = self.mapToGlobal(self.handle_position(self._active))
        self._take(move)
        said = self.words_of_gesture()
        after, self._move = self._cuts, None
        self.gestureEnded.emit(before != after)
        if before != after:
            self.cutsChanged.emit(before, after)
        self.tell(self.mapToGlobal(self.handle_position(self._active)), said)

    def focusNextPrevChild(self, forward: bool) -> bool:
        following = self._active + (1 if forward else -1)
        if self.hasFocus() and not self._on_layers and 0 <= following < len(self._cuts):
            self._active = following
            self._describe()
            self.update()
            return True
        return super().focusNextPrevChild(forward)

    def focusInEvent(self, event: QFocusEvent) -> None:
        super().focusInEvent(event)
        if event.reason() in (Qt.FocusReason.TabFocusReason, Qt.FocusReason.BacktabFocusReason) or self._active < 0:
            self._active = 0 if self._cuts else -1
            if event.reason() == Qt.FocusReason.BacktabFocusReason:
                self._active = len(self._cuts) - 1
            if event.reason() != Qt.FocusReason.MouseFocusReason:
                self._on_layers = not self._cuts
            self._at = max(self._at, 0) if self._on_layers else self._at
        self._describe()
        self.update()

    def focusOutEvent(self, event: QFocusEvent) -> None:
        super().focusOutEvent(event)
        self.update()

    # ---------------------------------------------------------------- words

    def words_of_gesture(self) -> str:
        return self._cut_words(self._active, self._move) if 0 <= self._active < len(self._cuts) else ""

    def _layer_words(self, layer: int) -> str:
        assert self._model is not None
        segment = next((s for s in self.segments() if s.first <= layer < s.last), None) if self._pipeline else None
        text = words.layer_words(
            self._model, layer, timed=self._total is not None, node=segment.name if segment else ""
        )
        kept = segment is not None and layer in dict(self._pins)
        return f"{text}<br>{self.tr('kept there, wherever the cuts go')}" if kept else text

    def _cut_words(self, index: int, move: Move | None = None) -> str:
        """``move``: why it went no further belongs to the words."""
        assert self._model is not None
        lines = [words.cut_words(self._model, index, self._cuts[index])]
        lines += [self._figure] if move is not None and self._figure else []
        lines += [f"<b>{self._why_not(move)}</b>"] if move is not None and move.refusal else []
        return "<br>".join(lines)

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
