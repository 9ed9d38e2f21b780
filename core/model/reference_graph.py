"""Writes large ONNX models piece by piece: weights go straight to the external data file and are not held in memory."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from core.model.dims import DECLARED_SIZES

OPSET: Final = 17
IR_VERSION: Final = 10
_SCOPES: Final = "pkg.torch.onnx.name_scopes"  # where torch's exporter notes the module tree
_ALIGNMENT: Final = 4096  # a page: each weight can be mapped by itself
_INLINE_BYTES: Final = 1024

Array = np.ndarray[Any, Any]


class GraphWriter:
    """One model under construction. Nodes are appended in the order they run; each gives one output unless told more.

    Weights above 1 KiB are written to ``data`` as they are made. Random weights depend on the seed and their own name
    only, so the same call always makes the same bytes.
    """

    def __init__(self, name: str, data: BinaryIO, location: str, *, seed: int, progress: Callable[[int], None]) -> None:
        self._name = name
        self._data = data
        self._location = location
        self._seed = seed
        self._progress = progress
        self._offset = 0
        self._nodes: list[onnx.NodeProto] = []
        self._weights: dict[str, onnx.TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, dims: Sequence[int | str], elem_type: int = TensorProto.FLOAT) -> str:
        self._inputs.append(helper.make_tensor_value_info(name, elem_type, list(dims)))
        return name

    def node(self, op: str, name: str, *inputs: str, outputs: Sequence[str] = (), **attributes: Any) -> str:
        """Append a node; its outputs are called ``outputs``, or one output after the node. Returns the first."""
        made = list(outputs) or [name]
        node = helper.make_node(op, list(inputs), made, name=name, **attributes)
        node.metadata_props.add(key=_SCOPES, value=str(_scopes(name)))
        self._nodes.append(node)
        return made[0]

    def constant(self, name: str, value: Array) -> str:
        """A weight with this value; the same name again means the same weight."""
        if name not in self._weights:
            contiguous = np.ascontiguousarray(value)
            self._weights[name] = (
                self._external(name, contiguous)
                if contiguous.nbytes > _INLINE_BYTES
                else numpy_helper.from_array(value, name)
            )
        return name

    def integers(self, name: str, *values: int) -> str:
        """A 1-D int64 weight: axes, a shape, starts, ..."""
        return self.constant(name, np.array(values, np.int64))

    def scalar(self, name: str, value: float) -> str:
        """A float32 scalar weight."""
        return self.constant(name, np.array(value, np.float32))

    def random(self, name: str, shape: Sequence[int], deviation: float) -> Array:
        """Normal float32 numbers that depend on the seed and ``name`` only."""
        generator = np.random.default_rng([self._seed, zlib.crc32(name.encode())])
        values = generator.standard_normal(tuple(shape), dtype=np.float32)
        values *= np.float32(deviation)
        return values

    def filters(self, name: str, shape: Sequence[int], deviation: float) -> str:
        """A random weight whose rows each sum to nothing, so that outputs tell what differs between inputs instead of
        what all inputs share (everything behind a ReLU is positive)."""
        values = self.random(name, shape, deviation)
        values -= values.mean(axis=tuple(range(1, len(shape))), keepdims=True)
        return self.constant(name, values)

    def weight(self, name: str, shape: Sequence[int], deviation: float) -> str:
        """A random normal weight with this standard deviation."""
        return self.constant(name, self.random(name, shape, deviation))

    def filled(self, name: str, size: int, value: float) -> str:
        """A 1-D float32 weight with one value throughout."""
        return self.constant(name, np.full(size, value, np.float32))

    def finish(
        self, outputs: Mapping[str, Sequence[int | str]], *, description: str, default_dims: Mapping[str, int]
    ) -> onnx.ModelProto:
        results = [helper.make_tensor_value_info(n, TensorProto.FLOAT, list(d)) for n, d in outputs.items()]
        graph = helper.make_graph(self._nodes, self._name, self._inputs, results, list(self._weights.values()))
        graph.doc_string = description
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="shardboard")
        model.ir_version = IR_VERSION
        if default_dims:
            helper.set_model_props(model, {DECLARED_SIZES: json.dumps(dict(default_dims))})
        return model

    def _external(self, name: str, value: Array) -> onnx.TensorProto:
        padding = -self._offset % _ALIGNMENT
        self._data.write(b"\0" * padding)
        self._offset += padding
        self._data.write(memoryview(value.astype(value.dtype.newbyteorder("<"), copy=False)).cast("B"))  # type: ignore[arg-type]
        tensor = TensorProto(
            name=name,
            data_type=helper.np_dtype_to_tensor_dtype(value.dtype),
            dims=value.shape,
            data_location=TensorProto.EXTERNAL,
        )
        entries = {"location": self._location, "offset": str(self._offset), "length": str(value.nbytes)}
        for key, text in entries.items():
            tensor.external_data.add(key=key, value=text)
        self._offset += value.nbytes
        self._progress(self._offset)
        return tensor


def _scopes(name: str) -> list[str]:
    """ "layer1.0.conv1" -> ["", "layer1", "layer1.0", "layer1.0.conv1"]: the modules around a node, and the node."""
    return ["", *itertools.accumulate(name.split("."), lambda outer, inner: f"{outer}.{inner}")]


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A file that appears under ``path`` only when the block ends well."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_model(
    path: Path,
    fill: Callable[[GraphWriter], onnx.ModelProto],
    *,
    expected_bytes: int,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
) -> Path:
    """Write ``path`` and ``path``.data beside it, the model last: where it exists, it is whole.

    ``progress`` gets shares of 0 ... 1, reckoned from ``expected_bytes``. Raises OSError when the disk is full.
    """

    def report(done: int) -> None:
        if progress is not None:
            progress(min(done / expected_bytes, 1.0))

    path.parent.mkdir(parents=True, exist_ok=True)
    data_path = path.with_name(path.name + ".data")
    with new_file(data_path) as data:
        model = fill(GraphWriter(path.stem, data, data_path.name, seed=seed, progress=report))
    with new_file(path) as file:
        file.write(model.SerializeToString())
    return path


def he(fan_in: int) -> float:
    """Standard deviation that keeps the size of activations through a ReLU."""
    return math.sqrt(2 / fan_in)


def xavier(fan_in: int) -> float:
    """Standard deviation that keeps the size of activations through a linear layer."""
    return math.sqrt(1 / fan_in)
