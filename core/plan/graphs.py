"""Write a program as a shard's graph: an ONNX file without its large weights.

The bytes depend on nothing but the program: the same request always gives the same SHA-256, so a node that holds the
graph already does not get it again. What exporters add for themselves (stack traces, documentation) is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import numpy as np
import onnx
import onnx_ir as ir
from msgspec import Struct

from core.errors import PlanError
from core.model.graph import Model
from core.plan.blobs import BLOB_DTYPES, TensorBytes
from core.plan.form import Port, Weight
from core.plan.older_opsets import in_opset
from core.plan.passing import PASSED
from core.plan.program import Constant, Op, Program
from core.plan.weight_hashes import hash_weights
from core.plan.weight_slices import Take

INLINE_BYTES: Final = 1024
"""Initializers up to this size stay in the graph."""
MAX_GRAPH_BYTES: Final = 2**31 - 2**20
"""A protobuf message ends at 2 GiB."""
REPACKED: Final = frozenset({"Conv", "ConvTranspose"})
"""Operators whose weights onnxruntime reorders while it loads a graph."""


class ShardGraph(Struct, frozen=True):
    """A shard's graph and what it is joined by."""

    data: bytes
    """A serialized ONNX ModelProto."""
    weights: tuple[Weight, ...]
    tensors: tuple[TensorBytes, ...]
    """The bytes of ``weights``, in the same order."""
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    repacked_bytes: int
    """Of ``weights``: those of convolutions, which are held twice while the graph is loaded."""


class GraphWriter:
    """Writes programs as graphs; what it looks up in the model it looks up once for all of them."""

    def __init__(self, model: Model) -> None:
        self._model = model.ir
        self._opset = model.opset
        self._values: dict[str, ir.Value] = {value.name or "": value for value in model.ir.graph.inputs}
        for node in model.ir.graph:
            self._values.update((value.name, value) for value in node.outputs if value.name)
        self._inline: dict[tuple[str, int, Take], tuple[Constant, onnx.TensorProto]] = {}
        """Small constants as they were written; each is held, so that its id stays its own."""

    def write(self, program: Program) -> ShardGraph:
        """The graph of ``program``; every output is made by one of its operators (``passing`` sees to that).

        PlanError when a tensor that must travel cannot.
        """
        ops = [self._suited(op, program) for op in program.ops]
        inputs = tuple(self._port(name, program) for name in program.inputs)
        outputs = tuple(self._port(name, program) for name in program.outputs)
        graph = onnx.GraphProto(name="shard")
        graph.node.extend(_named_apart(_node_proto(op) for op in ops))
        graph.input.extend(map(self._declared, inputs))
        graph.output.extend(map(self._declared, outputs))
        read = {name for op in ops for name in op.reads}
        weights, tensors = self._add_constants(
            graph, [(n, c) for n, c in sorted(program.constants.items()) if n in read]
        )
        data = self._model_proto(graph, ops).SerializeToString(deterministic=True)
        twice = {name for op in ops if op.type in REPACKED for name in op.inputs}
        repacked = sum(weight.nbytes for weight in weights if weight.name in twice)
        return ShardGraph(data, weights, tensors, inputs, outputs, repacked)

    def _suited(self, op: Op, program: Program) -> Op:
        """Operators that were added are written for a recent operator set; the model's may be older."""
        return in_opset(op, self._opset, program.constants) if op.layer < 0 and not op.domain else op

    def _port(self, name: str, program: Program) -> Port:
        held = program.types[name]
        value = self._values.get(name)
        if value is not None and value.type is not None and not isinstance(value.type, ir.TensorType):
            raise PlanError(
                f"The value {name!r} is not a tensor but {value.type}, so it cannot travel between machines.",
                hint="Move the cut to another layer.",
            )
        if held.dtype not in BLOB_DTYPES:
            raise PlanError(
                f"The tensor {name!r} is of {f'type {held.dtype}' if held.dtype else 'unknown type'}, "
                "which cannot travel between machines.",
                hint="Move the cut to another layer.",
            )
        return Port(name, held.dtype, held.port_shape)

    def _declared(self, port: Port) -> onnx.ValueInfoProto:
        """A graph input or output; a dimension that varies keeps the exporter's name for it."""
        kind = int(ir.DataType.from_numpy(np.dtype(port.dtype)))
        if port.shape is None:
            return onnx.helper.make_tensor_value_info(port.name, kind, None)
        value = self._values.get(port.name.removesuffix(PASSED))
        declared = value.shape if value is not None else None
        named = declared if declared is not None and len(declared) == len(port.shape) else (None,) * len(port.shape)
        dims = [
            dim if dim is not None else getattr(symbol, "value", None) or f"{port.name}.{axis}"
            for axis, (dim, symbol) in enumerate(zip(port.shape, named, strict=True))
        ]
        return onnx.helper.make_tensor_value_info(port.name, kind, dims)

    def _add_constants(
        self, graph: onnx.GraphProto, constants: Sequence[tuple[str, Constant]]
    ) -> tuple[tuple[Weight, ...], tuple[TensorBytes, ...]]:
        """Declare initializers: small ones with their values, the others to be fed from blobs."""
        blobs: list[tuple[str, Constant]] = []
        for name, constant in constants:
            if _is_blob(constant):
                blobs.append((name, constant))
            else:
                key = (name, id(constant.tensor), constant.take)
                if key not in self._inline:
                    self._inline[key] = constant, _inline_constant(name, constant)
                graph.initializer.append(self._inline[key][1])
        tensors = tuple(TensorBytes(constant.tensor, constant.take) for _, constant in blobs)
        weights = []
        for (name, constant), tensor, sha in zip(blobs, tensors, hash_weights(tensors), strict=True):
            shape = constant.shape
            declared = graph.initializer.add(name=name, data_type=int(constant.tensor.dtype), dims=shape)
            declared.data_location = onnx.TensorProto.EXTERNAL
            declared.external_data.add(key="location", value="blob")
            weights.append(Weight(name, constant.dtype, shape, sha, tensor.nbytes))
        return tuple(weights), tensors

    def _model_proto(self, graph: onnx.GraphProto, ops: Sequence[Op]) -> onnx.ModelProto:
        proto = onnx.ModelProto(ir_version=self._model.ir_version, producer_name="shardboard", graph=graph)
        versions = {op.domain: 1 for op in ops if op.domain} | dict(self._model.opset_imports)
        proto.opset_import.extend(
            onnx.helper.make_opsetid(domain, version) for domain, version in sorted(versions.items())
        )
        for function in self._used_functions(ops):
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

    def _used_functions(self, ops: Sequence[Op]) -> list[ir.Function]:
        """The model's functions that ``ops`` call, directly or through others, in the model's order."""
        functions = self._model.functions
        if not functions:
            return []
        reached: set[ir.OperatorIdentifier] = set()
        pending = [key for op in ops for key in _called(op) if key in functions]
        while pending:
            key = pending.pop()
            if key not in reached:
                reached.add(key)
                pending += [inner for node in functions[key] for inner in _operators(node) if inner in functions]
        return [function for key, function in functions.items() if key in reached]


def shard_graph(model: Model, program: Program) -> ShardGraph:
    """The graph of one program; for many of one model keep a ``GraphWriter``."""
    return GraphWriter(model).write(program)


def weights_of(program: Program) -> list[TensorBytes]:
    """The weights of ``program`` that travel as blobs, in the order of their names."""
    return [TensorBytes(c.tensor, c.take) for _, c in sorted(program.constants.items()) if _is_blob(c)]


def _named_apart(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """A graph in which two nodes have one name is invalid; the copies of an operator that several levels write do."""
    taken: set[str] = set()
    for node in nodes:
        while node.name and node.name in taken:
            node.name += "'"
        taken.add(node.name)
        yield node


def _node_proto(op: Op) -> onnx.NodeProto:
    proto = onnx.NodeProto(op_type=op.type, domain=op.domain, name=op.name, input=op.inputs, output=op.outputs)
    if op.overload:
        proto.overload = op.overload
    for attribute in op.attributes.values():
        written = ir.serde.serialize_attribute(attribute)
        _strip_attribute(written)
        _inline(written, attribute)
        proto.attribute.append(written)
    return proto


def _strip(proto: onnx.NodeProto) -> None:
    """Leave out documentation and the exporter's stack traces, in subgraphs too."""
    proto.ClearField("doc_string")
    proto.ClearField("metadata_props")
    for attribute in proto.attribute:
        _strip_attribute(attribute)


def _strip_attribute(attribute: onnx.AttributeProto) -> None:
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


def _is_blob(constant: Constant) -> bool:
    tensor = constant.tensor
    if tensor.dtype == ir.DataType.STRING or tensor.nbytes <= INLINE_BYTES or constant.nbytes <= INLINE_BYTES:
        return False
    return constant.dtype in BLOB_DTYPES


def _inline_constant(name: str, constant: Constant) -> onnx.TensorProto:
    if not constant.take:
        return _inline_tensor(name, constant.tensor)
    array = np.ascontiguousarray(constant.numpy())
    if constant.tensor.dtype == ir.DataType.STRING:
        return _inline_tensor(name, ir.StringTensor(array, shape=ir.Shape(array.shape)))
    return _inline_tensor(name, ir.Tensor(array, dtype=constant.tensor.dtype))


def _inline_tensor(name: str, tensor: ir.TensorProtocol) -> onnx.TensorProto:
    if isinstance(tensor, ir.ExternalTensor):
        tensor = ir.Tensor(tensor.numpy(), dtype=tensor.dtype)
    proto = ir.serde.serialize_tensor(tensor)
    proto.ClearField("doc_string")
    proto.ClearField("metadata_props")
    proto.name = name
    return proto


def _called(op: Op) -> Iterator[ir.OperatorIdentifier]:
    yield op.domain, op.type, op.overload
    yield from _inner_operators(op.attributes)


def _operators(node: ir.Node) -> Iterator[ir.OperatorIdentifier]:
    yield node.op_identifier()
    yield from _inner_operators(node.attributes)


def _inner_operators(attributes: Mapping[str, ir.Attr]) -> Iterator[ir.OperatorIdentifier]:
    for attribute in attributes.values():
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
