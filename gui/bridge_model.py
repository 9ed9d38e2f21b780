"""The bridge's third part: the model, with its processing, and the time of its layers."""

from __future__ import annotations

import gc
import os
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Final

from msgspec import structs
from PySide6.QtCore import QObject, Signal

from core.cluster.machines import machines_of
from core.cost.links import WORKSTATION
from core.cost.moving import moving_seconds
from core.cost.profile_marks import ProfileMark
from core.cost.types import Profile
from core.errors import Cancelled, ShardboardError
from gui.bridge_measuring import MeasuringBridge
from gui.work import models

if TYPE_CHECKING:
    from core.model.graph import Model
    from core.model.library import LibraryEntry
    from core.model.processing import Processing

PROFILE_DELAY_MS: Final = 500


class ModelBridge(MeasuringBridge):
    """Opens and times models."""

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

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.base_model: Model | None = None
        """As in the file."""
        self.model: Model | None = None
        """As it will run: with its pre- and postprocessing."""
        self.entry: LibraryEntry | None = None
        self.processing: Processing | None = None
        self.profile: Profile | None = None
        self._timed: Profile | None = None
        """The same, as it was timed: without what messages, and cores side by side, cost this machine."""
        self.profile_mark: ProfileMark | None = None
        """Of a profile of the model that was interrupted."""
        self._looking = False
        """For such a mark: until it is known whether there is one nothing is timed."""
        self._opening = 0
        self._profiling: threading.Event | None = None
        self._profile_done = 0.0
        self._profiling_batch = 0
        self._profile_soon = self._timer(PROFILE_DELAY_MS, self._profile_if_unknown)
        self.costs.changed.connect(self.priceMessages)
        self.measurementsChanged.connect(self.priceMessages)
        self.nodesChanged.connect(self._want_together)

    def openModel(self, text: str) -> None:
        """Open a file path or a library key. Ends in modelOpened or modelFailed; the newest call wins."""
        self._opening += 1
        self.modelOpening.emit(text)
        self._activity("model", self.tr("Opening {0}").format(text.rsplit("/", 1)[-1]))
        token = self._opening
        progress = partial(self._report_share, "model", self.tr("Building {0}").format(text))
        self.tasks.start(
            partial(models.open_model, text, progress),
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
            partial(models.process_model, self.base_model, self.entry, processing, remember=True),
            partial(self._model_opened, self._opening),
            partial(self._model_failed, self._opening),
        )

    def _model_opened(self, token: int, opened: models.Opened) -> None:
        if token != self._opening:
            return
        self._activity("model")
        same = self.base_model is opened.base
        replaced = self.base_model is not None and not same
        self.base_model, self.model, self.entry = opened.base, opened.model, opened.entry
        self.processing = opened.processing
        self.profile = self._timed = None
        self._begin_anew(opened.model, same=same)
        self.modelOpened.emit(self.model, self.entry)
        self.processingChanged.emit(self.processing)
        self._tell_anew()
        _settle_garbage(replaced=replaced)
        self._look_for_profile()

    def _begin_anew(self, model: Model, *, same: bool) -> None:
        """What was asked for and foretold is of another model now; ``same``: only its processing changed."""

    def _tell_anew(self) -> None:
        """Who listens knows of the model."""

    def _predict(self) -> None:
        """What predictions rest on is another now."""

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
        self._looking = True
        self.tasks.start(
            partial(models.interrupted_profile, model, batch),
            partial(self._looked_for_profile, model),
            self._not_looked_for_profile,
        )

    def _not_looked_for_profile(self, error: ShardboardError) -> None:
        self._looking = False
        self._failed(self.tr("The model could not be timed"), error, key="profile")

    def _looked_for_profile(self, model: Model, mark: ProfileMark | None) -> None:
        if model is not self.model:
            return
        self._looking = False
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
        if self._looking:
            return
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
            partial(models.profile_model, model, batch, partial(self._profile_share, cancel), cancel),
            partial(self._profiled, cancel),
            partial(self._profile_failed, cancel),
        )

    def micro_batch(self) -> int | None:
        """Items per micro-batch that predictions are made for."""
        return models.default_micro_batch(self.model) if self.model is not None else None

    def _profile_share(self, cancel: threading.Event, share: float) -> None:
        """Worker thread."""
        if not cancel.is_set():
            self.tasks.post(partial(self._show_profile_share, cancel, share))

    def _show_profile_share(self, cancel: threading.Event, share: float) -> None:
        if cancel is self._profiling and self.model is not None:
            self._activity("profile", self.tr("Timing the layers of {0}").format(self.model.name), share)
            self._profile_done = share
            self.profileProgress.emit(share)

    def _profiled(self, cancel: threading.Event, timed: models.Timed) -> None:
        if cancel is not self._profiling:
            return
        self._profiling = None
        self._activity("profile")
        self._timed = timed.profile
        self.profile = self._with_costs(timed.profile)
        self._want_together()
        self._show_mark(None)
        self.set_mix(timed.mix)
        self.profileReady.emit(self.profile)
        self._predict()

    def _with_costs(self, profile: Profile) -> Profile:
        costs = profile.messages if self.costs.messages is None else self.costs.messages
        return structs.replace(
            profile,
            messages=costs.scaled(self.message_factor()),
            together=self.costs.together(),
            moving_s=moving_seconds(self.measurements.benchmarks.get(WORKSTATION)),
        )

    def _want_together(self) -> None:
        """Have it measured what the cores take from each other, for as many agents as run here."""
        if self.model is not None and self._timed is not None:
            here = sum(machine.here for machine in machines_of(self.nodes).values())
            self.costs.want(self.model, self._timed.batch, here)
            self.priceMessages()

    def message_factor(self) -> float:
        """What runs of the model that is open have shown of its messages: their cost against what was measured."""
        return 1.0

    def priceMessages(self) -> None:
        """Predictions follow where messages, cores side by side, or moving values cost something else now."""
        profile = self._with_costs(self._timed) if self._timed is not None else None
        if profile is not None and profile != self.profile:
            self.profile = profile
            self.profileReady.emit(profile)
            self._predict()

    def _profile_failed(self, cancel: threading.Event, error: ShardboardError) -> None:
        if cancel is not self._profiling or isinstance(error, Cancelled):
            return
        self._profiling = None
        self._activity("profile")
        self.profileFailed.emit(str(error))
        self.errorRaised.emit(self.tr("The model could not be timed"), error.message, error.hint)


def _settle_garbage(*, replaced: bool) -> None:
    """Keep the collector from walking through the new model's graph again and again, which stops the window for 50 ms.

    The model before it is full of cycles and is thrown away once, here.
    """
    if replaced:
        gc.unfreeze()
        gc.collect()
    gc.freeze()
