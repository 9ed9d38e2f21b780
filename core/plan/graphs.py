"""Write a fragment of a model as a shard's graph: an ONNX file without its large weights.

The bytes depend on nothing but the fragment: the same request always gives the same SHA-256, so a node that holds the
graph already does not get it again. What exporters add for themselves (stack traces, documentation) is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np
import onnx
import onnx_ir as ir
from msgspec import Struct

from core.errors import PlanError
from core.model.graph import Model
from core.plan.blobs import BLOB_DTYPES, TensorBytes, hash_tensors
from core.plan.extract import Fragment
from core.plan.form import Port, Weight

INLINE_BYTES: Final = 1024
"""Initializers up to this size stay in the graph."""
MAX_GRAPH_BYTES: Final = 2**31 - 2**20
"""A protobuf message ends at 2 GiB."""
REPACKED: Final = frozenset({"Conv", "ConvTranspose"})
PASSED: Final = "/passed_on"
"""Ending of a shard's output that repeats a model input or a constant."""


class ShardGraph(Struct, frozen=True):
    """A shard's graph and what it is joined by."""

    data: bytes
    """A serialized ONNX ModelProto."""
    weights: tuple[Weight, ...]
    tensors: tuple[TensorBytes, ...]
    """The bytes of ``weights``, in the same order."""
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    output_values: tuple[str, ...]
    """The model's value behind each output."""
    repacked_bytes: int
    """Of ``weights``: those of convolutions."""


def shard_graph(model: Model, fragment: Fragment) -> ShardGraph:
    """Build the graph of ``fragment``. PlanError when a tensor that must travel cannot."""
    nodes = list(model.ir.graph)
    values = _Values(model)
    inputs = tuple(values.port(name, name) for name in fragment.inputs)
    made = {value.name for layer in fragment.layers for value in nodes[layer].outputs}
    passed = {name: f"{name}{PASSED}" for name in fragment.outputs if name not in made}
    outputs = tuple(values.port(name, passed.get(name, name)) for name in fragment.outputs)

    graph = onnx.GraphProto(name="shard")
    functions: set[ir.OperatorIdentifier] = set()
    for layer in fragment.layers:
        graph.node.append(_node_proto(nodes[layer]))
        functions.update(_operators(nodes[layer]))
    graph.node.extend(onnx.helper.make_node("Identity", [old], [new], name=new) for old, new in passed.items())
    graph.input.extend(values.declare(name, port) for name, port in zip(fragment.inputs, inputs, strict=True))
    graph.output.extend(values.declare(name, port) for name, port in zip(fragment.outputs, outputs, strict=True))
    weights, tensors = _add_constants(graph, model, fragment.constants)
    data = _model_proto(model, graph, functions).SerializeToString(deterministic=True)
    twice = [nodes[layer] for layer in fragment.layers if is_repacked(nodes[layer])]
    read = {value.name for node in twice for value in node.inputs if value is not None}
    repacked = sum(weight.nbytes for weight in weights if weight.name in read)
    return ShardGraph(data, weights, tensors, inputs, outputs, fragment.outputs, repacked)


def is_repacked(node: ir.Node) -> bool:
    """Whether onnxruntime keeps the node's weights twice.

    An agent's growth over the bytes of its weights with onnxruntime 1.31: ResNet-50 1.98, BERT-base 1.05, GPT-2 1.07.
    """
    return node.op_type in REPACKED


class _Values:
    """Types and shapes of a model's values, as a shard declares them."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._types = model.shapes(2)
        self._values: dict[str, ir.Value] = {value.name or "": value for value in model.ir.graph.inputs}
        self._values |= model.ir.graph.initializers
        for node in model.ir.graph:
            self._values |= {value.name: value for value in node.outputs if value.name}

    def port(self, name: str, port_name: str) -> Port:
        dtype = self._types.get(name, (None, ""))[1]
        kind = self._values[name].type
        if kind is not None and not isinstance(kind, ir.TensorType):
            raise PlanError(
                f"The value {name!r} is not a tensor but {kind}, so it cannot travel between machines.",
                hint="Move the cut to another layer.",
            )
        if dtype not in BLOB_DTYPES:
            raise PlanError(
                f"The tensor {name!r} is of {f'type {dtype}' if dtype else 'unknown type'}, "
                "which cannot travel between machines.",
                hint="Move the cut to another layer.",
            )
        return Port(port_name, dtype, self._model.varying(name))

    def declare(self, name: str, port: Port) -> onnx.ValueInfoProto:
        """A graph input or output; a dimension that varies keeps the exporter's name for it."""
        kind = int(ir.DataType.from_numpy(np.dtype(port.dtype)))
        if port.shape is None:
            return onnx.helper.make_tensor_value_info(port.name, kind, None)
        declared = self._values[name].shape
        named = (
            list(declared) if declared is not None and len(declared) == len(port.shape) else [None] * len(port.shape)
        )
        dims = [
            dim if dim is not None else getattr(symbol, "value", None) or f"{name}.{axis}"
            for axis, (dim, symbol) in enumerate(zip(port.shape, named, strict=True))
        ]
        return onnx.helper.make_tensor_value_info(port.name, kind, dims)


def _node_proto(node: ir.Node) -> onnx.NodeProto:
    proto = ir.to_proto(node)
    _strip(proto)
    for attribute in proto.attribute:
        _inline(attribute, node.attributes[attribute.name])
    return proto


def _strip(proto: onnx.NodeProto) -> None:
    """Leave out documentation and the exporter's stack traces, in subgraphs too."""
    proto.ClearField("doc_string")
    proto.ClearField("metadata_props")
    for attribute in proto.attribute:
        attribute.ClearField("doc_string")
        for graph in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
            graph.ClearField("doc_string")
            graph.ClearField("metadata_props")
            for node in graph.node:
                _strip(node)


def _inline(proto: onnx.AttributeProto, attribute: ir.Attr) -> None:
    """A subgraph's own weights travel inside the graph: only those of the outermost graph can be fed from blobs."""
    if attribute.is_ref():
        return
    pairs: list[tuple[onnx.GraphProto, ir.Graph]] = []
    if attribute.type == ir.AttributeType.GRAPH:
        pairs = [(proto.g, attribute.as_graph())]
    elif attribute.type == ir.AttributeType.GRAPHS:
        pairs = list(zip(proto.graphs, attribute.as_graphs(), strict=True))
    for graph_proto, graph in pairs:
        for tensor in graph_proto.initializer:
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                held = graph.initializers[tensor.name].const_value
                assert held is not None
                tensor.CopyFrom(_inline_tensor(tensor.name, held))
        for node_proto, node in zip(graph_proto.node, graph, strict=True):
            for inner in node_proto.attribute:
                _inline(inner, node.attributes[inner.name])


def _add_constants(
    graph: onnx.GraphProto, model: Model, names: tuple[str, ...]
) -> tuple[tuple[Weight, ...], tuple[TensorBytes, ...]]:
    """Declare initializers: small ones with their values, the others to be fed from blobs."""
    external: list[tuple[str, ir.TensorProtocol]] = []
    for name in names:
        tensor = model.ir.graph.initializers[name].const_value
        assert tensor is not None, f"initializer {name!r} has no value"
        if tensor.nbytes <= INLINE_BYTES or tensor.dtype.name == "STRING" or _dtype_name(tensor) not in BLOB_DTYPES:
            graph.initializer.append(_inline_tensor(name, tensor))
        else:
            external.append((name, tensor))
    shas = hash_tensors(tensor for _, tensor in external)
    weights = []
    for (name, tensor), sha in zip(external, shas, strict=True):
        shape = tuple(tensor.shape.numpy())
        declared = graph.initializer.add(name=name, data_type=int(tensor.dtype), dims=shape)
        declared.data_location = onnx.TensorProto.EXTERNAL
        declared.external_data.add(key="location", value="blob")
        weights.append(Weight(name, _dtype_name(tensor), shape, sha, tensor.nbytes))
    return tuple(weights), tuple(TensorBytes(tensor) for _, tensor in external)


def _dtype_name(tensor: ir.TensorProtocol) -> str:
    return tensor.dtype.numpy().name


def _inline_tensor(name: str, tensor: ir.TensorProtocol) -> onnx.TensorProto:
    if isinstance(tensor, ir.ExternalTensor):
        tensor = ir.Tensor(tensor.numpy(), dtype=tensor.dtype)
    proto = ir.to_proto(tensor)
    proto.ClearField("doc_string")
    proto.ClearField("metadata_props")
    proto.name = name
    return proto


def _operators(node: ir.Node) -> Iterator[ir.OperatorIdentifier]:
    yield node.op_identifier()
    for attribute in node.attributes.values():
        if attribute.is_ref():
            continue
        graphs: tuple[ir.Graph, ...] = ()
        if attribute.type == ir.AttributeType.GRAPH:
            graphs = (attribute.as_graph(),)
        elif attribute.type == ir.AttributeType.GRAPHS:
            graphs = tuple(attribute.as_graphs())
        for graph in graphs:
            for inner in graph:
                yield from _operators(inner)


def _used_functions(
    functions: Mapping[ir.OperatorIdentifier, ir.Function], used: set[ir.OperatorIdentifier]
) -> list[ir.Function]:
    """The model's functions that ``used`` operators call, directly or through others, in the model's order."""
    reached: set[ir.OperatorIdentifier] = set()
    pending = [key for key in used if key in functions]
    while pending:
        key = pending.pop()
        if key not in reached:
            reached.add(key)
            pending += [inner for node in functions[key] for inner in _operators(node) if inner in functions]
    return [function for key, function in functions.items() if key in reached]


def _model_proto(model: Model, graph: onnx.GraphProto, used: set[ir.OperatorIdentifier]) -> onnx.ModelProto:
    proto = onnx.ModelProto(ir_version=model.ir.ir_version, producer_name="shardboard", graph=graph)
    proto.opset_import.extend(
        onnx.helper.make_opsetid(domain, version) for domain, version in sorted(model.ir.opset_imports.items())
    )
    for function in _used_functions(model.ir.functions, used):
        function_proto = ir.to_proto(function)
        function_proto.ClearField("doc_string")
        function_proto.ClearField("metadata_props")
        for node in function_proto.node:
            _strip(node)
        proto.functions.append(function_proto)
    if (size := proto.ByteSize()) > MAX_GRAPH_BYTES:
        raise PlanError(
            f"A shard's graph would take {size / 2**30:.1f} GiB without its weights; ONNX allows 2 GiB.",
            hint="Use more stages.",
        )
    return proto
