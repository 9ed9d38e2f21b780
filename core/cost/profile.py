"""How long does each layer take? Measured on this workstation.

Layers run fused, so their own times do not exist; what exists is the time of a run of layers in a session of its own.
The model is cut at up to ``MOST_SEGMENTS`` narrow places, each segment is timed with onnxruntime's fusions on what
really comes out of the one before, and its time is shared among its layers by their times without fusions. In the end
all is scaled to the time of the whole model in one session.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import numpy as np
import onnxruntime as ort
import psutil

from core.cost.balance import estimated_profile
from core.cost.kept_messages import kept_message_costs
from core.cost.links import WORKSTATION
from core.cost.memory import measured_runtime
from core.cost.messages import TYPICAL
from core.cost.segments import Segment, Values
from core.cost.tables import tables
from core.cost.types import Profile
from core.errors import Cancelled, DoesNotFitError
from core.model.graph import Model
from core.paths import cache_dir
from core.plan.extract import LayerGraph, layer_graph, stages, whole
from core.plan.form import NodeId
from core.units import format_bytes

REVISION: Final = 3
"""Raised when profiles are measured otherwise, so that those in the cache are not taken any more."""
MOST_SEGMENTS: Final = 24
SEGMENT_SECONDS: Final = 1e-3
"""A segment shorter than this says more about the call than about its layers."""
WHOLE_SECONDS: Final = 0.5
"""Time spent on runs of the whole model, beyond the fewest."""
SEGMENTS_SECONDS: Final = 1.0
"""The same for all segments together."""
LEAST_SECONDS: Final = 1e-7
"""Of a layer for which the runtime shows no time."""
LEAST_INSIDE: Final = 0.25
"""Share of a segment's time that is its own, however wide its borders are."""


def profile_model(
    model: Model,
    batch: int,
    *,
    threads: int = 1,
    dims: Mapping[str, int] | None = None,
    progress: Callable[[float], None] | None = None,
    cancel: threading.Event | None = None,
) -> Profile:
    """Time the layers of ``model`` for micro-batches of ``batch`` items; from the cache when that was done before.

    What messages cost is what was measured of this machine, or typical. ``progress`` is called with 0..1 from this
    thread. Raises Cancelled soon after ``cancel`` is set, DoesNotFitError where there is no memory for such a batch.
    """
    report = progress or (lambda _: None)
    path = cached_at(model, batch, threads, dims)
    profile = load_profile(path, model, batch)
    if profile is None:
        profile = _measure(model, batch, threads, dims, report, lambda: _check(cancel))
        save_profile(path, profile)
    report(1.0)
    return msgspec.structs.replace(profile, messages=kept_message_costs() or TYPICAL)


def _check(cancel: threading.Event | None) -> None:
    if cancel is not None and cancel.is_set():
        raise Cancelled("Measuring the model was stopped.")


def _measure(
    model: Model,
    batch: int,
    threads: int,
    dims: Mapping[str, int] | None,
    report: Callable[[float], None],
    check: Callable[[], None],
) -> Profile:
    check()
    _check_room(model, batch)
    feed = model.random_feed(batch, dims=dims)
    runtime = measured_runtime()
    graph = layer_graph(model)
    if not graph.needs:
        return Profile(model.sha256, batch, threads, (), LEAST_SECONDS, *runtime)
    guess = np.array(estimated_profile(model, batch).layer_seconds)
    total = None
    if _fits_whole(model):
        total = Segment(model, whole(graph), threads).time(dict(feed), WHOLE_SECONDS, check)
    report(0.3)
    cuts = segment_cuts(model, batch, guess, total)
    timed = _time_segments(model, batch, graph, cuts, dict(feed), guess, threads, report, check)
    if total is None:
        total = sum(segment.seconds for segment in timed)
    return Profile(model.sha256, batch, threads, layer_seconds(timed, total, len(graph.needs)), total, *runtime)


def _check_room(model: Model, batch: int) -> None:
    """DoesNotFitError where the model's own tensors for ``batch`` items would not fit into this machine's memory."""
    known = tables(model, batch)
    needed, free = known.activation_bytes(0, known.count), psutil.virtual_memory().available
    if needed > free:
        raise DoesNotFitError(
            f"{model.name} cannot be timed in micro-batches of {batch}: that takes {format_bytes(needed)} of memory, "
            f"and this workstation has {format_bytes(free)} free.",
            hint="Use smaller micro-batches.",
        )


def layer_seconds(timed: Sequence[Timed], total: float, layers: int) -> tuple[float, ...]:
    """Of each layer, from segments that hold all of them; they add up to ``total``."""
    seconds = np.full(layers, LEAST_SECONDS)
    for segment, inside in zip(timed, _without_borders(timed, total), strict=True):
        seconds[list(segment.layers)] = np.maximum(inside * segment.shares, LEAST_SECONDS)
    seconds *= total / seconds.sum()
    return tuple(float(s) for s in seconds)


def _fits_whole(model: Model) -> bool:
    """Whether this machine has the memory for the whole model in one session."""
    weights = sum(value.const_value.nbytes for value in model.ir.graph.initializers.values() if value.const_value)
    return bool(2.5 * weights < psutil.virtual_memory().available)


def segment_cuts(model: Model, batch: int, guess: np.ndarray, total: float | None) -> list[int]:
    """Narrow positions that divide the model into pieces of about equal work by the first guess, in seconds."""
    expected = float(guess.sum()) if total is None else total
    count = max(1, min(MOST_SEGMENTS, int(expected / SEGMENT_SECONDS), len(guess)))
    known = tables(model, batch)
    if count == 1 or not known.legal.any():
        return []
    positions = np.flatnonzero(known.legal) + 1
    done = np.cumsum(guess)[positions - 1] / guess.sum()
    chosen = []
    for step in range(1, count):
        near = positions[np.abs(done - step / count) <= 0.4 / count]
        if near.size:
            chosen.append(int(near[np.argmin(known.crossing[near - 1])]))
    return sorted(set(chosen))


class Timed(NamedTuple):
    """One segment as measured."""

    layers: tuple[int, ...]
    shares: np.ndarray
    """Of each layer in the segment's time; they add up to 1."""
    seconds: float
    border_bytes: int
    """What comes from other segments and goes to them."""


def _time_segments(
    model: Model,
    batch: int,
    graph: LayerGraph,
    cuts: Sequence[int],
    values: Values,
    guess: np.ndarray,
    threads: int,
    report: Callable[[float], None],
    check: Callable[[], None],
) -> list[Timed]:
    """Time the segments in order; ``values`` holds the feed and collects what crosses."""
    node_names = {layer.name: layer.index for layer in model.layers(batch)}
    at = tables(model, batch).cuts
    bounds = (0, *cuts, len(graph.needs))
    fragments = stages(graph, bounds, ((), *(at[position - 1].recomputed for position in cuts)))
    last_reader = {name: index for index, fragment in enumerate(fragments) for name in fragment.inputs}
    timed = []
    for index, (fragment, (first, last)) in enumerate(zip(fragments, pairwise(bounds), strict=True)):
        check()
        segment = Segment(model, fragment, threads)
        taken = segment.time(values, SEGMENTS_SECONDS / len(fragments), check)
        check()
        unfused = segment.operator_seconds(values, node_names)
        own = [layer for layer in fragment.layers if first <= layer < last]
        share = np.array([0.0 if layer in graph.fixed else unfused.get(layer, 0.0) for layer in own])
        if share.sum() <= 0:
            share = guess[own]
        border = [name for name in fragment.inputs if name in graph.producer]
        border += [name for name in fragment.outputs if last_reader.get(name, -1) > index]
        timed.append(Timed(tuple(own), share / share.sum(), taken, sum(values[name].nbytes for name in border)))
        for name in [name for name in values if last_reader.get(name, -1) <= index]:
            del values[name]
        report(0.3 + 0.7 * (index + 1) / len(fragments))
    return timed


def _without_borders(timed: Sequence[Timed], total: float) -> np.ndarray:
    """Seconds of each segment inside the whole model.

    What the segments take together beyond the whole model is the price of their borders: tensors brought into the order
    that kernels want and back, fusions that a border divides. It is taken off by the bytes that cross.
    """
    seconds = np.array([segment.seconds for segment in timed])
    border = np.array([segment.border_bytes for segment in timed], np.float64)
    excess = seconds.sum() - total
    if excess <= 0 or border.sum() == 0:
        return seconds
    return np.asarray(np.maximum(seconds - excess * border / border.sum(), LEAST_INSIDE * seconds))


def cached_at(
    model: Model, batch: int, threads: int, dims: Mapping[str, int] | None = None, node: NodeId = WORKSTATION
) -> Path:
    """The file for a profile of this very model, by what it was measured with and where."""
    sizes = sorted((model.default_dims() | dict(dims or {})).items())
    key = repr((REVISION, model.sha256, batch, threads, sizes, ort.__version__, *((node,) if node else ())))
    folder = cache_dir() / "profiles"
    folder.mkdir(exist_ok=True)
    return folder / f"{hashlib.sha256(key.encode()).hexdigest()}.json"


def load_profile(path: Path, model: Model, batch: int) -> Profile | None:
    """The cached profile; None when there is none, or it is damaged or of another graph."""
    try:
        held = msgspec.json.decode(path.read_bytes(), type=Profile)
    except (OSError, msgspec.DecodeError):
        return None
    same = held.model == model.sha256 and len(held.layer_seconds) == len(model.layers(batch))
    return held if same else None


def save_profile(path: Path, profile: Profile) -> None:
    """Whole or not at all."""
    partial = path.with_suffix(f".{os.getpid()}.{threading.get_ident()}")
    partial.write_bytes(msgspec.json.encode(profile))
    partial.replace(path)
