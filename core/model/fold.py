"""Clean a graph so that it can be shown, measured and cut; what it computes stays the same.

Functions are inlined, constants become initializers, whatever can be worked out beforehand is, nodes that do nothing
or that nobody uses go, and every node and value has a name of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import onnx_ir as ir
from onnx_ir.passes.common import (
    InlinePass,
    LiftConstantsToInitializersPass,
    LiftSubgraphInitializersToMainGraphPass,
    RemoveInitializersFromInputsPass,
)

from core.model.constants import fold_constants, sink_constant_nodes
from core.model.session import dtype_name
from core.model.shapes import infer, shape_base
from core.model.static import fold_static_shapes

_ROUNDS: Final = 4
_MIN_IR: Final = 8
"""From IR version 4 on initializers need not be inputs; 8 is understood by every onnxruntime in use."""


def clean(model: ir.Model) -> ir.Model:
    """The model itself, changed in place."""
    if model.functions:
        InlinePass()(model)
    model.ir_version = max(model.ir_version, _MIN_IR)
    RemoveInitializersFromInputsPass()(model)
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    LiftSubgraphInitializersToMainGraphPass()(model)
    sort_if_needed(model.graph)
    remove_identities(model.graph)
    remove_unused(model.graph)
    remove_needless_casts(model)
    for _ in range(_ROUNDS):
        changed = fold_static_shapes(model)
        changed |= fold_constants(model)
        remove_unused(model.graph)
        if not changed:
            break
    remove_identities(model.graph)
    remove_unused(model.graph)
    sink_constant_nodes(model.graph)
    name_everything(model.graph)
    return model


def sort_if_needed(graph: ir.Graph) -> None:
    """Topological order; an order that is one already is kept."""
    seen: set[ir.Node] = set()
    for node in graph:
        for value in node.inputs:
            producer = value.producer() if value is not None else None
            if producer is not None and producer.graph is graph and producer not in seen:
                graph.sort()
                return
        seen.add(node)


def remove_identities(graph: ir.Graph) -> None:
    """Take out Identity, and Dropout as it is in inference."""
    for node in list(graph):
        if not _does_nothing(node):
            continue
        source, result = node.inputs[0], node.outputs[0]
        if source is None or (result.is_graph_output() and not _can_take_name(source, graph)):
            continue
        if result.is_graph_output():
            name = result.name
            result.replace_all_uses_with(source, replace_graph_outputs=True)
            result.name = f"{name}/unused"
            source.name = name
        else:
            result.replace_all_uses_with(source)
        if source.shape is None and result.shape is not None:
            source.shape = result.shape
        if source.type is None:
            source.type = result.type
        graph.remove(node, safe=True)


def _does_nothing(node: ir.Node) -> bool:
    if node.domain or not node.inputs:
        return False
    if node.op_type == "Identity" or (node.op_type in _OF_ONE and len(node.inputs) == 1):
        return True
    if node.op_type != "Dropout" or any(output.uses() or output.is_graph_output() for output in node.outputs[1:]):
        return False
    training = node.inputs[2] if len(node.inputs) > 2 else None
    if training is None:
        return True
    return training.const_value is not None and not bool(training.const_value.numpy())


_OF_ONE: Final = frozenset({"Concat", "Sum", "Max", "Min", "Mean"})
"""With a single input these hand it on."""


def remove_needless_casts(model: ir.Model) -> bool:
    """Take out casts to the type a value has already; True if there was one."""
    casts = [node for node in model.graph if node.op_type == "Cast" and not node.domain]
    if not casts:
        return False
    known = infer(shape_base(model), {})
    changed = False
    for node in casts:
        source, result = node.inputs[0], node.outputs[0]
        target = dtype_name(ir.DataType(node.attributes["to"].as_int()))
        if source is None or result.is_graph_output() or known.get(source.name or "", (None, ""))[1] != target:
            continue
        result.replace_all_uses_with(source)
        model.graph.remove(node, safe=True)
        changed = True
    return changed


def _can_take_name(source: ir.Value, graph: ir.Graph) -> bool:
    """A value may become the model's output itself, if it is made by a node here and is not one already."""
    producer = source.producer()
    return producer is not None and producer.graph is graph and not source.is_graph_output()


def remove_unused(graph: ir.Graph) -> None:
    """Nodes and initializers that lead to no output."""
    for node in reversed(list(graph)):
        if not any(value.uses() or value.is_graph_output() for value in node.outputs):
            graph.remove(node, safe=True)
    for name, value in list(graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            del graph.initializers[name]


def name_everything(graph: ir.Graph) -> None:
    """Unique names for all nodes, and for all values that have a name (those without are left-out outputs)."""
    taken = {value.name for value in (*graph.inputs, *graph.outputs)}
    fixed = {*graph.inputs, *graph.outputs}
    values = (*graph.initializers.values(), *_made(graph))
    for value in values:
        if value.name and value not in fixed:
            value.name = _free(value.name, taken)
            taken.add(value.name)
    names: set[str] = set()
    for index, node in enumerate(_all_nodes(graph)):
        node.name = _free(node.name or f"{node.op_type}_{index}", names)
        names.add(node.name)


def _made(graph: ir.Graph) -> Iterator[ir.Value]:
    for node in _all_nodes(graph):
        yield from node.outputs


def _all_nodes(graph: ir.Graph) -> Iterator[ir.Node]:
    return iter(ir.traversal.RecursiveGraphIterator(graph))


def _free(name: str, taken: set[str] | set[str | None]) -> str:
    candidate, count = name, 1
    while candidate in taken:
        count += 1
        candidate = f"{name}_{count}"
    return candidate
