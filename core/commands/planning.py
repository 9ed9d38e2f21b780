"""From a model and ready nodes to a compiled plan with its prediction: what plan, run and bench have in common."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
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
from core.cost.links import UNKNOWN, WORKSTATION, Links
from core.cost.mix import mix_of
from core.cost.moving import moving_seconds
from core.cost.profile import profile_model
from core.cost.profile_marks import interrupted, marked
from core.cost.shard_times import time_shards
from core.cost.side_by_side import speed_side_by_side
from core.cost.types import Machine, Prediction, Profile
from core.errors import PlanError
from core.model.graph import Model
from core.plan import draft
from core.plan.auto import Objective, Question, best_for
from core.plan.auto_timed import best_by_times
from core.plan.compile import CompiledPlan, compile_outline, micro_batch_for, outline_plan
from core.plan.form import NodeId, PlanRequest, ShardId
from core.plan.outline import Outline
from core.plan.timed import Timed, predict_timed
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

    @property
    def known(self) -> draft.Costs:
        """As planning takes them."""
        return draft.Costs(self.profile, self.speeds, self.machines, self.links)

    @property
    def here(self) -> bool:
        """The layers were timed here; shards that are timed here say nothing of a node of another kind."""
        return self.profile.node == WORKSTATION


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
    progress.step("Measuring cores side by side")
    here = sum(machine.here for machine in machines.values())
    together = speed_side_by_side(model, batch, here, stop, progress.share)
    progress.step("Measuring what messages cost")
    messages = measured_message_costs(progress.share, stop).scaled(message_factor(model.sha256, calibrations, ids))
    moving = moving_seconds(known.benchmarks.get(WORKSTATION))
    profile = replace(profile, messages=messages, together=together, moving_s=moving)
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


def question_of(
    model: Model,
    batch: int,
    nodes: Sequence[Node],
    costs: Costs,
    objective: Objective,
    latency_bound_s: float | None = None,
) -> Question:
    return Question(
        model=model,
        profile=costs.profile,
        nodes=tuple(node.id for node in nodes),
        speeds=costs.speeds,
        machines=costs.machines,
        links=costs.links,
        limits={node.id: node.info.memory_limit for node in nodes if node.info is not None},
        objective=objective,
        latency_bound_s=latency_bound_s,
        batch=batch,
        names={node.id: node.name for node in nodes},
    )


def choose(
    question: Question,
    costs: Costs,
    *,
    in_flight: int | None = None,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> Choice:
    """The best plan over all strategies and any of the nodes, by what the shards of the likeliest take. It is predicted
    with ``in_flight`` micro-batches under way in each replica; None: as many as the runner allows by itself.

    Raises DoesNotFitError when nothing fits, PlacementError when nothing keeps the latency bound, Cancelled.
    """
    model = question.model
    found = best_for(question, progress=progress.share if progress is not None else None, cancel=stop)
    if costs.here:
        if progress is not None:
            progress.step("Timing the likeliest plans")

        def foretell(request: PlanRequest, told: Callable[[float], None]) -> Prediction | None:
            timed = _timer(model, told, stop)
            prediction, _ = predict_timed(model, _outlined(model, request, costs), costs.known, timed, in_flight)
            return prediction if prediction.timed else None

        found = best_by_times(question, found, foretell, progress.share if progress is not None else None)
    made = predicted(model, found.request, costs, in_flight, progress=progress, stop=stop)
    return replace(made, why=found.words)


def candidate(
    model: Model,
    asked: Wanted,
    batch: int,
    nodes: Sequence[Node],
    costs: Costs,
    in_flight: int | None = None,
    *,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> Choice:
    """One strategy on the nodes that it can use. Raises PlanError where the model or the nodes do not allow it,
    Cancelled."""
    request = placed(asked, model, batch, nodes, costs.speeds, costs.machines)
    return predicted(model, request, costs, in_flight, progress=progress, stop=stop)


def predicted(
    model: Model,
    request: PlanRequest,
    costs: Costs,
    in_flight: int | None = None,
    *,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> Choice:
    """``request`` compiled, with what is expected of it while ``in_flight`` micro-batches of each replica are under
    way; None: as many as the runner allows by itself. Its shards are timed, which ``progress`` tells. Raises PlanError,
    Cancelled."""
    compiled = compile_outline(model, _outlined(model, request, costs))
    timed: Timed = _untimed
    if costs.here:
        if progress is not None:
            progress.step("Timing the shards of the plan")
        timed = _timer(model, progress.share if progress is not None else None, stop)
    under_way = in_flight or default_in_flight(compiled.plan, costs.limits)
    told, _ = predict_timed(model, compiled.outline, costs.known, timed, under_way)
    plan = replace(compiled.plan, notes=(*compiled.plan.notes, *told.notes))
    return Choice(replace(compiled, plan=plan), told)


def _outlined(model: Model, request: PlanRequest, costs: Costs) -> Outline:
    """Without notes on how fast it is: those of what its shards take come to it."""
    known = costs.known
    return outline_plan(
        model,
        request,
        profile=known.profile,
        speeds=known.speeds,
        machines=known.machines,
        links=known.links,
        foretold=False,
    )


def _timer(model: Model, progress: Callable[[float], None] | None, stop: threading.Event | None) -> Timed:
    return partial(time_shards, model, progress=progress, cancel=stop)


def _untimed(_outline: Outline) -> Mapping[ShardId, float]:
    return {}
