"""The plan that a command works with: a saved one, the strategy asked for, or the best one that auto finds."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import inf
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from core.cluster.client import Cluster
from core.cluster.node import Node
from core.commands.output import Progress, note
from core.commands.plan_files import SavedPlan, place_plan, since_saved
from core.commands.planning import (
    Choice,
    Costs,
    candidate,
    choose,
    default_micro_batch,
    measure,
    predicted,
    question_of,
)
from core.commands.wanted import Wanted
from core.errors import PlacementError
from core.model.graph import Model
from core.plan.auto_types import Question
from core.plan.form import PlanRequest

MOST_SEARCHES: Final = 3
"""For a plan that keeps a latency bound."""


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
    in_flight: int | None = None,
) -> Chosen:
    """Measure what is not known yet, and work the plan out; warnings go to stderr.

    ``items``: how many the input has; None: not known. ``in_flight``: micro-batches of each replica that a run may have
    under way; None: as many as the runner allows by itself. Raises PlanError, PlacementError in one of its kinds,
    Cancelled.
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
    question = question_of(model, batch, nodes, costs, options.objective, bound)
    if request is not None:
        choice = predicted(model, request, costs, in_flight, progress=progress, stop=stop)
    elif asked is not None:
        choice = candidate(model, asked, batch, nodes, costs, in_flight, progress=progress, stop=stop)
    else:
        fixed = options.batch is not None or model.fixed_batch is not None or not model.batchable
        sizes = (batch,) if fixed else _halves(batch)
        search = partial(choose, costs=costs, in_flight=in_flight, progress=progress, stop=stop)
        searches = {size: partial(_searched, search, replace(question, batch=size)) for size in sizes}
        choice = best_that_fits(searches, bound)
        question = replace(question, batch=choice.compiled.plan.request.micro_batch)
    if saved is not None and not words:
        words = since_saved(saved, choice)
    progress.clear()
    for one in words:
        note(f"warning: {one}")
    return Chosen(choice, costs, question)


def _searched(search: Callable[[Question], Choice], question: Question, *, latency_bound_s: float | None) -> Choice:
    return search(replace(question, latency_bound_s=latency_bound_s))


def _halves(batch: int) -> tuple[int, ...]:
    """8, 4, 2, 1."""
    return tuple(batch >> step for step in range(batch.bit_length()))


def best_that_fits(searches: Mapping[int, Callable[..., Choice]], bound: float | None) -> Choice:
    """What the first of ``searches`` finds that keeps the bound, each for smaller micro-batches, its key, than the one
    before; if none does, what comes nearest to the limits, or why that was not found."""
    found: list[tuple[tuple[float, float], int, Choice | PlacementError]] = []
    for size, search in searches.items():
        try:
            choice = _within(search, bound)
        except PlacementError as error:
            found.append((error.missed if error.missed is not None else (inf, inf), size, error))
            continue
        if bound is None or choice.prediction.latency_s <= bound:
            smaller = f" Micro-batches of {size}, as no plan with larger ones keeps to the limits." if found else ""
            return replace(choice, why=f"{choice.why}{smaller}")
        found.append(((0.0, choice.prediction.latency_s - bound), size, choice))
    _, size, nearest = min(found, key=lambda one: one[0])
    words = "" if size == found[0][1] else f" Micro-batches of {size} come nearest to the limits."
    if isinstance(nearest, PlacementError):
        raise type(nearest)(f"{nearest.message}{words}", hint=nearest.hint, missed=nearest.missed) from nearest
    return replace(nearest, why=f"{nearest.why}{words}")


def _within(search: Callable[..., Choice], bound: float | None) -> Choice:
    """What ``search`` finds, which goes by sums over layers. Where the plan that it finds misses the bound by what its
    shards take, it is asked for one that is quicker by as much."""
    choice = search(latency_bound_s=bound)
    wanted = bound
    for _ in range(MOST_SEARCHES - 1):
        taken = choice.prediction.latency_s
        if bound is None or wanted is None or taken <= bound:
            break
        wanted *= bound / taken
        try:
            choice = search(latency_bound_s=wanted)
        except PlacementError:
            break
    return choice
