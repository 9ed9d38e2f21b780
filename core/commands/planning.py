"""From a model and ready nodes to a compiled plan with its prediction: what plan, run and bench have in common."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from core.cluster.client import Cluster
from core.cluster.machines import machines_of
from core.cluster.node import Node
from core.commands.output import Progress
from core.commands.wanted import SIMPLE, Wanted, placed, wanted
from core.cost.dataflow import predict_outline
from core.cost.predict import predict
from core.cost.profile import profile_model
from core.cost.types import Machine, Prediction, Profile
from core.errors import DoesNotFitError, PlanError
from core.model.graph import Model
from core.plan.compile import CompiledPlan, compile_plan, micro_batch_for
from core.plan.form import NodeId, PlanRequest
from core.run.report import Predicted
from core.units import format_bytes

MICRO_BATCH: Final = 8


class Costs(Struct, frozen=True):
    """What was measured: the model's layers here, the nodes against this workstation."""

    profile: Profile
    speeds: Mapping[NodeId, float]
    machines: Mapping[NodeId, Machine] = {}


class Choice(Struct, frozen=True):
    """A plan and what is expected of it."""

    compiled: CompiledPlan
    prediction: Prediction


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
    model: Model, asked: Wanted | None, batch: int, nodes: Sequence[Node], costs: Costs, objective: str
) -> Choice:
    """The strategy asked for; for None, of those of ``SIMPLE`` that fit the nodes the best predicted by ``objective``.

    Raises PlanError when the strategy makes no sense here, DoesNotFitError when nothing fits.
    """
    if asked is not None:
        return candidate(model, asked, batch, nodes, costs)
    choices = []
    problems = []
    for strategy in SIMPLE if len(nodes) > 1 else SIMPLE[:1]:
        try:
            choices.append(candidate(model, wanted(strategy), batch, nodes, costs))
        except PlanError as error:
            problems.append(error)
    if not choices:
        raise problems[0]
    fitting = [choice for choice in choices if not _too_large(choice.prediction, nodes)]
    if not fitting:
        raise DoesNotFitError(f"{model.name} fits in no way: {'; '.join(_too_large(choices[-1].prediction, nodes))}.")
    return min(fitting, key=lambda choice: _badness(choice.prediction, objective))


def candidate(model: Model, asked: Wanted, batch: int, nodes: Sequence[Node], costs: Costs) -> Choice:
    """One strategy on the nodes that it can use. Raises PlanError where the model or the nodes do not allow it."""
    return predicted(model, placed(asked, model, batch, nodes, costs.speeds, costs.machines), costs)


def predicted(model: Model, request: PlanRequest, costs: Costs) -> Choice:
    """``request`` compiled, with what is expected of it. Raises PlanError."""
    compiled = compile_plan(model, request, profile=costs.profile, speeds=costs.speeds, machines=costs.machines)
    if request.strategy in SIMPLE:
        told = predict(costs.profile, model, compiled.plan.request, costs.speeds, costs.machines)
    else:
        told = predict_outline(costs.profile, compiled.outline, model, costs.speeds, costs.machines)
    return Choice(compiled, told)


def _badness(prediction: Prediction, objective: str) -> float:
    match objective:
        case "latency":
            return prediction.latency_s
        case "memory":
            return max(node.memory_bytes for node in prediction.nodes)
        case _:
            return -prediction.throughput


def _too_large(prediction: Prediction, nodes: Sequence[Node]) -> list[str]:
    limits = {node.id: (node.name, node.info.memory_limit) for node in nodes if node.info is not None}
    return [
        f"{limits[use.node][0]} would need {format_bytes(use.memory_bytes)} of {format_bytes(limits[use.node][1])}"
        for use in prediction.nodes
        if use.node in limits and use.memory_bytes > limits[use.node][1]
    ]


def as_predicted(prediction: Prediction, names: Mapping[NodeId, str]) -> Predicted:
    """As reports keep it."""
    memory = {names[use.node]: use.memory_bytes for use in prediction.nodes}
    return Predicted(prediction.throughput, prediction.latency_s * 1000, memory)


def own_speeds_sum(model_items_per_s: float, speeds: Mapping[NodeId, float], used: Sequence[NodeId]) -> float:
    """Items per second of all used nodes, each with the whole model to itself."""
    return model_items_per_s * sum(speeds[node] for node in used)
