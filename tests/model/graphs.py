"""Small graphs written out by hand, and the judge that a cleaned one still computes the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from core.model.graph import Model
from core.model.reader import open_model

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
Dims = Sequence[int | str | None]


def tensor(name: str, dims: Dims | None, dtype: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, dims)


def weight(name: str, *shape: int, seed: int = 0) -> onnx.TensorProto:
    values = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return numpy_helper.from_array(values, name)


def constant(name: str, values: object, dtype: type = np.int64) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, dtype=dtype), name)


def write(
    folder: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    initializers: Sequence[onnx.TensorProto] = (),
    *,
    name: str = "model",
    opset: int = 17,
    ir_version: int = 8,
    domains: Mapping[str, int] | None = None,
    functions: Sequence[onnx.FunctionProto] = (),
) -> Path:
    graph = helper.make_graph(list(nodes), name, list(inputs), list(outputs), list(initializers))
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, v) for d, v in (domains or {}).items())]
    model = helper.make_model(graph, opset_imports=imports, ir_version=ir_version, functions=list(functions))
    path = folder / f"{name}.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def mlp(folder: Path, *, batch: int | str | None = "n", name: str = "mlp") -> Path:
    """x [n, 4] -> Gemm -> Relu -> MatMul -> Add -> y [n, 3]."""
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h"], name="first"),
        helper.make_node("Relu", ["h"], ["r"], name="relu"),
        helper.make_node("MatMul", ["r", "w2"], ["m"], name="second"),
        helper.make_node("Add", ["m", "b2"], ["y"], name="shift"),
    ]
    weights = [weight("w1", 4, 8), weight("b1", 8), weight("w2", 8, 3), weight("b2", 3)]
    return write(folder, nodes, [tensor("x", [batch, 4])], [tensor("y", [batch, 3])], weights, name=name)


def run_file(path: Path, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The file as it is, by onnxruntime."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feed)), strict=True))


def run_graph(model: Model, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The cleaned graph, by onnxruntime."""
    from core.model.session import run_session, start_session

    return run_session(start_session(model.ir, threads=1), feed)


def assert_same(got: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray]) -> None:
    assert list(got) == list(wanted)
    for name, array in wanted.items():
        assert got[name].shape == array.shape
        assert got[name].dtype == array.dtype
        np.testing.assert_allclose(got[name], array, rtol=1e-4, atol=1e-5)


def opened(path: Path, feed: Mapping[str, np.ndarray] | None = None) -> Model:
    """The model, after checking that cleaning left its results alone on ``feed`` or a random one."""
    model = open_model(path)
    feed = feed if feed is not None else model.random_feed(model.fixed_batch or 3)
    assert_same(run_graph(model, feed), run_file(path, feed))
    return model


def run_in_two(model: Model, position: int, feed: Mapping[str, np.ndarray], batch: int = 3) -> dict[str, np.ndarray]:
    """The cleaned graph cut at ``position``: the second part knows only the feed, the weights and what crosses."""
    cut = model.cuts(batch)[position - 1]
    assert cut.position == position
    nodes = list(model.ir.graph)
    names = [value.name or "" for value in model.ir.graph.outputs]
    first = [node.name for node in nodes[:position]]
    second = [node.name for index, node in enumerate(nodes) if index >= position or index in cut.recomputed]
    early = [name for name in names if any(v.name == name for node in nodes[:position] for v in node.outputs)]
    crossing = _run_part(model, first, dict(feed), [*cut.tensors, *(n for n in early if n not in cut.tensors)])
    given = {**feed, **{name: crossing[name] for name in cut.tensors}}
    late = _run_part(model, second, given, [name for name in names if name not in early])
    return {name: {**crossing, **late, **feed}[name] for name in names}


def _run_part(
    model: Model, keep: Sequence[str | None], given: Mapping[str, np.ndarray], wanted: Sequence[str]
) -> dict[str, np.ndarray]:
    from core.model.session import aligned, graph_proto

    if not wanted:
        return {}
    proto = graph_proto(model.ir, large="input")
    graph = proto.graph
    nodes = [node for node in graph.node if node.name in keep]
    weights = {v.name: v.const_value for v in model.ir.graph.initializers.values()}
    made = {name for node in nodes for name in node.output}
    used = {name for node in nodes for name in node.input}
    feed = {name: aligned(weights[name].numpy()) for name in used & weights.keys()}
    feed |= {name: array for name, array in given.items() if name in used and name not in made}
    inline = {tensor.name for tensor in graph.initializer}
    part = helper.make_graph(
        nodes,
        "part",
        [
            tensor(name, array.shape, helper.np_dtype_to_tensor_dtype(array.dtype))
            for name, array in feed.items()
            if name not in inline
        ],
        [onnx.ValueInfoProto(name=name) for name in wanted],
        [entry for entry in graph.initializer if entry.name in used],
    )
    whole = onnx.ModelProto(ir_version=proto.ir_version, opset_import=proto.opset_import, graph=part)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(whole.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    return dict(zip(wanted, session.run(list(wanted), {name: feed[name] for name in names}), strict=True))
