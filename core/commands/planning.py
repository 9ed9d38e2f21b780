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
from core.cluster.profiling import at_speed_one
from core.cluster.profiling import profile_on as profile_on_node
from core.commands.output import Progress, note
from core.commands.stale import calibrated_words, stale_words
from core.commands.wanted import Wanted, placed
from core.cost.dataflow import predict_outline
from core.cost.links import UNKNOWN, WORKSTATION, Links
from core.cost.mix import mix_of
from core.cost.profile import profile_model
from core.cost.profile_marks import interrupted, marked
from core.cost.shard_times import time_shards
from core.cost.side_by_side import speed_side_by_side
from core.cost.types import Machine, Prediction, Profile
from core.errors import PlanError
from core.model.graph import Model
from core.plan.auto import Objective, best_plan
from core.plan.compile import CompiledPlan, compile_plan, micro_batch_for
from core.plan.form import NodeId, PlanRequest
from core.run.calibration import factors_for, message_factor
from core.run.calibrations import CalibrationStore
from core.run.credit import default_in_flight
from core.run.message_costs import measured_message_costs

MICRO_BATCH: Final = 8


class Costs(Struct, frozen=True):
    """What was measured: the model's layers, the nodes against this workstation, and the links between them."""

    profile: Profile
    speeds: Mapping[NodeId, float]
    machines: Mapping[NodeId, Machine] = {}
    links: Links = UNKNOWN
    limits: Mapping[NodeId, int] = {}
    """Bytes that the agents may use."""


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
    model: Model,
    batch: int,
    cluster: Cluster,
    nodes: Sequence[Node],
    progress: Progress,
    stop: threading.Event,
    *,
    profile_on: str | None = None,
) -> Costs:
    """Time the model's layers here, or on the node of that name, and what is not known yet of the nodes and of the
    links between them; what was measured on earlier days is remembered.

    PlanError when there is no such node. Raises Cancelled.
    """
    profile = _profile(model, batch, progress, stop)
    ids = [node.id for node in nodes]
    progress.step("Measuring nodes and links")
    outcome = cluster.measure(ids, progress=progress.share, cancel=stop)
    for words in (*outcome.refused.values(), *outcome.problems, *stale_words(outcome.stale, nodes)):
        progress.clear()
        note(f"warning: {words}")
    known = outcome.measurements.now(nodes)
    infos = {node.id: node.info for node in nodes if node.info is not None}
    speeds = known.speeds(infos, mix_of(model, profile))
    if missing := [node for node in ids if node not in speeds]:
        speeds |= cluster.measure_speeds(missing)
    calibrations = [one for one in CalibrationStore().all() if one.model == model.sha256 and one.node in ids]
    seen = factors_for(model.sha256, calibrations)
    for words in calibrated_words(calibrations, nodes):
        progress.clear()
        note(f"note: {words}")
    speeds = {node: speed * seen.get(node, 1.0) for node, speed in speeds.items()}
    if profile_on is not None:
        there = _named(profile_on, nodes)
        profile = _profile_there(model, batch, cluster, there, speeds[there.id], progress, stop)
    machines = machines_of(nodes)
    progress.step("Measuring what messages cost, and cores together")
    together = speed_side_by_side(model, batch, sum(machine.here for machine in machines.values()), stop)
    messages = measured_message_costs().scaled(message_factor(model.sha256, calibrations, ids))
    profile = replace(profile, messages=messages, together=together)
    limits = {node: info.memory_limit for node, info in infos.items()}
    return Costs(profile, speeds, machines, known.links_of(ids), limits)


def _profile(model: Model, batch: int, progress: Progress, stop: threading.Event) -> Profile:
    """This workstation's. One that was interrupted is begun anew, which is said."""
    progress.step("Measuring the model's layers")
    before = interrupted(model, batch)
    if before is not None:
        progress.clear()
        note(f"note: Measuring this model was interrupted at {before.share:.0%}; it begins anew.")
    with marked(model, batch) as marker:

        def reached(share: float) -> None:
            marker.reached(share)
            progress.share(share)

        return profile_model(model, batch, progress=reached, cancel=stop)


def _profile_there(
    model: Model,
    batch: int,
    cluster: Cluster,
    node: Node,
    speed: float,
    progress: Progress,
    stop: threading.Event,
) -> Profile:
    """A node's, as predictions take it. One that was interrupted goes on, which is said."""
    progress.step(f"Measuring the model's layers on {node.name}")

    def resumed(share: float) -> None:
        progress.clear()
        note(f"note: Measuring this model on {node.name} was interrupted at {share:.0%}; it goes on from there.")

    found = profile_on_node(cluster, node.id, model, batch, progress=progress.share, cancel=stop, resumed=resumed)
    limit = node.info.cpu_limit if node.info is not None else 1.0
    return at_speed_one(found, speed / limit)


def _named(name: str, nodes: Sequence[Node]) -> Node:
    found = [node for node in nodes if name in (node.name, node.address)]
    if len(found) != 1:
        there = ", ".join(node.name for node in nodes)
        raise PlanError(
            f"--profile-on {name}: {'several nodes have' if found else 'no node has'} that name.",
            hint=f"There {'is' if len(nodes) == 1 else 'are'} {there}.",
        )
    return found[0]


def choose(
    model: Model,
    asked: Wanted | None,
    batch: int,
    nodes: Sequence[Node],
    costs: Costs,
    objective: Objective,
    stop: threading.Event | None = None,
    *,
    latency_bound_s: float | None = None,
    in_flight: int | None = None,
) -> Choice:
    """The strategy asked for; for None, the best by ``objective`` over all strategies and any of the nodes. It is
    predicted with ``in_flight`` micro-batches under way in each replica; None: as many as the runner allows by itself.

    Raises PlanError when the strategy makes no sense here, DoesNotFitError when nothing fits, Cancelled.
    """
    if asked is not None:
        return candidate(model, asked, batch, nodes, costs, in_flight)
    found = best_plan(
        model,
        costs.profile,
        [node.id for node in nodes],
        costs.speeds,
        costs.machines,
        costs.links,
        {node.id: node.info.memory_limit for node in nodes if node.info is not None},
        objective,
        latency_bound_s=latency_bound_s,
        micro_batch=batch,
        names={node.id: node.name for node in nodes},
        cancel=stop,
    )
    made = predicted(model, found.request, costs, in_flight)
    return replace(made, why=found.words)


def candidate(
    model: Model, asked: Wanted, batch: int, nodes: Sequence[Node], costs: Costs, in_flight: int | None = None
) -> Choice:
    """One strategy on the nodes that it can use. Raises PlanError where the model or the nodes do not allow it."""
    return predicted(model, placed(asked, model, batch, nodes, costs.speeds, costs.machines), costs, in_flight)


def predicted(model: Model, request: PlanRequest, costs: Costs, in_flight: int | None = None) -> Choice:
    """``request`` compiled, with what is expected of it while ``in_flight`` micro-batches of each replica are under
    way; None: as many as the runner allows by itself. Raises PlanError."""
    compiled = compile_plan(
        model, request, profile=costs.profile, speeds=costs.speeds, machines=costs.machines, links=costs.links
    )
    here = costs.profile.node == WORKSTATION  # shards that were timed here say nothing of a node of another kind
    timed = time_shards(model, compiled.outline) if here else {}
    told = predict_outline(
        costs.profile,
        compiled.outline,
        model,
        costs.speeds,
        costs.machines,
        costs.links,
        in_flight=in_flight or default_in_flight(compiled.plan, costs.limits),
        shard_seconds=timed,
    )
    return Choice(compiled, told)


def own_speeds_sum(model_items_per_s: float, speeds: Mapping[NodeId, float], used: Sequence[NodeId]) -> float:
    """Items per second of all used nodes, each with the whole model to itself."""
    return model_items_per_s * sum(speeds[node] for node in used)
