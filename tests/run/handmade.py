"""Plans written by hand: shards of a few operators, joined by the routes that a test wants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx
from msgspec import Struct
from onnx import TensorProto, helper

from core.plan.blobs import BlobSource, GraphBytes, sha256_of
from core.plan.compile import CompiledPlan
from core.plan.division import Division
from core.plan.form import NodeId, Plan, PlanRequest, Port, Route, Sha256, Shard, ShardId
from core.plan.outline import Outline

Dims = tuple[int | None, ...]


class Step(Struct, frozen=True):
    """One shard: operators given as (type, inputs, outputs), its inputs and outputs with their dimensions."""

    node: int
    operators: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...]
    inputs: Mapping[str, Dims]
    outputs: Mapping[str, Dims]
    replica: int = 0
    rank: int = 0
    attributes: Mapping[str, object] = {}
    """Of every operator."""


def handmade(nodes: Sequence[NodeId], steps: Sequence[Step], routes: Sequence[Route], micro_batch: int) -> CompiledPlan:
    """Step i is shard i."""
    blobs = {}
    shards = []
    for number, step in enumerate(steps):
        graph = graph_of(step)
        sha = sha256_of(graph)
        blobs[sha] = GraphBytes(graph)
        shards.append(_shard(number, nodes[step.node], step, sha, len(graph)))
    request = PlanRequest("tensor", tuple(nodes), micro_batch)
    plan = Plan(Sha256("0" * 64), "handmade", request, tuple(shards), tuple(routes))
    outline = Outline(request, (), plan.routes, (), Division((), (), 1.0))
    return CompiledPlan(plan, BlobSource(blobs), outline)


def graph_of(step: Step) -> bytes:
    nodes = [
        helper.make_node(kind, list(inputs), list(outputs), **step.attributes)
        for kind, inputs, outputs in step.operators
    ]
    graph = helper.make_graph(
        nodes,
        "handmade",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in step.inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in step.outputs.items()],
    )
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()


def _shard(number: int, node: NodeId, step: Step, graph: Sha256, nbytes: int) -> Shard:
    return Shard(
        id=ShardId(number),
        node=node,
        label=f"step {number}",
        replica=step.replica,
        stage=0,
        rank=step.rank,
        graph=graph,
        graph_nbytes=nbytes,
        weights=(),
        inputs=tuple(Port(name, "float32", dims) for name, dims in step.inputs.items()),
        outputs=tuple(Port(name, "float32", dims) for name, dims in step.outputs.items()),
        activation_bytes=1 << 16,
    )
