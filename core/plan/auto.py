"""The best plan for an objective, over strategies, nodes, orders and cuts; and all others that were weighed.

Single nodes, replicas, pipelines and replicas of pipelines are predicted by sums, so all that make sense are tried.
Tensor and spatial groups, and nestings of them, take an outline each: of those only the ones that a rough estimate
likes best, and no more than a fixed amount of work. Nothing depends on the clock: the same question has the same
answer.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import combinations, pairwise, permutations, product
from math import inf, sqrt
from types import MappingProxyType
from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import replace

from core.cost.dataflow import predict_outline
from core.cost.links import UNKNOWN, WORKSTATION, Links
from core.cost.loads import setting_of
from core.cost.nodes import NodeCost
from core.cost.orders import CostTables, Goal, Member, best_cuts, best_lines, crowded, transitions
from core.cost.predict import predict
from core.cost.stages import Stages, stages_of
from core.cost.types import Machine, Prediction, Profile
from core.errors import Cancelled, DoesNotFitError, PlanError
from core.model.graph import Model
from core.plan.auto_groups import Groups, Shape
from core.plan.auto_words import missed, reasons
from core.plan.compile import micro_batch_for, strategy_named
from core.plan.draft import Costs
from core.plan.form import NodeId, PlanRequest
from core.plan.outline import Outline
from core.plan.schedule import outline
from core.plan.strategy_text import PIPELINE, REPLICATE, SINGLE, SPATIAL, TENSOR

Objective = Literal["throughput", "latency", "memory"]

NEAR: Final = 1.005
"""Of plans as good as this the one with fewer nodes is taken, then the simpler one."""
FEW: Final = 4
"""So many nodes: every subset and every order is tried."""
WORK: Final = 4e7
"""Entries of tables that the search for an order may look at: about half a second."""
FEWEST_PLACES, MOST_PLACES, MOST_GUESSED = 24, 500, 64
MOST_LIKELY: Final = 3
"""Nodes that are tried as the next replica."""
PER_LENGTH: Final = 2
MOST_LINES: Final = 40
POLISHED: Final = 3
"""Pipelines whose cuts are moved until no neighbouring position is better; all of them where a model has few."""
SHORT: Final = 16
MOST_MOVES: Final = 60
"""Of a longer model's cuts."""
OUTLINE_SECONDS: Final = 1.9
"""That outlines may take, by the estimate of ``Groups.outline_seconds``."""
MORE_SECONDS: Final = 1.2
"""More while nothing is known to fit."""
LEAST: Final = 1.1
"""Where nothing fits those that need least come first; estimates within this factor are equal."""
HOPELESS: Final = 1.5
"""A rough estimate that is worse than the best plan by this factor is not looked into."""


class Candidate(Struct, frozen=True):
    request: PlanRequest
    prediction: Prediction
    lacking: Mapping[NodeId, int] = {}
    """Bytes by which nodes miss their memory limits."""

    @property
    def memory_bytes(self) -> int:
        """Of the node that needs most."""
        return max(node.memory_bytes for node in self.prediction.nodes)


class Choice(Struct, frozen=True):
    request: PlanRequest
    prediction: Prediction
    candidates: tuple[Candidate, ...]
    """All that were weighed, the best by the objective first; those that do not fit come last."""
    words: str
    """Why this one."""


class Question(Struct, frozen=True):
    """What is asked; names are for words."""

    model: Model
    profile: Profile
    nodes: tuple[NodeId, ...]
    speeds: Mapping[NodeId, float]
    machines: Mapping[NodeId, Machine]
    links: Links
    limits: Mapping[NodeId, int]
    objective: Objective
    latency_bound_s: float | None
    batch: int
    names: Mapping[NodeId, str]


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
    cancel: threading.Event | None = None,
) -> Choice:
    """The best plan for ``model`` on some of ``nodes``.

    ``memory_limits`` in bytes, for all of an agent; a node without one has room for anything. ``latency_bound_s`` is
    for one micro-batch through an idle cluster. ``micro_batch`` None: the profile's. ``names`` are for the
    words.

    DoesNotFitError when no plan fits the limits: which one is missed by how much, and what would fit. PlanError when
    none keeps the latency bound, or there are no nodes. Cancelled when ``cancel`` is set.
    """
    if not nodes:
        raise PlanError("A plan needs at least one node.")
    batch = micro_batch_for(model, micro_batch if micro_batch is not None else profile.batch)
    question = Question(
        model, profile, tuple(nodes), speeds, machines, links, memory_limits, objective, latency_bound_s, batch, names
    )
    found = _Search(question, cancel).run()
    fitting = [one for one in found if not one.lacking]
    if not fitting:
        message, hint = _nothing_fits(question, found, cancel)
        raise DoesNotFitError(message, hint=hint)
    within = [one for one in fitting if latency_bound_s is None or one.prediction.latency_s <= latency_bound_s]
    if not within:
        quickest = min(fitting, key=lambda one: one.prediction.latency_s)
        raise PlanError(
            f"No plan answers within {1000 * (latency_bound_s or 0):.3g} ms: the quickest, "
            f"{quickest.request.strategy}, takes {1000 * quickest.prediction.latency_s:.3g} ms.",
            hint="Allow more, or use smaller micro-batches.",
        )
    ranked = sorted(found, key=lambda one: (bool(one.lacking), _badness(one, objective), _size(one)))
    best = _simplest(within, objective)
    return Choice(best.request, best.prediction, tuple(ranked), reasons(question, best, found))


def _badness(one: Candidate, objective: Objective) -> float:
    match objective:
        case "latency":
            return one.prediction.latency_s
        case "memory":
            return one.memory_bytes
        case "throughput":
            return -one.prediction.throughput


def _size(one: Candidate) -> tuple[int, int, str, tuple[NodeId, ...]]:
    return len(one.request.nodes), one.request.strategy.count(">"), one.request.strategy, one.request.nodes


def _simplest(fitting: Sequence[Candidate], objective: Objective) -> Candidate:
    best = min(_badness(one, objective) for one in fitting)
    limit = best / NEAR if best < 0 else best * NEAR
    if objective == "memory":  # several are equal, where the runtime's own part outweighs all
        near = [one for one in fitting if _badness(one, objective) <= limit]
        return min(near, key=lambda one: (len(one.request.nodes), -one.prediction.throughput, _size(one)))
    near = [one for one in fitting if _badness(one, objective) <= limit]
    return min(near, key=lambda one: (_size(one)[:2], _badness(one, objective), _size(one)))


def _nothing_fits(question: Question, found: Sequence[Candidate], cancel: threading.Event | None) -> tuple[str, str]:
    """What is missed, and what would fit."""
    smaller = None
    if question.batch > 1 and question.model.fixed_batch is None:
        alone = replace(question, batch=1)
        fitting = [one for one in _Search(alone, cancel).run() if not one.lacking]
        smaller = _simplest(fitting, question.objective) if fitting else None
    return missed(question, found, smaller)


class _Search:
    def __init__(self, question: Question, cancel: threading.Event | None) -> None:
        self._q = question
        self._cancel = cancel
        everything = PlanRequest(REPLICATE, question.nodes, question.batch)
        self._setting = setting_of(
            question.profile, question.model, everything, question.speeds, question.machines, question.links
        )
        self._ways = self._setting.ways
        self._found: dict[PlanRequest, Candidate] = {}
        self._members = [
            Member(node, self._setting.costs[node], question.limits.get(node, inf) - self._setting.base_bytes)
            for node in question.nodes
        ]

    def run(self) -> list[Candidate]:
        alone = [self._sums(SINGLE, (node,)) for node in self._q.nodes]
        self._replicas([one for one in alone if not one.lacking])
        if len(self._q.nodes) > 1 and self._setting.known.count > 1:
            self._pipelines()
            self._outlines()
        return list(self._found.values())

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

    def _tried(self, strategy: str, nodes: Sequence[NodeId], cuts: tuple[int, ...]) -> Candidate | None:
        """None where a stage would have nothing to do."""
        try:
            return self._sums(strategy, nodes, cuts)
        except PlanError:
            return None

    def _weighed(self, request: PlanRequest) -> Candidate:
        self._check()
        q = self._q
        return self._candidate(request, predict(q.profile, q.model, request, q.speeds, q.machines, q.links))

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
        while left:
            likely = {self._home(node): node for node in reversed(left)}  # the fastest of each machine
            next_ones = sorted(likely.values(), key=left.index)[:MOST_LIKELY]
            tried = [self._sums(REPLICATE, self._in_order((*chosen_nodes, node))) for node in next_ones]
            best = max(tried, key=lambda one: one.prediction.throughput)
            added = next(node for node in left if node in best.request.nodes)
            chosen_nodes.append(added)
            left.remove(added)

    def _in_order(self, nodes: Iterable[NodeId]) -> tuple[NodeId, ...]:
        chosen = set(nodes)
        return tuple(node for node in self._q.nodes if node in chosen)

    def _home(self, node: NodeId) -> str:
        """Nodes of one home are in each other's way; nodes that are in nobody's way have the same one."""
        machine = self._q.machines.get(node)
        if machine is not None and machine.name in crowded(self._members):
            return machine.name
        return "" if self._ways.plain else node

    # ------------------------------------------------------------ pipelines

    def _pipelines(self) -> None:
        q, known = self._q, self._setting.known
        most = min(len(q.nodes), known.count)
        goals: dict[Goal, None] = dict.fromkeys(["pace"])
        if q.objective == "latency" or q.latency_bound_s is not None or crowded(self._members):
            goals["sum"] = None  # cores that are shared set the pace by the sum of what runs on them
        if q.objective == "memory" or q.limits:
            goals["memory"] = None
        steps = 1 if len(q.nodes) <= FEW else transitions(self._members, self._ways)
        places = max(FEWEST_PLACES, min(MOST_PLACES, int(sqrt(WORK / len(goals) / steps))))
        coarse, fine = self._stages(places), self._stages(MOST_PLACES)
        tried: dict[PlanRequest, Candidate] = {}
        runs: list[tuple[Goal, list[Member]]] = [(goal, self._members) for goal in goals]
        if crowded(self._members):
            runs.append(("pace", self._slowed()))
        for goal, members in runs:
            tables, by_node = CostTables(fine, self._ways, goal), {member.node: member for member in members}
            for nodes in self._orders(coarse, members, goal, most):
                line = best_cuts(tables, [by_node[node] for node in nodes])
                if line.value < inf and (one := self._tried(PIPELINE, nodes, line.cuts)) is not None:
                    tried[one.request] = one
        if not tried:
            self._least_lacking(fine, most)
        count = POLISHED if len(fine.positions) > SHORT else len(tried)
        for one in sorted(tried.values(), key=self._rank)[:count]:
            self._polished(one, fine)
        self._side_by_side(fine)

    def _stages(self, places: int) -> Stages:
        return stages_of(self._setting.known, self._setting.layer_seconds, places)

    def _member(self, node: NodeId) -> Member:
        return next(member for member in self._members if member.node == node)

    def _slowed(self) -> list[Member]:
        """The nodes as they are when all of them work and their machines have too few cores."""
        full, threads = crowded(self._members), dict[str, int]()
        for member in self._members:
            if (machine := member.cost.machine) is not None:
                threads[machine.name] = threads.get(machine.name, 0) + machine.threads

        def slowed(cost: NodeCost) -> NodeCost:
            if cost.machine is None or cost.machine.name not in full:
                return cost
            return replace(cost, speed=cost.speed * cost.machine.cores / threads[cost.machine.name])

        return [replace(member, cost=slowed(member.cost)) for member in self._members]

    def _orders(self, stages: Stages, members: Sequence[Member], goal: Goal, most: int) -> Iterator[tuple[NodeId, ...]]:
        """Orders of nodes worth a look, each for two stages or more."""
        if len(self._q.nodes) <= FEW:
            every = [order for count in range(2, most + 1) for order in permutations(self._q.nodes, count)]
            yield from {self._looks(order): order for order in reversed(every)}.values()
            return
        lines = best_lines(stages, members, self._ways, goal, self._check, most=most)
        taken: dict[int, int] = {}
        for index, line in enumerate(lines):
            length = len(line.nodes)
            if index < MOST_LINES or taken.get(length, 0) < PER_LENGTH:
                taken[length] = taken.get(length, 0) + 1
                yield line.nodes

    def _looks(self, order: Sequence[NodeId]) -> object:
        """The same for orders that a pipeline cannot tell apart."""
        ends = [(one, other) for one in (*order, WORKSTATION) for other in (*order, WORKSTATION) if one != other]
        ways = [self._ways.way(*pair) for pair in ends]
        costs = tuple(self._setting.costs[node] for node in order)
        rooms = tuple(self._member(node).room for node in order)
        return costs, rooms, tuple((way.hop_s, way.byte_s) for way in ways)

    def _least_lacking(self, stages: Stages, most: int) -> None:
        """Nothing fits: the pipelines that come nearest to it."""
        tables = CostTables(stages, self._ways, "excess")
        roomy = sorted(self._members, key=lambda member: -member.room)
        for count in range(2, most + 1):
            line = best_cuts(tables, roomy[:count])
            if line.value < inf:
                self._tried(PIPELINE, line.nodes, line.cuts)

    def _polished(self, start: Candidate, stages: Stages) -> None:
        """Move one cut at a time to a neighbouring position as long as that is better."""
        places = [int(place) for place in stages.positions]
        best, moved = start, True
        left = MOST_MOVES if len(places) > SHORT else inf
        while moved and left > 0:
            moved = False
            for request in _moves(best.request, places):
                left -= 1
                try:
                    found = self._weighed(request)
                except PlanError:
                    continue  # a stage would have nothing to do
                if self._rank(found) < self._rank(best):
                    best, moved = found, True
                    break
        self._found[best.request] = best

    def _rank(self, one: Candidate) -> tuple[int, float]:
        return sum(one.lacking.values()), _badness(one, self._q.objective)

    def _side_by_side(self, stages: Stages) -> None:
        """Replicas of pipelines: of the fastest nodes, stage i of all on nodes of about the same speed."""
        tables = CostTables(stages, self._ways, "memory" if self._q.objective == "memory" else "pace")
        members = sorted(self._members, key=lambda member: -member.cost.speed)
        for count in range(2, len(members) // 2 + 1):
            for replicas in range(2, len(members) // count + 1):
                used = members[: count * replicas]
                rows = [used[stage * replicas : (stage + 1) * replicas] for stage in range(count)]
                slowest = [replace(row[-1], room=min(member.room for member in row)) for row in rows]
                line = best_cuts(tables, slowest)
                if line.value < inf:
                    nodes = [row[replica].node for replica in range(replicas) for row in rows]
                    self._tried(f"{REPLICATE}({replicas}) > {PIPELINE}({count})", nodes, line.cuts)

    # ------------------------------------------------------------ groups

    def _outlines(self) -> None:
        """Groups that divide every layer, alone and nested: the likeliest, as many as there is work for."""
        q = self._q
        groups = Groups(self._setting, q.links, q.machines, self._stage_bytes())
        left, tried = OUTLINE_SECONDS, set[str]()
        shapes: list[Shape] = []
        for kind in (TENSOR, SPATIAL):
            found = self._outlined(kind, groups.pair)
            left -= groups.outline_seconds(2, 1, 0)
            if found is not None:
                shapes += groups.shapes(kind, found.division)
        room = min(q.limits.values(), default=None)
        fitting = [one for one in self._found.values() if not one.lacking]
        best = min((_badness(one, q.objective) for one in fitting), default=inf)
        order = {shape: (shape.badness(q.objective, q.latency_bound_s, room), len(shape.nodes)) for shape in shapes}
        shapes.sort(key=lambda shape: (*order[shape], shape.strategy))
        if not fitting:
            least = LEAST * min((shape.memory_bytes for shape in shapes), default=0.0)
            shapes.sort(key=lambda shape: shape.memory_bytes > least)
        limit = best * HOPELESS if best > 0 else best / HOPELESS
        for shape in shapes:
            fits = any(not one.lacking for one in self._found.values())
            hopeless = shape.kind in tried and shape.badness(q.objective, None, room) > limit
            if hopeless or shape.outline_seconds > left + (0 if fits else MORE_SECONDS):
                continue
            tried.add(shape.kind)
            left -= shape.outline_seconds
            self._outlined(shape.strategy, shape.nodes)

    def _stage_bytes(self) -> Callable[[int], float]:
        """Of the largest of so many stages, cut so that it is as small as can be."""
        tables = CostTables(self._stages(MOST_GUESSED), self._ways, "memory")
        anywhere = Member(self._q.nodes[0], self._setting.costs[self._q.nodes[0]], inf)

        @cache
        def nbytes(stages: int) -> float:
            return best_cuts(tables, [anywhere] * stages).value

        return nbytes

    def _outlined(self, strategy: str, nodes: Sequence[NodeId]) -> Outline | None:
        """None where the model cannot be divided so."""
        self._check()
        q = self._q
        request = PlanRequest(strategy, tuple(nodes), q.batch)
        try:
            divided = strategy_named(strategy)(q.model, request, Costs(q.profile, q.speeds))
            found = outline(q.model, request, divided)
            told = predict_outline(q.profile, found, q.model, q.speeds, q.machines, q.links)
        except PlanError:
            return None
        self._found[found.request] = self._candidate(found.request, told)
        return found


def _moves(request: PlanRequest, places: Sequence[int]) -> Iterator[PlanRequest]:
    """One cut, or two that follow one another, a little to the left or to the right."""
    at = [places.index(cut) for cut in request.cuts or ()]
    for count, step in product((1, 2), (-2, -1, 1, 2)):
        for first in range(len(at) - count + 1):
            moved = [*at[:first], *(place + step for place in at[first : first + count]), *at[first + count :]]
            if all(a < b for a, b in pairwise((0, *moved, len(places) - 1))):
                yield replace(request, cuts=tuple(places[place] for place in moved))
