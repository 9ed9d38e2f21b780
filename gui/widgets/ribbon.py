"""The ribbon: the model's layers from left to right, in the colour of the node that runs them, with cuts to drag.

Mouse: drag a cut; double click on it and the planner places it; drag a stage or lane onto another. Keys: Tab goes from
cut to cut, the arrow keys move the cut by one layer, with Ctrl by one module, Home and End as far as it goes, Return
has the planner place it. Down goes to the layers: the arrow keys go through them, with Ctrl from node to node, and Up
goes back to the cuts. Escape gives a drag up. See ``gui.widgets.node_ribbon`` for what is done with nodes.
"""

from __future__ import annotations

from PySide6.QtCore import QEvent, QPoint, QPointF, Qt, Signal
from PySide6.QtGui import QFocusEvent, QKeyEvent, QMouseEvent
from PySide6.QtWidgets import QToolTip

from gui.widgets.node_ribbon import BY_NODE, Spot
from gui.widgets.ribbon_model import Move
from gui.widgets.ribbon_view import RibbonView


class Ribbon(RibbonView):
    """See the module's docstring. All methods run on the GUI thread."""

    cutsMoved = Signal(tuple)
    """While a cut is dragged: the cuts as they would be."""
    cutsChanged = Signal(tuple, tuple)
    """A cut was moved: cuts before, cuts after."""
    placeRequested = Signal(int)
    """The planner is to place this cut, and no other."""

    # ---------------------------------------------------------------- what a menu is about

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

    # ---------------------------------------------------------------- mouse

    @property
    def gesturing(self) -> bool:
        return super().gesturing or self._before_drag is not None

    def mousePressEvent(self, event: QMouseEvent) -> None:
        if event.button() != Qt.MouseButton.LeftButton or self._model is None:
            return
        self.touched.emit()
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
            self.tell(
                place, self._layer_words(self._hover_layer, self._segment_under(event.position())) if over else ""
            )
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

    # ---------------------------------------------------------------- words

    def words_of_gesture(self) -> str:
        return self._cut_words(self._active, self._move) if 0 <= self._active < len(self._cuts) else ""
