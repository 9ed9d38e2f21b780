"""The ribbon of a plan that divides layers: bands in the colours of the nodes, and links where something travels.

Mouse: over a layer or a mark it says what runs where and what travels; a click shows it in the inspector. The edge
between two nodes' bands is dragged to share the work otherwise; a double click on it shares by speed. A band is
dragged onto another node's. Keys: the left and right arrows go from layer to layer, with Ctrl from mark to mark, Home
and End to the ends, up and down from node to node. Tab goes from edge to edge: up and down move it by a per cent, Page
Up and Page Down by five, Home and End as far as it goes, Return shares by speed. Escape gives a drag up. See
``gui.widgets.node_ribbon`` for what is done with nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from msgspec import Struct
from PySide6.QtCore import QEvent, QPoint, QPointF, QSize, QSizeF, Qt, Signal
from PySide6.QtGui import QColor, QFocusEvent, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPixmap, QResizeEvent
from PySide6.QtWidgets import QToolTip, QWidget

from core.plan.division import Division
from core.plan.form import NodeId
from gui.shares import WHOLE, with_edge_at
from gui.theme import Theme
from gui.widgets import division_tips as tips
from gui.widgets import division_words as said
from gui.widgets.division_edges import Edge, Percents, edge_at, edge_lines, edge_point, edges_of, node_in, stretched
from gui.widgets.division_model import Box, Form, Lane, Mark, lanes_of
from gui.widgets.division_paint import Colour, draw_edge
from gui.widgets.division_scene import Scene, ScenePainter, scene_of
from gui.widgets.division_words import Name
from gui.widgets.node_ribbon import NodeRibbon, Spot
from gui.widgets.ribbon import BY_NODE
from gui.widgets.ribbon_model import RibbonModel

STEPS: Final = {
    Qt.Key.Key_Up: -1,
    Qt.Key.Key_Down: 1,
    Qt.Key.Key_PageUp: -5,
    Qt.Key.Key_PageDown: 5,
    Qt.Key.Key_Home: -WHOLE,
    Qt.Key.Key_End: WHOLE,
}
"""Per cent that an edge moves by; down gives the upper node more."""


class _Exact(Struct, frozen=True, eq=False):
    """A division that was worked out, and the shares that it was worked out for."""

    division: Division
    lanes: tuple[Lane, ...]
    percents: Percents


class _Drag(Struct, frozen=True, eq=False):
    """An edge under way: where it began, and what it has come to."""

    edge: Edge
    start: float
    """Height on the screen, pixels: what lies above the ribbon may grow meanwhile."""
    layer: int
    """Where it was taken: the sizes told are of this layer."""
    before: Percents
    now: Percents
    starved: NodeId | None = None
    """The node that would have less than the least part."""


class DivisionRibbon(NodeRibbon):
    """See the module's docstring. GUI thread."""

    markPicked = Signal(object)
    """A Mark."""
    sharesMoved = Signal(dict)
    """While an edge is dragged: per cent of each node, as they would be."""
    sharesChanged = Signal(dict, int)
    """Per cent of each node, and the number of the edge that was moved."""
    speedRequested = Signal(tuple)
    """Nodes that are to share by speed again."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._model: RibbonModel | None = None
        self._total: float | None = None
        self._exact: _Exact | None = None
        self._waiting = False
        """Another division is being worked out than the one that is shown."""
        self._strategy = ""
        self._groups: tuple[tuple[str, ...], ...] = ()
        self._percents: Percents = {}
        self._colour: Colour = lambda _node: Theme.of().colour("faint")
        self._name: Name = str
        self._lanes: tuple[Lane, ...] = ()
        self._scene: Scene | None = None
        self._frame: QPixmap | None = None
        """Everything but what follows the mouse and the keys."""
        self._drag: _Drag | None = None
        self._selected = -1
        self._node = ""
        self._edge = -1
        """Number of the edge that the keys move; -1: they are at a layer."""
        self._hover_layer = -1
        self._hover_mark = -1
        self._hover_edge: Edge | None = None
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAccessibleName(self.tr("How the layers are divided"))
        Theme.of().changed.connect(self._restyle)

    # ---------------------------------------------------------------- what is shown

    def set_model(self, model: RibbonModel | None, total: float | None) -> None:
        """``total``: seconds of the whole model, where the widths are times; None where they are multiply-adds."""
        same = model is not None and self._model is not None and model.layers == self._model.layers
        self._model, self._total = model, total
        self._hover_layer = self._hover_mark = -1
        self._hover_edge = None
        if not same:  # else only their widths are others
            self._exact, self._lanes, self._drag = None, (), None
            self._selected = self._edge = -1
        self._arrange()

    def set_shares(self, strategy: str, groups: Sequence[Sequence[str]], percents: Percents) -> None:
        """Before ``set_division``: which nodes share the work of a layer, and each one's part in per cent."""
        if strategy != self._strategy:
            self._exact = None
        self._strategy, self._groups = strategy, tuple(map(tuple, groups))
        if self._drag is None:
            self._percents = dict(percents)

    def set_division(self, division: Division | None, colour: Colour, name: Name, *, waiting: bool = False) -> None:
        """``colour`` and ``name`` of a node; None: not known, the layers are grey; or, where one of the same strategy
        was known and the new one is being worked out (``waiting``), about as they will be."""
        self._colour, self._name, self._waiting = colour, name, waiting
        known = self._exact.division if self._exact is not None else None
        if division is None and not waiting:
            self._exact = None
        elif division is not None and division is not known and self._drag is None:
            self._exact = _Exact(division, lanes_of(division), self._percents)
            self._hover_mark = -1
        if self._drag is None:
            self._show_lanes()

    def refine(self, division: Division) -> None:
        """What was worked out for the shares that an edge is dragged to."""
        if self._drag is not None:
            self._exact = _Exact(division, lanes_of(division), self._drag.now)
            self._show_lanes()

    def _show_lanes(self) -> None:
        exact, percents = self._exact, self._drag.now if self._drag is not None else self._percents
        if exact is None:
            self._lanes = ()
        elif percents == exact.percents:
            self._lanes = exact.lanes
        else:
            self._lanes = stretched(exact.lanes, exact.percents, percents) if percents else exact.lanes
        self._edge = min(self._edge, len(self.edges()) - 1)
        self._arrange()

    @property
    def division(self) -> Division | None:
        """The last that was worked out for what is shown."""
        return self._exact.division if self._exact is not None else None

    @property
    def nodes(self) -> tuple[str, ...]:
        """Those that take part."""
        return tuple(dict.fromkeys(node for lane in self._lanes for node in lane.nodes))

    @property
    def selected(self) -> int:
        """The layer that the inspector shows; -1: none."""
        return self._selected

    @property
    def percents(self) -> dict[NodeId, int]:
        """Shares as shown, also while an edge is dragged."""
        return dict(self._drag.now if self._drag is not None else self._percents)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of exchange that are marked."""
        return self._scene.kinds if self._scene is not None else ()

    @property
    def forms(self) -> frozenset[Form]:
        """Looks of layers that occur."""
        return frozenset(pattern.form for lane in self._lanes for pattern in lane.patterns)

    def marks(self) -> tuple[Mark, ...]:
        return self._scene.marks if self._scene is not None else ()

    def edges(self) -> tuple[Edge, ...]:
        """Those between two nodes' parts that can be moved."""
        known = [group for group in self._groups if all(node in self._percents for node in group)]
        return edges_of(self._lanes, known) if self._lanes else ()

    def boxes(self) -> Sequence[Box]:
        """Everything that is filled at the present size."""
        return [box for parts in self._scene.parts for box in parts.boxes] if self._scene is not None else []

    def point_at(self, layer: int) -> QPoint:
        """A point over the middle of ``layer``."""
        assert self._scene is not None
        g, edges = self._scene.geometry, self._scene.model.edges
        return QPoint(round(g.x(float(edges[layer] + edges[layer + 1]) / 2)), round(g.lane_top(0) + 8))

    def mark_point(self, index: int) -> QPoint:
        """The middle of mark ``index``."""
        assert self._scene is not None
        mark = self._scene.marks[index]
        return QPoint(round(mark.x), round(self._scene.track_y(mark.kind)))

    def edge_position(self, index: int) -> QPoint:
        """Where edge ``index`` can be taken by the mouse."""
        assert self._scene is not None
        place = edge_point(self._scene, self.edges()[index])
        assert place is not None, "an edge of the lanes is in some run"
        return place.toPoint()

    def node_position(self, node: str) -> QPoint:
        """A point in the widest box of a node's colour."""
        box = max((box for box in self.boxes() if box.nodes == (node,)), key=lambda box: box.width * box.height)
        return QPointF(box.left + box.width / 2, box.top + box.height / 2).toPoint()

    # ---------------------------------------------------------------- nodes

    def nodes_shown(self) -> tuple[str, ...]:
        return self.nodes

    def look_of(self, node: str) -> tuple[str, QColor]:
        return self._name(node), self._colour(node)

    def node_at(self, place: QPointF) -> str:
        scene = self._scene
        layer = scene.layer_at(place) if scene is not None else -1
        if scene is None or layer < 0:
            return ""
        within = [parts for parts in scene.parts if parts.outline.top() - 3 <= place.y() <= parts.outline.bottom() + 3]
        return node_in(within[0], layer, place.y()) if within else ""

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

    def _nodes_of(self, layer: int) -> list[tuple[int, str]]:
        """(lane, node) of all that run a layer, from the top to the bottom."""
        return [(row, node) for row, lane in enumerate(self._lanes) for node, _ in lane.of(layer).parts]

    def _node_of_keys(self) -> str:
        """The node that the keys are at: the one chosen, or the first of the layer."""
        here = [node for _, node in self._nodes_of(self._selected)] if self._selected >= 0 else []
        return self._node if self._node in here else next(iter(here), "")

    # ---------------------------------------------------------------- size

    def _arrange(self) -> None:
        self._frame = None
        if self._model is not None:
            line = float(self.fontMetrics().height())
            self._scene = scene_of(self._model, self._total, self.division, self._lanes, self.width(), line)
            self.setFixedHeight(round(self._scene.geometry.height))
        else:
            self._scene = None
        self._described()
        self.update()

    def sizeHint(self) -> QSize:
        return QSize(900, self.height())

    def minimumSizeHint(self) -> QSize:
        return QSize(320, self.height())

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
        scene = self._scene
        if scene is None or not len(scene.model):
            return
        if self._frame is None or self._frame.devicePixelRatio() != self.devicePixelRatioF():
            self._frame = self._paint_frame(scene)
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.drawPixmap(0, 0, self._frame)
        over = ScenePainter(painter, scene, self._colour, self._name)
        if self._hover_layer >= 0:
            over.hovered(self._hover_layer)
        on_layer = self._selected >= 0 and bool(scene.parts) and self._edge < 0
        if on_layer:
            over.selected(self._selected, focused=self.hasFocus())
        for lane, node in self._nodes_of(self._selected) if on_layer and self.hasFocus() else ():
            if node == self._node_of_keys():
                over.held(lane, self._selected, node)
        if 0 <= self._hover_mark < len(scene.marks):
            over.mark(scene.marks[self._hover_mark], "accent")
        self._paint_edge(painter, scene)
        self._paint_target(painter, scene)
        self.paint_carried(painter)
        painter.end()

    def _paint_edge(self, painter: QPainter, scene: Scene) -> None:
        edge = self._drag.edge if self._drag is not None else self._hover_edge
        if edge is None and self._edge >= 0 and self.hasFocus():
            edge = self.edges()[self._edge]
        lines = edge_lines(scene, edge) if edge is not None else []
        if lines:
            barred = self._drag is not None and self._drag.starved is not None
            draw_edge(painter, lines, Theme.of().colour("bad" if barred else "accent"), Theme.of().colour("surface"))

    def _paint_target(self, painter: QPainter, scene: Scene) -> None:
        """The bands of the node that the dragged one is over."""
        shade = QColor(255, 255, 255, 100)
        for parts in scene.parts if self._target else ():
            for box in parts.boxes:
                if box.nodes == (self._target,):
                    painter.fillRect(round(box.left), round(box.top), round(box.width), round(box.height), shade)

    def _paint_frame(self, scene: Scene) -> QPixmap:
        ratio = self.devicePixelRatioF()
        made = QPixmap((QSizeF(self.size()) * ratio).toSize())
        made.setDevicePixelRatio(ratio)
        made.fill(Qt.GlobalColor.transparent)
        painter = QPainter(made)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setFont(self.font())
        ScenePainter(painter, scene, self._colour, self._name).scene(ratio)
        painter.end()
        return made

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
            html = f"{tips.edge_tip(self._hover_edge, self._percents, self._name)}<br>{tips.edge_hint()}"
        elif self._hover_layer >= 0:
            if len(self.nodes) > 1:
                self.setCursor(Qt.CursorShape.OpenHandCursor)
            html = self._layer_tip(self._hover_layer)
        self.tell(self._told, html)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        scene = self._scene
        if event.button() != Qt.MouseButton.LeftButton or scene is None:
            return
        place = event.position()
        mark, layer = scene.mark_at(place), scene.layer_at(place)
        edge = self._edge_under(place) if mark < 0 else None
        if mark >= 0:
            self.markPicked.emit(scene.marks[mark])
        elif edge is not None:
            self._edge = self.edges().index(edge)
            self._drag = _Drag(edge, event.globalPosition().y(), layer, self._percents, self._percents)
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
        self._drag = _Drag(edge, drag.start, drag.layer, drag.before, now, starved)
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
            self._drag = _Drag(edge, 0.0, max(self._selected, 0), self._percents, self._percents)
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

    def focusOutEvent(self, event: QFocusEvent) -> None:
        super().focusOutEvent(event)
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
        return "<br>".join(filter(None, lines))

    def _sizes(self, drag: _Drag) -> str:
        """How much of the layer at the mouse each node would have."""
        exact, model = self._exact, self._model
        if exact is None or model is None or not 0 <= drag.layer < len(model):
            return ""
        shares = None if drag.now == exact.percents else drag.now
        return tips.sizes_tip(model, exact.division, drag.layer, drag.edge, shares, self._name)

    def _why_not(self, starved: NodeId) -> str:
        return tips.starved_words(self._name(starved))

    def _layer_tip(self, layer: int) -> str:
        assert self._model is not None
        return tips.layer_tip(self._model, self.division, layer, timed=self._total is not None, name=self._name)

    def _described(self) -> None:
        """What a screen reader says."""
        shown = self._scene is not None and bool(self._scene.parts)
        if self._model is None:
            self.describe(self.tr("No model"))
        elif self.division is None or not shown:
            self.describe(tips.whole_said(self._model, None))
        elif 0 <= self._edge < len(self.edges()):
            self.describe(tips.edge_said(self.edges(), self._edge, self._percents, self._name))
        elif self._selected >= 0:
            node = self._node_of_keys() if len(self.nodes) > 1 and self._node else ""
            self.describe(tips.layer_said(self._model, self.division, self._selected, node, self._name))
        else:
            self.describe(tips.whole_said(self._model, self.division))
