"""Measured beside predicted, live, and the correction of speeds by what was measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final

from msgspec import Struct
from PySide6.QtCore import QObject, QTimer, Signal

from core.cluster.machines import machines_of
from core.errors import ShardboardError
from core.plan.form import NodeId, Sha256
from core.run.calibration import Calibration, message_factor
from core.run.comparing import Comparison, compare
from core.run.credit import default_in_flight
from core.run.observing import Observation, Observer
from core.run.recalibrating import Correction
from core.wire.messages import Telemetry
from gui.bridge_nodes import Phase
from gui.work import calibrations, recalibrating
from gui.work.recalibrating import Corrected

if TYPE_CHECKING:
    from core.cost.types import Prediction
    from core.plan.compile import CompiledPlan
    from gui.bridge import Bridge

LOOK_MS: Final = 500


class Recalibrated(Struct, frozen=True):
    """What the last recalibration did; kept until it is undone or measured anew."""

    model: Sha256
    model_name: str
    correction: Correction
    """Where it is empty nothing was changed."""
    before: dict[NodeId, Calibration]
    """What was known of these nodes with this model until then."""
    after: dict[NodeId, Calibration]
    links: Mapping[NodeId, tuple[str, ...]] = {}
    """Where nothing was changed because links are not what they were measured to be: clauses for "NAME ..."."""
    nodes: tuple[NodeId, ...] = ()
    """That computed in the run."""

    @property
    def suspects(self) -> tuple[NodeId, ...]:
        """Nodes to measure anew, themselves and their links, for who does not trust this; () where all is as
        predicted, or the run says nothing of it."""
        unexplained = self.nodes if self.correction.reason == "unexplained" else ()
        return tuple(self.after) or tuple(self.links) or unexplained


class Truth(QObject):
    """GUI thread. Watches the deployment of a bridge; ``changed`` tells that the comparison is another now."""

    changed = Signal()
    recalibrated = Signal(object)
    """Recalibrated, or None when it was undone."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__(bridge)
        self._bridge = bridge
        self._observer: Observer | None = None
        self._limits: dict[NodeId, object] = {}
        self._compiled: CompiledPlan | None = None
        self._in_flight = 0
        """Micro-batches of each replica that are under way in the run; 0: there was none."""
        self._own: Prediction | None = None
        """Of the deployed shards as they are: where that is not what the plan is predicted with, or after a
        recalibration, which would divide layers anew."""
        self._asked: object = None
        """What that was worked out with, or is."""
        self._pace: float | None = None
        """By which the plan was predicted faster than its shards played, at the recalibration; None: there was none."""
        self._correcting: object | None = None
        self._known: dict[tuple[NodeId, Sha256], Calibration] = {}
        self._saving = self._unsaved = False
        self.comparison: Comparison | None = None
        """Of the deployed plan, while it was run at least once; None: nothing was measured."""
        self.observations: dict[NodeId, Observation] = {}
        self.last: Recalibrated | None = None
        self._look = QTimer(self)
        self._look.setInterval(LOOK_MS)
        self._look.timeout.connect(self._compare)
        bridge.tasks.start(calibrations.load_calibrations, self._loaded)
        bridge.telemetryArrived.connect(self._take)
        bridge.planCompiled.connect(self._take_plan)
        bridge.deployed.connect(lambda _deployment: self._watch())
        bridge.released.connect(self._watch)
        bridge.runStarted.connect(self._begin)
        bridge.runFinished.connect(lambda _report: self._end())
        bridge.runFailed.connect(lambda _message: self._end())
        bridge.nodeChanged.connect(self._node_changed)
        bridge.nodesChanged.connect(lambda *_: bridge.priceMessages())
        bridge.predictionChanged.connect(lambda _prediction: self._predicted_anew())

    # ------------------------------------------------------------ what is seen

    def _take_plan(self, compiled: CompiledPlan) -> None:
        self._compiled = compiled

    def _watch(self) -> None:
        """Another deployment, or none."""
        deployment = self._bridge.deployment
        machines = machines_of(self._bridge.nodes)
        self._observer = Observer(deployment.plan, deployment.id, machines) if deployment is not None else None
        nodes = deployment.plan.request.nodes if deployment is not None else ()
        self._limits = {node: self._limit(node) for node in nodes}
        self.comparison, self.observations = None, {}
        self._in_flight, self._correcting = 0, None
        self._own = self._asked = self._pace = None
        self.changed.emit()

    def _limit(self, node_id: str) -> object:
        node = self._bridge.node(node_id)
        return (node.info.cpu_limit, node.info.link_limit) if node is not None and node.info is not None else None

    def _node_changed(self, node_id: str) -> None:
        """What was seen before a node was slowed on purpose says nothing any more."""
        node = NodeId(node_id)
        if node in self._limits and self._limit(node) not in {None, self._limits[node]}:
            running = self._look.isActive()
            self._watch()
            if running:
                self._look.start()

    def _begin(self) -> None:
        if self._observer is not None:
            self._observer.start()
        self.comparison, self.observations = None, {}
        self._in_flight, self._correcting = self._under_way(self._bridge.in_flight), None
        self._predict_run()
        self._look.start()
        self.changed.emit()

    def _take(self, node_id: str, telemetry: Telemetry) -> None:
        if self._observer is not None and self._look.isActive():
            self._observer.take(NodeId(node_id), telemetry)

    def _end(self) -> None:
        self._compare()
        self._look.stop()

    def _compare(self) -> None:
        bridge = self._bridge
        prediction = self.prediction
        if self._observer is None or prediction is None:
            return
        self.observations = self._observer.observations()
        rate = bridge.measured_throughput()
        if rate is None and not self.observations:
            return
        self.comparison = compare(prediction, self.observations, rate, self._latency())
        self.changed.emit()

    def _latency(self) -> float | None:
        report, progress = self._bridge.report, self._bridge.progress
        if report is not None:
            return report.latency_ms.p50 / 1e3
        return progress.latency_p50_ms / 1e3 if progress is not None and progress.latency_p50_ms > 0 else None

    # ------------------------------------------------------------ the run's own prediction

    @property
    def prediction(self) -> Prediction | None:
        """Of the deployed plan, with as many micro-batches under way as the run has."""
        told = self._bridge.deployed_prediction
        if told is None or (self._pace is None and self._in_flight in {0, told.in_flight}):
            return told
        return self._own

    def ran(self, in_flight: int | None = None) -> recalibrating.Ran | None:
        """What the deployed plan is predicted with for a run with so many micro-batches under way in each replica
        (None: as many as the runner allows by itself); None while its model is not open, or not timed."""
        bridge, compiled = self._bridge, self._compiled
        deployment, model, profile = bridge.deployment, bridge.model, bridge.profile
        if deployment is None or compiled is None or model is None or profile is None:
            return None
        if deployment.plan.model != model.sha256 or profile.batch != deployment.plan.request.micro_batch:
            return None
        speeds = bridge.speeds_of(deployment.plan.request)
        nodes, links = tuple(bridge.nodes), bridge.links
        told = bridge.deployed_prediction
        timed = told is not None and told.timed
        return recalibrating.Ran(model, compiled, profile, speeds, nodes, self._under_way(in_flight), links, timed)

    def _under_way(self, asked: int | None) -> int:
        deployment = self._bridge.deployment
        if asked is not None or deployment is None:
            return asked or 0
        memory = {node.id: node.info.memory_limit for node in self._bridge.nodes if node.info is not None}
        return default_in_flight(deployment.plan, memory)

    def _predict_run(self) -> None:
        """By a worker, where the plan is predicted with other numbers under way than the run has, or was divided by
        other speeds."""
        told, ran = self._bridge.deployed_prediction, self.ran(self._in_flight or None)
        if told is None or ran is None or (self._pace is None and told.in_flight == ran.in_flight):
            return
        asked = (tuple(ran.speeds.items()), ran.profile, ran.links, ran.in_flight, self._pace)
        if asked != self._asked:
            self._asked = asked
            self._bridge.tasks.start(partial(recalibrating.predict, ran), partial(self._run_predicted, ran))

    def _run_predicted(self, ran: recalibrating.Ran, prediction: Prediction) -> None:
        if ran.compiled is self._compiled and ran.in_flight == self._in_flight:
            self._own = recalibrating.at_pace(prediction, self._pace or 1.0)
            self._compare()

    def _predicted_anew(self) -> None:
        if self._in_flight:
            self._predict_run()
        self._compare()

    # ------------------------------------------------------------ recalibration

    def factor(self, node_id: NodeId) -> float:
        """Of the node's benchmarked speed, for the model that is open."""
        known = self.known().get(node_id)
        return known.factor if known is not None else 1.0

    def message_factor(self) -> float:
        """Of what messages cost, for the model that is open and the nodes that are here."""
        model = self._bridge.model
        here = {node.id for node in self._bridge.nodes}
        return message_factor(model.sha256, self._known.values(), here) if model is not None else 1.0

    def known(self) -> dict[NodeId, Calibration]:
        """What runs of the model that is open have shown, by node."""
        model = self._bridge.model
        if model is None:
            return {}
        return {node: one for (node, of), one in self._known.items() if of == model.sha256}

    @property
    def able(self) -> bool:
        """Whether there is a run to recalibrate by, of the model that is open."""
        rate = self._bridge.measured_throughput()
        return self._correcting is None and bool(self.observations) and bool(rate) and self.ran() is not None

    def recalibrate(self) -> None:
        """Have a worker find what the run shows of speeds and of messages; predictions then follow it. Ends in
        recalibrated."""
        told, ran, rate = self.prediction, self.ran(self._in_flight or None), self._bridge.measured_throughput()
        if not self.able or told is None or ran is None or rate is None:
            return
        token = self._correcting = object()
        self._bridge._activity("recalibrate", self.tr("Comparing the run with its prediction"))
        seen, told_nodes = dict(self.observations), tuple(node.node for node in told.nodes if node.compute_s > 0)
        self._bridge.tasks.start(
            partial(recalibrating.correct, ran, told, seen, rate, self._latency(), self._check_links(told_nodes)),
            partial(self._corrected, token, told_nodes, max(one.seconds for one in seen.values())),
            partial(self._not_corrected, token),
        )
        self.changed.emit()

    def _check_links(self, nodes: tuple[NodeId, ...]) -> Callable[[], Mapping[NodeId, tuple[str, ...]]] | None:
        """None while a run goes on: it would show in what links carry."""
        cluster = self._bridge.cluster
        return (
            partial(cluster.check_links, nodes)
            if cluster is not None and self._bridge.phase is Phase.DEPLOYED
            else None
        )

    def _not_corrected(self, token: object, error: ShardboardError) -> None:
        self._bridge._activity("recalibrate")
        if token is self._correcting:
            self._correcting = None
            self.changed.emit()
            self._bridge.errorRaised.emit(self.tr("The run was not compared"), error.message, error.hint)

    def _corrected(self, token: object, nodes: tuple[NodeId, ...], seconds: float, told: Corrected) -> None:
        self._bridge._activity("recalibrate")
        model = self._bridge.model
        if token is not self._correcting or model is None:
            return  # another plan was deployed, or run, meanwhile
        self._correcting, found = None, told.correction
        now = time.time()
        changed = {change.node: change.after / change.before for change in found.changes}
        ratios = dict.fromkeys(nodes, 1.0) | changed if found.messages != 1.0 else changed
        messages = self.message_factor() * found.messages
        after = {
            node: Calibration(node, model.sha256, self.factor(node) * ratio, now, seconds, messages)
            for node, ratio in ratios.items()
        }
        before = {node: one for node, one in self.known().items() if node in after}
        self.last = Recalibrated(model.sha256, model.name, found, before, after, told.links, nodes)
        if not found.empty:
            self._pace = told.pace
            self._known |= {(node, model.sha256): one for node, one in after.items()}
            self._keep()
        self._tell()

    def undo(self) -> None:
        """Speeds and messages as they were before the last recalibration."""
        last, self.last = self.last, None
        self._own = self._asked = self._pace = None
        if last is None:
            return
        for node in last.after:
            self._known.pop((node, last.model), None)
        self._known |= {(node, last.model): one for node, one in last.before.items()}
        self._keep()
        self._tell()

    def forget(self, nodes: tuple[NodeId, ...]) -> None:
        """What runs showed of these nodes is worth nothing any more: they are being measured anew."""
        gone = [key for key in self._known if key[0] in nodes]
        if self.last is not None and not set(self.last.suspects).isdisjoint(nodes):
            self.last = self._own = self._asked = self._pace = None
        if gone:
            for key in gone:
                del self._known[key]
            self._keep()
        self._tell()

    def reset(self) -> None:
        """Forget all that runs of the model that is open have shown."""
        for node, one in self.known().items():
            del self._known[node, one.model]
        self.last = self._own = self._asked = self._pace = None
        self._keep()
        self._tell()

    def _tell(self) -> None:
        self._bridge.priceMessages()
        self._bridge.speedsChanged.emit()
        self.recalibrated.emit(self.last)
        self._compare()

    def _loaded(self, known: tuple[Calibration, ...]) -> None:
        self._known = {(one.node, one.model): one for one in known} | self._known
        if known:
            self._bridge.priceMessages()
            self._bridge.speedsChanged.emit()
            self.recalibrated.emit(self.last)

    def _keep(self) -> None:
        """One write at a time; what changes meanwhile is written after it."""
        self._unsaved = True
        if not self._saving:
            self._save()

    def _save(self) -> None:
        self._saving, self._unsaved = True, False
        newest_last = sorted(self._known.values(), key=lambda one: one.when)
        self._bridge.tasks.start(
            partial(calibrations.save_calibrations, newest_last), lambda _none: self._saved(), self._not_saved
        )

    def _saved(self) -> None:
        self._saving = False
        if self._unsaved:
            self._save()

    def _not_saved(self, error: ShardboardError) -> None:
        self._saving = False
        self._bridge.errorRaised.emit(
            self.tr("The recalibration was not kept"), error.message, self.tr("It counts until the panel is closed.")
        )
