"""The bridge's second part: the model, its profile, the plan asked for and what it would reach."""

from __future__ import annotations

import gc
import os
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Final

from msgspec import structs
from PySide6.QtCore import QObject, Signal

from core.cost.profile_marks import ProfileMark
from core.cost.types import Prediction, Profile
from core.errors import Cancelled, ShardboardError
from core.plan.form import NodeId, PlanRequest
from gui import work
from gui.bridge_nodes import NodesBridge
from gui.outlines import Outlines, Worked
from gui.partition_state import QUICK

if TYPE_CHECKING:
    from core.cost.messages import MessageCosts
    from core.model.graph import Model
    from core.model.library import LibraryEntry
    from core.model.processing import Processing
    from core.plan.compile import CompiledPlan
    from core.plan.division import Division

PROFILE_DELAY_MS: Final = 500


class PlanBridge(NodesBridge):
    """Opens and times models, keeps the request, predicts."""

    modelOpening = Signal(str)
    modelOpened = Signal(object, object)
    """(Model as it will run, LibraryEntry or None); again after the processing changed."""
    modelFailed = Signal(str)
    processingChanged = Signal(object)
    profileReady = Signal(object)
    profileProgress = Signal(float)
    profileFailed = Signal(str)
    profileInterrupted = Signal(object)
    """ProfileMark of a measurement that never came to its end, or None: there is none, or it is measured again."""

    requestChanged = Signal()
    predictionChanged = Signal(object)
    """Prediction, or None while there is none."""
    planCompiled = Signal(object)
    planFailed = Signal(str)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.base_model: Model | None = None
        """As in the file."""
        self.model: Model | None = None
        """As it will run: with its pre- and postprocessing."""
        self.entry: LibraryEntry | None = None
        self.processing: Processing | None = None
        self.profile: Profile | None = None
        self.profile_mark: ProfileMark | None = None
        """Of a profile of the model that was interrupted."""
        self.request: PlanRequest | None = None
        self.prediction: Prediction | None = None
        self.deployed_prediction: Prediction | None = None
        """Of the plan that is deployed, whatever is asked for meanwhile."""
        self.deployed_request: PlanRequest | None = None
        """As it was asked for; the plan's own has cuts and the like filled in."""
        self.deployed_division: Division | None = None
        self.prediction_problem: str = ""
        """Why there is no prediction, in words; "" when there is one or nothing to predict."""
        self.compiled: CompiledPlan | None = None
        self._opening = 0
        self._profiling: threading.Event | None = None
        self._profile_done = 0.0
        self._profiling_batch = 0
        self._profile_soon = self._timer(PROFILE_DELAY_MS, self._profile_if_unknown)
        self.outlines = Outlines(self.tasks, self)
        self.outlines.changed.connect(self._predict)
        self.speedsChanged.connect(self._predict)

    # ------------------------------------------------------------ model

    def openModel(self, text: str) -> None:
        """Open a file path or a library key. Ends in modelOpened or modelFailed; the newest call wins."""
        self._opening += 1
        self.modelOpening.emit(text)
        self._activity("model", self.tr("Opening {0}").format(text.rsplit("/", 1)[-1]))
        token = self._opening
        progress = partial(self._report_share, "model", self.tr("Building {0}").format(text))
        self.tasks.start(
            partial(work.open_model, text, progress),
            partial(self._model_opened, token),
            partial(self._model_failed, token),
        )

    def setProcessing(self, processing: Processing) -> None:
        """Choose pre- and postprocessing; it is remembered for the model and compiled into its shards."""
        if self.base_model is None:
            return
        self._opening += 1
        self._activity("model", self.tr("Adding the processing to the model"))
        self.tasks.start(
            partial(work.process_model, self.base_model, self.entry, processing, remember=True),
            partial(self._model_opened, self._opening),
            partial(self._model_failed, self._opening),
        )

    def _model_opened(self, token: int, opened: work.Opened) -> None:
        if token != self._opening:
            return
        self._activity("model")
        same = self.base_model is opened.base
        replaced = self.base_model is not None and not same
        self.base_model, self.model, self.entry = opened.base, opened.model, opened.entry
        self.processing = opened.processing
        self.profile = None
        self.prediction = None
        self.compiled = None
        self.request = self._request_for(opened.model, self.request if same else None)
        self.modelOpened.emit(self.model, self.entry)
        self.processingChanged.emit(self.processing)
        self.requestChanged.emit()
        self.predictionChanged.emit(None)
        _settle_garbage(replaced=replaced)
        self._look_for_profile()

    def _request_for(self, model: Model, before: PlanRequest | None) -> PlanRequest | None:
        """The request kept over a change of processing: layers were added, so cuts are chosen anew."""
        if before is None:
            return None
        micro_batch = model.fixed_batch or before.micro_batch
        return structs.replace(before, micro_batch=micro_batch, cuts=None)

    def _model_failed(self, token: int, error: ShardboardError) -> None:
        if token != self._opening:
            return
        self._activity("model")
        self.modelFailed.emit(str(error))
        self.errorRaised.emit(self.tr("The model cannot be opened"), error.message, error.hint)

    def _look_for_profile(self) -> None:
        """Time the layers; but where an earlier session broke that off, a person decides whether to try again."""
        if self._profiling is not None:
            self._profiling.set()
            self._profiling = None
            self._activity("profile")
        model, batch = self.model, self.micro_batch()
        self._show_mark(None)
        if model is None or batch is None:
            return
        self.tasks.start(
            partial(work.interrupted_profile, model, batch),
            partial(self._looked_for_profile, model),
            partial(self._failed, self.tr("The model could not be timed"), key="profile"),
        )

    def _looked_for_profile(self, model: Model, mark: ProfileMark | None) -> None:
        if model is not self.model:
            return
        if mark is None or mark.process == os.getpid():
            self._profile_if_unknown()
        self._show_mark(mark)

    def _show_mark(self, mark: ProfileMark | None) -> None:
        if mark is not self.profile_mark:
            self.profile_mark = mark
            self.profileInterrupted.emit(mark)

    def measureProfile(self) -> None:
        """Time the layers of the model, again where that was interrupted. Ends in profileReady or profileFailed."""
        self._show_mark(None)
        self._start_profile()

    def cancelProfile(self) -> None:
        """Stop timing the layers; what is known stays."""
        model, batch = self.model, self.micro_batch()
        if self._profiling is None or model is None or batch is None:
            return
        self._profiling.set()
        self._profiling = None
        self._activity("profile")
        self._show_mark(ProfileMark(model.sha256, batch, os.getpid(), time.time(), self._profile_done))

    @property
    def profiling(self) -> bool:
        """Whether the layers are being timed."""
        return self._profiling is not None

    def _profile_if_unknown(self) -> None:
        """What is known, under way, or left to a person is not timed again."""
        batch = self.micro_batch()
        known = self.profile is not None and self.profile.batch == batch
        marked = self.profile_mark is not None and self.profile_mark.batch == batch
        if not (known or marked or (self.profiling and self._profiling_batch == batch)):
            self._start_profile()

    def _start_profile(self) -> None:
        if self.model is None:
            return
        if self._profiling is not None:
            self._profiling.set()
        self._profile_done = 0.0
        cancel = self._profiling = threading.Event()
        model, batch = self.model, self.micro_batch()
        if batch is None:
            return
        self._profiling_batch = batch
        self._activity("profile", self.tr("Timing the layers of {0}").format(model.name), 0.0)
        self.tasks.start(
            partial(work.profile_model, model, batch, partial(self._profile_share, cancel), cancel),
            partial(self._profiled, cancel),
            partial(self._profile_failed, cancel),
        )

    def micro_batch(self) -> int | None:
        """Items per micro-batch that predictions are made for."""
        if self.model is None:
            return None
        if self.request is not None:
            return self.request.micro_batch
        return work.default_micro_batch(self.model)

    def _profile_share(self, cancel: threading.Event, share: float) -> None:
        """Worker thread."""
        if not cancel.is_set():
            self.tasks.post(partial(self._show_profile_share, cancel, share))

    def _show_profile_share(self, cancel: threading.Event, share: float) -> None:
        if cancel is self._profiling and self.model is not None:
            self._activity("profile", self.tr("Timing the layers of {0}").format(self.model.name), share)
            self._profile_done = share
            self.profileProgress.emit(share)

    def _profiled(self, cancel: threading.Event, timed: work.Timed) -> None:
        if cancel is not self._profiling:
            return
        self._profiling = None
        self._activity("profile")
        self.profile = self._with_messages(timed.profile)
        self._show_mark(None)
        self.set_mix(timed.mix)
        self.profileReady.emit(self.profile)
        self._predict()

    def _with_messages(self, profile: Profile) -> Profile:
        return profile if self.messages is None else structs.replace(profile, messages=self.messages)

    def _messages_measured(self, costs: MessageCosts) -> None:
        super()._messages_measured(costs)
        if self.profile is not None and self.profile.messages != costs:
            self.profile = self._with_messages(self.profile)
            self.profileReady.emit(self.profile)
            self._predict()

    def _profile_failed(self, cancel: threading.Event, error: ShardboardError) -> None:
        if cancel is not self._profiling or isinstance(error, Cancelled):
            return
        self._profiling = None
        self._activity("profile")
        self.profileFailed.emit(str(error))
        self.errorRaised.emit(self.tr("The model could not be timed"), error.message, error.hint)

    # ------------------------------------------------------------ plan

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

    def predict(self, request: PlanRequest) -> Prediction | None:
        """What ``request`` would reach; None while that is not known yet, or where the request makes no sense."""
        if self.model is None or self.profile is None or self.profile.batch != request.micro_batch:
            return None
        if request.strategy not in QUICK:
            worked = self.outlines.known(request, self.speeds_of(request))
            self.prediction_problem = worked.problem if worked is not None else ""
            return worked.prediction if worked is not None else None
        try:
            return work.predict(self.profile, self.model, request, self.speeds_of(request), self.nodes, self.links)
        except ShardboardError as error:
            self.prediction_problem = str(error)
            return None

    def work_out(self, who: str, request: PlanRequest | None) -> Worked | None:
        """Have a worker work ``request`` out, in place of what ``who`` wanted before. What is known of it by now;
        ``outlines.changed`` tells when there is more."""
        timed = request is not None and self.profile is not None and self.profile.batch == request.micro_batch
        self.outlines.about(self.model, self.profile, tuple(self.nodes), self.links)
        return self.outlines.want(who, request if timed else None, self.speeds_of(request) if request else {})

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
        if self.deployment is not None and self.deployed_request is not None:
            self.deployed_prediction = self.predict(self.deployed_request) or self.deployed_prediction


def _settle_garbage(*, replaced: bool) -> None:
    """Keep the collector from walking through the new model's graph again and again, which stops the window for 50 ms.

    The model before it is full of cycles and is thrown away once, here.
    """
    if replaced:
        gc.unfreeze()
        gc.collect()
    gc.freeze()
