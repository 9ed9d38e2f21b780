"""The best plan for an objective, over strategies, nodes, orders and cuts; and all others that were weighed.

Single nodes, replicas, pipelines and replicas of pipelines are predicted by sums, so all that make sense are tried.
Tensor and spatial groups, and nestings of them, take an outline each: of those only the ones that a rough estimate
likes best, and no more than a fixed amount of work. Nothing depends on the clock: the same question has the same
answer.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from itertools import combinations
from math import inf
from types import MappingProxyType
from typing import Final

from msgspec.structs import replace

from core.cost.dataflow import predict_outline
from core.cost.links import UNKNOWN, Links
from core.cost.loads import setting_of
from core.cost.orders import CostTables, Member, best_cuts, crowded
from core.cost.predict import Predictor
from core.cost.stages import stages_of
from core.cost.types import Machine, Prediction, Profile
from core.errors import Cancelled, DoesNotFitError, PlacementError, PlanError
from core.model.graph import Model
from core.plan.auto_groups import Groups, Shape
from core.plan.auto_pipelines import PipelineSearch
from core.plan.auto_types import Candidate, Choice, Objective, Question, badness, most_even, simplest, size_of
from core.plan.auto_words import missed, reasons, too_slow
from core.plan.compile import micro_batch_for, strategy_named
from core.plan.draft import Costs
from core.plan.form import NodeId, PlanRequest
from core.plan.outline import Outline
from core.plan.pins import check_pins
from core.plan.pipeline_trials import Tools
from core.plan.schedule import outline
from core.plan.strategy_text import PIPELINE, REPLICATE, SINGLE, SPATIAL, TENSOR

__all__ = ["Candidate", "Choice", "Objective", "Question", "best_for", "best_plan"]

NEAR: Final = 1.005
"""Of plans as good as this the one with fewer nodes is taken, then the simpler one."""
FEW: Final = 6
"""So many nodes: every subset is tried as replicas."""
MOST_GUESSED: Final = 64
MOST_LIKELY: Final = 3
"""Nodes that are tried as the next replica."""
IDLE: Final = 3
"""So many in a row that brought nothing are followed by all nodes at once."""
OUTLINE_SECONDS: Final = 1.3
"""That outlines may take, by the estimate of ``Groups.outline_seconds``."""
SUMS_SHARE: Final = 0.3
"""Of the search, as progress is told: what is predicted by sums, before any outline."""
PLAYED_TOGETHER: Final = 0.6
"""Of that, where nodes share cores: then replicas are played together, which takes longer."""
MORE_SECONDS: Final = 1.0
"""More while nothing is known to fit."""
LEAST: Final = 1.1
"""Where nothing fits those that need least come first; estimates within this factor are equal."""
HOPELESS: Final = 1.5
"""A rough estimate that is worse than the best plan by this factor is not looked into."""


def best_plan(
    model: Model,
    profile: Profile,
    nodes: Sequence[NodeId],
    speeds: Mapping[NodeId, float],
    machines: Mapping[NodeId, Machine] = MappingProxyType({}),
    links: Links = UNKNOWN,
    memory_limits: Mapping[NodeId, int] = MappingProxyType({}),
    objective: Objective = "throughput",
    *,
    latency_bound_s: float | None = None,
    micro_batch: int | None = None,
    names: Mapping[NodeId, str] = MappingProxyType({}),
    pins: Sequence[tuple[int, NodeId]] = (),
    progress: Callable[[float], None] | None = None,
    cancel: threading.Event | None = None,
) -> Choice:
    """The best plan for ``model`` on some of ``nodes``.

    ``memory_limits`` in bytes, for all of an agent; a node without one has room for anything. ``latency_bound_s`` is
    for one micro-batch through an idle cluster. ``micro_batch`` None: the profile's. ``names`` are for the
    words. With ``pins``, (layer, node), only pipelines that keep them are weighed.

    DoesNotFitError when no plan fits the limits: which one is missed by how much, and what would fit. PlacementError
    when none keeps the latency bound, PlanError when there are no nodes. Cancelled when ``cancel`` is set. ``progress``
    is told which part of the search is done, 0 to 1.
    """
    question = Question(
        model=model,
        profile=profile,
        nodes=tuple(nodes),
        speeds=speeds,
        machines=machines,
        links=links,
        limits=memory_limits,
        objective=objective,
        latency_bound_s=latency_bound_s,
        batch=micro_batch if micro_batch is not None else profile.batch,
        names=names,
        pins=tuple(pins),
    )
    return best_for(question, progress=progress, cancel=cancel)


def best_for(
    question: Question,
    *,
    progress: Callable[[float], None] | None = None,
    cancel: threading.Event | None = None,
) -> Choice:
    """As ``best_plan``. The question's batch is the one that is wanted: the model may allow only another."""
    if not question.nodes:
        raise PlanError("A plan needs at least one node.")
    question = replace(question, batch=micro_batch_for(question.model, question.batch))
    objective, latency_bound_s = question.objective, question.latency_bound_s
    if question.pins:
        _check_pins(question)
    found = _Search(question, cancel, progress).run()
    if not found:
        raise PlanError("No pipeline over these nodes keeps all pins.", hint="Take a pin away, or add nodes.")
    fitting = [one for one in found if not one.lacking]
    if not fitting:
        message, hint = _nothing_fits(question, found, cancel)
        raise DoesNotFitError(message, hint=hint, missed=(min(sum(one.lacking.values()) for one in found), 0.0))
    within = [one for one in fitting if latency_bound_s is None or one.prediction.latency_s <= latency_bound_s]
    if not within:
        message, hint = too_slow(question, fitting, _in_single_items(question, cancel))
        late = min(one.prediction.latency_s for one in fitting) - (latency_bound_s or 0.0)
        raise PlacementError(message, hint=hint, missed=(0, late))
    ranked = sorted(found, key=lambda one: (bool(one.lacking), badness(one, objective), size_of(one)))
    best = most_even(simplest(within, objective, NEAR), within, objective, NEAR)
    return Choice(best.request, best.prediction, tuple(ranked), reasons(question, best, found))


def _check_pins(question: Question) -> None:
    """PlanError where no pipeline could keep them."""
    order = list(dict.fromkeys(node for _, node in sorted(question.pins)))
    rest = [node for node in question.nodes if node not in order]
    check_pins(
        question.model, PlanRequest(PIPELINE, (*order, *rest), question.batch, pins=question.pins), question.names
    )


def _nothing_fits(question: Question, found: Sequence[Candidate], cancel: threading.Event | None) -> tuple[str, str]:
    """What is missed, and what would fit."""
    fitting = _in_single_items(question, cancel)
    return missed(question, found, simplest(fitting, question.objective, NEAR) if fitting else None)


def _in_single_items(question: Question, cancel: threading.Event | None) -> list[Candidate]:
    """What fits with micro-batches of one item; nothing where they have no more now, or their size is fixed."""
    if question.batch == 1 or question.model.fixed_batch is not None:
        return []
    return [one for one in _Search(replace(question, batch=1), cancel).run() if not one.lacking]


class _Search:
    def __init__(
        self,
        question: Question,
        cancel: threading.Event | None,
        progress: Callable[[float], None] | None = None,
    ) -> None:
        self._q = question
        self._cancel = cancel
        self._progress = progress if progress is not None else lambda _share: None
        everything = PlanRequest(REPLICATE, question.nodes, question.batch)
        self._setting = setting_of(
            question.profile, question.model, everything, question.speeds, question.machines, question.links
        )
        self._ways = self._setting.ways
        self._predictor = Predictor(
            question.profile, question.model, question.speeds, question.machines, question.links
        )
        self._found: dict[PlanRequest, Candidate] = {}
        self._members = [
            Member(node, self._setting.costs[node], question.limits.get(node, inf) - self._setting.base_bytes)
            for node in question.nodes
        ]

    def run(self) -> list[Candidate]:
        if self._q.pins:
            self._pipelines()
            return list(self._found.values())
        alone = [self._sums(SINGLE, (node,)) for node in self._q.nodes]
        self._replicas([one for one in alone if not one.lacking])
        if len(self._q.nodes) > 1 and self._setting.known.count > 1:
            self._pipelines()
            self._progress(SUMS_SHARE)
            self._outlines()
        self._progress(1.0)
        return list(self._found.values())

    def _pipelines(self) -> None:
        tools = Tools(self._weighed, self._keep, self._check)
        PipelineSearch(self._q, self._setting, self._members, tools).run()

    def _check(self) -> None:
        if self._cancel is not None and self._cancel.is_set():
            raise Cancelled("Stopped.")

    # ------------------------------------------------------------ by sums

    def _sums(self, strategy: str, nodes: Sequence[NodeId], cuts: tuple[int, ...] | None = None) -> Candidate:
        request = PlanRequest(strategy, tuple(nodes), self._q.batch, cuts)
        found = self._found.get(request)
        if found is None:
            found = self._found[request] = self._weighed(request)
        return found

    def _keep(self, one: Candidate) -> None:
        self._found[one.request] = one

    def _weighed(self, request: PlanRequest) -> Candidate:
        self._check()
        return self._candidate(request, self._predictor.predict(request))

    def _candidate(self, request: PlanRequest, told: Prediction) -> Candidate:
        over = {use.node: use.memory_bytes - self._q.limits.get(use.node, use.memory_bytes) for use in told.nodes}
        return Candidate(request, told, {node: nbytes for node, nbytes in over.items() if nbytes > 0})

    def _replicas(self, alone: Sequence[Candidate]) -> None:
        """Every subset of a few nodes; of many, one more at a time, each time the one that brings most."""
        ranked = sorted(alone, key=lambda one: (-one.prediction.throughput, one.prediction.latency_s))
        nodes = [one.request.nodes[0] for one in ranked]
        if len(nodes) <= FEW:
            for count in range(2, len(nodes) + 1):
                for chosen in combinations(nodes, count):
                    self._sums(REPLICATE, self._in_order(chosen))
            return
        chosen_nodes, left = nodes[:1], nodes[1:]
        reached, idle = 0.0, 0
        while left:
            likely = {self._home(node): node for node in reversed(left)}  # the fastest of each machine
            next_ones = sorted(likely.values(), key=left.index)[:MOST_LIKELY]
            tried = [self._sums(REPLICATE, self._in_order((*chosen_nodes, node))) for node in next_ones]
            best = max(tried, key=lambda one: one.prediction.throughput)
            added = next(node for node in left if node in best.request.nodes)
            chosen_nodes.append(added)
            left.remove(added)
            idle = idle + 1 if best.prediction.throughput <= NEAR * reached else 0
            reached = max(reached, best.prediction.throughput)
            if idle == IDLE and left:
                self._sums(REPLICATE, self._q.nodes)
                break

    def _in_order(self, nodes: Iterable[NodeId]) -> tuple[NodeId, ...]:
        chosen = set(nodes)
        return tuple(node for node in self._q.nodes if node in chosen)

    def _home(self, node: NodeId) -> str:
        """Nodes of one home are in each other's way; nodes that are in nobody's way have the same one."""
        machine = self._q.machines.get(node)
        if machine is not None and machine.name in crowded(self._members):
            return machine.name
        return "" if self._ways.plain else node

    # ------------------------------------------------------------ groups

    def _outlines(self) -> None:
        """Groups that divide every layer, alone and nested: the likeliest, as many as there is work for."""
        q = self._q
        groups = Groups(self._setting, q.links, q.machines, self._stage_bytes())
        left = OUTLINE_SECONDS * (PLAYED_TOGETHER if crowded(self._members) else 1.0)
        shapes: list[Shape] = []
        for kind in (TENSOR, SPATIAL):
            found = self._outlined(kind, groups.pair)
            left -= groups.outline_seconds(2, 1, 0)
            if found is not None:
                shapes += groups.shapes(kind, found.division)
        room = min(q.limits.values(), default=None)
        fits = any(not one.lacking for one in self._found.values())
        bound = q.latency_bound_s if q.latency_bound_s is not None else inf
        order = {shape: (shape.badness(q.objective, bound, room), len(shape.nodes)) for shape in shapes}
        shapes.sort(key=lambda shape: (*order[shape], shape.strategy))
        if shapes and bound < inf:  # nothing else may keep it
            shapes.sort(key=lambda shape: order[shape][0] == inf and shape.latency_s)
            quickest = min(shapes, key=lambda shape: (shape.badness("latency", None, room), order[shape]))
            shapes.remove(quickest)
            shapes.insert(0, quickest)
        if not fits:
            least = LEAST * min((shape.memory_bytes for shape in shapes), default=0.0)
            shapes.sort(key=lambda shape: shape.memory_bytes > least)
        for shape in shapes:
            kept = [one for one in self._found.values() if not one.lacking]
            in_time = (badness(one, q.objective) for one in kept if one.prediction.latency_s <= bound)
            best = min(in_time, default=inf)
            limit = best * HOPELESS if best > 0 else best / HOPELESS
            hopeless = shape.badness(q.objective, None, room) > limit or not shape.may_be_better(q.objective, best)
            if hopeless or shape.outline_seconds > left + (0 if kept else MORE_SECONDS):
                continue
            left -= shape.outline_seconds
            self._outlined(shape.strategy, shape.nodes)
            self._progress(1 - (1 - SUMS_SHARE) * max(0.0, left) / OUTLINE_SECONDS)

    def _stage_bytes(self) -> Callable[[int], float]:
        """Of the largest of so many stages, cut so that it is as small as can be."""
        messages = self._q.profile.messages
        stages = stages_of(self._setting.known, self._setting.layer_seconds, MOST_GUESSED, messages)
        tables = CostTables(stages, self._ways, "memory")
        anywhere = Member(self._q.nodes[0], self._setting.costs[self._q.nodes[0]], inf)

        @cache
        def nbytes(count: int) -> float:
            return best_cuts(tables, [anywhere] * count).value

        return nbytes

    def _outlined(self, strategy: str, nodes: Sequence[NodeId]) -> Outline | None:
        """None where the model cannot be divided so."""
        self._check()
        q = self._q
        request = PlanRequest(strategy, tuple(nodes), q.batch)
        try:
            divided = strategy_named(strategy)(q.model, request, Costs(q.profile, q.speeds, q.machines, q.links))
            found = outline(q.model, request, divided)
            told = predict_outline(q.profile, found, q.model, q.speeds, q.machines, q.links)
        except PlanError:
            return None
        self._found[found.request] = self._candidate(found.request, told)
        return found
