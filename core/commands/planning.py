"""From a model and ready nodes to a compiled plan with its prediction: what plan, run and bench have in common."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from core.cluster.client import Cluster
from core.cluster.machines import machines_of
from core.cluster.node import Node
from core.commands.output import Progress
from core.cost.predict import predict
from core.cost.profile import profile_model
from core.cost.types import Machine, Prediction, Profile
from core.errors import DoesNotFitError, InputError, PlacementError, PlanError, SinkError
from core.model.graph import Model
from core.plan.compile import STRATEGIES, CompiledPlan, compile_plan, micro_batch_for
from core.plan.form import NodeId, PlanFile, PlanRequest
from core.run.report import Predicted
from core.units import format_bytes

AUTO: Final = "auto"
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


def check_request(options: argparse.Namespace, model: Model) -> None:
    """Before anything starts. Raises PlanError for a strategy that does not exist, a batch the model does not take."""
    strategy = options.strategy
    if strategy not in (None, AUTO, *STRATEGIES):
        raise PlanError(f"There is no strategy '{strategy}'.", hint=f"Choose from {', '.join((AUTO, *STRATEGIES))}.")
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
    return Costs(profile, cluster.measure_speeds([node.id for node in nodes]), machines_of(nodes))


def choose(
    model: Model, strategy: str | None, batch: int, nodes: Sequence[Node], costs: Costs, objective: str
) -> Choice:
    """The strategy asked for; for auto, the best predicted one by ``objective`` that fits the nodes' memory.

    Raises PlanError when a strategy is not known or makes no sense here, DoesNotFitError when nothing fits.
    """
    if strategy not in (None, AUTO):
        assert strategy is not None
        return candidate(model, strategy, batch, nodes, costs)
    choices = list(candidates(model, batch, nodes, costs).values())
    fitting = [choice for choice in choices if not _too_large(choice.prediction, nodes)]
    if not fitting:
        raise DoesNotFitError(f"{model.name} fits in no way: {'; '.join(_too_large(choices[-1].prediction, nodes))}.")
    return min(fitting, key=lambda choice: _badness(choice.prediction, objective))


def candidates(model: Model, batch: int, nodes: Sequence[Node], costs: Costs) -> dict[str, Choice]:
    """Every strategy that makes sense for these nodes, by name."""
    found: dict[str, Choice] = {}
    problems = []
    for strategy in STRATEGIES:
        if len(nodes) < 2 and strategy != "single":
            continue
        try:
            found[strategy] = candidate(model, strategy, batch, nodes, costs)
        except PlanError as error:
            problems.append(error)
    if not found:
        raise problems[0]
    return found


def candidate(model: Model, strategy: str, batch: int, nodes: Sequence[Node], costs: Costs) -> Choice:
    """One strategy on as many of the nodes as it can use: the fastest alone for single, all otherwise."""
    ids = tuple(node.id for node in nodes)
    if strategy == "single":
        ids = (max(ids, key=lambda node: costs.speeds[node]),)
    elif strategy == "pipeline":
        ids = ids[: len(model.layers(batch))]
    return predicted(model, PlanRequest(strategy, ids, batch), costs)


def predicted(model: Model, request: PlanRequest, costs: Costs) -> Choice:
    compiled = compile_plan(model, request, profile=costs.profile, speeds=costs.speeds, machines=costs.machines)
    return Choice(compiled, predict(costs.profile, model, compiled.plan.request, costs.speeds, costs.machines))


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


# ---------------------------------------------------------------- plan files


def save_plan(path: Path, choice: Choice, names: Mapping[NodeId, str]) -> None:
    """Raises SinkError when the file cannot be written."""
    plan = choice.compiled.plan
    file = PlanFile(
        model=plan.model,
        model_name=plan.model_name,
        request=plan.request,
        node_names=tuple(names[node] for node in plan.request.nodes),
    )
    try:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(file), indent=2) + b"\n")
    except OSError as error:
        raise SinkError(f"The plan {path} cannot be written: {error.strerror or error}.") from error


def load_plan(path: Path, model: Model) -> PlanFile:
    """Raises InputError when it is no plan, or one for another model."""
    try:
        file = msgspec.json.decode(path.read_bytes(), type=PlanFile)
    except OSError as error:
        raise InputError(f"The plan {path} cannot be read: {error.strerror or error}.") from error
    except msgspec.DecodeError as error:
        raise InputError(f"{path} is not a plan of shardboard plan --save: {error}.") from error
    if file.format != PlanFile.__struct_defaults__[0]:
        raise InputError(f"{path} has plan format {file.format}, which this version does not know.")
    if file.model != model.sha256:
        raise PlanError(
            f"{path} is a plan for another model: {file.model_name} with hash {file.model[:12]}, not {model.name} "
            f"with hash {model.sha256[:12]}.",
            hint="Make a new one with shardboard plan --save.",
        )
    return file


def place_plan(file: PlanFile, nodes: Sequence[Node]) -> PlanRequest:
    """The plan's request on the nodes that are there: the same ones, else those of the same names, else in order.

    Raises PlacementError when there are too few.
    """
    there = {node.id for node in nodes}
    by_name = {node.name: node.id for node in nodes}
    wanted = file.request.nodes
    if all(node in there for node in wanted):
        return file.request
    if len(by_name) == len(nodes) and all(name in by_name for name in file.node_names):
        return msgspec.structs.replace(file.request, nodes=tuple(by_name[name] for name in file.node_names))
    if len(nodes) < len(wanted):
        raise PlacementError(
            f"The plan is for {len(wanted)} nodes ({', '.join(file.node_names)}), {len(nodes)} are there."
        )
    return msgspec.structs.replace(file.request, nodes=tuple(node.id for node in nodes[: len(wanted)]))
