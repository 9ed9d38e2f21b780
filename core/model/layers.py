"""One description per node of the graph: what people and the cost model want to know of it."""

from __future__ import annotations

import re
from collections.abc import Mapping

import onnx_ir as ir

from core.model.shapes import nbytes
from core.model.types import Layer
from core.model.work import multiply_adds

Concrete = Mapping[str, tuple[tuple[int, ...] | None, str]]


def describe_layers(model: ir.Model, shapes: Concrete) -> tuple[Layer, ...]:
    counted: set[str] = set()
    return tuple(_describe(index, node, shapes, counted) for index, node in enumerate(model.graph))


def _describe(index: int, node: ir.Node, shapes: Concrete, counted: set[str]) -> Layer:
    parameters = parameter_bytes = 0
    for value in used_values(node):
        tensor = value.const_value
        if value.is_initializer() and tensor is not None and value.name not in counted:
            counted.add(value.name or "")
            parameters += tensor.size
            parameter_bytes += tensor.nbytes
    inputs = [_shape(value, shapes) for value in node.inputs]
    outputs = [_shape(value, shapes) for value in node.outputs]
    return Layer(
        index=index,
        name=node.name or f"{node.op_type}_{index}",
        op=node.op_type if not node.domain else f"{node.domain}.{node.op_type}",
        group=module_path(node),
        parameters=parameters,
        parameter_bytes=parameter_bytes,
        macs=multiply_adds(node, inputs, outputs),
        outputs=tuple(value.name or "" for value in node.outputs),
        output_shape=outputs[0] if outputs else None,
        output_bytes=sum(nbytes(*shapes.get(value.name or "", (None, ""))) for value in node.outputs),
    )


def _shape(value: ir.Value | None, shapes: Concrete) -> tuple[int, ...] | None:
    return None if value is None or not value.name else shapes.get(value.name, (None, ""))[0]


def used_values(node: ir.Node) -> list[ir.Value]:
    """The node's inputs and, for nodes with subgraphs, what those take from outside; in order, each once."""
    found: dict[ir.Value, None] = dict.fromkeys(value for value in node.inputs if value is not None)
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            found |= dict.fromkeys(_captured(attribute.as_graph()))
        elif attribute.type == ir.AttributeType.GRAPHS:
            for subgraph in attribute.as_graphs():
                found |= dict.fromkeys(_captured(subgraph))
    return list(found)


def _captured(subgraph: ir.Graph) -> list[ir.Value]:
    inside = [value for node in subgraph for value in used_values(node)]
    return [value for value in (*inside, *subgraph.outputs) if value.graph is not subgraph]


_SCOPES = ("pkg.torch.onnx.name_scopes", "pkg.onnxscript.name_scopes")
_WORD = re.compile(r"'([^']*)'|\"([^\"]*)\"")


def _relative(scopes: list[str]) -> list[str]:
    """["model", "model.h", "model.h.0"] -> ["model", "h", "h.0"], for a bare number says little."""
    short: list[str] = []
    for index, scope in enumerate(scopes):
        outer = f"{scopes[index - 1]}." if index else ""
        own = scope.removeprefix(outer)
        short.append(f"{short[-1]}.{own}" if own.isdigit() and short else own)
    return short


def module_path(node: ir.Node) -> str:
    """Where the exporter's module tree holds this node: "layer1/layer1.0/conv1"; "" where the file does not tell."""
    for key in _SCOPES:
        if key in node.metadata_props:
            names = [a or b for a, b in _WORD.findall(node.metadata_props[key])]
            return "/".join(_relative([name for name in names[:-1] if name]))
    if "namespace" in node.metadata_props:
        parts = [part.split(":")[0].strip() for part in node.metadata_props["namespace"].split("/")]
        return "/".join(part for part in parts[:-1] if part)
    name = (node.name or "").strip("/")
    if name.startswith("dims/"):
        return ""
    return name.rsplit("/", 1)[0] if "/" in name else ""
