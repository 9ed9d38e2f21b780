"""Measured beside predicted, live, and the correction of speeds by what was measured."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Final

from msgspec import Struct
from PySide6.QtCore import QObject, QTimer, Signal

from core.cluster.machines import machines_of
from core.errors import ShardboardError
from core.plan.form import NodeId, Sha256
from core.run.calibration import Calibration, Change, changes_of
from core.run.comparing import Comparison, compare
from core.run.observing import Observation, Observer
from core.wire.messages import Telemetry
from gui import work

if TYPE_CHECKING:
    from gui.bridge import Bridge

LOOK_MS: Final = 500


class Recalibrated(Struct, frozen=True):
    """What the last recalibration did; kept until it is undone or measured anew."""

    model: Sha256
    model_name: str
    changes: tuple[Change, ...]
    before: dict[NodeId, Calibration]
    """What was known of these nodes with this model until then."""
    after: dict[NodeId, Calibration]


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
        self._known: dict[tuple[NodeId, Sha256], Calibration] = {}
        self._saving = self._unsaved = False
        self.comparison: Comparison | None = None
        """Of the deployed plan, while it was run at least once; None: nothing was measured."""
        self.observations: dict[NodeId, Observation] = {}
        self.last: Recalibrated | None = None
        self._look = QTimer(self)
        self._look.setInterval(LOOK_MS)
        self._look.timeout.connect(self._compare)
        bridge.tasks.start(work.load_calibrations, self._loaded)
        bridge.telemetryArrived.connect(self._take)
        bridge.deployed.connect(lambda _deployment: self._watch())
        bridge.released.connect(self._watch)
        bridge.runStarted.connect(self._begin)
        bridge.runFinished.connect(lambda _report: self._end())
        bridge.runFailed.connect(lambda _message: self._end())
        bridge.nodeChanged.connect(self._node_changed)
        bridge.predictionChanged.connect(lambda _prediction: self._compare())

    # ------------------------------------------------------------ what is seen

    def _watch(self) -> None:
        """Another deployment, or none."""
        deployment = self._bridge.deployment
        machines = machines_of(self._bridge.nodes)
        self._observer = Observer(deployment.plan, deployment.id, machines) if deployment is not None else None
        nodes = deployment.plan.request.nodes if deployment is not None else ()
        self._limits = {node: self._limit(node) for node in nodes}
        self.comparison, self.observations = None, {}
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
        prediction = bridge.deployed_prediction
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

    # ------------------------------------------------------------ recalibration

    def factor(self, node_id: NodeId) -> float:
        """Of the node's benchmarked speed, for the model that is open."""
        model = self._bridge.model
        known = self._known.get((node_id, model.sha256)) if model is not None else None
        return known.factor if known is not None else 1.0

    def changes(self) -> tuple[Change, ...]:
        """What a recalibration would do now; nothing while the deployed plan is of another model than is open."""
        bridge = self._bridge
        deployment, prediction = bridge.deployment, bridge.deployed_prediction
        if deployment is None or prediction is None or bridge.model is None:
            return ()
        if deployment.plan.model != bridge.model.sha256:
            return ()
        speeds = {node.node: bridge.speed_of(node.node) for node in prediction.nodes}
        return changes_of(prediction, self.observations, speeds)

    def recalibrate(self) -> None:
        """Take what was measured into the speeds of the nodes with this model; predictions follow at once."""
        changes, model = self.changes(), self._bridge.model
        if not changes or model is None:
            return
        now = time.time()
        after = {
            change.node: Calibration(
                node=change.node,
                model=model.sha256,
                factor=self.factor(change.node) * change.after / change.before,
                when=now,
                seconds=self.observations[change.node].seconds,
            )
            for change in changes
        }
        before = {node: known for node in after if (known := self._known.get((node, model.sha256))) is not None}
        self.last = Recalibrated(model.sha256, model.name, changes, before, after)
        self._known |= {(node, model.sha256): one for node, one in after.items()}
        self._keep()
        self._tell()

    def undo(self) -> None:
        """Speeds as they were before the last recalibration."""
        last, self.last = self.last, None
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
        if self.last is not None and set(self.last.after) & set(nodes):
            self.last = None
        if gone:
            for key in gone:
                del self._known[key]
            self._keep()
        self._tell()

    def _tell(self) -> None:
        self._bridge.speedsChanged.emit()
        self.recalibrated.emit(self.last)
        self._compare()

    def _loaded(self, known: tuple[Calibration, ...]) -> None:
        self._known = {(one.node, one.model): one for one in known} | self._known
        if known:
            self._bridge.speedsChanged.emit()

    def _keep(self) -> None:
        """One write at a time; what changes meanwhile is written after it."""
        self._unsaved = True
        if not self._saving:
            self._save()

    def _save(self) -> None:
        self._saving, self._unsaved = True, False
        newest_last = sorted(self._known.values(), key=lambda one: one.when)
        self._bridge.tasks.start(
            partial(work.save_calibrations, newest_last), lambda _none: self._saved(), self._not_saved
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
