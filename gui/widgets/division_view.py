"""What the ribbon of divided layers shows, and how it is painted; what the mouse and the keys do is in
``division_ribbon``."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from PySide6.QtCore import QEvent, QPoint, QPointF, QSize, QSizeF, Qt
from PySide6.QtGui import QColor, QPainter, QPaintEvent, QPixmap, QResizeEvent
from PySide6.QtWidgets import QWidget

from core.plan.division import Division
from core.plan.form import NodeId
from gui.theme import Theme
from gui.widgets import division_tips as tips
from gui.widgets.division_edges import Edge, Percents, edge_lines, edge_point, edges_of, node_in, stretched
from gui.widgets.division_model import Box, Form, Lane, Mark, lanes_of
from gui.widgets.division_paint import Colour, draw_edge
from gui.widgets.division_scene import Scene, ScenePainter, scene_of
from gui.widgets.division_words import Name
from gui.widgets.node_ribbon import NodeRibbon
from gui.widgets.ribbon_geometry import Size
from gui.widgets.ribbon_model import RibbonModel


class Exact(Struct, frozen=True, eq=False):
    """A division that was worked out, and the shares that it was worked out for."""

    division: Division
    lanes: tuple[Lane, ...]
    percents: Percents


class Drag(Struct, frozen=True, eq=False):
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


class DivisionView(NodeRibbon):
    """GUI thread."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._model: RibbonModel | None = None
        self._total: float | None = None
        self._exact: Exact | None = None
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
        self._drag: Drag | None = None
        self._room = 0.0
        self._note = ("", False)
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

    def set_room(self, room: float) -> None:
        """Pixels for everything above the modules, whatever the plan; 0: as high as the plan needs."""
        if room != self._room:
            self._room = room
            self._arrange()

    def set_note(self, note: str, *, bad: bool = False) -> None:
        """What is said in the place of lanes that are not known, or not possible."""
        if (note, bad) != self._note:
            self._note = (note, bad)
            self._restyle()

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
            self._exact = Exact(division, lanes_of(division), self._percents)
            self._hover_mark = -1
        if self._drag is None:
            self._show_lanes()

    def refine(self, division: Division) -> None:
        """What was worked out for the shares that an edge is dragged to."""
        if self._drag is not None:
            self._exact = Exact(division, lanes_of(division), self._drag.now)
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
            size = Size(self.width(), line, self._room)
            self._scene = scene_of(self._model, self._total, self.division, self._lanes, size)
            self.setFixedHeight(round(self._scene.geometry.height))
        else:
            self._scene = None
            self.setFixedHeight(round(self._room))
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
        shade = QColor(255, 255, 255, 64)
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
        ScenePainter(painter, scene, self._colour, self._name).scene(ratio, *self._note)
        painter.end()
        return made

    # ---------------------------------------------------------------- words

    def _sizes(self, drag: Drag) -> str:
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
