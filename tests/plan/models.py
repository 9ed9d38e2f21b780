"""Small models for the tests, written as ONNX text or node by node."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from core.model.graph import Model
from core.model.reader import model_from_ir
from core.plan.form import NodeId, PlanRequest, Sha256

WIDTH = 20
"""A matrix of this width has 1600 bytes: it travels as a blob."""


def node_ids(count: int) -> tuple[NodeId, ...]:
    return tuple(NodeId(f"node{i:036d}") for i in range(count))


def request(strategy: str, nodes: int, batch: int = 2, cuts: tuple[int, ...] | None = None) -> PlanRequest:
    return PlanRequest(strategy, node_ids(nodes), batch, cuts)


def to_model(proto: onnx.ModelProto, name: str = "test") -> Model:
    sha = Sha256(hashlib.sha256(proto.SerializeToString(deterministic=True)).hexdigest())
    return model_from_ir(ir.serde.deserialize_model(proto), name=name, sha256=sha)


def matrix(name: str, seed: int = 0, width: int = WIDTH) -> TensorProto:
    values = np.random.default_rng(seed).standard_normal((width, width)) / np.sqrt(width)
    return numpy_helper.from_array(values.astype(np.float32), name)


def build(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[str | onnx.ValueInfoProto],
    initializers: Sequence[TensorProto] = (),
    opset: int = 17,
) -> onnx.ModelProto:
    declared = [
        output
        if isinstance(output, onnx.ValueInfoProto)
        else helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
        for output in outputs
    ]
    graph = helper.make_graph(list(nodes), "test", list(inputs), declared, list(initializers))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def rows(name: str, width: int = WIDTH, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, ["N", width])


def chain(layers: int, width: int = WIDTH) -> Model:
    """x -> MatMul -> Relu -> MatMul -> Relu ... -> y; ``layers`` matrices."""
    nodes, weights, value = [], [], "x"
    for step in range(layers):
        weights.append(matrix(f"w{step}", step, width))
        nodes.append(helper.make_node("MatMul", [value, f"w{step}"], [f"m{step}"], name=f"product{step}"))
        value = "y" if step == layers - 1 else f"r{step}"
        nodes.append(helper.make_node("Relu", [f"m{step}"], [value], name=f"relu{step}"))
    return to_model(build(nodes, [rows("x", width)], [rows("y", width)], weights), "chain")


def skipping() -> Model:
    """Four products in a row; the first one's result is also added after the last, over all stages between."""
    weights = [matrix(f"w{i}", i) for i in range(4)]
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["a"]),
        helper.make_node("MatMul", ["a", "w1"], ["b"]),
        helper.make_node("MatMul", ["b", "w2"], ["c"]),
        helper.make_node("MatMul", ["c", "w3"], ["d"]),
        helper.make_node("Add", ["d", "a"], ["e"]),
        helper.make_node("Add", ["e", "z"], ["y"]),
    ]
    return to_model(build(nodes, [rows("x"), rows("z")], [rows("b"), rows("y")], weights), "skipping")
