"""From a model and ready nodes to a compiled plan with its prediction: what plan, run and bench have in common."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from core.cluster.client import Cluster
from core.cluster.machines import machines_of
from core.cluster.node import Node
from core.commands.output import Progress
from core.commands.wanted import Wanted, placed
from core.cost.dataflow import predict_outline
from core.cost.links import UNKNOWN, Links
from core.cost.predict import balanced_cuts, is_predicted, predict
from core.cost.profile import profile_model
from core.cost.types import Machine, Prediction, Profile
from core.errors import PlanError
from core.model.graph import Model
from core.plan.auto import Objective, best_plan
from core.plan.compile import CompiledPlan, compile_plan, micro_batch_for
from core.plan.form import NodeId, PlanRequest
from core.plan.strategy_text import PIPELINE
from core.run.report import Predicted

MICRO_BATCH: Final = 8


class Costs(Struct, frozen=True):
    """What was measured: the model's layers here, the nodes against this workstation."""

    profile: Profile
    speeds: Mapping[NodeId, float]
    machines: Mapping[NodeId, Machine] = {}
    links: Links = UNKNOWN


class Choice(Struct, frozen=True):
    """A plan and what is expected of it."""

    compiled: CompiledPlan
    prediction: Prediction
    why: str = ""
    """Of the automatic strategy: why this one."""


def default_micro_batch(model: Model, wanted: int | None, *, items: int | None = None, nodes: int = 1) -> int:
    """What was asked for; else 8, or fewer where so few items could not keep the nodes busy. The model's own if fixed.

    Raises PlanError when the model cannot take what was asked for.
    """
    if wanted is not None:
        return wanted  # compile_plan says in words when the model does not take it
    few = MICRO_BATCH if items is None else max(1, items // (2 * nodes))
    return micro_batch_for(model, min(MICRO_BATCH, few))


def check_batch(options: argparse.Namespace, model: Model) -> None:
    """Before anything starts. Raises PlanError for a batch that the model does not take."""
    if options.batch is not None and micro_batch_for(model, options.batch) != options.batch:
        own = model.fixed_batch
        why = f"has a fixed batch of {own}" if own is not None else "takes one item at a time"
        raise PlanError(f"{model.name} {why}: --batch {options.batch} does not fit.", hint="Leave --batch out.")


def measure(
    model: Model, batch: int, cluster: Cluster, nodes: Sequence[Node], progress: Progress, stop: threading.Event
) -> Costs:
    """Time the model's layers here (remembered from earlier days) and every node's speed."""
    progress.step("Measuring the model's layers")
    profile = profile_model(model, batch, progress=progress.share, cancel=stop)
    progress.step("Measuring the nodes")
    speeds = cluster.measure_speeds([node.id for node in nodes])
    return Costs(profile, speeds, machines_of(nodes))


def choose(
    model: Model,
    asked: Wanted | None,
    batch: int,
    nodes: Sequence[Node],
    costs: Costs,
    objective: Objective,
    stop: threading.Event | None = None,
) -> Choice:
    """The strategy asked for; for None, the best by ``objective`` over all strategies and any of the nodes.

    Raises PlanError when the strategy makes no sense here, DoesNotFitError when nothing fits, Cancelled.
    """
    if asked is not None:
        return candidate(model, asked, batch, nodes, costs)
    found = best_plan(
        model,
        costs.profile,
        [node.id for node in nodes],
        costs.speeds,
        costs.machines,
        costs.links,
        {node.id: node.info.memory_limit for node in nodes if node.info is not None},
        objective,
        micro_batch=batch,
        names={node.id: node.name for node in nodes},
        cancel=stop,
    )
    made = predicted(model, found.request, costs)
    return replace(made, why=found.words)


def candidate(model: Model, asked: Wanted, batch: int, nodes: Sequence[Node], costs: Costs) -> Choice:
    """One strategy on the nodes that it can use. Raises PlanError where the model or the nodes do not allow it."""
    return predicted(model, placed(asked, model, batch, nodes, costs.speeds, costs.machines), costs)


def predicted(model: Model, request: PlanRequest, costs: Costs) -> Choice:
    """``request`` compiled, with what is expected of it; open cuts are balanced by the links too. Raises PlanError."""
    if request.strategy == PIPELINE and request.cuts is None and len(request.nodes) > 1 and costs.links != UNKNOWN:
        speeds = [costs.speeds.get(node, 1.0) for node in request.nodes]
        cuts = balanced_cuts(
            costs.profile, model, speeds, nodes=request.nodes, links=costs.links, machines=costs.machines
        )
        request = replace(request, cuts=cuts)
    compiled = compile_plan(model, request, profile=costs.profile, speeds=costs.speeds, machines=costs.machines)
    if is_predicted(request.strategy):
        told = predict(costs.profile, model, compiled.plan.request, costs.speeds, costs.machines, costs.links)
    else:
        told = predict_outline(costs.profile, compiled.outline, model, costs.speeds, costs.machines, costs.links)
    return Choice(compiled, told)


def as_predicted(prediction: Prediction, names: Mapping[NodeId, str]) -> Predicted:
    """As reports keep it."""
    memory = {names[use.node]: use.memory_bytes for use in prediction.nodes}
    return Predicted(prediction.throughput, prediction.latency_s * 1000, memory)


def own_speeds_sum(model_items_per_s: float, speeds: Mapping[NodeId, float], used: Sequence[NodeId]) -> float:
    """Items per second of all used nodes, each with the whole model to itself."""
    return model_items_per_s * sum(speeds[node] for node in used)
