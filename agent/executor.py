"""Runs shards with onnxruntime: sessions whose weights lie in blobs, mapped by onnxruntime itself.

See ``agent.graph_proto`` for how a graph finds its weights. A mapped blob costs memory only while its pages are in
use, and the system may take them back. Matrices and filters that its kernels want in another layout onnxruntime keeps
in that one only, and lets go of their blobs.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

from agent.arena import SHARED
from agent.blobs import BlobStore
from agent.failures import AgentFailureError
from agent.graph_proto import DTYPES, place_weights
from core.cost.clock import Timed, timed_runs
from core.plan.form import Port, Shard, Weight
from core.units import format_bytes

Array = npt.NDArray[Any]

ENGINE: Final = f"onnxruntime {ort.__version__} CPUExecutionProvider"

MOST_REPEATS: Final = 1000
MOST_SECONDS: Final = 60.0
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

    __slots__ = ("_names", "_run", "shard")

    def __init__(self, shard: Shard, session: ort.InferenceSession) -> None:
        self.shard = shard
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


def load_shard(shard: Shard, blobs: BlobStore, threads: int) -> LoadedShard:
    """Make ``shard`` ready: blocks for as long as onnxruntime takes to optimise the graph.

    Raises AgentFailureError: "blob" for a missing or damaged blob, "field" for a weight, input or output that is
    declared otherwise than the graph has it, "model" for a graph that onnxruntime does not run.
    """
    weights = {weight.name: weight for weight in shard.weights}
    for weight in weights.values():
        _check_weight(weight, blobs)
    graph = place_weights(_read_graph(blobs.path(shard.graph), shard.label), weights, _relative)
    session = _open_session(graph, _session_options(threads, blobs.root), shard.label)
    _check_ports("input", shard.inputs, session.get_inputs())
    _check_ports("output", shard.outputs, session.get_outputs())
    return LoadedShard(shard, session)


def measure_graph(graph: bytes, inputs: Sequence[Port], repeats: int, threads: int, seconds: float = 0.0) -> Timed:
    """What runs of a self-contained graph on zeros take; at most ``repeats`` runs, in about ``seconds`` if they are not
    0 (see ``timed_runs``).

    Dimensions that are not known count as 1. Raises AgentFailureError("field" or "model").
    """
    if not 1 <= repeats <= MOST_REPEATS:
        raise AgentFailureError("field", f"repeats is {repeats}; it must be from 1 to {MOST_REPEATS}.")
    if not 0 <= seconds <= MOST_SECONDS:
        raise AgentFailureError("field", f"seconds is {seconds}; it must be from 0 to {MOST_SECONDS:g}.")
    feed = _zeros(inputs)
    session = _open_session(
        place_weights(graph, {}, _relative), _session_options(threads, None), "the graph to measure"
    )
    try:
        return timed_runs(lambda: session.run(None, feed), repeats, threads, seconds)
    except _ORT_ERRORS as error:
        raise AgentFailureError("model", f"The graph to measure failed: {_words(error)}") from error


def _session_options(threads: int, store: Path | None) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4
    # Waiting threads sleep, so that an idle node burns nothing.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    if store is not None:
        options.add_session_config_entry(*SHARED)
    # External data is looked for below this folder only: the graph came over the network.
    # Nothing is below the null device.
    folder = Path(os.devnull, "nothing") if store is None else store.resolve()
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
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


def _check_weight(weight: Weight, blobs: BlobStore) -> None:
    """The weight's blob is here, whole, and of the size that its type and shape take."""
    if weight.dtype not in DTYPES.values():
        raise AgentFailureError("field", f'The weight "{weight.name}" is {weight.dtype}, which cannot travel.')
    if any(n < 0 for n in weight.shape):
        raise AgentFailureError("field", f'The weight "{weight.name}" has the shape {list(weight.shape)}.')
    needed = math.prod(weight.shape) * np.dtype(weight.dtype).itemsize
    held = blobs.path(weight.blob).stat().st_size
    if needed != held:
        raise AgentFailureError(
            "field",
            f'The weight "{weight.name}" ({weight.dtype} {list(weight.shape)}) takes {needed} bytes, '
            f"but its blob has {held}.",
        )


def _relative(weight: Weight) -> str:
    return f"{weight.blob[:2]}/{weight.blob}"


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
