"""The bridge's first part: the cluster, its nodes, and local agents.

Cluster events arrive on the cluster's thread and hop to the GUI thread as queued calls, in order. Everything here
belongs to the GUI thread unless a docstring says otherwise.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from PySide6.QtCore import QObject, QTimer, Signal
from PySide6.QtGui import QColor

from core.cluster.events import (
    ClusterEvent,
    DiscoveryProblem,
    MeasurementsChanged,
    NodeChanged,
    NodeRemoved,
    TelemetryArrived,
)
from core.cluster.measured import Measurements
from core.cluster.node import Node, NodeState
from core.errors import Cancelled, ShardboardError
from core.plan.form import NodeId
from core.wire.messages import Telemetry
from gui.colours import node_colour
from gui.tasks import Tasks
from gui.theme import Theme
from gui.work import reaching

if TYPE_CHECKING:
    from core.cluster.client import Cluster
    from core.cluster.deployment import Deployment
    from core.cluster.local import LocalAgents

REFRESH_MS: Final = 1000
SMOOTHING_SECONDS: Final = 0.6


class Phase(enum.StrEnum):
    """Where the work with the plan stands."""

    IDLE = "idle"
    DEPLOYING = "deploying"
    DEPLOYED = "deployed"
    RUNNING = "running"
    STOPPING = "stopping"
    RELEASING = "releasing"
    COMPARING = "comparing"
    """Strategies are deployed and run one after another, to compare them."""


class Traffic(NamedTuple):
    """Tensor bytes per second through a node's agent, smoothed over about a second."""

    sent: float = 0.0
    received: float = 0.0

    def toward(self, before: Telemetry, after: Telemetry) -> Traffic:
        """With the counters of one more interval."""
        seconds = after.time - before.time
        if seconds <= 0 or after.data_sent < before.data_sent or after.data_received < before.data_received:
            return Traffic()
        share = min(1.0, seconds / SMOOTHING_SECONDS)
        sent = (after.data_sent - before.data_sent) / seconds
        received = (after.data_received - before.data_received) / seconds
        return Traffic(
            sent=self.sent + share * (sent - self.sent), received=self.received + share * (received - self.received)
        )


class NodesBridge(QObject):
    """Nodes: known, added, paired, limited, started and killed here."""

    nodesChanged = Signal()
    """A node came, went or changed state."""
    nodeChanged = Signal(str)
    telemetryArrived = Signal(str, object)
    discoveryProblem = Signal(str)
    localAgentsChanged = Signal()

    phaseChanged = Signal(object)
    activityChanged = Signal(str, float)
    """(what goes on in the background, share done or -1); ("", -1) when nothing does."""
    errorRaised = Signal(str, str, str)
    """(title, message, hint)."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.tasks = Tasks(self)
        self.cluster: Cluster | None = None
        self.discovery_problem: str = ""
        self.nodes: tuple[Node, ...] = ()
        self.telemetry: dict[NodeId, Telemetry] = {}
        self.traffic: dict[NodeId, Traffic] = {}
        self._measures = False
        """New nodes are benchmarked in the background."""
        self.way = self.tasks.way
        self.deployment: Deployment | None = None
        self.phase = Phase.IDLE
        self._local: list[LocalAgents] = []
        self._slots: dict[NodeId, int] = {}
        self._closing = False
        self._activities: dict[str, tuple[str, float]] = {}
        self._progress_shown = 0.0
        self._refresh = self._timer(REFRESH_MS, self._refresh_nodes, once=False)

    def _timer(self, interval: int, call: object, *, once: bool = True) -> QTimer:
        timer = QTimer(self)
        timer.setSingleShot(once)
        timer.setInterval(interval)
        timer.timeout.connect(call)
        return timer

    # ------------------------------------------------------------ cluster and nodes

    def start(
        self,
        *,
        addresses: Sequence[tuple[str, int]] = (),
        local: int = 0,
        cpu_limits: Sequence[float] | None = None,
        measure: bool = True,
    ) -> None:
        """Open the cluster: find nodes, reach ``addresses`` (host, port), start ``local`` agents on this machine.

        ``measure``: new nodes are benchmarked and their links measured while nothing holds them; otherwise a short look
        at their speed has to do until a person asks for more.
        """
        self._measures = measure
        self._activity("cluster", self.tr("Looking for nodes"))
        self.tasks.start(
            partial(reaching.open_cluster, tuple(addresses), self._from_cluster, measure=measure),
            partial(self._cluster_opened, local=local, cpu_limits=cpu_limits),
            partial(self._failed, self.tr("The panel cannot reach any node")),
        )

    def _from_cluster(self, event: ClusterEvent) -> None:
        """Cluster thread."""
        self.tasks.post(partial(self._on_event, event))

    def _cluster_opened(self, cluster: Cluster, *, local: int, cpu_limits: Sequence[float] | None) -> None:
        self.cluster = cluster
        self._activity("cluster")
        if self._closing:
            return
        self._refresh.start()
        self._cluster_met(cluster)
        if cluster.discovery_problem:
            self._on_event(DiscoveryProblem(cluster.discovery_problem))
        self._refresh_nodes()
        if local:
            self.startLocalAgents(local, cpu_limits=cpu_limits)

    def _cluster_met(self, cluster: Cluster) -> None:
        """It was opened."""

    def _on_event(self, event: ClusterEvent) -> None:
        match event:
            case TelemetryArrived(id=node_id, telemetry=telemetry):
                before = self.telemetry.get(node_id, telemetry)
                self.traffic[node_id] = self.traffic.get(node_id, Traffic()).toward(before, telemetry)
                self.telemetry[node_id] = telemetry
                self.telemetryArrived.emit(node_id, telemetry)
            case NodeChanged(node=node):
                self._take(node)
            case NodeRemoved(id=node_id):
                self.nodes = tuple(n for n in self.nodes if n.id != node_id)
                self.telemetry.pop(node_id, None)
                self.traffic.pop(node_id, None)
                self.nodesChanged.emit()
            case MeasurementsChanged(measurements=measurements, stale=stale):
                self._measurements_changed(measurements, dict(stale))
            case DiscoveryProblem(message=message):
                self.discovery_problem = message
                self.discoveryProblem.emit(message)

    def _take(self, node: Node) -> None:
        """Put a new or changed node in its place; nodes keep the order in which they were first seen."""
        if node.info is not None:
            self._slots.setdefault(node.id, len(self._slots))
        known = {n.id: n for n in self.nodes}
        before = known.get(node.id)
        if before == node:
            return
        if node.state is NodeState.LOST:
            self.traffic.pop(node.id, None)
        known[node.id] = node
        self.nodes = tuple(known.values())
        self._node_changed(before, node)
        self.nodeChanged.emit(node.id)
        if before is None or shown_of(before) != shown_of(node):
            self.nodesChanged.emit()

    def _node_changed(self, before: Node | None, node: Node) -> None:
        """It is in its place; nobody was told yet."""

    def _measurements_changed(self, measurements: Measurements, stale: dict[NodeId, tuple[str, ...]]) -> None:
        """The cluster knows other ones, or others no longer hold."""

    def _refresh_nodes(self) -> None:
        """Round trip times change without an event; look once a second."""
        if self.cluster is None:
            return
        for node in self.cluster.nodes():
            self._take(node)

    def node(self, node_id: str) -> Node | None:
        return next((n for n in self.nodes if n.id == node_id), None)

    def name_of(self, node_id: str) -> str:
        node = self.node(node_id)
        return node.name if node else node_id[:8]

    def ready_nodes(self) -> tuple[Node, ...]:
        """Nodes that can take work: ready, or busy with this panel's own deployment."""
        own = self.deployment.id if self.deployment else ""
        return tuple(n for n in self.nodes if n.state is NodeState.READY or (own and self._holds(n, own)))

    def _holds(self, node: Node, deployment: str) -> bool:
        told = (node.telemetry, self.telemetry.get(node.id))  # either may be the newer one
        return node.state is NodeState.BUSY and any(one is not None and one.deployment == deployment for one in told)

    def colour(self, node_id: str) -> QColor:
        """The node's colour, the same everywhere in the panel; grey for a node that does not trust us yet."""
        slot = self._slots.get(NodeId(node_id))
        return node_colour(Theme.of().tokens, slot) if slot is not None else Theme.of().colour("faint")

    def is_local(self, node_id: str) -> bool:
        """Whether the node is an agent that this panel started."""
        return any(agent.id == node_id for group in self._local for agent in group.agents)

    def local_count(self) -> int:
        return sum(len(group.agents) for group in self._local)

    def addAddress(self, host: str, port: int) -> None:
        self._with_cluster(
            partial(reaching.add_address, host, port), self.tr("{0} was not added").format(f"{host}:{port}")
        )

    def pair(self, host: str, pairing_port: int, code: str) -> None:
        self._with_cluster(
            partial(reaching.pair, host, pairing_port, code), self.tr("Pairing with {0} did not work").format(host)
        )

    def setLimits(self, node_id: str, cpu_limit: float | None = None, link_limit: int | None = None) -> None:
        """Slow a node on purpose: share of a core 0..1, bits/s (0: unlimited); None leaves a limit as it is."""
        self._with_cluster(
            partial(reaching.set_limits, NodeId(node_id), cpu_limit, link_limit),
            self.tr("The limits of {0} were not changed").format(self.name_of(node_id)),
        )

    def _with_cluster(self, call: reaching.ClusterCall, title: str) -> None:
        if self.cluster is None:
            self.errorRaised.emit(title, self.tr("The panel is still starting."), self.tr("Try again in a moment."))
            return
        self.tasks.start(partial(call, self.cluster), None, partial(self._failed, title))

    def startLocalAgents(self, count: int, *, cpu_limits: Sequence[float] | None = None) -> None:
        """Start agents as processes on this machine; they end with the panel."""
        if self.cluster is None:
            self.errorRaised.emit(
                self.tr("No agents were started"),
                self.tr("The panel is still starting."),
                self.tr("Try again in a moment."),
            )
            return
        self._activity("local", self.tr("Starting local agents"))
        first = self.local_count()
        self.tasks.start(
            partial(reaching.start_local, count, first, cpu_limits),
            self._local_started,
            partial(self._failed, self.tr("The local agents did not start"), key="local"),
        )

    def _local_started(self, agents: LocalAgents) -> None:
        self._local.append(agents)
        self._activity("local")
        if self._closing:
            return
        for agent in agents.agents:
            self._slots.setdefault(agent.id, len(self._slots))
        if self.cluster is not None:
            reaching.make_known(self.cluster, agents)
        self.localAgentsChanged.emit()
        self._refresh_nodes()

    def killLocal(self, node_id: str) -> None:
        """End a local agent's process at once, as a power failure would."""
        for group in self._local:
            for index, agent in enumerate(group.agents):
                if agent.id == node_id:
                    self.tasks.start(partial(group.kill, index), None, partial(self._failed, self.tr("Not killed")))

    def _set_phase(self, phase: Phase) -> None:
        if phase is not self.phase:
            self.phase = phase
            self.phaseChanged.emit(phase)

    # ------------------------------------------------------------ what goes on

    def _activity(self, key: str, text: str = "", share: float = -1.0) -> None:
        """Say what goes on in the background; an empty text ends the activity ``key``."""
        if text:
            self._activities[key] = (text, share)
        else:
            self._activities.pop(key, None)
        shown, done = next(reversed(self._activities.values()), ("", -1.0))
        self.activityChanged.emit(shown, done)

    def _report_share(self, key: str, text: str, share: float) -> None:
        """Worker thread; at most 20 a second."""
        now = time.monotonic()
        if now - self._progress_shown > 0.05:
            self._progress_shown = now
            self.tasks.post(partial(self._activity, key, text, share))

    def _failed(self, title: str, error: ShardboardError, *, key: str = "cluster") -> None:
        self._activity(key)
        if not isinstance(error, Cancelled):
            self.errorRaised.emit(title, error.message, error.hint)


def shown_of(node: Node) -> tuple[object, ...]:
    """What makes a change of a node worth laying the pages out anew."""
    return (node.name, node.state, node.reason, node.host, node.control_port, node.info, node.owner, node.speed)
