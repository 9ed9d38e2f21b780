"""The ribbon of a plan that divides layers: bands in the colours of the nodes, and links where something travels.

Mouse: over a layer or a mark it says what runs where and what travels; a click shows it in the inspector. The edge
between two nodes' bands is dragged to share the work otherwise; a double click on it shares by speed. A band is
dragged onto another node's. Keys: the left and right arrows go from layer to layer, with Ctrl from mark to mark, Home
and End to the ends, up and down from node to node. Tab goes from edge to edge: up and down move it by a per cent, Page
Up and Page Down by five, Home and End as far as it goes, Return shares by speed. Escape gives a drag up. See
``gui.widgets.node_ribbon`` for what is done with nodes.
"""

from __future__ import annotations

from html import escape
from typing import Final

from PySide6.QtCore import QEvent, QPoint, QPointF, Qt, Signal
from PySide6.QtGui import QFocusEvent, QKeyEvent, QMouseEvent
from PySide6.QtWidgets import QToolTip

from core.plan.form import NodeId
from gui.shares import WHOLE, with_edge_at
from gui.widgets import division_tips as tips
from gui.widgets import division_words as said
from gui.widgets.division_edges import Edge, edge_at
from gui.widgets.division_scene import Scene
from gui.widgets.division_view import DivisionView, Drag
from gui.widgets.node_ribbon import BY_NODE, Spot
from gui.widgets.tips import stacked

STEPS: Final = {
    Qt.Key.Key_Up: -1,
    Qt.Key.Key_Down: 1,
    Qt.Key.Key_PageUp: -5,
    Qt.Key.Key_PageDown: 5,
    Qt.Key.Key_Home: -WHOLE,
    Qt.Key.Key_End: WHOLE,
}
"""Per cent that an edge moves by; down gives the upper node more."""


class DivisionRibbon(DivisionView):
    """See the module's docstring. GUI thread."""

    markPicked = Signal(object)
    """A Mark."""
    sharesMoved = Signal(dict)
    """While an edge is dragged: per cent of each node, as they would be."""
    sharesChanged = Signal(dict, int)
    """Per cent of each node, and the number of the edge that was moved."""
    speedRequested = Signal(tuple)
    """Nodes that are to share by speed again."""

    # ---------------------------------------------------------------- what a menu is about

    def spot_at(self, place: QPointF) -> Spot | None:
        if self._scene is None:
            return None
        edge = edge_at(self._scene, self._groups, place)
        if edge is not None and edge in self.edges():
            return Spot(edge=edge.nodes)
        layer = self._scene.layer_at(place)
        if layer < 0:
            return None
        self._selected, self._node, self._edge = layer, self.node_at(place), -1
        self._described()
        return Spot(layer=layer, node=self._node)

    def spot_of_keys(self) -> tuple[Spot, QPoint] | None:
        if self._edge >= 0:
            return Spot(edge=self.edges()[self._edge].nodes), self.edge_position(self._edge)
        if self._selected < 0 or self._scene is None or not self._scene.parts:
            return None
        return Spot(layer=self._selected, node=self._node_of_keys()), self.point_at(self._selected)

    # ---------------------------------------------------------------- mouse

    @property
    def gesturing(self) -> bool:
        return super().gesturing or self._drag is not None

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        scene = self._scene
        if scene is None:
            return
        place = event.position()
        self._told = event.globalPosition().toPoint()
        if self._drag is not None:
            self._drag_to(event.globalPosition().y())
            return
        if self.carry_node(event):
            return
        self._hover_mark = scene.mark_at(place)
        self._hover_edge = self._edge_under(place) if self._hover_mark < 0 else None
        self._hover_layer = scene.layer_at(place) if self._hover_mark < 0 and self._hover_edge is None else -1
        self._show_hover(scene)
        self.update()

    def _show_hover(self, scene: Scene) -> None:
        html = ""
        self.unsetCursor()
        if self._hover_mark >= 0:
            html = said.mark_tip(scene.marks[self._hover_mark], scene.model.layers, self._name)
        elif self._hover_edge is not None:
            self.setCursor(Qt.CursorShape.SplitVCursor)
            html = stacked(tips.edge_tip(self._hover_edge, self._percents, self._name), tips.edge_hint())
        elif self._hover_layer >= 0:
            if len(self.nodes) > 1:
                self.setCursor(Qt.CursorShape.OpenHandCursor)
            html = self._layer_tip(self._hover_layer)
        self.tell(self._told, html)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        scene = self._scene
        if event.button() != Qt.MouseButton.LeftButton or scene is None:
            return
        self.touched.emit()
        place = event.position()
        mark, layer = scene.mark_at(place), scene.layer_at(place)
        edge = self._edge_under(place) if mark < 0 else None
        if mark >= 0:
            self.markPicked.emit(scene.marks[mark])
        elif edge is not None:
            self._edge = self.edges().index(edge)
            self._drag = Drag(edge, event.globalPosition().y(), layer, self._percents, self._percents)
            self.setCursor(Qt.CursorShape.SplitVCursor)
            self.update()
        elif layer >= 0:
            self.take_node(event)
            self._node = self.node_at(place)
            self._select(layer)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        if event.button() != Qt.MouseButton.LeftButton or self.drop_node() or self._drag is None:
            return
        drag = self._drag
        number = self.edges().index(drag.edge) if drag.edge in self.edges() else 0
        edited = drag.now != drag.before
        self._percents = drag.now
        self._end_drag(edited=edited)
        if edited:
            self.sharesChanged.emit(dict(drag.now), number)

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        edge = self._edge_under(event.position())
        if edge is not None and event.button() == Qt.MouseButton.LeftButton:
            self._end_drag(edited=False)
            self.speedRequested.emit(edge.group)

    def leaveEvent(self, _event: QEvent) -> None:
        self._hover_layer = self._hover_mark = -1
        self._hover_edge = None
        self.update()

    def give_up(self) -> None:
        if self._drag is not None:
            self._end_drag(edited=False)
            self._show_lanes()
        super().give_up()

    def _end_drag(self, *, edited: bool) -> None:
        self._drag, self._hover_edge, self._figure = None, None, ""
        self.unsetCursor()
        QToolTip.hideText()
        self.gestureEnded.emit(edited)
        self.update()

    def _edge_under(self, place: QPointF) -> Edge | None:
        edge = edge_at(self._scene, self._groups, place) if self._scene is not None else None
        return edge if edge is not None and edge in self.edges() else None

    def _drag_to(self, y: float) -> None:
        drag, scene = self._drag, self._scene
        assert drag is not None
        assert scene is not None
        upper = NodeId(drag.edge.nodes[0])
        moved = round(WHOLE * (y - drag.start) / scene.geometry.lane_height)
        self._share(drag.edge, drag.before[upper] + moved)
        barred = self._drag is not None and self._drag.starved is not None
        self.setCursor(Qt.CursorShape.ForbiddenCursor if barred else Qt.CursorShape.SplitVCursor)
        self.tell(self._told, self.words_of_gesture())

    def _share(self, edge: Edge, wanted: int) -> None:
        """Give the node above an edge ``wanted`` per cent of the group's work, as far as that goes."""
        drag = self._drag
        assert drag is not None
        group = {NodeId(node): drag.before[NodeId(node)] for node in edge.group}
        shared, starved = with_edge_at(group, NodeId(edge.nodes[0]), wanted)
        now = {**drag.before, **shared}
        changed = now != drag.now
        self._drag = Drag(edge, drag.start, drag.layer, drag.before, now, starved)
        if changed:
            self._figure, self._barred = "", False
            self._show_lanes()
            self.sharesMoved.emit(dict(now))
        if starved is not None:
            self.refused.emit(self._why_not(starved))
        self.update()

    # ---------------------------------------------------------------- keys

    def keyPressEvent(self, event: QKeyEvent) -> None:
        key = Qt.Key(event.key())
        if self._model is None:
            super().keyPressEvent(event)
        elif key == Qt.Key.Key_Escape and self.gesturing:
            self.give_up()
        elif not (self._key_on_edge(key) if self._edge >= 0 else self._key_on_layer(key, event)):
            super().keyPressEvent(event)

    def _key_on_edge(self, key: Qt.Key) -> bool:
        edge = self.edges()[self._edge]
        if key in STEPS:
            self._drag = Drag(edge, 0.0, max(self._selected, 0), self._percents, self._percents)
            self._told = self.mapToGlobal(self.edge_position(self._edge))
            self._share(edge, self._percents[NodeId(edge.nodes[0])] + STEPS[key])
            words, moved, edited = self.words_of_gesture(), self._drag.now, self._drag.now != self._percents
            self._drag, self._percents = None, moved
            self.gestureEnded.emit(edited)
            if edited:
                self.sharesChanged.emit(dict(moved), self._edge)
            self.tell(self._told, words)
        elif key in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self.speedRequested.emit(edge.group)
        elif key in (Qt.Key.Key_Left, Qt.Key.Key_Right, Qt.Key.Key_Escape):
            self._edge = -1
        else:
            return False
        self._described()
        self.update()
        return True

    def _key_on_layer(self, key: Qt.Key, event: QKeyEvent) -> bool:
        """Whether the key meant something for the layer or its node."""
        assert self._model is not None
        last, node = len(self._model) - 1, self._node_of_keys() if self._lanes else ""
        arrows = {Qt.Key.Key_Left: -1, Qt.Key.Key_Up: -1, Qt.Key.Key_Right: 1, Qt.Key.Key_Down: 1}
        step = arrows.get(key, 0)
        if step and event.modifiers() & BY_NODE == BY_NODE:
            if node:
                self.nodeMoved.emit(node, step)
        elif key in (Qt.Key.Key_Home, Qt.Key.Key_End):
            self._select(0 if key == Qt.Key.Key_Home else last)
        elif key in (Qt.Key.Key_Left, Qt.Key.Key_Right):
            by_mark = bool(event.modifiers() & Qt.KeyboardModifier.ControlModifier)
            self._select(self._next_exchange(step) if by_mark else min(max(self._selected + step, 0), last))
        elif step and self._lanes:
            self._next_node(step)
        elif key == Qt.Key.Key_Delete and node:
            self.nodeRemoved.emit(node)
        elif key in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self.ask_menu()
        else:
            return False
        return True

    def _next_node(self, step: int) -> None:
        self._selected = max(self._selected, 0)
        here = [node for _, node in self._nodes_of(self._selected)]
        if here:
            at = here.index(self._node_of_keys())
            self._node = here[min(max(at + step, 0), len(here) - 1)]
        self._described()
        self.update()

    def _next_exchange(self, step: int) -> int:
        """The next layer before which something travels."""
        places = sorted({one.layer for mark in self.marks() for one in mark.exchanges if one.layer >= 0})
        beyond = [p for p in places if (p > self._selected if step > 0 else p < self._selected)]
        if not beyond:
            return max(self._selected, 0)
        return beyond[0] if step > 0 else beyond[-1]

    def focusNextPrevChild(self, forward: bool) -> bool:
        following = self._edge + (1 if forward else -1)
        if self.hasFocus() and -1 <= following < len(self.edges()):
            self._edge = following
            self._described()
            self.update()
            return True
        return super().focusNextPrevChild(forward)

    def focusInEvent(self, event: QFocusEvent) -> None:
        super().focusInEvent(event)
        if event.reason() == Qt.FocusReason.BacktabFocusReason:
            self._edge = len(self.edges()) - 1
        elif event.reason() == Qt.FocusReason.TabFocusReason:
            self._edge = -1
        self._described()
        self.update()

    def _select(self, layer: int) -> None:
        self._selected, self._edge = layer, -1
        self._described()
        self.update()
        self.layerPicked.emit(layer)

    # ---------------------------------------------------------------- words

    def words_of_gesture(self) -> str:
        drag = self._drag
        if drag is None:
            return ""
        lines = [tips.edge_tip(drag.edge, drag.now, self._name), self._sizes(drag), self._figure]
        lines += [f"<b>{escape(self._why_not(drag.starved))}</b>"] if drag.starved is not None else []
        return stacked(*lines)
