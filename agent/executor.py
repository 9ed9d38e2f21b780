"""Runs shards with onnxruntime: sessions whose weights lie in memory-mapped blobs.

A shard's graph declares its large initializers external; ``SessionOptions.add_external_initializers`` feeds each by
name from a mapped file. onnxruntime makes its own copy of them while it loads (1.31 does, in the layout its kernels
want; nothing says that another version does), so a ``LoadedShard`` keeps the mapped arrays and values but gives their
pages back: what stays resident is one copy of the weights. ``add_initializer`` would spare that copy, and is wrong:
where an optimizer transposes an initializer, the session then computes with the one from before.
"""

from __future__ import annotations

import math
import mmap
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

from agent.blobs import BlobStore
from agent.failures import AgentFailureError
from core.plan.form import Port, Sha256, Shard, Weight
from core.units import format_bytes

Array = npt.NDArray[Any]

ENGINE: Final = f"onnxruntime {ort.__version__} CPUExecutionProvider"

MOST_REPEATS: Final = 1000
MOST_ZEROS: Final = 1 << 30
"""Bytes of zeros a measurement may be fed with."""

_DTYPES: Final = {
    "tensor(bool)": "bool",
    "tensor(double)": "float64",
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(int16)": "int16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(int8)": "int8",
    "tensor(uint16)": "uint16",
    "tensor(uint32)": "uint32",
    "tensor(uint64)": "uint64",
    "tensor(uint8)": "uint8",
}
"""onnxruntime's names for the types that travel; strings, sequences and maps do not."""

# onnxruntime's own errors have no common base, and which there are depends on its version.
_ORT_ERRORS: Final[tuple[type[Exception], ...]] = (
    *(kind for kind in vars(ort_state).values() if isinstance(kind, type) and issubclass(kind, Exception)),
    ValueError,
    TypeError,
    RuntimeError,
    MemoryError,
)


class LoadedShard:
    """A shard that is ready to run. ``run`` may be called from one thread at a time."""

    __slots__ = ("_names", "_run", "_weights", "shard")

    def __init__(self, shard: Shard, session: ort.InferenceSession, weights: _Weights) -> None:
        self.shard = shard
        self._weights = weights
        self._run = session.run
        self._names = [port.name for port in shard.outputs]

    def run(self, feed: Mapping[str, Array]) -> list[Array]:
        """One micro-batch: arrays by input name in, new arrays in the order of ``shard.outputs`` out.

        Raises AgentFailureError("shard") with onnxruntime's words when the shard fails on this input.
        """
        try:
            return self._run(self._names, feed)  # type: ignore[no-any-return]
        except _ORT_ERRORS as error:
            raise AgentFailureError("shard", f'"{self.shard.label}" failed: {_words(error)}') from error


class _Weights:
    """The mapped blobs of a shard and the values made of them, side by side with their initializers' names."""

    __slots__ = ("mapped", "names", "values")

    def __init__(self, weights: Sequence[Weight], blobs: BlobStore) -> None:
        self.mapped: dict[Sha256, _Mapped] = {}
        self.names: list[str] = []
        self.values: list[ort.OrtValue] = []
        for weight in weights:
            _check_weight(weight)
            if weight.blob not in self.mapped:
                self.mapped[weight.blob] = _map(blobs.path(weight.blob), weight)
            self.names.append(weight.name)
            self.values.append(ort.OrtValue.ortvalue_from_numpy(_shaped(self.mapped[weight.blob].array, weight)))

    def release_pages(self) -> None:
        """Take the mapped pages out of this process; they are read again should anyone look at them."""
        if hasattr(mmap, "MADV_DONTNEED"):
            for mapped in self.mapped.values():
                if mapped.pages is not None:
                    mapped.pages.madvise(mmap.MADV_DONTNEED)


class _Mapped(NamedTuple):
    array: Array
    """uint8, read-only"""
    pages: mmap.mmap | None
    """None: a blob without bytes."""


def load_shard(shard: Shard, blobs: BlobStore, threads: int) -> LoadedShard:
    """Make ``shard`` ready: blocks for as long as onnxruntime takes to optimise the graph.

    Raises AgentFailureError: "blob" for a missing or damaged blob, "field" for a weight, input or output that is
    declared otherwise than the graph has it, "model" for a graph that onnxruntime does not run.
    """
    graph = _read_graph(blobs.path(shard.graph), shard.label)
    weights = _Weights(shard.weights, blobs)
    options = _session_options(threads, blobs.root)
    if weights.names:
        options.add_external_initializers(weights.names, weights.values)
    session = _open_session(graph, options, shard.label)
    weights.release_pages()
    _check_ports("input", shard.inputs, session.get_inputs())
    _check_ports("output", shard.outputs, session.get_outputs())
    return LoadedShard(shard, session, weights)


def measure_graph(graph: bytes, inputs: Sequence[Port], repeats: int, threads: int) -> float:
    """Median seconds of ``repeats`` runs of a self-contained graph on zeros, after one that is not counted.

    Dimensions that are not known count as 1. Raises AgentFailureError("field" or "model").
    """
    if not 1 <= repeats <= MOST_REPEATS:
        raise AgentFailureError("field", f"repeats is {repeats}; it must be from 1 to {MOST_REPEATS}.")
    feed = _zeros(inputs)
    session = _open_session(graph, _session_options(threads, None), "the graph to measure")
    seconds = []
    try:
        session.run(None, feed)
        for _ in range(repeats):
            start = time.perf_counter()
            session.run(None, feed)
            seconds.append(time.perf_counter() - start)
    except _ORT_ERRORS as error:
        raise AgentFailureError("model", f"The graph to measure failed: {_words(error)}") from error
    return statistics.median(seconds)


def _session_options(threads: int, store: Path | None) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4
    # Waiting threads sleep, so that an idle node burns nothing.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    # A graph whose external data is not fed would be read from files beside the working directory: it came over the
    # network, so it may name no file at all. The folder does not exist.
    nowhere = (store or Path("/")).resolve() / "no-external-files"
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(nowhere))
    return options


def _open_session(graph: bytes, options: ort.SessionOptions, label: str) -> ort.InferenceSession:
    try:
        return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except _ORT_ERRORS as error:
        raise AgentFailureError("model", f'"{label}" cannot be loaded: {_words(error)}') from error


def _read_graph(path: Path, label: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise AgentFailureError("blob", f'The graph of "{label}" cannot be read: {error.strerror or error}.') from error


def _map(path: Path, weight: Weight) -> _Mapped:
    try:
        with path.open("rb") as file:
            # A file without bytes cannot be mapped.
            if os.fstat(file.fileno()).st_size == 0:
                return _Mapped(np.empty(0, np.uint8), None)
            pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise AgentFailureError(
            "blob", f'The blob of the weight "{weight.name}" cannot be mapped: {error.strerror or error}.'
        ) from error
    return _Mapped(np.frombuffer(pages, np.uint8), pages)


def _check_weight(weight: Weight) -> None:
    if weight.dtype not in _DTYPES.values():
        raise AgentFailureError("field", f'The weight "{weight.name}" is {weight.dtype}, which cannot travel.')
    if any(n < 0 for n in weight.shape):
        raise AgentFailureError("field", f'The weight "{weight.name}" has the shape {list(weight.shape)}.')


def _shaped(mapped: Array, weight: Weight) -> Array:
    """``mapped`` bytes as the weight declares them, without a copy."""
    dtype = np.dtype(weight.dtype)
    needed = math.prod(weight.shape) * dtype.itemsize
    if needed != mapped.nbytes:
        raise AgentFailureError(
            "field",
            f'The weight "{weight.name}" ({weight.dtype} {list(weight.shape)}) takes {needed} bytes, '
            f"but its blob has {mapped.nbytes}.",
        )
    return mapped.view(dtype).reshape(weight.shape)


def _check_ports(kind: str, declared: Sequence[Port], actual: Sequence[Any]) -> None:
    """``declared`` against what the session says. Raises AgentFailureError("field")."""
    found = {node.name: node for node in actual}
    names = {port.name for port in declared}
    if names != set(found) or len(names) != len(declared):
        raise AgentFailureError(
            "field", f"The shard declares the {kind}s {sorted(names)}, but its graph has {sorted(found)}."
        )
    for port in declared:
        node = found[port.name]
        if _DTYPES.get(node.type) != port.dtype:
            raise AgentFailureError(
                "field", f'The {kind} "{port.name}" is declared {port.dtype}, but its graph has {node.type}.'
            )
        if not _fits(port.shape, node.shape):
            raise AgentFailureError(
                "field",
                f'The {kind} "{port.name}" is declared with the shape {list(port.shape or ())}, '
                f"but its graph has {node.shape}.",
            )


def _fits(declared: tuple[int | None, ...] | None, actual: Sequence[int | str | None]) -> bool:
    # onnxruntime shows a scalar and an unknown rank alike, as [].
    if declared is None or not actual:
        return True
    return len(declared) == len(actual) and all(
        not isinstance(theirs, int) or ours is None or ours == theirs
        for ours, theirs in zip(declared, actual, strict=True)
    )


def _zeros(inputs: Sequence[Port]) -> dict[str, Array]:
    shapes = {port.name: tuple(1 if n is None else n for n in port.shape or ()) for port in inputs}
    nbytes = 0
    for port in inputs:
        shape = shapes[port.name]
        if port.dtype not in _DTYPES.values() or any(n < 0 for n in shape):
            raise AgentFailureError("field", f'No zeros can be made for the input "{port.name}": {port.dtype} {shape}.')
        nbytes += np.dtype(port.dtype).itemsize * math.prod(shape)
    if nbytes > MOST_ZEROS:
        raise AgentFailureError(
            "field", f"The inputs would take {format_bytes(nbytes)}; at most {format_bytes(MOST_ZEROS)} are measured."
        )
    return {port.name: np.zeros(shapes[port.name], port.dtype) for port in inputs}


def _words(error: Exception) -> str:
    """onnxruntime's message on one line, without its code and at most 500 characters."""
    text = " ".join(str(error).split())
    if text.startswith("[ONNXRuntimeError]"):
        text = text.split(" : ", 3)[-1]
    return text[:500] or type(error).__name__
