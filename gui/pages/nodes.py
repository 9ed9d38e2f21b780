"""The Nodes page: what machines there are, how they are reached, and what ails them."""

from __future__ import annotations

import os
from typing import Final

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QSplitter, QStackedWidget, QWidget

from core.cluster.node import Node, NodeState
from gui.bridge import Bridge
from gui.inspector import Inspection
from gui.theme import M
from gui.widgets import units
from gui.widgets.banner import Banner
from gui.widgets.basics import Card, EmptyState, Page, button, column
from gui.widgets.dialogs import AddressDialog, LocalAgentsDialog, PairDialog
from gui.widgets.doctor import DoctorDialog
from gui.widgets.measure_banner import MeasureBanner
from gui.widgets.measured_words import benchmark_rows, link_rows
from gui.widgets.node_table import NodeTable
from gui.widgets.states import state_meaning, state_word
from gui.widgets.topology import TopologyView

SHARDS_NAMED: Final = 8
"""Steps of a node that the inspector lists."""


class NodesPage(Page):
    """Topology, table, and the ways to get more nodes."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__()
        self.set_head(self.tr("Nodes"), self.tr("Machines with an agent, and the way to them."))
        self._bridge = bridge
        self._chosen = ""
        self._discovery = Banner("warn")
        self._discovery.tools.addWidget(button(self.tr("Find out why"), self.ask_doctor, role="flat"))
        self._lost = Banner("bad")
        self._measured = MeasureBanner(bridge)
        self._topology = TopologyView(bridge)
        self._table = NodeTable(bridge)
        self._build()
        self._connect()
        self._layout_changed()

    def _build(self) -> None:
        self._local_button = button(self.tr("Start local agents"), self.ask_local, icon="play")
        self._pair_button = button(self.tr("Pair"), self.ask_pair, icon="link")
        self._address_button = button(self.tr("Add by address"), self.ask_address, icon="plus", role="primary")
        self._doctor_button = button(self.tr("Doctor"), self.ask_doctor, icon="doctor")
        self._doctor_button.setToolTip(self.tr("Find out why nodes do not meet"))
        self._measure_button = button(self.tr("Measure"), self._bridge.measureNodes, icon="monitor")
        self._measure_button.setToolTip(
            self.tr("Benchmark every node that is ready, and measure the links between them and this workstation")
        )
        for tool in (
            self._doctor_button,
            self._measure_button,
            self._local_button,
            self._pair_button,
            self._address_button,
        ):
            self.tools.addWidget(tool)
        picture = Card(self.tr("Topology"))
        picture.body.addWidget(self._topology)
        table = QWidget()
        table.setLayout(column(self._table))
        split = QSplitter(Qt.Orientation.Vertical)
        split.setChildrenCollapsible(False)
        split.setHandleWidth(M)
        split.addWidget(picture)
        split.addWidget(table)
        split.setStretchFactor(0, 3)
        split.setStretchFactor(1, 2)
        split.setSizes([430, 280])
        empty = EmptyState(
            "nodes",
            self.tr("No node yet"),
            self.tr(
                "On another machine, install Shardboard and start shardboard-agent: it appears here by itself. "
                "To try things out on this machine alone, start local agents."
            ),
            [
                button(self.tr("Start local agents"), self.ask_local, role="primary"),
                button(self.tr("Add by address"), self.ask_address),
            ],
        )
        self._stack = QStackedWidget()
        self._stack.addWidget(empty)
        self._stack.addWidget(split)
        self.body.addWidget(self._discovery)
        self.body.addWidget(self._lost)
        self.body.addWidget(self._measured)
        self.body.addWidget(self._stack, 1)

    def _connect(self) -> None:
        bridge = self._bridge
        bridge.nodesChanged.connect(self._layout_changed)
        bridge.nodeChanged.connect(self._node_changed)
        bridge.telemetryArrived.connect(lambda node_id, _telemetry: self._node_changed(node_id))
        bridge.discoveryProblem.connect(self._show_discovery)
        bridge.phaseChanged.connect(lambda _phase: self._show_lost())
        bridge.measurementsChanged.connect(self._layout_changed)
        for signal in (bridge.measureProgress, bridge.measureEnded):
            signal.connect(lambda *_what: self._show_measurable())
        self._topology.chosen.connect(self._choose)
        self._table.chosen.connect(self._choose)

    # ------------------------------------------------------------ what is shown

    def _layout_changed(self) -> None:
        self._stack.setCurrentIndex(1 if self._bridge.nodes else 0)
        self._show_lost()
        self._show_measurable()
        self._show_chosen()

    def _show_measurable(self) -> None:
        able = bool(self._bridge.measurable()) and not self._bridge.measuring
        self._measure_button.setEnabled(able)

    def _node_changed(self, node_id: str) -> None:
        if node_id == self._chosen and self.isVisible():
            self._show_chosen()

    def _show_discovery(self, problem: str) -> None:
        if not problem:
            self._discovery.clear()
            return
        self._discovery.say(
            self.tr("Nodes are not found by themselves"),
            self.tr("{0} Local agents and nodes added by address work all the same.").format(problem),
            "warn",
        )

    def _show_lost(self) -> None:
        lost = [n for n in self._bridge.nodes if n.state is NodeState.LOST]
        if not lost:
            self._lost.clear()
            return
        names = ", ".join(n.name for n in lost)
        title = self.tr("{0} is lost").format(names) if len(lost) == 1 else self.tr("{0} are lost").format(names)
        meanings = dict.fromkeys(filter(None, (self._bridge.consequence(n.id) for n in lost)))
        words = " ".join(meanings) or self.tr("No deployment needs it. It becomes the same node again when it returns.")
        self._lost.say(title, words, "bad")

    def _choose(self, node_id: str) -> None:
        self._chosen = node_id
        self._topology.select(node_id)
        self._table.choose(node_id)
        self._show_chosen()

    def _show_chosen(self) -> None:
        node = self._bridge.node(self._chosen)
        self.inspected.emit(self._describe(node) if node else None)

    def _describe(self, node: Node) -> Inspection:
        tr = self.tr
        rows: list[tuple[str, str | None]] = [(tr("Meaning"), state_meaning(node.state))]
        if node.reason:
            rows.append((tr("Reason"), node.reason))
        consequence = self._bridge.consequence(node.id) if node.state is NodeState.LOST else ""
        if consequence:
            rows.append((tr("For the job"), consequence))
        rows += [(tr("Address"), node.address), (tr("Found by"), self._found_by(node))]
        rows.append((tr("Round trip"), units.seconds(node.rtt_s)))
        rows += self._machine_rows(node)
        rows += self._measured_rows(node)
        rows += self._live_rows(node)
        subtitle = state_word(node.state)
        if node.owner:
            subtitle = tr("{0}, held by {1}").format(subtitle, node.owner)
        return Inspection(node.name, rows, subtitle, self._bridge.colour(node.id))

    def _found_by(self, node: Node) -> str:
        return {
            "mdns": self.tr("discovery"),
            "address": self.tr("its address"),
            "local": self.tr("this panel"),
        }[node.source]

    def _machine_rows(self, node: Node) -> list[tuple[str, str | None]]:
        info, tr = node.info, self.tr
        if info is None:
            return []
        speed = self._bridge.speeds.get(node.id)
        return [
            (tr("Machine"), None),
            (tr("Host"), info.hostname),
            (tr("System"), info.system),
            (tr("Processor"), info.cpu),
            (tr("Threads"), tr("{0} of {1} cores").format(info.threads, info.cores)),
            (tr("Speed"), f"{speed:.2f}" if speed is not None else tr("not measured yet")),
            (tr("Memory limit"), units.nbytes(info.memory_limit)),
            (tr("CPU limit"), units.percent(info.cpu_limit)),
            (tr("Link limit"), units.bits_per_s(info.link_limit / 8) if info.link_limit else tr("none")),
            (tr("Engine"), info.engine),
            (tr("Version"), info.version),
        ]

    def _measured_rows(self, node: Node) -> list[tuple[str, str | None]]:
        rows: list[tuple[str, str | None]] = []
        figures, links = benchmark_rows(self._bridge, node.id), link_rows(self._bridge, node.id)
        if figures:
            rows += [(self.tr("Benchmark"), None), *figures]
        if links:
            rows += [(self.tr("Links"), None), *links]
        stale = self._bridge.stale.get(node.id)
        if stale:
            rows += [(self.tr("Measure again"), None), (self.tr("It"), "; ".join(stale))]
        return rows

    def _live_rows(self, node: Node) -> list[tuple[str, str | None]]:
        telemetry, tr = self._bridge.telemetry.get(node.id), self.tr
        if telemetry is None or node.state is NodeState.LOST:
            return []
        traffic = self._bridge.traffic.get(node.id)
        rows: list[tuple[str, str | None]] = [
            (tr("Now"), None),
            (
                tr("CPU"),
                tr("{0}, agent {1} cores").format(units.percent(telemetry.cpu), f"{telemetry.process_cpu:.2f}"),
            ),
            (
                tr("Memory"),
                tr("{0} of {1}").format(units.nbytes(telemetry.memory_used), units.nbytes(telemetry.memory_total)),
            ),
            (tr("Agent's memory"), units.nbytes(telemetry.process_memory)),
            (tr("Tensors in"), units.bits_per_s(traffic.received if traffic else 0.0)),
            (tr("Tensors out"), units.bits_per_s(traffic.sent if traffic else 0.0)),
            (tr("Queue"), tr("%n micro-batch(es)", "", telemetry.queue)),
        ]
        if telemetry.temperature is not None:
            rows.append((tr("Temperature"), tr("{0} °C").format(f"{telemetry.temperature:.0f}")))
        if telemetry.power is not None:
            rows.append((tr("Power"), tr("{0} W").format(f"{telemetry.power:.1f}")))
        rows += [
            (load.label, tr("busy {0}, {1} items/s").format(units.percent(load.busy), units.quantity(load.items_per_s)))
            for load in telemetry.shards[:SHARDS_NAMED]
        ]
        if len(telemetry.shards) > SHARDS_NAMED:
            rows.append((tr("More steps"), str(len(telemetry.shards) - SHARDS_NAMED)))
        return rows

    # ------------------------------------------------------------ questions

    def ask_address(self) -> None:
        dialog = AddressDialog(self)
        dialog.accepted.connect(lambda: self._bridge.addAddress(*dialog.address()))
        dialog.finished.connect(dialog.deleteLater)
        dialog.open()

    def ask_pair(self) -> None:
        node = self._bridge.node(self._chosen)
        waiting = node if node and node.state is NodeState.DISCOVERED else None
        dialog = PairDialog(self, waiting.host if waiting else "", waiting.pairing_port if waiting else None)
        dialog.accepted.connect(lambda: self._bridge.pair(*dialog.answer()))
        dialog.finished.connect(dialog.deleteLater)
        dialog.open()

    def ask_doctor(self) -> None:
        dialog = DoctorDialog(self._bridge, self)
        dialog.finished.connect(dialog.deleteLater)
        dialog.open()
        dialog.examine()

    def ask_local(self) -> None:
        dialog = LocalAgentsDialog(self, os.cpu_count() or 2)
        dialog.accepted.connect(lambda: self._bridge.startLocalAgents(dialog.count()))
        dialog.finished.connect(dialog.deleteLater)
        dialog.open()
