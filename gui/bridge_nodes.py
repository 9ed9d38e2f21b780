"""The bridge's first part: the cluster, its nodes, their speeds, and local agents.

Cluster events arrive on the cluster's thread and hop to the GUI thread as queued calls, in order. Everything here
belongs to the GUI thread unless a docstring says otherwise.
"""

from __future__ import annotations

import enum
import threading
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
from core.cluster.measured import MeasuredLink, Measurements
from core.cluster.node import CONNECTED, Node, NodeState
from core.cost.benchmark import EVEN, Mix, stale_reasons
from core.cost.links import UNKNOWN, Links
from core.errors import Cancelled, ShardboardError
from core.plan.form import NodeId
from core.wire.messages import Telemetry
from gui import work
from gui.colours import node_colour
from gui.tasks import Tasks
from gui.theme import Theme

if TYPE_CHECKING:
    from core.cluster.client import Cluster
    from core.cluster.deployment import Deployment
    from core.cluster.local import LocalAgents
    from core.cluster.measuring import Outcome
    from core.cost.messages import MessageCosts

REFRESH_MS: Final = 1000
MEASURE_DELAY_MS: Final = 400
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
    speedsChanged = Signal()
    """Speeds or links that predictions rest on are others now."""
    measurementsChanged = Signal()
    """Other benchmarks or links are known, or others are stale."""
    measureProgress = Signal(float, str)
    """(share done, what is being measured) of a measurement that a person asked for."""
    measureEnded = Signal(object)
    """Outcome; None when it was cancelled or failed."""
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
        self.speeds: dict[NodeId, float] = {}
        """Of nodes measured so far, for the model that is open; 1.0 is this workstation with one thread."""
        self.measurements = Measurements()
        """Benchmarks of nodes and measured links, as the cluster knows them."""
        self._links_now = Measurements()
        """Without links whose ends are not where they were."""
        self.links: Links = UNKNOWN
        """What predictions know of the network between the nodes."""
        self.mix: Mix = EVEN
        """What the time of the model that is open is made of."""
        self.messages: MessageCosts | None = None
        """Measured for this machine; None until then: typical ones count."""
        self._stale: dict[NodeId, tuple[str, ...]] = {}
        self._stale_now: dict[NodeId, tuple[str, ...]] = {}
        self._asked_measure: threading.Event | None = None
        self._measures = False
        self._quick: dict[NodeId, float] = {}
        """Speeds by one graph that runs there and here, until a node is benchmarked."""
        self.deployment: Deployment | None = None
        self.phase = Phase.IDLE
        self._local: list[LocalAgents] = []
        self._slots: dict[NodeId, int] = {}
        self._measuring = False
        self._closing = False
        self._activities: dict[str, tuple[str, float]] = {}
        self._progress_shown = 0.0
        self._refresh = self._timer(REFRESH_MS, self._refresh_nodes, once=False)
        self._measure_soon = self._timer(MEASURE_DELAY_MS, self._measure)

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
            partial(work.open_cluster, tuple(addresses), self._from_cluster, measure=measure),
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
        self._take_measurements(cluster.measurements)
        if self._measures:
            self.tasks.start(work.kept_message_costs, self._messages_measured)
        if cluster.discovery_problem:
            self._on_event(DiscoveryProblem(cluster.discovery_problem))
        self._refresh_nodes()
        if local:
            self.startLocalAgents(local, cpu_limits=cpu_limits)

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
                self._stale = dict(stale)
                self._take_measurements(measurements)
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
        self._scale_speed(before, node)
        if node.state is NodeState.LOST:
            self.traffic.pop(node.id, None)
        known[node.id] = node
        self.nodes = tuple(known.values())
        if node.speed is not None and node.id not in self._quick:
            self._quick[node.id] = node.speed
        if before is None or before.info != node.info or node.id not in self.speeds:
            self._work_out_speeds()
        self.nodeChanged.emit(node.id)
        if before is None or _shown(before) != _shown(node):
            self.nodesChanged.emit()
            self._measure_soon.start()

    def _scale_speed(self, before: Node | None, after: Node) -> None:
        """A changed CPU limit changes the speed in proportion; no need to measure again."""
        if before is None or before.info is None or after.info is None or after.id not in self._quick:
            return
        self._quick[after.id] *= after.info.cpu_limit / before.info.cpu_limit

    def _refresh_nodes(self) -> None:
        """Round trip times change without an event; look once a second."""
        if self.cluster is None:
            return
        for node in self.cluster.nodes():
            self._take(node)
        self._look_for_stale()

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
        telemetry = self.telemetry.get(node.id)
        return node.state is NodeState.BUSY and telemetry is not None and telemetry.deployment == deployment

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
        self._with_cluster(partial(work.add_address, host, port), self.tr("{0} was not added").format(f"{host}:{port}"))

    def pair(self, host: str, pairing_port: int, code: str) -> None:
        self._with_cluster(
            partial(work.pair, host, pairing_port, code), self.tr("Pairing with {0} did not work").format(host)
        )

    def setLimits(self, node_id: str, cpu_limit: float | None = None, link_limit: int | None = None) -> None:
        """Slow a node on purpose: share of a core 0..1, bits/s (0: unlimited); None leaves a limit as it is."""
        self._with_cluster(
            partial(work.set_limits, NodeId(node_id), cpu_limit, link_limit),
            self.tr("The limits of {0} were not changed").format(self.name_of(node_id)),
        )

    def _with_cluster(self, call: work.ClusterCall, title: str) -> None:
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
            partial(work.start_local, count, first, cpu_limits),
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
            work.make_known(self.cluster, agents)
        self.localAgentsChanged.emit()
        self._refresh_nodes()

    def killLocal(self, node_id: str) -> None:
        """End a local agent's process at once, as a power failure would."""
        for group in self._local:
            for index, agent in enumerate(group.agents):
                if agent.id == node_id:
                    self.tasks.start(partial(group.kill, index), None, partial(self._failed, self.tr("Not killed")))

    # ------------------------------------------------------------ speeds

    def _measure(self) -> None:
        missing = tuple(n.id for n in self.nodes if n.state is NodeState.READY and n.id not in self.speeds)
        if self._measures or not missing or self._measuring or self.cluster is None or self.phase is not Phase.IDLE:
            return
        self._measuring = True
        self._activity("speed", self.tr("Measuring the speed of %n node(s)", "", len(missing)))
        self.tasks.start(
            partial(work.measure_speeds, self.cluster, missing),
            self._measured,
            partial(self._measure_failed),
        )

    def _measured(self, speeds: dict[NodeId, float]) -> None:
        self._measuring = False
        self._activity("speed")
        self._quick.update(speeds)
        self._work_out_speeds()
        self._refresh_nodes()
        self._measure_soon.start()

    def _measure_failed(self, _error: ShardboardError) -> None:
        """A node that went away or is taken meanwhile is measured when it is ready again."""
        self._measuring = False
        self._activity("speed")

    @property
    def measuring(self) -> bool:
        """Whether nodes and links are being measured because a person asked for it."""
        return self._asked_measure is not None

    def _messages_measured(self, costs: MessageCosts) -> None:
        """What a message costs this machine's processors: predictions count with it from now on."""
        self.messages = costs

    def measurable(self) -> tuple[NodeId, ...]:
        """Nodes that could be measured now."""
        return tuple(node.id for node in self.nodes if node.state is NodeState.READY)

    def measureNodes(self, nodes: Sequence[NodeId] = ()) -> None:
        """Benchmark nodes (none named: all that are ready) and measure the links between them and this workstation,
        whatever was known of them. Ends in measureEnded."""
        chosen = tuple(nodes) or self.measurable()
        if self.cluster is None or self._asked_measure is not None or not chosen:
            return
        cancel = self._asked_measure = threading.Event()
        self._show_measure_share(cancel, 0.0, "")
        self.tasks.start(
            partial(work.measure, self.cluster, chosen, partial(self._measure_share, cancel), cancel),
            partial(self._measure_done, chosen),
            self._measure_ended_early,
        )

    def cancelMeasuring(self) -> None:
        """What was known, and what was measured by now, stays."""
        if self._asked_measure is not None:
            self._asked_measure.set()

    def _measure_share(self, cancel: threading.Event, share: float, words: str) -> None:
        """Worker threads; at most 20 a second."""
        now = time.monotonic()
        if now - self._progress_shown > 0.05:
            self._progress_shown = now
            self.tasks.post(partial(self._show_measure_share, cancel, share, words))

    def _show_measure_share(self, cancel: threading.Event, share: float, words: str) -> None:
        if cancel is self._asked_measure:
            self._activity("measure", words or self.tr("Measuring nodes and links"), share)
            self.measureProgress.emit(share, words)

    def _measure_done(self, nodes: tuple[NodeId, ...], outcome: Outcome) -> None:
        self._asked_measure = None
        self._activity("measure")
        self._forget_calibrations(tuple(node for node in nodes if node not in outcome.refused))
        self._take_measurements(outcome.measurements)
        self.measureEnded.emit(outcome)

    def _measure_ended_early(self, error: ShardboardError) -> None:
        self._asked_measure = None
        self._activity("measure")
        self.measureEnded.emit(None)
        if not isinstance(error, Cancelled):
            self.errorRaised.emit(self.tr("Nodes and links were not measured"), error.message, error.hint)

    def _forget_calibrations(self, nodes: tuple[NodeId, ...]) -> None:
        """What runs have shown of nodes that were measured anew counts no more; see ``gui.truth``."""

    @property
    def stale(self) -> dict[NodeId, tuple[str, ...]]:
        """Why what was measured of a node no longer holds: clauses for "NAME ...". Only of nodes that are here."""
        here = {node.id for node in self.nodes if node.state in CONNECTED}
        found: dict[NodeId, tuple[str, ...]] = {}
        for node, reasons in (*self._stale.items(), *self._stale_now.items()):
            if node in here:
                found[node] = tuple(dict.fromkeys((*found.get(node, ()), *reasons)))
        return found

    def _look_for_stale(self) -> None:
        """What a node says of itself may already speak against its benchmark; a node at work is left alone."""
        now = {
            node.id: stale_reasons(benchmark, node.info, telemetry=self.telemetry.get(node.id))
            for node in self.nodes
            if node.info is not None
            and node.state is NodeState.READY
            and (benchmark := self.measurements.benchmarks.get(node.id)) is not None
        }
        found = {node: reasons for node, reasons in now.items() if reasons}
        kept = {node: reasons for node, reasons in self._stale_now.items() if node not in now}
        if not _alike({**kept, **found}, self._stale_now):
            self._stale_now = {**kept, **found}
            self.measurementsChanged.emit()

    def set_mix(self, mix: Mix) -> None:
        """Nodes differ in what they are good at, so their speeds are those for the model that is open."""
        self.mix = mix
        self._work_out_speeds()

    def _take_measurements(self, measurements: Measurements) -> None:
        self.measurements = measurements
        self._work_out_speeds()
        self.measurementsChanged.emit()

    def _work_out_speeds(self) -> None:
        """Speeds and links follow from what was measured and from what nodes say of themselves."""
        infos = {node.id: node.info for node in self.nodes if node.info is not None}
        speeds = {**self._quick, **self.measurements.speeds(infos, self.mix)}
        self._links_now = self.measurements.now(self.nodes)
        links = self._links_now.links_of(infos)
        if (speeds, links) != (self.speeds, self.links):
            self.speeds, self.links = speeds, links
            self.speedsChanged.emit()

    def link_between(self, one: str, other: str) -> MeasuredLink | None:
        """The way there or, where that was not measured, back; the workstation is the node ""."""
        links = self._links_now.links
        ends = NodeId(one), NodeId(other)
        return links.get(ends) or links.get((ends[1], ends[0]))

    def speed_of(self, node_id: str) -> float:
        """Measured speed, or 1.0 times the node's CPU limit until it is measured."""
        known = self.speeds.get(NodeId(node_id))
        if known is not None:
            return known
        node = self.node(node_id)
        return node.info.cpu_limit if node and node.info else 1.0

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


def _alike(one: dict[NodeId, tuple[str, ...]], other: dict[NodeId, tuple[str, ...]]) -> bool:
    """Whether the same is said of the same nodes; figures within it come and go."""
    return {node: len(reasons) for node, reasons in one.items()} == {
        node: len(reasons) for node, reasons in other.items()
    }


def _shown(node: Node) -> tuple[object, ...]:
    """What makes a change of a node worth laying the pages out anew."""
    return (node.name, node.state, node.reason, node.host, node.control_port, node.info, node.owner, node.speed)
