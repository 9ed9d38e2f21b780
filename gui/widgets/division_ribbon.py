"""The ribbon of a plan that divides layers: bands in the colours of the nodes, and links where something travels.

Mouse: over a layer or a mark it says what runs where and what travels; a click shows it in the inspector. Keys: the
left and right arrows go from layer to layer, with Ctrl from mark to mark, Home and End to the ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from PySide6.QtCore import QEvent, QPoint, QSize, QSizeF, Qt, Signal
from PySide6.QtGui import (
    QAccessible,
    QAccessibleEvent,
    QFocusEvent,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPixmap,
    QResizeEvent,
)
from PySide6.QtWidgets import QSizePolicy, QToolTip, QWidget

from core.plan.division import Division
from gui.theme import Theme
from gui.widgets import division_words as said
from gui.widgets import ribbon_words
from gui.widgets.division_model import Box, Form, Lane, Mark, lanes_of
from gui.widgets.division_paint import Colour
from gui.widgets.division_scene import Scene, ScenePainter, scene_of
from gui.widgets.division_words import Name
from gui.widgets.ribbon_model import RibbonModel


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
        self._scene: Scene | None = None
        self._frame: QPixmap | None = None
        """Everything but what follows the mouse and the keys."""
        self._selected = -1
        self._hover_layer = -1
        self._hover_mark = -1
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
        return self._scene.kinds if self._scene is not None else ()

    @property
    def forms(self) -> frozenset[Form]:
        """Looks of layers that occur."""
        return frozenset(pattern.form for lane in self._lanes for pattern in lane.patterns)

    def marks(self) -> tuple[Mark, ...]:
        return self._scene.marks if self._scene is not None else ()

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

    # ---------------------------------------------------------------- size

    def _arrange(self) -> None:
        self._frame = None
        if self._model is not None:
            line = float(self.fontMetrics().height())
            self._scene = scene_of(self._model, self._total, self._division, self._lanes, self.width(), line)
            self.setFixedHeight(round(self._scene.geometry.height))
        else:
            self._scene = None
        self._describe()
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
        if self._selected >= 0 and scene.parts:
            over.selected(self._selected, focused=self.hasFocus())
        if 0 <= self._hover_mark < len(scene.marks):
            over.mark(scene.marks[self._hover_mark], "accent")
        painter.end()

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

    # ---------------------------------------------------------------- mouse and keys

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        scene = self._scene
        if scene is None:
            return
        place = event.position()
        self._hover_mark = scene.mark_at(place)
        self._hover_layer = scene.layer_at(place) if self._hover_mark < 0 else -1
        html = ""
        if self._hover_mark >= 0:
            html = said.mark_tip(scene.marks[self._hover_mark], scene.model.layers, self._name)
        elif self._hover_layer >= 0:
            html = self._layer_tip(self._hover_layer)
        if html:
            QToolTip.showText(event.globalPosition().toPoint() + QPoint(4, 12), html, self)
        else:
            QToolTip.hideText()
        self.update()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        if event.button() != Qt.MouseButton.LeftButton or self._scene is None:
            return
        mark, layer = self._scene.mark_at(event.position()), self._scene.layer_at(event.position())
        if mark >= 0:
            self.markPicked.emit(self._scene.marks[mark])
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
        places = sorted({one.layer for mark in self.marks() for one in mark.exchanges if one.layer >= 0})
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
        elif self._division is None or self._scene is None or not self._scene.parts:
            words = self.tr("%n layer(s)", "", len(self._model)) + " · " + self.tr("working out how they are divided")
        elif self._selected >= 0:
            layer = self._model.layers[self._selected]
            words = f"{layer.name}: {said.layer_words(self._division.layers[self._selected], layer.op, self._name)}"
        else:
            words = self.tr("%n layer(s)", "", len(self._model)) + ". " + said.totals_words(self._division)
        if words != self.accessibleDescription():
            self.setAccessibleDescription(words)
            QAccessible.updateAccessibility(QAccessibleEvent(self, QAccessible.Event.DescriptionChanged))
