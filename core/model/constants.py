"""Work out beforehand what depends on nothing but constants, where the result is small.

A weight that a graph computes (a fill, a transposed table) stays as it is: folding must never enlarge a model.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort

from core.model.chance import CHANCE
from core.model.layers import used_values
from core.model.session import RUNTIME_ERRORS, inline_tensor, is_plain, session_options
from core.model.shapes import Known, concrete, infer, nbytes, shape_base

_SMALL: Final = 16 * 1024
_LARGEST: Final = 1024 * 1024
_LEFT_ALONE: Final = CHANCE | frozenset(
    {
        "Dropout",  # random, while training
        # onnxruntime fuses these with their neighbours
        "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear",
    }
)  # fmt: skip


def fold_constants(model: ir.Model) -> bool:
    """Replace nodes of constants by their results; True if any was."""
    candidates = [node for node in _constant_nodes(model.graph) if _may_fold(node)]
    if not candidates:
        return False
    known = infer(shape_base(model), {})
    chosen: dict[ir.Node, None] = {}
    for node in candidates:
        ready = all(v is None or _is_constant(v) or v.producer() in chosen for v in node.inputs)
        size = _size(node, known) if ready else None
        if size is not None and (size <= _SMALL or size <= min(_LARGEST, _freed(node))):
            chosen[node] = None
    return bool(chosen) and _replace(model, list(chosen))


def _constant_nodes(graph: ir.Graph) -> list[ir.Node]:
    found: dict[ir.Node, None] = {}
    for node in graph:
        if all(v is None or _is_constant(v) or v.producer() in found for v in node.inputs) and not _has_subgraph(node):
            found[node] = None
    return list(found)


def _size(node: ir.Node, known: Known) -> int | None:
    """Bytes of all results, None where that cannot be told before running."""
    total = 0
    for value in node.outputs:
        dims, dtype = known.get(value.name or "", (None, ""))
        shape = concrete(dims)
        if value.name and (shape is None or not dtype):
            return None
        total += nbytes(shape, dtype)
    return total


def _may_fold(node: ir.Node) -> bool:
    if node.domain or node.op_type in _LEFT_ALONE:
        return False
    return not any(value.is_graph_output() for value in node.outputs)


def _has_subgraph(node: ir.Node) -> bool:
    return any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values())


def _is_constant(value: ir.Value) -> bool:
    return value.is_initializer() and value.const_value is not None


def _freed(node: ir.Node) -> int:
    """Bytes of constants that nobody else uses."""
    constants = {value for value in node.inputs if value is not None and _is_constant(value)}
    return sum(v.const_value.nbytes for v in constants if v.const_value is not None and len(v.uses()) == 1)


def _replace(model: ir.Model, nodes: list[ir.Node]) -> bool:
    inside = set(nodes)
    wanted = [
        value
        for node in nodes
        for value in node.outputs
        if value.name and any(n not in inside for n, _ in value.uses())
    ]
    results = _evaluate(model, nodes, wanted)
    for value in wanted:
        array = results.get(value.name or "")
        if array is not None:
            replace_by_constant(model.graph, value, array)
    return bool(results)


def _evaluate(model: ir.Model, nodes: list[ir.Node], wanted: list[ir.Value]) -> dict[str, np.ndarray]:
    proto = onnx.ModelProto(ir_version=model.ir_version)
    for domain, version in model.graph.opset_imports.items():
        proto.opset_import.add(domain=domain, version=version)
    proto.graph.name = "constants"
    constants = {value for node in nodes for value in node.inputs if value is not None and _is_constant(value)}
    for value in constants:
        tensor = value.const_value
        if tensor is None or not is_plain(tensor):
            return {}
        proto.graph.initializer.add().CopyFrom(inline_tensor(tensor))
        proto.graph.initializer[-1].name = value.name or ""
    proto.graph.node.extend(ir.serde.serialize_node(node) for node in nodes)
    names = [value.name or "" for value in wanted]
    for name in names:
        proto.graph.output.add(name=name)
    try:
        session = ort.InferenceSession(
            proto.SerializeToString(), session_options(1), providers=["CPUExecutionProvider"]
        )
        results = session.run(names, {})
    except RUNTIME_ERRORS:
        return {}  # then the graph stays as it is, which is right too
    return {name: array for name, array in zip(names, results, strict=True) if isinstance(array, np.ndarray)}


def replace_by_constant(graph: ir.Graph, value: ir.Value, array: np.ndarray) -> None:
    """Whoever used ``value`` uses a new initializer of the same name instead."""
    name = value.name or "constant"
    value.name = f"{name}/folded"
    constant = ir.Value(
        name=name, shape=ir.Shape(array.shape), type=ir.TensorType(ir.DataType.from_numpy(array.dtype)),
        const_value=ir.tensor(array, name=name),
    )  # fmt: skip
    graph.register_initializer(constant)
    value.replace_all_uses_with(constant)


def sink_constant_nodes(graph: ir.Graph) -> None:
    """Move each node that makes a constant to just before the first other node that needs it."""
    constant = _constant_nodes(graph)
    sinking = set(constant)
    place = {node: index for index, node in enumerate(graph)}
    anchors: dict[ir.Value, ir.Node] = {}
    for node in graph:
        if node not in sinking:
            for value in used_values(node):
                anchors.setdefault(value, node)
    for node in reversed(constant):
        users = [anchors[value] for value in node.outputs if value in anchors]
        if users:
            first = min(users, key=place.__getitem__)
            for value in used_values(node):
                anchors[value] = min(first, anchors.get(value, first), key=place.__getitem__)
    for node in constant:
        users = [anchors[value] for value in node.outputs if value in anchors]
        if users:
            graph.remove(node)
            graph.insert_before(min(users, key=place.__getitem__), node)
