"""The one object between the pages and :mod:`core`.

Lives on the GUI thread and never waits there: cluster events arrive on the cluster's thread and hop over as queued
calls; models are opened, profiled, compiled, deployed and run on worker threads (:mod:`gui.work`), each with an event
that cancels it. Pages read the attributes, call the methods and listen to the signals; they never touch the cluster.

It is written in layers, one a file: nodes (:mod:`gui.bridge_nodes`), what is measured of them
(:mod:`gui.bridge_measuring`), the model (:mod:`gui.bridge_model`), the plan (:mod:`gui.bridge_plan`), deployment and
runs (here).
"""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Final

from PySide6.QtCore import QEventLoop, QObject, QTimer, Signal

from core.cluster.node import NodeState
from core.errors import Cancelled, ShardboardError
from core.plan.form import NodeId, PlanRequest
from core.run.report import RunProgress, RunReport
from gui.bench import Bench
from gui.bridge_nodes import Phase
from gui.bridge_plan import PlanBridge
from gui.partition_state import QUICK
from gui.shard_words import shards_words
from gui.truth import Truth
from gui.work import closing, deploying, running

if TYPE_CHECKING:
    from core.cluster.client import Cluster
    from core.cluster.deployment import Deployment
    from core.cluster.local import LocalAgents
    from core.model.graph import Model
    from core.plan.compile import CompiledPlan
    from core.plan.verify import Verification

CLOSE_SECONDS: Final = 15.0

__all__ = ["Bridge", "Phase"]


class Bridge(PlanBridge):
    """State and actions of the panel. Every method and attribute belongs to the GUI thread."""

    deployProgress = Signal(object)
    deployed = Signal(object)
    deployFailed = Signal(str)
    released = Signal()

    runStarted = Signal()
    runProgress = Signal(object)
    resultsArrived = Signal(object)
    runFinished = Signal(object)
    runFailed = Signal(str)
    historyChanged = Signal()

    planWanted = Signal(object)
    """PlanRequest that a person wants to see on the Partition page, from elsewhere."""
    rerunRequested = Signal(object)
    """RunReport that a person wants to run again; pages take their settings from it."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.verification: Verification | None = None
        self.progress: RunProgress | None = None
        self.report: RunReport | None = None
        """Of the last run; None while one goes on."""
        self.in_flight: int | None = None
        """Micro-batches at a time per replica of the last run, where that was asked for."""
        self._deploying: threading.Event | None = None
        self._running: threading.Event | None = None
        self._draining: threading.Event | None = None
        self.truth = Truth(self)
        """Measured beside predicted."""
        self.speedsChanged.connect(self._work_out_deployed)
        self.bench = Bench(self)
        """Every strategy, predicted beside measured."""

    def _forget_calibrations(self, nodes: tuple[NodeId, ...]) -> None:
        self.truth.forget(nodes)

    def speed_of(self, node_id: str) -> float:
        """As measured, and corrected by what runs of the model that is open have shown."""
        return super().speed_of(node_id) * self.truth.factor(NodeId(node_id))

    def message_factor(self) -> float:
        return self.truth.message_factor()

    # ------------------------------------------------------------ deployment

    def deploy(self) -> None:
        """Compile the request, ship weights, load shards, verify. Ends in deployed, planFailed or deployFailed."""
        if self.cluster is None or self.model is None or self.request is None:
            self.errorRaised.emit(
                self.tr("Nothing to deploy"),
                self.tr("A plan needs a model and nodes."),
                self.tr("Open a model and choose a partition first."),
            )
            return
        if self.phase not in {Phase.IDLE, Phase.DEPLOYED}:
            return
        old, self.deployment = self.deployment, None
        self.deployed_request, self.deployed_division = self.request, None
        self._deploying = threading.Event()
        self._set_phase(Phase.DEPLOYING)
        self._activity("deploy", self.tr("Deploying"))
        steps = deploying.DeploySteps(
            compiled=lambda plan: self.tasks.post(partial(self._compiled, plan)),
            progress=lambda progress: self.tasks.post(partial(self.deployProgress.emit, progress)),
        )
        self.tasks.start(
            partial(deploying.deploy, self.cluster, self._order(self.model, self.request), old, steps, self._deploying),
            self._deployed,
            self._deploy_failed,
        )

    def _order(self, model: Model, request: PlanRequest) -> deploying.DeployOrder:
        profile = self.profile if self.profile is not None and self.profile.batch == request.micro_batch else None
        return deploying.DeployOrder(model, request, profile, self.speeds_of(request), tuple(self.nodes), self.links)

    def _compiled(self, compiled: CompiledPlan) -> None:
        self.compiled = compiled
        self.deployed_division = compiled.outline.division
        self.planCompiled.emit(compiled)

    def _deployed(self, result: deploying.Deployed) -> None:
        self._activity("deploy")
        self.deployment = result.deployment
        self.deployed_prediction = self._deployed_basis = None
        self._work_out_deployed()
        self._predict_deployed()
        self.verification = result.verification
        self.progress = self.report = None
        self._set_phase(Phase.DEPLOYED)
        self.deployed.emit(result.deployment)

    def _work_out_deployed(self) -> None:
        """What divides layers is predicted by a worker; anew when speeds are others."""
        request = self.deployed_request
        if self.deployment is not None and request is not None and request.strategy not in QUICK:
            self.work_out("deployed", request)

    def _deploy_failed(self, error: ShardboardError) -> None:
        self._activity("deploy")
        self._set_phase(Phase.IDLE)
        if self.compiled is None and not isinstance(error, Cancelled):
            self.planFailed.emit(str(error))
        self.deployFailed.emit(str(error))
        if not isinstance(error, Cancelled):
            self.errorRaised.emit(self.tr("The plan was not deployed"), error.message, error.hint)

    def release(self) -> None:
        """Free the nodes. Ends in released."""
        if self.phase is Phase.DEPLOYING and self._deploying is not None:
            self._deploying.set()
            return
        if self.deployment is None or self.phase is not Phase.DEPLOYED:
            return
        deployment, self.deployment = self.deployment, None
        self._set_phase(Phase.RELEASING)
        self.tasks.start(deployment.close, lambda _none: self._released(), lambda _error: self._released())

    def _released(self) -> None:
        self._set_phase(Phase.IDLE)
        self.released.emit()
        self._measure_soon.start()

    # ------------------------------------------------------------ runs

    def run(
        self,
        spec: str,
        repeat: int = 1,
        in_flight: int | None = None,
        sink: str = "",
        *,
        seconds: float | None = None,
    ) -> None:
        """Run inputs through the deployment. Ends in runFinished or runFailed.

        Args:
            spec: as ``--input``: a file, a folder, "random:N".
            repeat: times to go through the inputs.
            in_flight: micro-batches at a time per replica; None: chosen by the runner.
            sink: "" for the panel only, or a path ending in .npz or .csv.
            seconds: go through the inputs until that many seconds have passed, whatever ``repeat`` says.
        """
        if self.deployment is None or self.model is None or self.phase is not Phase.DEPLOYED:
            self.errorRaised.emit(
                self.tr("Nothing is deployed"),
                self.tr("A run needs a deployed plan."),
                self.tr("Choose a partition and press Deploy."),
            )
            return
        cancel, drain = self._running, self._draining = threading.Event(), threading.Event()
        order = running.RunOrder(
            spec=spec,
            repeat=repeat,
            in_flight=in_flight,
            sink=sink,
            seconds=seconds,
            verification=self.verification,
            prediction=self.deployed_prediction,
            names={n.id: n.name for n in self.nodes},
            ran=self.truth.ran(in_flight),
        )
        steps = running.RunSteps(
            progress=lambda progress: self.tasks.post(partial(self._run_progress, progress)),
            results=lambda results: self.tasks.post(partial(self.resultsArrived.emit, results)),
        )
        self.progress = None
        self.report = None
        self.in_flight = in_flight
        self._deployed_basis = self.deployed_prediction.timed if self.deployed_prediction is not None else None
        self._set_phase(Phase.RUNNING)
        self.runStarted.emit()
        self.tasks.start(
            partial(running.run, self.deployment, self.model, self.entry, order, steps, drain, cancel),
            self._run_finished,
            self._run_failed,
        )

    def measured_throughput(self) -> float | None:
        """Items per second of the run that goes on, or of the last one of this deployment."""
        if self.report is not None:
            return self.report.throughput
        return self.progress.throughput if self.progress is not None else None

    def prediction_error(self) -> float | None:
        """(measured − predicted) / predicted throughput of the deployed plan."""
        measured, prediction = self.measured_throughput(), self.truth.prediction
        if measured is None or prediction is None or prediction.throughput <= 0:
            return None
        return measured / prediction.throughput - 1.0

    def _run_progress(self, progress: RunProgress) -> None:
        self.progress = progress
        self.runProgress.emit(progress)

    def stop(self) -> None:
        """Take no more inputs: the run ends with what is under way, and a report. Called again: drop what is under way.

        While deploying: give the deployment up.
        """
        if self.phase is Phase.RUNNING and self._draining is not None:
            self._set_phase(Phase.STOPPING)
            self._draining.set()
        elif self.phase is Phase.STOPPING and self._running is not None:
            self._running.set()
        elif self.phase is Phase.DEPLOYING and self._deploying is not None:
            self._deploying.set()
        elif self.phase is Phase.COMPARING:
            self.bench.cancel()

    def give_up_deployment(self) -> Deployment | None:
        """The deployment, to be closed by who asked; the panel knows of none any more."""
        old, self.deployment = self.deployment, None
        self.deployed_request = self.deployed_division = None
        if old is not None:
            self.released.emit()
        return old

    def _run_finished(self, report: RunReport) -> None:
        self.report = report
        self._set_phase(Phase.DEPLOYED)
        self.runFinished.emit(report)
        self.tasks.start(
            partial(running.save_run, report),
            lambda _id: self.historyChanged.emit(),
            partial(self._failed, self.tr("The run was not kept in the history")),
        )

    def _run_failed(self, error: ShardboardError) -> None:
        self.progress = None
        self._set_phase(Phase.DEPLOYED)
        self.runFailed.emit(str(error))
        if not isinstance(error, Cancelled):
            self.errorRaised.emit(self.tr("The run failed"), error.message, error.hint)

    def consequence(self, node_id: str) -> str:
        """What the loss of the node means for the deployment and the job, in words; "" when it means nothing."""
        deployment = self.deployment
        if deployment is None or not deployment.plan.on_node(NodeId(node_id)):
            return ""
        plan = deployment.plan
        lost = {n.id for n in self.nodes if n.state is NodeState.LOST}
        alive = [r for r in range(plan.replicas) if not any(s.node in lost for s in plan.shards if s.replica == r)]
        if plan.replicas == 1:
            parts = shards_words(plan.on_node(NodeId(node_id)))
            if self.phase is Phase.RUNNING:
                return self.tr("It ran {0} of the plan; the job cannot go on without it and ends.").format(parts)
            return self.tr("It held {0} of the plan. Deploy again on the nodes that are left.").format(parts)
        if not alive:
            return self.tr("No replica is left: the job ends. Deploy again on the nodes that are left.")
        return self.tr(
            "Its micro-batches go to the other replicas, nothing is lost; {0} of {1} replicas are left to do the work."
        ).format(len(alive), plan.replicas)

    # ------------------------------------------------------------ closing

    def close(self) -> None:
        """Stop what runs, release the nodes, close the cluster and end local agents; nothing is delivered after that.

        Keeps the window's events going meanwhile, and gives up waiting after CLOSE_SECONDS.
        """
        if self._closing:
            return
        self._closing = True
        self.way.end()
        self.costs.stop()
        self.timings.stop()
        for timer in (self._refresh, self._measure_soon, self._profile_soon):
            timer.stop()
        self.bench.cancel()
        self.cancelMeasuring()
        for cancel in (self._profiling, self._deploying, self._draining, self._running):
            if cancel is not None:
                cancel.set()
        done = threading.Event()
        loop = QEventLoop()
        self.tasks.submit(partial(closing.close_all, self._is_quiet, self._held, done, CLOSE_SECONDS))
        poll = QTimer()
        poll.setInterval(20)
        poll.timeout.connect(lambda: loop.quit() if done.is_set() else None)
        poll.start()
        QTimer.singleShot(int(CLOSE_SECONDS * 1000) + 2000, loop.quit)
        if not done.is_set():
            loop.exec(QEventLoop.ProcessEventsFlag.ExcludeUserInputEvents)
        poll.stop()
        self.tasks.close()

    def _held(self) -> tuple[Deployment | None, Cluster | None, tuple[LocalAgents, ...]]:
        """Any thread, once quiet."""
        return self.deployment, self.cluster, tuple(self._local)

    def _is_quiet(self) -> bool:
        """Any thread."""
        return (
            self.costs.idle
            and self.phase in {Phase.IDLE, Phase.DEPLOYED}
            and not self._activities.keys()
            & {
                "local",
                "cluster",
                "measure",
            }
        )
