"""From what a person asks for to shards and routes: the same request on the same model always gives the same plan."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import msgspec
from msgspec import Struct

from core.cost.dataflow import predict_outline
from core.cost.links import UNKNOWN, Links
from core.cost.predict import predict
from core.cost.types import Machine, Profile
from core.errors import PlanError
from core.model.graph import Model
from core.plan.blobs import BlobSource, Bytes, GraphBytes, sha256_of
from core.plan.draft import Costs
from core.plan.form import NodeId, Plan, PlanRequest, Sha256, Shard
from core.plan.graphs import GraphWriter, ShardGraph, weights_of
from core.plan.hybrid import nested
from core.plan.liveness import peak_bytes
from core.plan.outline import Outline, Part, Partition
from core.plan.pins import check_pins
from core.plan.pipeline import pipeline
from core.plan.program import Program
from core.plan.replicate import replicate
from core.plan.rules import validate_plan
from core.plan.schedule import outline
from core.plan.single import single
from core.plan.weight_hashes import hash_weights

Strategy = Callable[[Model, PlanRequest, Costs], Partition]

STRATEGIES: Final[Mapping[str, Strategy]] = MappingProxyType(
    {"single": single, "replicate": replicate, "pipeline": pipeline, "tensor": nested, "spatial": nested}
)
_PREDICTED: Final = frozenset({"single", "replicate", "pipeline"})
"""Strategies that ``core.cost.predict`` knows from the request alone."""


class CompiledPlan(Struct, frozen=True):
    plan: Plan
    blobs: BlobSource
    """Every graph and weight that the plan names."""
    outline: Outline
    """What the plan was made from: part i is shard i."""


class _Written(Struct, frozen=True):
    """A program as an agent gets it."""

    graph: ShardGraph
    sha: Sha256
    activation_bytes: int


def outline_plan(
    model: Model,
    request: PlanRequest,
    *,
    profile: Profile | None = None,
    speeds: Mapping[NodeId, float] | None = None,
    machines: Mapping[NodeId, Machine] | None = None,
    links: Links = UNKNOWN,
    foretold: bool = True,
) -> Outline:
    """Work ``request`` out for ``model`` as far as a prediction needs it: no graph is written and no weight read.

    What is known of ``profile``, ``speeds``, ``machines`` and ``links`` decides what the request leaves open (the
    request kept in the outline says which cuts were chosen). Where it is ``foretold``, by sums, there are notes on what
    slows it, as when one node alone is faster. PlanError in words when the request makes no sense for this model.
    """
    strategy = strategy_named(request.strategy)
    _check_request(model, request)
    costs = Costs(profile, speeds or {}, machines or {}, links)
    found = outline(model, request, strategy(model, request, costs))
    told = _told(model, found, costs) if foretold else ()
    return msgspec.structs.replace(found, notes=(*found.notes, *told))


def compile_plan(
    model: Model,
    request: PlanRequest,
    *,
    profile: Profile | None = None,
    speeds: Mapping[NodeId, float] | None = None,
    machines: Mapping[NodeId, Machine] | None = None,
    links: Links = UNKNOWN,
) -> CompiledPlan:
    """Work ``request`` out for ``model``: as ``outline_plan``, with graphs written and weights hashed.

    PlanError also where a tensor that must travel cannot; ModelError where a weight cannot be read.
    """
    known = outline_plan(model, request, profile=profile, speeds=speeds, machines=machines, links=links)
    return compile_outline(model, known)


def compile_outline(model: Model, found: Outline) -> CompiledPlan:
    """Write the graphs of an outline of ``model`` and hash its weights. Errors as those of ``compile_plan``."""
    written = _write(model, [part.program for part in found.parts])
    plan = Plan(
        model=model.sha256,
        model_name=model.name,
        request=found.request,
        shards=tuple(_shard(part, written[id(part.program)]) for part in found.parts),
        routes=found.routes,
        notes=found.notes,
    )
    validate_plan(plan)
    return CompiledPlan(plan, _blobs(written.values()), found)


def strategy_named(text: str) -> Strategy:
    """The strategy that a request names; any other text is read as a nesting of them."""
    return STRATEGIES.get(text, nested)


def _told(model: Model, found: Outline, costs: Costs) -> tuple[str, ...]:
    """Notes of a prediction."""
    if costs.profile is None:
        return ()
    if found.request.strategy in _PREDICTED:
        return predict(costs.profile, model, found.request, costs.speeds, costs.machines, costs.links).notes
    return predict_outline(costs.profile, found, model, costs.speeds, costs.machines, costs.links).notes


def _write(model: Model, programs: Sequence[Program]) -> dict[int, _Written]:
    """Each program's graph, by the program's id; all weights are hashed first, side by side."""
    distinct = {id(program): program for program in programs}
    hash_weights(weight for program in distinct.values() for weight in weights_of(program))
    writer = GraphWriter(model)
    written = {}
    for key, program in distinct.items():
        graph = writer.write(program)
        written[key] = _Written(graph, sha256_of(graph.data), peak_bytes(program))
    return written


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
    check_pins(model, request)
    if not model.inputs:
        raise PlanError("This model has no inputs, so there is nothing to send it.")
    if not model.outputs:
        raise PlanError("This model has no outputs, so there is nothing to run it for.")


def _shard(part: Part, written: _Written) -> Shard:
    graph = written.graph
    return Shard(
        id=part.id,
        node=part.node,
        label=part.label,
        replica=part.replica,
        stage=part.stage,
        rank=part.rank,
        graph=written.sha,
        graph_nbytes=len(graph.data),
        weights=graph.weights,
        inputs=graph.inputs,
        outputs=graph.outputs,
        activation_bytes=written.activation_bytes,
        repacked_bytes=graph.repacked_bytes,
    )


def _blobs(written: Iterable[_Written]) -> BlobSource:
    blobs: dict[Sha256, Bytes] = {}
    for one in written:
        blobs[one.sha] = GraphBytes(one.graph.data)
        for weight, tensor in zip(one.graph.weights, one.graph.tensors, strict=True):
            blobs[weight.blob] = tensor
    return BlobSource(blobs)
