"""The picture of the cluster: this workstation, its nodes, the links between them, and what moves over them.

While tensors move, dashes travel along the links ten times a second; a hidden or quiet picture does not repaint.
"""

from __future__ import annotations

from typing import Final

from PySide6.QtCore import QEvent, QPointF, QSize, Qt, QTimer, Signal
from PySide6.QtGui import QFocusEvent, QHelpEvent, QHideEvent, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QShowEvent
from PySide6.QtWidgets import QToolTip, QWidget

from core.cluster.node import Node
from gui.bridge import Bridge
from gui.theme import Theme
from gui.widgets import units
from gui.widgets.measured_words import links_words
from gui.widgets.states import state_meaning
from gui.widgets.topology_model import MOVING_BYTES_PER_S
from gui.widgets.topology_paint import TopologyPainter
from gui.widgets.topology_scene import TopologyScene, card_words

FRAME_MS: Final = 100


class TopologyView(QWidget):
    """Cards can be clicked or walked through with the arrow keys; ``chosen`` says the node's id."""

    chosen = Signal(str)

    def __init__(self, bridge: Bridge) -> None:
        super().__init__()
        self._bridge = bridge
        self._selected = ""
        self._phase = 0.0
        self.setMinimumHeight(230)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMouseTracking(True)
        self.setAccessibleName(self.tr("Topology"))
        self._frames = QTimer(self)
        self._frames.setInterval(FRAME_MS)
        self._frames.timeout.connect(self._next_frame)
        self._dirty = True
        self.scene = TopologyScene(bridge)
        bridge.nodesChanged.connect(self._mark)
        bridge.nodeChanged.connect(self._mark)
        bridge.telemetryArrived.connect(self._mark)
        bridge.phaseChanged.connect(self._mark)
        bridge.speedsChanged.connect(self._mark)
        bridge.measurementsChanged.connect(self._mark)
        Theme.of().changed.connect(self.update)

    def sizeHint(self) -> QSize:
        return QSize(900, 310)

    def select(self, node_id: str) -> None:
        self._selected = node_id
        self.update()

    # ------------------------------------------------------------ time

    def showEvent(self, event: QShowEvent) -> None:
        self._frames.start()
        super().showEvent(event)

    def hideEvent(self, event: QHideEvent) -> None:
        self._frames.stop()
        super().hideEvent(event)

    def _mark(self, *_what: object) -> None:
        self._dirty = True

    def _next_frame(self) -> None:
        moving = any(t.sent + t.received > MOVING_BYTES_PER_S for t in self._bridge.traffic.values())
        if moving:
            self._phase = (self._phase + 1.4) % 1200.0
        if moving or self._dirty:
            self._dirty = False
            self.update()

    # ------------------------------------------------------------ painting

    def paintEvent(self, _event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        size, picture = self.size(), TopologyPainter(painter, self._bridge, self._phase, self.devicePixelRatioF())
        for link in self.scene.links(size, self._selected):
            picture.link(link)
        picture.station(self.scene.station(size))
        for node, rect in self.scene.cards(size):
            selected = node.id == self._selected
            picture.card(node, rect, selected=selected, focused=selected and self.hasFocus())
        painter.end()

    # ------------------------------------------------------------ hands

    def _at(self, point: QPointF) -> str:
        return next((node.id for node, rect in self.scene.cards(self.size()) if rect.contains(point)), "")

    def mousePressEvent(self, event: QMouseEvent) -> None:
        self._choose(self._at(event.position()))

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        over = bool(self._at(event.position()))
        self.setCursor(Qt.CursorShape.PointingHandCursor if over else Qt.CursorShape.ArrowCursor)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        ids = [n.id for n in self._bridge.nodes]
        step = {Qt.Key.Key_Down: 1, Qt.Key.Key_Right: 1, Qt.Key.Key_Up: -1, Qt.Key.Key_Left: -1}.get(
            Qt.Key(event.key())
        )
        if step is None or not ids:
            super().keyPressEvent(event)
            return
        now = ids.index(self._selected) if self._selected in ids else (-1 if step > 0 else 0)  # type: ignore[arg-type]
        self._choose(ids[(now + step) % len(ids)])

    def focusInEvent(self, event: QFocusEvent) -> None:
        """The keys begin at the first node."""
        super().focusInEvent(event)
        by_key = event.reason() in (Qt.FocusReason.TabFocusReason, Qt.FocusReason.BacktabFocusReason)
        if by_key and not self._selected and self._bridge.nodes:
            self._choose(self._bridge.nodes[0].id)
        self.update()

    def focusOutEvent(self, event: QFocusEvent) -> None:
        super().focusOutEvent(event)
        self.update()

    def event(self, event: QEvent) -> bool:
        if event.type() == QEvent.Type.ToolTip and isinstance(event, QHelpEvent):
            node = self._bridge.node(self._at(QPointF(event.pos())))
            words = f"{node.name}: {state_meaning(node.state)} {node.reason}".strip() if node else ""
            words = f"{words}\n{card_words(self._bridge, node)}" if node else ""
            words = "\n".join([words, *links_words(self._bridge, node.id), *self._sends(node)]) if node else ""
            QToolTip.showText(event.globalPos(), words, self)
            return True
        return super().event(event)

    def _sends(self, node: Node) -> list[str]:
        """What the plan has a node send to each other, in words."""
        links = [(target, size) for (source, target), size in self.scene.planned().items() if source == node.id]
        words = self.tr("{0} to {1} for a micro-batch")
        name = self._bridge.name_of
        return [
            words.format(units.nbytes(size), name(target) if target else self.tr("this workstation"))
            for target, size in links
        ]

    def _choose(self, node_id: str) -> None:
        self.select(node_id)
        self.chosen.emit(node_id)
