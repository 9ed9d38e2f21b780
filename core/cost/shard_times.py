"""How long do the shards of a plan take? Timed on this workstation, each with onnxruntime's fusions as a node runs it.

A rank's slices of a layer take more or less than its share of the layer's time, and a border between shards costs
fusions: sums over layers only guess at both. What was timed once is kept, by what the graph does and not by what its
values are called, so ranks with equal parts, and plans with some of the same shards, need no second time.
"""

from __future__ import annotations

import hashlib
import os
import statistics
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import psutil

from core.cost.clock import compute_clock
from core.errors import Cancelled, PlanError
from core.model.graph import Model
from core.model.session import RUNTIME_ERRORS, aligned
from core.model.shapes import values
from core.paths import cache_dir
from core.plan.form import ShardId
from core.plan.graphs import GraphWriter, ShardGraph
from core.plan.outline import Outline
from core.plan.program import Program

REVISION: Final = 1
"""Raised when shards are timed otherwise."""
FEWEST_ROUNDS: Final = 3
MOST_ROUNDS: Final = 100
SESSION_SIZE: Final = 2.5
"""Times its weights, at most, is what a session takes."""
MOST_SIZES: Final = 1024
"""Bytes of a value that may be a size."""
NODE_SECONDS: Final = 0.5
"""Of rounds through the shards of a node, beyond the fewest."""

Array = npt.NDArray[Any]


def time_shards(
    model: Model,
    outline: Outline,
    *,
    threads: int = 1,
    only_kept: bool = False,
    progress: Callable[[float], None] | None = None,
    cancel: threading.Event | None = None,
) -> dict[ShardId, float]:
    """Median seconds of one run of each shard of ``outline`` with ``threads`` threads here, by the shard's number.

    A node's shards run one after another, as they will there, so that what they read is no warmer in the caches. A
    shard whose inputs have no known shape, or that onnxruntime does not run, or for which there is no memory here, is
    missing; with ``only_kept`` nothing is run, and those that were not timed before are missing. Raises Cancelled.
    """
    store = _Store(model, threads)
    writer = GraphWriter(model)
    sizes = _sizes(model, outline)
    shards: dict[int, _Shard | None] = {}
    for part in outline.parts:
        if id(part.program) not in shards:
            _check(cancel)
            shards[id(part.program)] = _shard(writer, part.program, sizes)
    nodes = dict.fromkeys((part.replica, part.node) for part in outline.parts)
    for number, place in enumerate(nodes):
        own = [shards[id(part.program)] for part in outline.parts if (part.replica, part.node) == place]
        known = {shard.key: shard for shard in own if shard is not None}
        if not only_kept and not store.held.keys() >= known.keys() and _fit(known.values()):
            store.add(_timed(list(known.values()), threads, cancel))
        if progress is not None:
            progress((number + 1) / len(nodes))
    store.save()
    found = {part.id: shards[id(part.program)] for part in outline.parts}
    return {part: store.held[one.key] for part, one in found.items() if one is not None and one.key in store.held}


class _Shard(NamedTuple):
    key: str
    graph: ShardGraph
    feed: dict[str, Array]


def _sizes(model: Model, outline: Outline) -> dict[str, Array]:
    """Sizes and indices that one part computes for another, as the model itself computes them: reshaping to made up
    sizes would fail."""
    given = {info.name for info in model.inputs}
    types = {name: part.program.types.get(name) for part in outline.parts for name in part.program.inputs}
    small = [
        name
        for name, held in types.items()
        if name not in given and held is not None and held.dtype in ("int32", "int64") and held.nbytes <= MOST_SIZES
    ]
    return values(model.ir, small, model.random_feed(outline.request.micro_batch)) if small else {}


def _shard(writer: GraphWriter, program: Program, sizes: Mapping[str, Array]) -> _Shard | None:
    feed = _feed(program, sizes)
    if feed is None:
        return None
    try:
        graph = writer.write(program)
    except PlanError:
        return None
    return _Shard(_key(graph, feed), graph, feed)


def _fit(shards: Iterable[_Shard]) -> bool:
    """Whether this machine has the memory for all of them at once."""
    held = sum(weight.nbytes for shard in shards for weight in shard.graph.weights)
    return bool(SESSION_SIZE * held < psutil.virtual_memory().available)


def _feed(program: Program, sizes: Mapping[str, Array]) -> dict[str, Array] | None:
    """Inputs of the right shapes, ``sizes`` among them; None where one is not known."""
    random = np.random.default_rng(0)
    feed: dict[str, Array] = {}
    for name in program.inputs:
        held = program.types.get(name)
        if held is None or held.shape is None or not held.dtype:
            return None
        if name in sizes:
            feed[name] = sizes[name]
            continue
        dtype = np.dtype(held.dtype)
        feed[name] = (
            random.random(held.shape, np.float32).astype(dtype) if dtype.kind == "f" else np.zeros(held.shape, dtype)
        )
    return feed


def _timed(shards: Sequence[_Shard], threads: int, cancel: threading.Event | None) -> dict[str, float]:
    """Seconds of each, by key; those that onnxruntime does not run are missing and say so where they are deployed."""
    sessions: dict[str, tuple[ort.InferenceSession, list[str], dict[str, Array]]] = {}
    for key, graph, feed in shards:
        _check(cancel)
        names = [port.name for port in graph.outputs]
        try:
            session = _session(graph, threads)
            session.run(names, feed)
        except RUNTIME_ERRORS:
            continue
        sessions[key] = session, names, feed
    clock = compute_clock(threads)
    taken: dict[str, list[float]] = {key: [] for key in sessions}
    spent, rounds = 0.0, 0
    while sessions and (rounds < FEWEST_ROUNDS or (spent < NODE_SECONDS and rounds < MOST_ROUNDS)):
        rounds += 1
        _check(cancel)
        for key, (session, names, feed) in sessions.items():
            begun = clock()
            session.run(names, feed)
            taken[key].append(clock() - begun)
            spent += taken[key][-1]
    return {key: statistics.median(seconds) for key, seconds in taken.items()}


def _session(graph: ShardGraph, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    values = [
        ort.OrtValue.ortvalue_from_numpy(aligned(np.frombuffer(tensor.view(), weight.dtype).reshape(weight.shape)))
        for weight, tensor in zip(graph.weights, graph.tensors, strict=True)
    ]
    if values:
        options.add_external_initializers([weight.name for weight in graph.weights], values)
    return ort.InferenceSession(graph.data, options, providers=["CPUExecutionProvider"])


def _check(cancel: threading.Event | None) -> None:
    if cancel is not None and cancel.is_set():
        raise Cancelled("Timing the shards was stopped.")


def _key(graph: ShardGraph, feed: Mapping[str, Array]) -> str:
    """The same for graphs that do the same on inputs of the same sizes."""
    proto = onnx.load_model_from_string(graph.data)
    numbers: dict[str, str] = {}

    def renamed(name: str) -> str:
        return numbers.setdefault(name, str(len(numbers))) if name else ""

    attributes = [attribute for node in proto.graph.node for attribute in node.attribute]
    if not any(one.HasField("g") or one.graphs for one in attributes):  # subgraphs read values from outside by name
        for port in (*proto.graph.input, *proto.graph.output):
            port.name = renamed(port.name)
        for initializer in proto.graph.initializer:
            initializer.name = renamed(initializer.name)
        for node in proto.graph.node:
            node.ClearField("name")
            node.input[:] = map(renamed, node.input)
            node.output[:] = map(renamed, node.output)
        for port in (*proto.graph.input, *proto.graph.output):
            for dim in port.type.tensor_type.shape.dim:
                dim.ClearField("dim_param")
    shapes = repr(sorted((renamed(name), array.shape) for name, array in feed.items()))
    return hashlib.sha256(proto.SerializeToString(deterministic=True) + shapes.encode()).hexdigest()


class _Store:
    """Seconds by key, of one model with so many threads."""

    def __init__(self, model: Model, threads: int) -> None:
        words = repr((REVISION, model.sha256, threads, ort.__version__))
        folder = cache_dir() / "shards"
        folder.mkdir(exist_ok=True)
        self._path = folder / f"{hashlib.sha256(words.encode()).hexdigest()}.json"
        self.held = _read(self._path)
        self._added: dict[str, float] = {}

    def add(self, seconds: Mapping[str, float]) -> None:
        self.held.update(seconds)
        self._added.update(seconds)

    def save(self) -> None:
        """Together with what others added meanwhile."""
        if not self._added:
            return
        partial = self._path.with_suffix(f".{os.getpid()}.{threading.get_ident()}")
        partial.write_bytes(msgspec.json.encode(_read(self._path) | self._added))
        partial.replace(self._path)


def _read(path: Path) -> dict[str, float]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, float])
    except (OSError, msgspec.DecodeError):
        return {}  # nothing was timed yet, or the file is damaged
