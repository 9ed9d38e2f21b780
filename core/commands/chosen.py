"""The plan that a command works with: a saved one, the strategy asked for, or the best one that auto finds."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Sequence

from msgspec import Struct

from core.cluster.client import Cluster
from core.cluster.node import Node
from core.commands.output import Progress, note
from core.commands.plan_files import SavedPlan, place_plan, since_saved
from core.commands.planning import Choice, Costs, choose, default_micro_batch, measure, predicted
from core.commands.wanted import Wanted
from core.model.graph import Model
from core.plan.auto_types import Question
from core.plan.bottleneck import milliseconds
from core.plan.form import PlanRequest
from core.units import format_bytes


class Chosen(Struct, frozen=True):
    choice: Choice
    costs: Costs
    question: Question
    """What it was chosen by, and what is known of the nodes."""

    @property
    def request(self) -> PlanRequest:
        return self.choice.compiled.plan.request


def choose_plan(
    options: argparse.Namespace,
    model: Model,
    asked: Wanted | None,
    saved: SavedPlan | None,
    cluster: Cluster,
    nodes: Sequence[Node],
    progress: Progress,
    stop: threading.Event,
    *,
    items: int | None = None,
) -> Chosen:
    """Measure what is not known yet, and work the plan out; warnings go to stderr.

    ``items``: how many the input has; None: not known. Raises PlanError, PlacementError in one of its kinds, Cancelled.
    """
    words: tuple[str, ...] = ()
    request = None
    if saved is not None:
        request, words = place_plan(saved, model, nodes, batch=options.batch, throw_away=options.local is not None)
    batch = request.micro_batch if request is not None else default_micro_batch(
        model, options.batch, items=items, nodes=len(nodes) if items is not None else 1
    )  # fmt: skip
    costs = measure(model, batch, cluster, nodes, progress, stop, profile_on=options.profile_on)
    progress.step("Planning")
    bound = options.latency_bound / 1000 if options.latency_bound is not None else None
    if request is not None:
        choice = predicted(model, request, costs)
    else:
        choice = choose(model, asked, batch, nodes, costs, options.objective, stop, latency_bound_s=bound)
    question = Question(
        model=model,
        profile=costs.profile,
        nodes=tuple(node.id for node in nodes),
        speeds=costs.speeds,
        machines=costs.machines,
        links=costs.links,
        limits={node.id: node.info.memory_limit for node in nodes if node.info is not None},
        objective=options.objective,
        latency_bound_s=bound,
        batch=batch,
        names={node.id: node.name for node in nodes},
    )
    if saved is not None and not words:
        words = since_saved(saved, choice)
    progress.clear()
    for one in words:
        note(f"warning: {one}")
    return Chosen(choice, costs, question)


def missed_limits(chosen: Chosen) -> tuple[str, ...]:
    """Memory limits that the plan would not keep, and the latency bound, in sentences."""
    question, told = chosen.question, chosen.choice.prediction
    found = [
        f"{question.names[use.node]} would need {format_bytes(use.memory_bytes)}, "
        f"{format_bytes(use.memory_bytes - question.limits[use.node])} more than its limit of "
        f"{format_bytes(question.limits[use.node])}."
        for use in told.nodes
        if use.memory_bytes > question.limits.get(use.node, use.memory_bytes)
    ]
    bound = question.latency_bound_s
    if bound is not None and told.latency_s > bound:
        found.append(
            f"It answers in {milliseconds(told.latency_s)} ms, not within the {milliseconds(bound)} ms asked for."
        )
    return tuple(found)
