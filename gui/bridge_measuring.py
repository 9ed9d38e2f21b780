"""The bridge's second part: what is measured of the nodes, of the links between them, and of this machine.

What was measured gives the speeds and links that predictions rest on. Everything belongs to the GUI thread unless a
docstring says otherwise.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from PySide6.QtCore import QObject, Signal

from core.cluster.measured import MeasuredLink, Measurements
from core.cluster.node import CONNECTED, Node, NodeState
from core.cost.benchmark import EVEN, Mix, stale_reasons
from core.cost.links import UNKNOWN, Links
from core.errors import Cancelled, ShardboardError
from core.plan.form import NodeId
from gui.bridge_nodes import NodesBridge, Phase, shown_of
from gui.machine_costs import MachineCosts
from gui.work import reaching

if TYPE_CHECKING:
    from core.cluster.client import Cluster

MEASURE_DELAY_MS: Final = 400
AT_WORK: Final = frozenset({Phase.DEPLOYING, Phase.RUNNING, Phase.STOPPING, Phase.RELEASING, Phase.COMPARING})
"""Nothing is measured in the background meanwhile."""


class MeasuringBridge(NodesBridge):
    """Speeds, links and costs: known, measured, stale."""

    speedsChanged = Signal()
    """Speeds or links that predictions rest on are others now."""
    measurementsChanged = Signal()
    """Other benchmarks or links are known, or others are stale."""
    measureProgress = Signal(float, str)
    """(share done, what is being measured) of a measurement that a person asked for."""
    measureEnded = Signal(object)
    """Outcome; None when it was cancelled or failed."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
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
        self.costs = MachineCosts(self.tasks, self._would_disturb, self)
        """What messages cost this machine, and what its cores take from each other."""
        self._stale: dict[NodeId, tuple[str, ...]] = {}
        self._stale_now: dict[NodeId, tuple[str, ...]] = {}
        self._asked_measure: threading.Event | None = None
        self._quick: dict[NodeId, float] = {}
        """Speeds by one graph that runs there and here, until a node is benchmarked."""
        self._measuring = False
        self._measure_soon = self._timer(MEASURE_DELAY_MS, self._measure)
        self.costs.activity.connect(partial(self._activity, "costs"))
        self.phaseChanged.connect(self._give_way)

    def _give_way(self, phase: Phase) -> None:
        if phase in AT_WORK:
            self.way.take("job")
            self.costs.pause()
        else:
            self.way.give("job")

    def _would_disturb(self) -> bool:
        """Whether something goes on that would be part of what is measured of this machine."""
        if self.phase in AT_WORK or self.measuring or self._activities.keys() - {"costs"}:
            return True
        return self.cluster is not None and self.cluster.measuring and not self.costs.busy

    # ------------------------------------------------------------ what nodes tell

    def _cluster_met(self, cluster: Cluster) -> None:
        self._take_measurements(cluster.measurements)
        if self._measures:
            self.costs.begin(cluster)

    def _node_changed(self, before: Node | None, node: Node) -> None:
        self._scale_speed(before, node)
        if node.speed is not None and node.id not in self._quick:
            self._quick[node.id] = node.speed
        if before is None or before.info != node.info or node.id not in self.speeds:
            self._work_out_speeds()
        if before is None or shown_of(before) != shown_of(node):
            self._measure_soon.start()

    def _scale_speed(self, before: Node | None, after: Node) -> None:
        """A changed CPU limit changes the speed in proportion; no need to measure again."""
        if before is None or before.info is None or after.info is None or after.id not in self._quick:
            return
        self._quick[after.id] *= after.info.cpu_limit / before.info.cpu_limit

    def _measurements_changed(self, measurements: Measurements, stale: dict[NodeId, tuple[str, ...]]) -> None:
        self._stale = stale
        self._take_measurements(measurements)

    def _refresh_nodes(self) -> None:
        super()._refresh_nodes()
        self._look_for_stale()

    # ------------------------------------------------------------ speeds

    def _measure(self) -> None:
        missing = tuple(n.id for n in self.nodes if n.state is NodeState.READY and n.id not in self.speeds)
        if self._measures or not missing or self._measuring or self.cluster is None or self.phase is not Phase.IDLE:
            return
        self._measuring = True
        self._activity("speed", self.tr("Measuring the speed of %n node(s)", "", len(missing)))
        self.tasks.start(
            partial(reaching.measure_speeds, self.cluster, missing),
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
        self.costs.pause()
        self.way.take("measure")
        self._show_measure_share(cancel, 0.0, "")
        self.tasks.start(
            partial(reaching.measure, self.cluster, chosen, partial(self._measure_share, cancel), cancel),
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

    def _measure_done(self, nodes: tuple[NodeId, ...], found: reaching.Found) -> None:
        self._asked_measure = None
        self.way.give("measure")
        outcome = found.outcome
        self.costs.take(found.messages)
        self._activity("measure")
        self._forget_calibrations(tuple(node for node in nodes if node not in outcome.refused))
        self._take_measurements(outcome.measurements)
        self.measureEnded.emit(outcome)

    def _measure_ended_early(self, error: ShardboardError) -> None:
        self._asked_measure = None
        self.way.give("measure")
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


def _alike(one: dict[NodeId, tuple[str, ...]], other: dict[NodeId, tuple[str, ...]]) -> bool:
    """Whether the same is said of the same nodes; figures within it come and go."""
    return {node: len(reasons) for node, reasons in one.items()} == {
        node: len(reasons) for node, reasons in other.items()
    }
