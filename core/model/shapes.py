"""Shapes and element types of every value, by ONNX shape inference and, where that does not know, by running."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from types import MappingProxyType
from typing import Final

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
_OF_SHAPES: Final = frozenset({"Shape", "Size"})
_REDUCTIONS: Final = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
_SIZED_BY: Final[Mapping[str, tuple[int, ...]]] = MappingProxyType(
    {
        **dict.fromkeys(("CenterCropPad", "Expand", "Reshape", "Split", "Squeeze", "Tile", "TopK", "Unsqueeze"), (1,)),
        **dict.fromkeys((f"Reduce{kind}" for kind in _REDUCTIONS), (1,)),
        **dict.fromkeys(("BlackmanWindow", "ConstantOfShape", "HammingWindow", "HannWindow"), (0,)),
        "AffineGrid": (1,),
        "Col2Im": (1, 2),
        "DFT": (1, 2),
        "MaxUnpool": (2,),
        "OneHot": (1,),
        "Pad": (1, 3),
        "Range": (0, 1, 2),
        "Resize": (1, 2, 3),
        "STFT": (1, 3),
        "Slice": (1, 2, 3, 4),
        "Upsample": (1,),
    }
)
"""Inputs whose values, not only their shapes, say how large the operator's outputs are."""


def measure(model: ir.Model, names: Sequence[str], feed: Mapping[str, np.ndarray]) -> dict[str, tuple[Shape, str]]:
    """Shapes and types of values that inference leaves open, by running what leads to them once on ``feed``.

    Values that are no tensors, and all of them where onnxruntime cannot run on this feed, come back as unknown.
    """
    found = values(model, names, feed)
    return {
        name: (tuple(found[name].shape), str(found[name].dtype.name)) if name in found else (None, "") for name in names
    }


def values(model: ir.Model, names: Sequence[str], feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Values by name, by running what leads to them once on ``feed``. Names that the model does not know, and values
    that are no tensors, are missing; all of them where onnxruntime cannot run on this feed."""
    made = {value.name for node in model.graph for value in node.outputs}
    wanted = [name for name in names if name in made]
    if not wanted:
        return {}
    try:
        results = run_session(start_session(_leading_to(model, wanted)), feed)
    except RUNTIME_ERRORS:
        return {}
    return {name: results[name] for name in wanted if isinstance(results.get(name), np.ndarray)}


def _leading_to(model: ir.Model, names: Sequence[str]) -> ir.Model:
    """The part of the model that makes these values: often a few small nodes and none of the weights."""
    inputs = [value.name for value in model.graph.inputs if value.name]
    graph = ir.convenience.extract(model.graph, inputs, list(names))
    graph.opset_imports.update(model.graph.opset_imports)
    return ir.Model(graph, ir_version=model.ir_version)


def data_dependent(model: ir.Model, names: Sequence[str]) -> frozenset[str]:
    """Those of ``names`` whose size may hang on the data itself: they come after NonZero and its like, or after an
    operator that is told a size by values that somebody sends or that are computed from such."""
    given = {value.name for value in model.graph.inputs if value.name}
    """Values that hang on what is sent, and not only on its shape."""
    tainted: set[str] = set()
    for node in model.graph:
        reads = [value.name if value is not None else None for value in node.inputs]
        made = {value.name for value in node.outputs if value.name}
        told = any(index < len(reads) and reads[index] in given for index in _SIZED_BY.get(node.op_type, ()))
        if told or node.op_type in _BY_DATA or tainted.intersection(reads):
            tainted |= made
        if node.op_type not in _OF_SHAPES and given.intersection(reads):
            given |= made
    return frozenset(tainted & set(names))
