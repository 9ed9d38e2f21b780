"""Runs shards with onnxruntime: sessions whose weights lie in memory-mapped blobs.

A shard's graph declares its large initializers external; ``SessionOptions.add_external_initializers`` feeds each by
name from a mapped file, without a copy (onnxruntime may still keep a repacked copy of a matrix for its kernels). The
mapped arrays and OrtValues must outlive the session, so a ``LoadedShard`` holds them.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

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

    __slots__ = ("_names", "_run", "_session", "_values", "_weights", "shard")

    def __init__(self, shard: Shard, session: ort.InferenceSession, weights: _Weights) -> None:
        self.shard = shard
        self._session = session
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
    """The mapped blobs of a shard and the values made of them, by initializer name."""

    def __init__(self, weights: Sequence[Weight], blobs: BlobStore) -> None:
        mapped: dict[Sha256, Array] = {}
        self.names: list[str] = []
        self.values: list[ort.OrtValue] = []
        for weight in weights:
            dtype = _checked_dtype(weight)
            if weight.blob not in mapped:
                mapped[weight.blob] = _map(blobs.path(weight.blob), weight)
            self.names.append(weight.name)
            array = mapped[weight.blob].view(dtype).reshape(weight.shape)
            self.values.append(ort.OrtValue.ortvalue_from_numpy(array))
        self.mapped = tuple(mapped.values())


def load_shard(shard: Shard, blobs: BlobStore, threads: int) -> LoadedShard:
    """Make ``shard`` ready: blocks for as long as onnxruntime takes to optimise the graph.

    Raises AgentFailureError: "blob" for a missing or damaged blob, "field" for a weight, input or output that is
    declared otherwise than the graph has it, "model" for a graph that onnxruntime does not run.
    """
    graph = blobs.path(shard.graph).read_bytes()
    weights = _Weights(shard.weights, blobs)
    options = _session_options(threads, blobs.root)
    if weights.names:
        options.add_external_initializers(weights.names, weights.values)
    session = _open_session(graph, options, shard.label)
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
