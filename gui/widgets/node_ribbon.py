"""What both ribbons do with nodes: drag one onto another, drop one from the rows below, menus, words at the mouse.

Mouse: a node's stage, lane or band is dragged onto another one, and the two change places. Keys: Delete leaves the
node out, Ctrl+Shift with the arrows moves it, the menu key or Return opens the menu of the layer and its node.
"""

from __future__ import annotations

from abc import abstractmethod
from html import escape

from msgspec import Struct
from PySide6.QtCore import QPoint, QPointF, QRectF, Qt, Signal
from PySide6.QtGui import (
    QAccessible,
    QAccessibleEvent,
    QColor,
    QContextMenuEvent,
    QDragEnterEvent,
    QDragLeaveEvent,
    QDragMoveEvent,
    QDropEvent,
    QFocusEvent,
    QFontMetricsF,
    QMouseEvent,
    QPainter,
    QPen,
)
from PySide6.QtWidgets import QApplication, QSizePolicy, QToolTip, QWidget

from gui.colours import text_on
from gui.theme import Theme
from gui.widgets.tips import stacked, whole

NODE_MIME = "application/x-shardboard-node"
BELOW_MOUSE = QPoint(4, 12)
BY_NODE = Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier
"""With the arrow keys: the node changes its place."""


class Spot(Struct, frozen=True):
    """What a menu is about: a layer and the node that runs it there, a cut, or the edge between two nodes' parts."""

    layer: int = -1
    node: str = ""
    cut: int = -1
    edge: tuple[str, str] | None = None


class NodeRibbon(QWidget):
    """See the module's docstring. All methods run on the GUI thread."""

    touched = Signal()
    """The mouse is pressed on it: something may be dragged now."""
    layerPicked = Signal(int)
    refused = Signal(str)
    """Why an edit goes no further, in words."""
    nodeOver = Signal(str, str)
    """While a node is dragged: the node, and the one it would change places with; "": none."""
    nodePut = Signal(str, str)
    """A node was dropped on another."""
    nodeMoved = Signal(str, int)
    """By key: the node, steps."""
    nodeRemoved = Signal(str)
    menuRequested = Signal(object, QPoint)
    """A Spot, where on the screen."""
    gestureEnded = Signal(bool)
    """What was dragged was let go, or given up: what was shown for it no longer counts. Whether an edit follows."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._figure = ""
        self._barred = False
        self._told = QPoint()
        self._pressed: QPointF | None = None
        self._carried = ""
        self._target = ""
        self._mouse = QPointF()
        self.setMouseTracking(True)
        self.setAcceptDrops(True)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    # ---------------------------------------------------------------- for each ribbon to say

    @abstractmethod
    def node_at(self, place: QPointF) -> str:
        """The node whose stage, lane or band is at ``place``; "": none."""

    @abstractmethod
    def nodes_shown(self) -> tuple[str, ...]:
        """Those that take part."""

    @abstractmethod
    def look_of(self, node: str) -> tuple[str, QColor]:
        """Name and colour of a node."""

    @abstractmethod
    def spot_at(self, place: QPointF) -> Spot | None:
        """What a menu opened at ``place`` is about; None: nothing."""

    @abstractmethod
    def spot_of_keys(self) -> tuple[Spot, QPoint] | None:
        """What the keys are at, and where that is; None: at nothing."""

    @abstractmethod
    def words_of_gesture(self) -> str:
        """Rich text for the mouse while something other than a node is dragged."""

    # ---------------------------------------------------------------- words at the mouse

    @property
    def carried(self) -> str:
        """The node that the mouse drags; "": none."""
        return self._carried

    @property
    def target(self) -> str:
        """The node that the dragged one is over."""
        return self._target

    def show_figure(self, html: str, *, barred: bool = False) -> None:
        """What the position under the mouse would reach; ``barred``: why it cannot be. Shown until the next move."""
        self._figure, self._barred = html, barred
        if self._carried:
            self._tell_carried()
        elif self.gesturing:
            self.tell(self._told, self.words_of_gesture())

    @property
    def figure(self) -> str:
        return self._figure

    @property
    def gesturing(self) -> bool:
        """Whether the mouse drags something."""
        return bool(self._carried)

    def tell(self, place: QPoint, html: str) -> None:
        """A tool tip at ``place`` on the screen."""
        self._told = place
        if html:
            QToolTip.showText(place + BELOW_MOUSE, html, self)
        else:
            QToolTip.hideText()

    def describe(self, words: str) -> None:
        """What a screen reader says."""
        if words != self.accessibleDescription():
            self.setAccessibleDescription(words)
            QAccessible.updateAccessibility(QAccessibleEvent(self, QAccessible.Event.DescriptionChanged))

    # ---------------------------------------------------------------- a node dragged within the ribbon

    def take_node(self, event: QMouseEvent) -> None:
        """A press that may become a drag of the node there."""
        self._pressed = event.position()

    def carry_node(self, event: QMouseEvent) -> bool:
        """Follow the mouse; whether a node is dragged."""
        if self._pressed is None:
            return False
        self._mouse = event.position()
        if not self._carried:
            far = (event.position() - self._pressed).manhattanLength() >= QApplication.startDragDistance()
            node = self.node_at(self._pressed)
            if not far or not node or len(self.nodes_shown()) < 2:
                return False
            self._carried = node
            self.setCursor(Qt.CursorShape.ClosedHandCursor)
        self._told = event.globalPosition().toPoint()
        self._aim(self.node_at(event.position()))
        self._tell_carried()
        self.update()
        return True

    def _aim(self, over: str) -> None:
        target = over if over != self._carried else ""
        if target != self._target:
            self._target, self._figure, self._barred = target, "", False
            self.nodeOver.emit(self._carried, target)
            self.setCursor(Qt.CursorShape.ForbiddenCursor if self._barred else Qt.CursorShape.ClosedHandCursor)

    def _tell_carried(self) -> None:
        name = escape(self.look_of(self._carried)[0])
        if not self._target:
            hint = self.tr("Drop it on another node: they change places.")
            self.tell(self._told, stacked(whole(f"<b>{name}</b>"), hint))
            return
        head = whole(f"<b>{name} ⇄ {escape(self.look_of(self._target)[0])}</b>")
        self.tell(self._told, stacked(head, self._figure))

    def drop_node(self) -> bool:
        """The mouse was let go; whether a node was dragged."""
        node, target, barred = self._carried, self._target, self._barred
        put = bool(node and target and not barred)
        self._end_carrying(edited=put)
        if put:
            self.nodePut.emit(node, target)
        return bool(node)

    def give_up(self) -> None:
        """End a drag without any effect."""
        self._end_carrying(edited=False)

    def _end_carrying(self, *, edited: bool) -> None:
        dragged = bool(self._carried)
        self._pressed, self._carried, self._target = None, "", ""
        self._figure, self._barred = "", False
        self.unsetCursor()
        self.update()
        if dragged:
            QToolTip.hideText()
            self.gestureEnded.emit(edited)

    def paint_carried(self, painter: QPainter) -> None:
        """The name of the dragged node beside the mouse."""
        if not self._carried:
            return
        name, colour = self.look_of(self._carried)
        metrics = QFontMetricsF(painter.font())
        box = QRectF(0, 0, metrics.horizontalAdvance(name) + 24, metrics.height() + 8)
        box.moveCenter(self._mouse - QPointF(0, box.height()))
        box.moveLeft(min(max(box.left(), 2.0), self.width() - box.width() - 2))
        box.moveTop(max(box.top(), 2.0))
        painter.setPen(QPen(Theme.of().colour("surface"), 2))
        painter.setBrush(colour)
        painter.drawRoundedRect(box, box.height() / 2, box.height() / 2)
        painter.setPen(text_on(colour))
        painter.drawText(box, Qt.AlignmentFlag.AlignCenter, name)

    # ---------------------------------------------------------------- a node dragged here from its row

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        if event.mimeData().hasFormat(NODE_MIME) and self.nodes_shown():
            event.acceptProposedAction()

    def dragMoveEvent(self, event: QDragMoveEvent) -> None:
        self._target = self.node_at(event.position())
        event.setAccepted(bool(self._target))
        self.update()

    def dragLeaveEvent(self, _event: QDragLeaveEvent) -> None:
        self._target = ""
        self.update()

    def dropEvent(self, event: QDropEvent) -> None:
        target, self._target = self.node_at(event.position()), ""
        if target:
            event.acceptProposedAction()
            self.nodePut.emit(bytes(event.mimeData().data(NODE_MIME).data()).decode(), target)
        self.update()

    def focusOutEvent(self, event: QFocusEvent) -> None:
        super().focusOutEvent(event)
        self.update()

    # ---------------------------------------------------------------- menu

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        if event.reason() == QContextMenuEvent.Reason.Mouse:
            spot = self.spot_at(QPointF(event.pos()))
            if spot is not None:
                self.menuRequested.emit(spot, event.globalPos())
        else:
            self.ask_menu()
        event.accept()

    def ask_menu(self) -> None:
        """The menu of what the keys are at."""
        found = self.spot_of_keys()
        if found is not None:
            self.menuRequested.emit(found[0], self.mapToGlobal(found[1]))
