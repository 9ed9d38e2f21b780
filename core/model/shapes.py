"""Shapes and element types of every value, by ONNX shape inference and, where that does not know, by running."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np
import onnx
import onnx_ir as ir

from core.model.session import RUNTIME_ERRORS, dtype_name, graph_proto, run_session, start_session

Dims = tuple[int | str | None, ...] | None
"""None: not even the rank is known. A dimension: fixed, named, or unknown."""
Shape = tuple[int, ...] | None
Known = dict[str, tuple[Dims, str]]
"""Value name -> (dims, numpy name of the element type or "")."""


def shape_base(model: ir.Model) -> onnx.ModelProto:
    """The graph that inference works on: no weights, no declared shapes but those of the inputs."""
    proto = graph_proto(model, large="input", shapes=False)
    _forget_shapes(proto.graph)
    return proto


def _forget_shapes(graph: onnx.GraphProto) -> None:
    for node in graph.node:
        for attribute in node.attribute:
            for subgraph in [attribute.g] if attribute.HasField("g") else list(attribute.graphs):
                del subgraph.value_info[:]
                for value in subgraph.output:
                    value.type.tensor_type.ClearField("shape")
                _forget_shapes(subgraph)


def infer(base: onnx.ModelProto, inputs: Mapping[str, Sequence[int | str | None]]) -> Known:
    """Dims and types of all values of ``base`` when its inputs have the given dims."""
    proto = onnx.ModelProto()
    proto.CopyFrom(base)
    for value in proto.graph.input:
        if value.name in inputs:
            _set_dims(value, inputs[value.name])
    try:
        inferred = onnx.shape_inference.infer_shapes(proto, check_type=False, strict_mode=False, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        inferred = proto  # nothing is known then but the inputs; the rest is measured by running
    graph = inferred.graph
    known: Known = {tensor.name: (tuple(tensor.dims), _dtype(tensor.data_type)) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        known[value.name] = _described(value)
    return known


def _set_dims(value: onnx.ValueInfoProto, dims: Sequence[int | str | None]) -> None:
    shape = value.type.tensor_type.shape
    del shape.dim[:]
    for dim in dims:
        entry = shape.dim.add()
        if isinstance(dim, str):
            entry.dim_param = dim
        elif dim is not None:
            entry.dim_value = dim
    shape.SetInParent()


def _described(value: onnx.ValueInfoProto) -> tuple[Dims, str]:
    if value.type.WhichOneof("value") != "tensor_type":
        return None, ""
    tensor = value.type.tensor_type
    dtype = _dtype(tensor.elem_type)
    if not tensor.HasField("shape"):
        return None, dtype
    dims = (
        dim.dim_value if dim.HasField("dim_value") else (dim.dim_param or None) if dim.HasField("dim_param") else None
        for dim in tensor.shape.dim
    )
    return tuple(dims), dtype


def _dtype(number: int) -> str:
    return dtype_name(ir.DataType(number))


def concrete(dims: Dims) -> tuple[int, ...] | None:
    """The dims if all of them are numbers."""
    if dims is None or not all(isinstance(dim, int) for dim in dims):
        return None
    return tuple(dim for dim in dims if isinstance(dim, int))


def nbytes(shape: tuple[int, ...] | None, dtype: str) -> int:
    """Bytes of a tensor; 0 where its shape or type is not known."""
    if shape is None or dtype in ("", "string"):
        return 0
    return prod(shape) * itemsize(dtype)


def itemsize(dtype: str) -> int:
    """Bytes of one element; types that numpy lacks (bfloat16, int4 as held unpacked) are looked up in onnx_ir."""
    try:
        return np.dtype(dtype).itemsize
    except TypeError:
        return next((max(1, int(t.itemsize)) for t in ir.DataType if dtype_name(t) == dtype), 0)


_BY_DATA = frozenset(
    {"NonZero", "NonMaxSuppression", "Unique", "Compress", "If", "Loop", "RoiAlign", "Multinomial", "StringSplit"}
)


def measure(model: ir.Model, names: Sequence[str], feed: Mapping[str, np.ndarray]) -> dict[str, tuple[Shape, str]]:
    """Shapes and types of values that inference leaves open, by running what leads to them once on ``feed``.

    Values that are no tensors, and all of them where onnxruntime cannot run on this feed, come back as unknown.
    """
    try:
        session = start_session(_leading_to(model, names))
        results = run_session(session, feed)
    except RUNTIME_ERRORS:
        return dict.fromkeys(names, (None, ""))
    return {
        name: (tuple(array.shape), str(array.dtype.name)) if isinstance(array, np.ndarray) else (None, "")
        for name, array in results.items()
        if name in set(names)
    }


def _leading_to(model: ir.Model, names: Sequence[str]) -> ir.Model:
    """The part of the model that makes these values: often a few small nodes and none of the weights."""
    inputs = [value.name for value in model.graph.inputs if value.name]
    graph = ir.convenience.extract(model.graph, inputs, list(names))
    graph.opset_imports.update(model.graph.opset_imports)
    return ir.Model(graph, ir_version=model.ir_version)


def data_dependent(model: ir.Model, names: Sequence[str]) -> frozenset[str]:
    """Those of ``names`` whose size may hang on the data itself: they come after NonZero and its like."""
    tainted: set[str] = set()
    for node in model.graph:
        if node.op_type in _BY_DATA or any(value is not None and value.name in tainted for value in node.inputs):
            tainted |= {value.name for value in node.outputs if value.name}
    return frozenset(tainted & set(names))
