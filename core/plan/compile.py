"""From what a person asks for to shards and routes: the same request on the same model always gives the same plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import msgspec
from msgspec import Struct

from core.cost.predict import predict
from core.cost.types import Machine, Profile
from core.errors import PlanError
from core.model.graph import Model
from core.plan.blobs import BlobSource, Bytes, GraphBytes, sha256_of
from core.plan.draft import Costs, Draft, Part
from core.plan.extract import Fragment
from core.plan.form import CLIENT, NodeId, Plan, PlanRequest, Route, Sha256, Shard, ShardId
from core.plan.graphs import ShardGraph, shard_graph
from core.plan.liveness import peak_bytes
from core.plan.pipeline import pipeline
from core.plan.replicate import replicate
from core.plan.rules import validate_plan
from core.plan.single import single

Strategy = Callable[[Model, PlanRequest, Costs], Draft]

STRATEGIES: Final[Mapping[str, Strategy]] = MappingProxyType(
    {"single": single, "replicate": replicate, "pipeline": pipeline}
)


class CompiledPlan(Struct, frozen=True):
    plan: Plan
    blobs: BlobSource
    """Every graph and weight that the plan names."""


def compile_plan(
    model: Model,
    request: PlanRequest,
    *,
    profile: Profile | None = None,
    speeds: Mapping[NodeId, float] | None = None,
    machines: Mapping[NodeId, Machine] | None = None,
) -> CompiledPlan:
    """Work ``request`` out for ``model``.

    ``profile`` and ``speeds`` decide the cuts that the request leaves open (the request kept in the plan says which
    were chosen); with ``machines`` they give notes on what slows it, as when one node alone is faster. PlanError in
    words when the request makes no sense for this model.
    """
    strategy = STRATEGIES.get(request.strategy)
    if strategy is None:
        raise PlanError(f"There is no strategy {request.strategy!r}.", hint=f"Choose from {', '.join(STRATEGIES)}.")
    _check_request(model, request)
    draft = strategy(model, request, Costs(profile, speeds or {}))
    graphs: dict[Fragment, ShardGraph] = {}
    for part in draft.parts:
        if part.fragment not in graphs:
            graphs[part.fragment] = shard_graph(model, part.fragment)
    named = {fragment: sha256_of(graph.data) for fragment, graph in graphs.items()}
    activation = {fragment: peak_bytes(model, fragment, request.micro_batch, draft.graph) for fragment in graphs}
    shards = tuple(
        _shard(ShardId(i), part, graphs[part.fragment], named[part.fragment], activation[part.fragment])
        for i, part in enumerate(draft.parts)
    )
    settled = msgspec.structs.replace(request, cuts=draft.cuts)
    told = predict(profile, model, settled, speeds or {}, machines or {}).notes if profile is not None else ()
    plan = Plan(
        model=model.sha256,
        model_name=model.name,
        request=settled,
        shards=shards,
        routes=_routes(draft, graphs),
        notes=(*draft.notes, *told),
    )
    validate_plan(plan)
    return CompiledPlan(plan, _blobs(graphs, named))


def micro_batch_for(model: Model, wanted: int | None = None) -> int:
    """The micro-batch nearest to ``wanted`` that the model allows: its own where that is fixed, else 1 by default."""
    if model.fixed_batch is not None:
        return model.fixed_batch
    return max(1, wanted or 1) if model.batchable else 1


def _check_request(model: Model, request: PlanRequest) -> None:
    if not request.nodes:
        raise PlanError("A plan needs at least one node.")
    twice = sorted({node for node in request.nodes if request.nodes.count(node) > 1})
    if twice:
        raise PlanError(f"Node {twice[0]} is given more than once.", hint="Give each node once.")
    if request.micro_batch < 1:
        raise PlanError(f"A micro-batch has at least 1 item, not {request.micro_batch}.")
    allowed = micro_batch_for(model, request.micro_batch)
    if request.micro_batch != allowed:
        why = f"has a fixed batch of {allowed}" if model.fixed_batch is not None else "takes one item at a time"
        raise PlanError(
            f"This model {why}; a micro-batch of {request.micro_batch} does not fit.",
            hint=f"Use a micro-batch of {allowed}.",
        )
    if not model.inputs:
        raise PlanError("This model has no inputs, so there is nothing to send it.")
    if not model.outputs:
        raise PlanError("This model has no outputs, so there is nothing to run it for.")


def _shard(shard_id: ShardId, part: Part, graph: ShardGraph, named: Sha256, activation: int) -> Shard:
    return Shard(
        id=shard_id,
        node=part.node,
        label=part.label,
        replica=part.replica,
        stage=part.stage,
        rank=part.rank,
        graph=named,
        graph_nbytes=len(graph.data),
        weights=graph.weights,
        inputs=graph.inputs,
        outputs=graph.outputs,
        activation_bytes=activation,
        repacked_bytes=graph.repacked_bytes,
    )


def _routes(draft: Draft, graphs: Mapping[Fragment, ShardGraph]) -> tuple[Route, ...]:
    """Join the parts of each replica by the values they share, and with the client."""
    makers: dict[tuple[int, str], ShardId] = {}
    routes: list[Route] = []
    for i, part in enumerate(draft.parts):
        for value in part.fragment.outputs:
            makers[part.replica, value] = ShardId(i)
    for i, part in enumerate(draft.parts):
        graph = graphs[part.fragment]
        for value in part.fragment.inputs:
            producer = CLIENT if value in draft.graph.inputs else makers[part.replica, value]
            routes.append(Route(producer, value, ShardId(i), value))
        routes += [
            Route(ShardId(i), port.name, CLIENT, value)
            for value, port in zip(graph.output_values, graph.outputs, strict=True)
            if value in draft.graph.outputs
        ]
    return tuple(routes)


def _blobs(graphs: Mapping[Fragment, ShardGraph], named: Mapping[Fragment, Sha256]) -> BlobSource:
    blobs: dict[Sha256, Bytes] = {}
    for fragment, graph in graphs.items():
        blobs[named[fragment]] = GraphBytes(graph.data)
        for weight, tensor in zip(graph.weights, graph.tensors, strict=True):
            blobs[weight.blob] = tensor
    return BlobSource(blobs)
