"""Runs the programs of several ranks or leaves as one graph of onnxruntime, without shards and routes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from graphlib import TopologicalSorter
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime as ort
from onnx import helper, numpy_helper

from core.model.graph import Model
from core.plan.exchange import Hop
from core.plan.form import Slice
from core.plan.group import GroupProgram
from core.plan.layouts import Layout, Replicated, Split
from core.plan.older_opsets import in_opset
from core.plan.outline import OUTSIDE, Partition
from core.plan.program import Constant, Op, Program
from tests.plan.in_process import added_up, cut

Array = npt.NDArray[Any]
Place = tuple[int, str]
"""A value by the number of its program, and its name there."""


class Way(NamedTuple):
    """A value, cut, that one program has from another."""

    source: Place
    target: Place
    slices: tuple[Slice, ...]


def run_joined(
    programs: Sequence[Program],
    ways: Sequence[Way],
    feed: Mapping[Place, Array],
    wanted: Sequence[Place],
    opsets: Mapping[str, int],
) -> dict[Place, Array]:
    """The values ``wanted``. Every program's inputs come from ``feed`` or by a way."""
    nodes = [node for number, program in enumerate(programs) for node in _nodes(number, program, opsets[""])]
    constants = {_name((n, name)): c for n, p in enumerate(programs) for name, c in p.constants.items()}
    for number, way in enumerate(ways):
        held = _name(way.source)
        for one in way.slices:
            made = f"way{number}/{one.axis}"
            bounds = [np.array([x], np.int64) for x in (one.start, one.stop, one.axis)]
            names = [f"{made}/{x}" for x in ("start", "stop", "axis")]
            constants.update((n, Constant(ir.Tensor(b))) for n, b in zip(names, bounds, strict=True))
            cutting = Op("Slice", (held, *names), (made,))
            nodes.append(_proto(in_opset(cutting, opsets[""], constants), ""))
            held = made
        nodes.append(helper.make_node("Identity", [held], [_name(way.target)]))
    ordered = _needed(nodes, {_name(place) for place in wanted})
    read = {name for node in ordered for name in _reads(node)} | {_name(place) for place in wanted}
    given = {_name(place): np.asarray(array) for place, array in feed.items() if _name(place) in read}
    graph = helper.make_graph(
        ordered,
        "joined",
        [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in given.items()],
        [onnx.ValueInfoProto(name=name) for name in dict.fromkeys(map(_name, wanted))],
        [numpy_helper.from_array(np.asarray(c.numpy(), order="C"), n) for n, c in constants.items() if n in read],
    )
    imports = [helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    made = helper.make_model(graph, opset_imports=imports, ir_version=10)
    session = ort.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = list(dict.fromkeys(map(_name, wanted)))
    arrays = dict(zip(names, session.run(names, given), strict=True))
    return {place: np.asarray(arrays[_name(place)]) for place in wanted}


def run_partition(model: Model, partition: Partition, feed: Mapping[str, Array]) -> dict[str, Array]:
    """The model's outputs by name, from the leaves of replica 0."""
    programs = [leaf.program for leaf in partition.leaves if leaf.replica == 0]
    within = [t for t in partition.transfers if max(t.source, t.target) < len(programs)]
    ways = [Way((t.source, t.value), (t.target, t.name), t.slices) for t in within if min(t.source, t.target) >= 0]
    given = {(t.target, t.name): cut(feed[t.value], t.slices) for t in within if t.source == OUTSIDE}
    results = [t for t in within if t.target == OUTSIDE]
    arrays = run_joined(programs, ways, given, [(t.source, t.value) for t in results], dict(model.ir.opset_imports))
    pieces: dict[str, dict[int, list[tuple[tuple[Slice, ...], Array]]]] = {}
    for t in results:
        piece = t.at, cut(arrays[t.source, t.value], t.slices)
        pieces.setdefault(t.name, {}).setdefault(t.term or 0, []).append(piece)
    return {name: added_up(found) for name, found in pieces.items()}


def ways_of(hops: Sequence[Hop]) -> list[Way]:
    return [Way((hop.source, hop.value), (hop.target, hop.name), hop.slices) for hop in hops]


def run_group(divided: GroupProgram, feed: Mapping[str, Array], opsets: Mapping[str, int]) -> dict[Place, Array]:
    """What every rank holds of every output, in every form: by rank and local name."""
    given = {(one.rank, one.name): cut(feed[one.value], one.slices) for one in divided.imports}
    wanted = [
        (rank, name)
        for forms in divided.exports.values()
        for names in forms.values()
        for rank, name in enumerate(names)
        if name is not None
    ]
    programs = [program.finished() for program in divided.programs]
    return run_joined(programs, ways_of(divided.hops), given, wanted, opsets)


def part_of(array: Array, layout: Layout, rank: int) -> Array:
    """What a rank holds of an array that is split or replicated."""
    if isinstance(layout, Replicated):
        return array
    assert isinstance(layout, Split)
    pieces = [np.take(array, range(*one), axis=layout.axis) for one in layout.parts[rank]]
    return np.concatenate(pieces, axis=layout.axis)


def _name(place: Place) -> str:
    return f"{place[0]}|{place[1]}" if place[1] else ""


def _nodes(number: int, program: Program, opset: int) -> Iterator[onnx.NodeProto]:
    for op in program.ops:
        node = _proto(in_opset(op, opset, program.constants), f"{number}|")
        captured = {name: _name((number, name)) for name in op.captures}
        for attribute in node.attribute:
            _rename(attribute, captured)
        yield node


def _proto(op: Op, prefix: str) -> onnx.NodeProto:
    inputs = [f"{prefix}{name}" if name else "" for name in op.inputs]
    outputs = [f"{prefix}{name}" if name else "" for name in op.outputs]
    node = onnx.NodeProto(op_type=op.type, domain=op.domain, input=inputs, output=outputs)
    node.attribute.extend(ir.to_proto(attribute) for attribute in op.attributes.values())
    return node


def _rename(attribute: onnx.AttributeProto, names: Mapping[str, str]) -> None:
    for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
        for node in graph.node:
            node.input[:] = [names.get(name, name) for name in node.input]
            for inner in node.attribute:
                _rename(inner, names)


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    yield from filter(None, node.input)
    for attribute in node.attribute:
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            for inner in graph.node:
                yield from _reads(inner)


def _needed(nodes: Sequence[onnx.NodeProto], wanted: Collection[str]) -> list[onnx.NodeProto]:
    """Those from which ``wanted`` comes, in an order in which they can run."""
    maker = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    assert len(maker) == sum(1 for node in nodes for name in node.output if name), "a name is made twice"
    waits: dict[int, set[int]] = {}
    pending = [maker[name] for name in wanted if name in maker]
    while pending:
        index = pending.pop()
        if index not in waits:
            waits[index] = {maker[name] for name in _reads(nodes[index]) if name in maker}
            pending += waits[index]
    return [nodes[index] for index in TopologicalSorter(waits).static_order()]
