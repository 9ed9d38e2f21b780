"""The bridge's fourth part: the plan asked for and what it would reach."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from msgspec import structs
from PySide6.QtCore import QObject, Signal

from core.cost.types import Prediction
from core.errors import ShardboardError
from core.plan.form import NodeId, PlanRequest
from gui.bridge_measuring import AT_WORK
from gui.bridge_model import ModelBridge
from gui.bridge_nodes import Phase
from gui.outlines import Outlines, Worked
from gui.partition_state import QUICK
from gui.timings import Timings
from gui.work import predicting

if TYPE_CHECKING:
    from core.model.graph import Model
    from core.plan.compile import CompiledPlan
    from core.plan.division import Division


class PlanBridge(ModelBridge):
    """Keeps the request, predicts."""

    requestChanged = Signal()
    predictionChanged = Signal(object)
    """Prediction, or None while there is none."""
    planCompiled = Signal(object)
    planFailed = Signal(str)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.request: PlanRequest | None = None
        self.prediction: Prediction | None = None
        self.deployed_prediction: Prediction | None = None
        """Of the plan that is deployed, whatever is asked for meanwhile."""
        self.deployed_request: PlanRequest | None = None
        """As it was asked for; the plan's own has cuts and the like filled in."""
        self.deployed_division: Division | None = None
        self._deployed_basis: bool | None = None
        """Whether shards that were timed count for it: once it ran, later knowledge is none of a prediction's."""
        self.prediction_problem: str = ""
        """Why there is no prediction, in words; "" when there is one or nothing to predict."""
        self.compiled: CompiledPlan | None = None
        self.outlines = Outlines(self.tasks, self)
        self.outlines.changed.connect(self._predict)
        self.timings = Timings(self.tasks, self._cannot_time, self)
        self.timings.changed.connect(self._predict)
        self.busy_elsewhere: list[Callable[[], bool]] = []
        """Pages say here that they have something worked out in the background."""
        self.speedsChanged.connect(self._predict)

    def _begin_anew(self, model: Model, *, same: bool) -> None:
        self.prediction = None
        self.compiled = None
        self.request = self._request_for(model, self.request if same else None)

    def _tell_anew(self) -> None:
        self.requestChanged.emit()
        self.predictionChanged.emit(None)

    def micro_batch(self) -> int | None:
        """Items per micro-batch that predictions are made for."""
        return (
            self.request.micro_batch if self.model is not None and self.request is not None else super().micro_batch()
        )

    def _request_for(self, model: Model, before: PlanRequest | None) -> PlanRequest | None:
        """The request kept over a change of processing: layers were added, so cuts are chosen anew."""
        if before is None:
            return None
        micro_batch = model.fixed_batch or before.micro_batch
        return structs.replace(before, micro_batch=micro_batch, cuts=None)

    def setRequest(self, request: PlanRequest) -> None:
        """Ask for a plan; predictions follow at once, the plan is compiled at deployment."""
        if request == self.request:
            return
        self.request = request
        self.compiled = None
        self.requestChanged.emit()
        if self.profile is None or self.profile.batch != request.micro_batch:
            self._profile_soon.start()
        self._predict()

    def predict(self, request: PlanRequest, *, timed: bool | None = None) -> Prediction | None:
        """What ``request`` would reach; None while that is not known yet, or where the request makes no sense.

        ``timed``: by what its shards take; False: by sums over the layers; None: by what its shards take where they
        were timed.
        """
        if self.model is None or self.profile is None or self.profile.batch != request.micro_batch:
            return None
        if timed is not False:
            self.timings.about(self.model, self.profile, tuple(self.nodes), self.links)
            known = self.timings.known(request, self.speeds_of(request))
            if known is not None or timed:
                self.prediction_problem = ""
                return known
        if request.strategy not in QUICK:
            worked = self.outlines.known(request, self.speeds_of(request))
            self.prediction_problem = worked.problem if worked is not None else ""
            return worked.prediction if worked is not None else None
        try:
            order = predicting.PlanOrder(
                self.model, self.profile, request, self.speeds_of(request), self.nodes, self.links
            )
            return predicting.predict(order)
        except ShardboardError as error:
            self.prediction_problem = str(error)
            return None

    def work_out(self, who: str, request: PlanRequest | None, *, urgent: bool = True) -> Worked | None:
        """Have a worker work ``request`` out, in place of what ``who`` wanted before. What is known of it by now;
        ``outlines.changed`` tells when there is more. ``urgent``: somebody looks at it, or drags it."""
        timed = request is not None and self.profile is not None and self.profile.batch == request.micro_batch
        self.outlines.about(self.model, self.profile, tuple(self.nodes), self.links)
        speeds = self.speeds_of(request) if request else {}
        return self.outlines.want(who, request if timed else None, speeds, urgent=urgent)

    def have_timed(self, who: str, request: PlanRequest | None, *, urgent: bool = False) -> None:
        """Have the shards of ``request`` timed, in place of what ``who`` wanted before; ``timings.changed`` tells when
        that is done. ``urgent``: somebody looks at it."""
        fits = request is not None and self.profile is not None and self.profile.batch == request.micro_batch
        self.timings.about(self.model, self.profile, tuple(self.nodes), self.links)
        speeds = self.speeds_of(request) if request is not None else {}
        self.timings.want(who, request if fits else None, speeds, urgent=urgent)

    def _cannot_time(self, urgent: bool) -> bool:
        """What else goes on would disturb it, or comes first."""
        if self.phase in AT_WORK or self.profiling or self.costs.busy:
            return True
        if self.cluster is not None and self.cluster.measuring:
            return True
        return not urgent and (self.outlines.busy or any(busy() for busy in self.busy_elsewhere))

    def _give_way(self, phase: Phase) -> None:
        super()._give_way(phase)
        if phase in AT_WORK:
            self.timings.pause()

    def measureNodes(self, nodes: Sequence[NodeId] = ()) -> None:
        self.timings.pause()
        super().measureNodes(nodes)

    def _would_disturb(self) -> bool:
        return super()._would_disturb() or self.outlines.busy or self.timings.busy or self.timings.running

    @property
    def settled(self) -> bool:
        """Nothing is under way that would make predictions of what is on the screen others."""
        return not (self.profiling or self.outlines.busy or self.timings.busy) and self.costs.settled

    def speeds_of(self, request: PlanRequest) -> dict[NodeId, float]:
        """Of the request's nodes."""
        return {node: self.speed_of(node) for node in request.nodes}

    def _predict(self) -> None:
        self._predict_deployed()
        self.prediction_problem = ""
        self.prediction = self.predict(self.request) if self.request is not None else None
        self.predictionChanged.emit(self.prediction)

    def _predict_deployed(self) -> None:
        """What is known of the deployed plan stays known when it is forgotten elsewhere."""
        request, deployment = self.deployed_request, self.deployment
        if deployment is None or request is None or self.model is None or deployment.plan.model != self.model.sha256:
            self.have_timed("deployed", None)
            return
        self.have_timed("deployed", request if self._deployed_basis is not False else None, urgent=True)
        self.deployed_prediction = self.predict(request, timed=self._deployed_basis) or self.deployed_prediction
