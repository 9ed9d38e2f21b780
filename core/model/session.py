"""Turn the cleaned graph into protos without weights, and into onnxruntime sessions fed from the mapped weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

INLINE_LIMIT: Final = 1024
"""Initializers of at most this many bytes stay inside the graph: shape inference needs their values."""

_PLAIN: Final = frozenset("?bhilqBHILQefd")

RUNTIME_ERRORS: Final[tuple[type[Exception], ...]] = (
    ort_state.EngineError,
    ort_state.EPFail,
    ort_state.Fail,
    ort_state.InvalidArgument,
    ort_state.InvalidGraph,
    ort_state.InvalidProtobuf,
    ort_state.NoModel,
    ort_state.NoSuchFile,
    ort_state.NotImplemented,
    ort_state.RuntimeException,
    RuntimeError,
    ValueError,
)
"""What onnxruntime raises for a graph or a feed it cannot run; its own exceptions have no common base."""

Runner = Callable[[Mapping[str, np.ndarray]], list[np.ndarray]]


def dtype_name(dtype: ir.DataType | None) -> str:
    """numpy's name of an ONNX element type, "" where it is unknown or has none."""
    if dtype is None or dtype in (ir.DataType.UNDEFINED, ir.DataType.STRING):
        return "string" if dtype == ir.DataType.STRING else ""
    return str(dtype.numpy().name)


def is_large(value: ir.Value) -> bool:
    tensor = value.const_value
    return tensor is not None and tensor.nbytes > INLINE_LIMIT


def graph_proto(
    model: ir.Model, *, large: Literal["external", "input"], extra_outputs: Iterable[str] = (), shapes: bool = True
) -> onnx.ModelProto:
    """The model without the data of its large initializers; the given model is not touched.

    ``large`` initializers are declared as external tensors, or become inputs. ``shapes`` False leaves out the
    declared shapes of outputs. ``extra_outputs`` names intermediate values to hand out as well.
    """
    graph = model.graph
    proto = onnx.ModelProto(ir_version=model.ir_version, producer_name="shardboard")
    for domain, version in graph.opset_imports.items():
        proto.opset_import.add(domain=domain, version=version)
    proto.graph.name = graph.name or "graph"
    proto.graph.input.extend(ir.serde.serialize_value(value) for value in graph.inputs)
    for value in graph.initializers.values():
        _declare_initializer(proto.graph, value, large)
    proto.graph.node.extend(ir.serde.serialize_node(node) for node in graph)
    for value in graph.outputs:
        declared = proto.graph.output.add()
        if shapes or value.type is None:
            ir.serde.serialize_value_into(declared, value)
        else:
            declared.name = value.name or ""
            ir.serde.serialize_type_into(declared.type, value.type)
    known = {value.name for value in graph.outputs}
    for name in extra_outputs:
        if name not in known:
            proto.graph.output.add(name=name)
    return proto


def _declare_initializer(graph: onnx.GraphProto, value: ir.Value, large: Literal["external", "input"]) -> None:
    tensor = value.const_value
    assert tensor is not None
    if not is_large(value) or (large == "external" and not is_plain(tensor)):
        proto = graph.initializer.add()
        proto.CopyFrom(inline_tensor(tensor))
        proto.name = value.name or ""
    elif large == "input":
        graph.input.add().CopyFrom(
            onnx.helper.make_tensor_value_info(value.name, int(tensor.dtype), tensor.shape.numpy())
        )
    else:
        proto = graph.initializer.add(name=value.name, data_type=int(tensor.dtype), dims=tensor.shape.numpy())
        proto.data_location = onnx.TensorProto.EXTERNAL
        proto.external_data.add(key="location", value="weights")


def inline_tensor(tensor: ir.TensorProtocol) -> onnx.TensorProto:
    """The tensor with its data inside, also where it lies in a file."""
    if isinstance(tensor, ir.ExternalTensor):
        return onnx.TensorProto(data_type=int(tensor.dtype), dims=tensor.shape.numpy(), raw_data=tensor.tobytes())
    return ir.serde.serialize_tensor(tensor)


def is_plain(tensor: ir.TensorProtocol) -> bool:
    """Whether numpy itself knows the element type."""
    return tensor.dtype != ir.DataType.STRING and tensor.dtype.numpy().char in _PLAIN


def session_options(threads: int = 0) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return options


def start_session(model: ir.Model, *, threads: int = 0, extra_outputs: Iterable[str] = ()) -> ort.InferenceSession:
    """A session for the whole model; weights are read where they lie, not copied into the graph.

    Raises whatever onnxruntime raises where it cannot run the model.
    """
    proto = graph_proto(model, large="external", extra_outputs=extra_outputs)
    options = session_options(threads)
    names, values = [], []
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if tensor is not None and is_large(value) and is_plain(tensor):
            names.append(value.name)
            values.append(ort.OrtValue.ortvalue_from_numpy(aligned(mapped(tensor))))
    if names:
        options.add_external_initializers(names, values)
    return ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def mapped(tensor: ir.TensorProtocol) -> np.ndarray:
    """The tensor's values; those in a file are mapped anew, since onnx_ir's own mapping is not for several threads."""
    if not isinstance(tensor, ir.ExternalTensor) or tensor.size == 0:
        return tensor.numpy()
    dtype = np.dtype(tensor.dtype.numpy()).newbyteorder("<")
    return np.memmap(tensor.path, dtype, mode="r", offset=tensor.offset or 0, shape=tuple(tensor.shape.numpy()))


def aligned(array: np.ndarray) -> np.ndarray:
    """The array itself, or a copy where its place in a file is not a multiple of its element size."""
    return np.ascontiguousarray(array) if array.flags.aligned else np.array(array, order="C")


def run_session(session: ort.InferenceSession, feed: Mapping[str, np.ndarray]) -> dict[str, Any]:
    names = [output.name for output in session.get_outputs()]
    wanted = {entry.name for entry in session.get_inputs()}
    return dict(zip(names, session.run(names, {k: v for k, v in feed.items() if k in wanted}), strict=True))


def _session_of(path: Path, threads: int) -> ort.InferenceSession | None:
    try:
        return ort.InferenceSession(str(path), session_options(threads), providers=["CPUExecutionProvider"])
    except RUNTIME_ERRORS:
        return None


def whole_model(model: ir.Model, original: Path | None, threads: int) -> Runner:
    """Runs the file ``original``; the graph itself where there is none, or where onnxruntime is stricter with the file
    than it need be (two nodes of one name). Outputs in the graph's order.
    """
    session = (_session_of(original, threads) if original else None) or start_session(model, threads=threads)
    names = [value.name for value in model.graph.outputs]
    wanted = {value.name for value in model.graph.inputs}

    def run(feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        return list(session.run(names, {name: array for name, array in feed.items() if name in wanted}))

    return run
