"""Models: opened, with their processing, and their layers timed. Worker threads."""
# ruff: noqa: PLC0415 - onnx and onnxruntime are imported by the worker: the window is there a second earlier

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from core.cost.benchmark import Mix
    from core.cost.profile_marks import ProfileMark
    from core.cost.types import Profile
    from core.model.graph import Model
    from core.model.library import LibraryEntry
    from core.model.processing import Processing

DEFAULT_MICRO_BATCH: Final = 8


class Opened(NamedTuple):
    base: Model
    """As in the file."""
    model: Model
    """With its pre- and postprocessing."""
    entry: LibraryEntry | None
    processing: Processing


def open_model(text: str, progress: Callable[[float], None]) -> Opened:
    from core.model.library import remember_model, resolve_model
    from core.model.processing import default_processing, load_processing

    base, entry = resolve_model(text, progress)
    if entry is None and base.path is not None:
        remember_model(base.path)
    remembered = load_processing(base.sha256)
    processing = remembered or (entry.processing if entry else default_processing(base))
    return process_model(base, entry, processing, remember=False)


def process_model(base: Model, entry: LibraryEntry | None, processing: Processing, *, remember: bool) -> Opened:
    from core.model.processing import apply_processing, save_processing

    model = apply_processing(base, processing)
    if remember:
        save_processing(base.sha256, processing)
    model.layers(default_micro_batch(model))
    return Opened(base, model, entry, processing)


def default_micro_batch(model: Model) -> int:
    if not model.batchable:
        return 1
    return model.fixed_batch or DEFAULT_MICRO_BATCH


class Timed(NamedTuple):
    profile: Profile
    mix: Mix
    """What the model's time is made up of."""


def profile_model(model: Model, batch: int, progress: Callable[[float], None], cancel: threading.Event) -> Timed:
    from core.cost.mix import mix_of
    from core.cost.profile import profile_model as core_profile
    from core.cost.profile_marks import marked

    with marked(model, batch) as marker:

        def reached(share: float) -> None:
            marker.reached(share)
            progress(share)

        profile = core_profile(model, batch, threads=1, progress=reached, cancel=cancel)
    return Timed(profile, mix_of(model, profile))


def interrupted_profile(model: Model, batch: int) -> ProfileMark | None:
    from core.cost.profile_marks import interrupted

    return interrupted(model, batch)
