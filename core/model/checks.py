"""Whether a model can be run here, told in words that name the node and the operator."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import onnx
import onnx_ir as ir
import onnxruntime as ort

from core.errors import ModelError
from core.model.session import RUNTIME_ERRORS, graph_proto, session_options, start_session

OLDEST_OPSET: Final = 7
_ONNX_DOMAINS: Final = frozenset({"", "ai.onnx"})
_RUNTIME_DOMAINS: Final = frozenset(
    {
        "ai.onnx.ml", "ai.onnx.preview", "ai.onnx.preview.training", "ai.onnx.training", "com.microsoft",
        "com.microsoft.experimental", "com.microsoft.nchwc", "com.ms.internal.nhwc",
    }
)  # fmt: skip
_AGAIN: Final = "Export the model again."
_OTHER_OPSET: Final = "Export it again with another operator set (opset_version)."


def check_proto(proto: onnx.ModelProto, name: str) -> None:
    """What can be told from the graph alone: operator sets, operators, element types. Raises ModelError."""
    opset = max((entry.version for entry in proto.opset_import if entry.domain in _ONNX_DOMAINS), default=None)
    newest = onnx.defs.onnx_opset_version()
    if opset is not None and opset > newest:
        raise ModelError(
            f"{name} uses ONNX operator set {opset}; the newest known here is {newest}.", hint=_OTHER_OPSET
        )
    if opset is not None and opset < OLDEST_OPSET:
        raise ModelError(
            f"{name} uses ONNX operator set {opset}; the oldest that is understood is {OLDEST_OPSET}.",
            hint="Convert it with onnx.version_converter, or export it again.",
        )
    own = {(function.domain, function.name) for function in proto.functions}
    for node in _nodes(proto.graph):
        if (node.domain, node.op_type) not in own:
            _check_operator(node, opset, name)
    _check_values(proto.graph, frozenset(), name)
    _check_types(proto, name)


def _check_values(graph: onnx.GraphProto, outer: frozenset[str], name: str) -> None:
    """Whatever is used is made somewhere in the graph or around it."""
    known = outer | {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    known |= {tensor.values.name for tensor in graph.sparse_initializer}
    known |= {output for node in graph.node for output in node.output}
    for node in graph.node:
        for used in node.input:
            if used and used not in known:
                raise ModelError(f"{name} is damaged: {_where(node)} uses '{used}', which nothing makes.", hint=_AGAIN)
        for attribute in node.attribute:
            for subgraph in [attribute.g] if attribute.HasField("g") else list(attribute.graphs):
                _check_values(subgraph, known, name)
    for value in graph.output:
        if value.name not in known:
            raise ModelError(f"{name} is damaged: nothing makes its output '{value.name}'.", hint=_AGAIN)


def _where(node: onnx.NodeProto) -> str:
    return f"node '{node.name}'" if node.name else f"the node that makes '{node.output[0] if node.output else '?'}'"


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _nodes(attribute.g)
            elif attribute.type == onnx.AttributeProto.GRAPHS:
                for subgraph in attribute.graphs:
                    yield from _nodes(subgraph)


def _check_operator(node: onnx.NodeProto, opset: int | None, name: str) -> None:
    where = _where(node)
    if not isinstance(node.op_type, str) or not isinstance(node.domain, str):  # protobuf gives bytes for damaged text
        raise ModelError(f"{name} is damaged: {where} has no readable operator.", hint=_AGAIN)
    if node.domain not in _ONNX_DOMAINS:
        if node.domain not in _RUNTIME_DOMAINS:
            raise ModelError(
                f"{name} uses operator {node.op_type} of the domain '{node.domain}' ({where}), "
                "which onnxruntime does not have.",
                hint="Export the model with standard ONNX operators.",
            )
        return
    if opset is None:
        raise ModelError(f"{name} does not say which ONNX operator set it uses.", hint=_AGAIN)
    if not onnx.defs.has(node.op_type):
        raise ModelError(
            f"{name} uses operator {node.op_type} ({where}), which ONNX does not have.",
            hint="Export the model with standard ONNX operators.",
        )
    try:
        onnx.defs.get_schema(node.op_type, opset)
    except onnx.defs.SchemaError:
        raise ModelError(
            f"{name} uses operator {node.op_type} ({where}), which operator set {opset} does not have.",
            hint=_OTHER_OPSET,
        ) from None


def _check_types(proto: onnx.ModelProto, name: str) -> None:
    constants = {tensor.name for tensor in proto.graph.initializer}
    for kind, values in (("input", proto.graph.input), ("output", proto.graph.output)):
        for value in values:
            if value.name in constants:
                continue
            held = value.type.WhichOneof("value")
            if held not in ("tensor_type", None):
                what = held.removesuffix("_type").replace("_", " ")
                raise ModelError(
                    f"The {kind} '{value.name}' of {name} is a {what}, not a tensor.",
                    hint="Export it with plain tensors (with skl2onnx: zipmap=False)." if kind == "output" else "",
                )
            if value.type.tensor_type.elem_type == onnx.TensorProto.STRING:
                raise _strings(kind, value.name, name)
    for tensor in proto.graph.initializer:
        if tensor.data_type == onnx.TensorProto.STRING:
            raise _strings("constant", tensor.name, name)
    if proto.graph.sparse_initializer:
        raise ModelError(f"{name} holds sparse constants, which are not understood.", hint="Export dense weights.")


def _strings(kind: str, value: str, name: str) -> ModelError:
    return ModelError(
        f"The {kind} '{value}' of {name} holds text; only numbers can be sent.",
        hint="Leave tokenising and labels out of the exported model.",
    )


def check_runnable(model: ir.Model, name: str) -> None:
    """Let onnxruntime look at the graph, without its weights; where it refuses, the whole model decides.

    Raises ModelError.
    """
    options = session_options(1)
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        data = graph_proto(model, large="input").SerializeToString()
        ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except RUNTIME_ERRORS:
        try:
            start_session(model, threads=1)
        except RUNTIME_ERRORS as error:
            raise ModelError(_in_words(str(error), name), hint=_hint(str(error))) from error


_MISSING: Final = re.compile(r"Could not find an implementation for (\w+)\((\d+)\) node with name '([^']*)'")
_NEWER: Final = re.compile(r"Opset (\d+) is under development.*till opset (\d+)", re.DOTALL)
_UNREGISTERED: Final = re.compile(r"(?:Fatal error: |No Op registered for )([\w.:]+)")


def _in_words(error: str, name: str) -> str:
    missing, unregistered = _MISSING.search(error), _UNREGISTERED.search(error)
    newer = _NEWER.search(error)
    if newer:
        return f"{name} uses ONNX operator set {newer[1]}; onnxruntime {ort.__version__} runs sets up to {newer[2]}."
    if missing:
        operator, opset, node = missing.groups()
        return (
            f"onnxruntime {ort.__version__} cannot run operator {operator} (operator set {opset}, node '{node}') of "
            f"{name} with the element types it is given."
        )
    if unregistered:
        return f"onnxruntime {ort.__version__} does not know operator {unregistered[1]}, which {name} uses."
    return f"onnxruntime {ort.__version__} cannot run {name}: {first_line(error)}"


def _hint(error: str) -> str:
    return _OTHER_OPSET if re.search(r"opset|implementation|registered", error, re.IGNORECASE) else ""


def first_line(error: str) -> str:
    """onnxruntime's message without its prefix and its later lines."""
    lines = error.strip().splitlines()
    return re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", lines[0]) if lines else "no reason given"
