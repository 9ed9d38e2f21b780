"""The ribbon: the model's layers from left to right, in the colour of the node that runs them, with cuts to drag.

Mouse: drag a cut; double click for balanced cuts. Keys: Tab goes from cut to cut, the arrow keys move the cut by one
layer, with Ctrl by one module, Home and End as far as it goes, Return balances. A node dropped on a stage takes it.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from PySide6.QtCore import QEvent, QPoint, QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import (
    QAccessible,
    QAccessibleEvent,
    QColor,
    QDragEnterEvent,
    QDragLeaveEvent,
    QDragMoveEvent,
    QDropEvent,
    QFocusEvent,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QResizeEvent,
)
from PySide6.QtWidgets import QSizePolicy, QToolTip, QWidget

from gui.theme import Theme
from gui.widgets import ribbon_words as words
from gui.widgets.ribbon_model import Move, RibbonModel
from gui.widgets.ribbon_paint import LANE_GAP, LANE_OF_MANY, RibbonPainter, Segment, arrange
from gui.widgets.units import nbytes

NODE_MIME = "application/x-shardboard-node"
GRAB = 7.0
"""Pixels on each side of a cut within which it is taken by the mouse."""
LANE_REACH = LANE_OF_MANY + LANE_GAP


class RibbonNode(Struct, frozen=True):
    """A node as the ribbon shows it. ``detail``: a second line, such as its time per micro-batch."""

    id: str
    name: str
    colour: QColor
    detail: str = ""


class Ribbon(QWidget):
    """See the module's docstring. All methods run on the GUI thread."""

    cutsMoved = Signal(tuple)
    """While a cut is dragged: the cuts as they would be."""
    cutsChanged = Signal(tuple, tuple)
    """A cut was moved: cuts before, cuts after."""
    refused = Signal(str)
    balanceRequested = Signal()
    layerPicked = Signal(int)
    nodeDropped = Signal(str, int)
    """Node id, index of the stage or replica it was dropped on."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._model: RibbonModel | None = None
        self._total: float | None = None
        self._nodes: tuple[RibbonNode, ...] = ()
        self._pipeline = False
        self._cuts: tuple[int, ...] = ()
        self._before_drag: tuple[int, ...] | None = None
        self._active = -1
        self._hover_layer = -1
        self._hover_cut = -1
        self._drop_on = -1
        self._pills: list[QRectF] = []
        self._geometry = arrange(600, 1, None, False, 15)
        self.setMouseTracking(True)
        self.setAcceptDrops(True)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName(self.tr("Model ribbon"))

    # ---------------------------------------------------------------- what is shown

    def set_model(self, model: RibbonModel | None, total: float | None) -> None:
        """``total``: seconds of the whole model, where the widths are times; None where they are multiply-adds."""
        self._model, self._total = model, total
        self._hover_layer = self._hover_cut = -1
        self._arrange()

    def set_plan(self, nodes: Sequence[RibbonNode], cuts: Sequence[int], *, pipeline: bool) -> None:
        """Stages in order (``pipeline``), or a lane for each replica."""
        self._nodes, self._pipeline = tuple(nodes), pipeline
        if self._before_drag is None:
            self._cuts = tuple(cuts) if pipeline else ()
        self._active = min(self._active, len(self._cuts) - 1)
        if self.hasFocus():
            self._active = max(self._active, 0 if self._cuts else -1)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus if self._cuts else Qt.FocusPolicy.NoFocus)
        self._arrange()

    @property
    def cuts(self) -> tuple[int, ...]:
        return self._cuts

    @property
    def active_cut(self) -> int:
        """Index of the cut that the keys move; -1: none."""
        return self._active

    def handle_position(self, index: int) -> QPoint:
        """Where cut ``index`` can be taken by the mouse."""
        assert self._model is not None
        x = self._geometry.x(float(self._model.edges[self._cuts[index]]))
        return QPoint(round(x), round(self._geometry.lane_top(0) + self._geometry.lane_height / 2))

    def point_at(self, layer: int) -> QPoint:
        """A point over the middle of ``layer``."""
        assert self._model is not None
        middle = float(self._model.edges[layer] + self._model.edges[layer + 1]) / 2
        return QPoint(round(self._geometry.x(middle)), round(self._geometry.lane_top(0) + 8))

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
        brush = RibbonPainter(painter, Theme.of().tokens, self._geometry, self._model)
        if self._pipeline:
            brush.profile()
        segments = self.segments()
        for segment in segments:
            brush.segment(segment)
        if self._hover_layer >= 0:
            brush.highlight(self._hover_layer)
        if 0 <= self._drop_on < len(segments):
            brush.drop_target(segments[self._drop_on])
        brush.bands()
        brush.axis(self._total)
        lit = self._active if self.hasFocus() or self._before_drag is not None else self._hover_cut
        self._pills = brush.handles(self._cuts, lit, self.hasFocus())
        painter.end()

    # ---------------------------------------------------------------- mouse

    def mousePressEvent(self, event: QMouseEvent) -> None:
        if event.button() != Qt.MouseButton.LeftButton or self._model is None:
            return
        taken = self._cut_under(event.position())
        if taken >= 0:
            self._active, self._before_drag = taken, self._cuts
            self.setCursor(Qt.CursorShape.SplitHCursor)
        elif self._over_lanes(event.position()):
            self.layerPicked.emit(self._model.layer_at(self._geometry.u(event.position().x())))
        self.update()

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        if self._model is None:
            return
        if self._before_drag is not None:
            self._drag_to(event)
            return
        self._hover_cut = self._cut_under(event.position())
        over = self._hover_cut < 0 and self._over_lanes(event.position())
        self._hover_layer = self._model.layer_at(self._geometry.u(event.position().x())) if over else -1
        if self._hover_cut >= 0:
            self.setCursor(Qt.CursorShape.SplitHCursor)
            self._tell(event, self._cut_words(self._hover_cut))
        else:
            self.unsetCursor()
            self._tell(event, self._layer_words(self._hover_layer) if over else "")
        self.update()

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        if event.button() != Qt.MouseButton.LeftButton or self._before_drag is None:
            return
        before, self._before_drag = self._before_drag, None
        self.unsetCursor()
        QToolTip.hideText()
        if before != self._cuts:
            self.cutsChanged.emit(before, self._cuts)
        self._describe()
        self.update()

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        if self._cuts and event.button() == Qt.MouseButton.LeftButton:
            self._before_drag = None
            self.balanceRequested.emit()

    def leaveEvent(self, _event: QEvent) -> None:
        self._hover_layer = self._hover_cut = -1
        self.update()

    def _drag_to(self, event: QMouseEvent) -> None:
        assert self._model is not None
        u = self._geometry.u(event.position().x())
        position = self._model.position_at(u)
        if position is None:
            return
        move = self._model.move(self._cuts, self._active, self._beyond(u, position))
        self._take(move)
        self._tell(event, self._cut_words(self._active, move))

    def _beyond(self, u: float, position: int) -> int:
        """A mouse beyond the ends of the ribbon means a stage without layers, which is refused with a reason."""
        assert self._model is not None
        if u < 0:
            return 0
        return len(self._model) if u > 1 else position

    def _take(self, move: Move) -> None:
        if move.refusal:
            self.refused.emit(words.refusal_words(move.refusal))
        if move.cuts != self._cuts:
            self._cuts = move.cuts
            self.cutsMoved.emit(self._cuts)
        self._describe()
        self.update()

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

    # ---------------------------------------------------------------- a node dropped on a stage

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        if event.mimeData().hasFormat(NODE_MIME) and self._model is not None:
            event.acceptProposedAction()

    def dragMoveEvent(self, event: QDragMoveEvent) -> None:
        self._drop_on = self._segment_under(event.position())
        event.setAccepted(self._drop_on >= 0)
        self.update()

    def dragLeaveEvent(self, _event: QDragLeaveEvent) -> None:
        self._drop_on = -1
        self.update()

    def dropEvent(self, event: QDropEvent) -> None:
        target, self._drop_on = self._segment_under(event.position()), -1
        if target >= 0:
            event.acceptProposedAction()
            self.nodeDropped.emit(bytes(event.mimeData().data(NODE_MIME).data()).decode(), target)
        self.update()

    def _segment_under(self, point: QPointF) -> int:
        if self._model is None or not self._over_lanes(point):
            return -1
        layer = self._model.layer_at(self._geometry.u(point.x()))
        for i, segment in enumerate(self.segments()):
            top = self._geometry.lane_top(segment.row)
            if segment.first <= layer < segment.last and (self._pipeline or top <= point.y() <= top + LANE_REACH):
                return i
        return -1

    # ---------------------------------------------------------------- keys

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if self._model is None or self._active < 0:
            super().keyPressEvent(event)
            return
        key = event.key()
        direction = {Qt.Key.Key_Left: -1, Qt.Key.Key_Right: 1}.get(Qt.Key(key))
        if direction is not None:
            by_module = bool(event.modifiers() & Qt.KeyboardModifier.ControlModifier)
            step = self._model.step_group if by_module else self._model.step
            self._move_by_key(step(self._cuts, self._active, direction))
        elif key in (Qt.Key.Key_Home, Qt.Key.Key_End):
            end = 0 if key == Qt.Key.Key_Home else len(self._model)
            move = self._model.move(self._cuts, self._active, end)
            self._move_by_key(Move(move.cuts, None))
        elif key in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self.balanceRequested.emit()
        else:
            super().keyPressEvent(event)

    def _move_by_key(self, move: Move) -> None:
        before = self._cuts
        self._take(move)
        if before != self._cuts:
            self.cutsChanged.emit(before, self._cuts)
        place = self.mapToGlobal(self.handle_position(self._active))
        QToolTip.showText(place, self._cut_words(self._active, move), self)

    def focusNextPrevChild(self, forward: bool) -> bool:
        following = self._active + (1 if forward else -1)
        if self.hasFocus() and 0 <= following < len(self._cuts):
            self._active = following
            self._describe()
            self.update()
            return True
        return super().focusNextPrevChild(forward)

    def focusInEvent(self, event: QFocusEvent) -> None:
        super().focusInEvent(event)
        if event.reason() == Qt.FocusReason.BacktabFocusReason:
            self._active = len(self._cuts) - 1
        elif event.reason() == Qt.FocusReason.TabFocusReason or self._active < 0:
            self._active = 0 if self._cuts else -1
        self._describe()
        self.update()

    def focusOutEvent(self, event: QFocusEvent) -> None:
        super().focusOutEvent(event)
        self.update()

    # ---------------------------------------------------------------- words

    def _tell(self, event: QMouseEvent, html: str) -> None:
        if html:
            QToolTip.showText(event.globalPosition().toPoint() + QPoint(4, 12), html, self)
        else:
            QToolTip.hideText()

    def _layer_words(self, layer: int) -> str:
        assert self._model is not None
        segment = next((s for s in self.segments() if s.first <= layer < s.last), None) if self._pipeline else None
        return words.layer_words(
            self._model, layer, timed=self._total is not None, node=segment.name if segment else ""
        )

    def _cut_words(self, index: int, move: Move | None = None) -> str:
        """``move``: why it went no further belongs to the words."""
        assert self._model is not None
        text = words.cut_words(self._model, index, self._cuts[index])
        return f"{text}<br><b>{words.refusal_words(move.refusal)}</b>" if move is not None and move.refusal else text

    def _describe(self) -> None:
        """What a screen reader says."""
        if self._model is None:
            said = self.tr("No model")
        elif not self._cuts:
            said = self.tr("%n layer(s)", "", len(self._model)) + " · " + ", ".join(n.name for n in self._nodes)
        else:
            shown = max(self._active, 0)
            said = self.tr("Cut {0} of {1}, before layer {2} ({3}), {4} cross. Left and Right move it.").format(
                shown + 1,
                len(self._cuts),
                self._cuts[shown],
                self._model.layers[self._cuts[shown]].name,
                nbytes(self._model.crossing_bytes(self._cuts[shown])),
            )
        if said != self.accessibleDescription():
            self.setAccessibleDescription(said)
            QAccessible.updateAccessibility(QAccessibleEvent(self, QAccessible.Event.DescriptionChanged))
