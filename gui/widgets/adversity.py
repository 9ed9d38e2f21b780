"""Controls that make life hard for nodes on purpose: slow the processor, throttle the link, end an agent."""

from __future__ import annotations

from typing import Final

from PySide6.QtCore import Qt, QTimer
from PySide6.QtWidgets import QComboBox, QFrame, QHBoxLayout, QLabel, QSlider, QVBoxLayout, QWidget

from core.cluster.node import CONNECTED, Node, NodeState
from gui.bridge import Bridge
from gui.theme import XS, M, S
from gui.widgets import units
from gui.widgets.basics import Dot, button, column, label, row

SETTLE_MS: Final = 250
"""A dragged slider is sent when it rests this long."""
LINK_STEPS: Final = (0, 1_000_000_000, 100_000_000, 10_000_000, 1_000_000)
"""Bits per second; 0: no limit."""


class NodeControls(QFrame):
    """The controls of one node."""

    def __init__(self, bridge: Bridge, node: Node) -> None:
        super().__init__()
        self._bridge, self._id = bridge, node.id
        self._dot = Dot(bridge.colour(node.id))
        self._name = label(node.name)
        self._value: QLabel = label("", "small")
        self._cpu = QSlider(Qt.Orientation.Horizontal)
        self._cpu.setRange(5, 100)
        self._cpu.setSingleStep(5)
        self._cpu.setPageStep(25)
        self._cpu.setAccessibleName(self.tr("CPU limit of {0}").format(node.name))
        self._cpu.setToolTip(self.tr("Share of the time that the node may compute"))
        self._link = QComboBox()
        self._link.setAccessibleName(self.tr("Link limit of {0}").format(node.name))
        self._link.setToolTip(self.tr("How much the node may send and receive per second"))
        for rate in LINK_STEPS:
            self._link.addItem(units.bits_per_s(rate / 8) if rate else self.tr("full link"), rate)
        self._kill = button(self.tr("Kill"), lambda: bridge.killLocal(node.id), role="danger")
        self._kill.setToolTip(self.tr("End this agent's process at once, as a power failure would"))
        self._kill.setAccessibleName(self.tr("Kill {0}").format(node.name))
        self._settle = QTimer(self)
        self._settle.setSingleShot(True)
        self._settle.setInterval(SETTLE_MS)
        self._settle.timeout.connect(self._send_cpu)
        head = row(self._dot, self._name, None, self._value, spacing=S)
        lower = row(spacing=S)
        lower.addWidget(self._cpu, 1)
        lower.addWidget(self._link)
        lower.addWidget(self._kill)
        self.setLayout(column(head, lower, spacing=XS))
        self.show_node(node)
        self._cpu.valueChanged.connect(self._moved)
        self._link.activated.connect(self._send_link)

    def show_node(self, node: Node) -> None:
        """Take over what the node says of itself, unless the person's hand is on the control."""
        alive = node.state in CONNECTED
        local = self._bridge.is_local(node.id)
        self._dot.set_colour(self._bridge.colour(node.id))
        for part in (self._cpu, self._link):
            part.setEnabled(alive)
        self._kill.setEnabled(alive and local)
        self._kill.setVisible(local)
        if node.info is not None and not self._settle.isActive() and not self._cpu.isSliderDown():
            self._cpu.blockSignals(True)
            self._cpu.setValue(round(node.info.cpu_limit * 100))
            self._cpu.blockSignals(False)
            self._show_link(node.info.link_limit)
        self._say(lost=node.state is NodeState.LOST)

    def _show_link(self, limit: int) -> None:
        if self._link.view().isVisible():
            return
        index = self._link.findData(limit)
        if index < 0:
            self._link.addItem(units.bits_per_s(limit / 8), limit)
            index = self._link.count() - 1
        self._link.setCurrentIndex(index)

    def _say(self, *, lost: bool = False) -> None:
        self._value.setText(self.tr("lost") if lost else self.tr("CPU {0} %").format(self._cpu.value()))

    def _moved(self) -> None:
        self._say()
        self._settle.start()

    def _send_cpu(self) -> None:
        self._bridge.setLimits(self._id, cpu_limit=self._cpu.value() / 100)

    def _send_link(self) -> None:
        self._bridge.setLimits(self._id, link_limit=int(self._link.currentData()))


class AdversityPanel(QWidget):
    """A :class:`NodeControls` for each node."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__()
        self._bridge = bridge
        self.setProperty("role", "page")
        self._controls: dict[str, NodeControls] = {}
        self._list = QVBoxLayout()
        self._list.setContentsMargins(0, 0, 0, 0)
        self._list.setSpacing(M)
        outer = QHBoxLayout()
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addLayout(column(self._list, None))
        self.setLayout(outer)
        bridge.nodesChanged.connect(self.refresh)
        bridge.nodeChanged.connect(lambda _id: self.refresh())
        bridge.localAgentsChanged.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        present = {n.id: n for n in self._bridge.nodes if n.info is not None}
        for node_id in [known for known in self._controls if known not in present]:
            gone = self._controls.pop(node_id)
            self._list.removeWidget(gone)
            gone.deleteLater()
        for place, (node_id, node) in enumerate(present.items()):
            if node_id in self._controls:
                self._controls[node_id].show_node(node)
            else:
                self._controls[node_id] = NodeControls(self._bridge, node)
                self._list.insertWidget(place, self._controls[node_id])
