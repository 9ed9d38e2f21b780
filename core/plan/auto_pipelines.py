"""Pipelines, alone and side by side, that are worth a prediction: node orders, cuts, and small changes of both.

Of a few nodes every order is weighed with as many cuts as there are, by sums (``core.cost.joint``); of many the orders
come from dynamic programming (``core.cost.orders``). The best are then changed one cut or one node at a time as long
as the prediction likes that better.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from heapq import nsmallest
from itertools import combinations, count, permutations
from math import comb, inf, sqrt
from typing import Final

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from core.cost.balance import evened
from core.cost.joint import Joint, Weighed
from core.cost.links import WORKSTATION
from core.cost.loads import Setting
from core.cost.nodes import NodeCost
from core.cost.orders import CostTables, Goal, Indices, Member, best_cuts, best_lines, crowded, transitions
from core.cost.stages import Floats, Stages, stages_of
from core.plan.auto_types import Candidate, Question
from core.plan.form import NodeId, PlanRequest
from core.plan.pins import pinned_layers
from core.plan.pipeline_changes import Field, Polish
from core.plan.pipeline_trials import Tools, Trials
from core.plan.strategy_text import PIPELINE, REPLICATE

FEW: Final = 5
"""So many nodes: every subset and every order is weighed."""
FEW_BESIDE: Final = 6
"""The same of pipelines side by side."""
MOST_CUTS: Final = 1500
"""Ways to cut that are weighed for each of those orders."""
WEIGHED: Final = 12
"""The best of them by sums, which are predicted: for each number of stages, and of pipelines side by side."""
RECUT: Final = 6
"""Orders whose cuts are found once more among all positions."""
WORK: Final = 4e7
"""Entries of tables that the search for an order may look at: about half a second."""
FEWEST_PLACES, MOST_PLACES = 24, 500
PER_LENGTH: Final = 2
MOST_LINES: Final = 40
POLISHED: Final = 4
"""Candidates that are changed step by step."""
BOUND_STEPS: Final = 3
"""Paces, between the fastest and that of one node alone, for which the quickest line is sought."""


class _Run(Struct, frozen=True):
    """One dynamic programme over orders."""

    goal: Goal
    members: Sequence[Member]
    slowest: float = inf


class PipelineSearch:
    def __init__(self, question: Question, setting: Setting, members: Sequence[Member], tools: Tools) -> None:
        self._q = question
        self._setting = setting
        self._ways = setting.ways
        pins = question.pins
        self._members = [replace(member, pinned=pinned_layers(pins, member.node)) for member in members]
        self._by_node = {member.node: member for member in self._members}
        looks = [(member.cost, member.room, member.pinned) for member in self._members]
        self._kind = {member.node: looks.index(look) for member, look in zip(self._members, looks, strict=True)}
        self._pinned = tuple(layer for layer, _ in pins)
        self._trials = Trials(question, tools, crowded=bool(crowded(self._members)))
        self._fine = self._stages(MOST_PLACES)
        self._places = [int(place) for place in self._fine.positions]
        self._joint = Joint(self._fine, self._ways, question.profile.messages)

    def run(self) -> None:
        """Keeps what it finds."""
        most = min(len(self._members), self._setting.known.count)
        pipelines = self._enumerated(most) if len(self._members) <= FEW else self._programmed(most)
        if len({node for _, node in self._q.pins}) == 1:
            self._trials.predicted(PIPELINE, (self._q.pins[0][1],), ())
        if not pipelines:
            self._least_lacking(most)
        if self._q.objective == "throughput":
            self._evened(pipelines)
        beside = self._side_by_side() if not self._pinned else []
        base = self._setting.base_bytes
        polish = Polish(
            Field(self._q, self._by_node, self._kind, self._ways, self._joint, self._places, base, self._holds_pins),
            self._trials,
        )
        for found in (pipelines, beside):
            for one in nsmallest(POLISHED, found, key=self._trials.rank):
                polish.polished(one)

    def _stages(self, places: int) -> Stages:
        return stages_of(self._setting.known, self._setting.layer_seconds, places, self._q.profile.messages)

    def _tables(self, stages: Stages, goal: Goal, slowest: float = inf) -> CostTables:
        return CostTables(stages, self._ways, goal, slowest=slowest, pinned=self._pinned)

    # ------------------------------------------------------------ few nodes

    def _enumerated(self, most: int) -> list[Candidate]:
        """Every order, each for two stages or more, and every cut where those are few."""
        found: list[Candidate] = []
        for stages in range(2, most + 1):
            orders = permutations([member.node for member in self._members], stages)
            own = self._best_of(PIPELINE, 1, stages, (order for order in orders if self._holds_pins(order)))
            if self._coarse(stages) < len(self._places):
                own += self._recut(own)
            found += own
        return found

    def _recut(self, coarse: Sequence[Candidate]) -> list[Candidate]:
        """The same orders with the best of all cuts for each goal."""
        found: list[Candidate] = []
        orders = list(dict.fromkeys(one.request.nodes for one in sorted(coarse, key=self._trials.rank)))[:RECUT]
        bound = self._q.latency_bound_s
        for run in self._runs():
            tables = self._tables(self._fine, run.goal)
            by_node = {member.node: member for member in run.members}
            for order in orders:
                self._trials.check()
                found += self._cut_best(tables, [by_node[node] for node in order])
        if bound is not None:
            for run in self._paces([one for one in (*coarse, *found) if one.prediction.throughput > 0]):
                tables = self._tables(self._fine, run.goal, run.slowest)
                for order in orders[: RECUT // 2]:
                    found += self._cut_best(tables, [self._by_node[node] for node in order])
        return found

    def _cut_best(self, tables: CostTables, members: Sequence[Member]) -> list[Candidate]:
        """One, or none where none fits."""
        line = best_cuts(tables, members)
        one = self._trials.predicted(PIPELINE, line.nodes, line.cuts) if line.value < inf else None
        return [one] if one is not None else []

    def _evened(self, pipelines: Sequence[Candidate]) -> None:
        """Of the likeliest orders the even cuts, too: where one stage sets the pace many cuts are as good by sums, and
        these stay good where that stage takes less than its layers add up to."""
        tables = self._tables(self._fine, "pace")
        likely = sorted(pipelines, key=self._trials.rank)
        for order in list(dict.fromkeys(one.request.nodes for one in likely))[:RECUT]:
            self._trials.check()
            members = [self._by_node[node] for node in order]
            best = best_cuts(tables, members).value
            if best < inf:
                self._trials.predicted(PIPELINE, order, evened(tables, members, best))

    def _holds_pins(self, order: Sequence[NodeId]) -> bool:
        """Whether the pinned nodes take part, in the order of their layers."""
        pinned = list(dict.fromkeys(node for _, node in sorted(self._q.pins)))
        return [node for node in order if node in pinned] == pinned

    def _best_of(
        self, strategy: str, replicas: int, stages: int, orders: Iterable[tuple[NodeId, ...]]
    ) -> list[Candidate]:
        """Of these orders (the stages of one replica after those of another), with all their cuts."""
        tables = self._stages(self._coarse(stages))
        cuts = _combinations(len(tables.positions), stages - 1)
        if not len(cuts):
            return []
        if self._pinned:
            cuts = cuts[self._pins_kept(tables, cuts)]
        joint, found = (
            Joint(tables, self._ways, self._q.profile.messages),
            list[tuple[tuple[float, float, float], int, PlanRequest]](),
        )
        number = count()
        for order in self._distinct(orders, replicas):
            self._trials.check()
            rows = [[self._by_node[node] for node in order[i * stages : (i + 1) * stages]] for i in range(replicas)]
            own = cuts[self._own_pins(tables, cuts, rows[0])] if self._pinned else cuts
            if not len(own):
                continue
            ranks = self._ranks(joint.weigh(rows, own))
            for index in _least(ranks, 2):
                taken = tuple(int(tables.positions[place]) for place in own[index])
                key = (float(ranks[0][index]), float(ranks[1][index]), float(ranks[2][index]))
                found.append((key, next(number), PlanRequest(strategy, order, self._q.batch, taken)))
        return self._trials.first_of([request for _, _, request in nsmallest(WEIGHED, found)])

    def _coarse(self, stages: int) -> int:
        """So many that the cuts between them are few enough."""
        places = MOST_PLACES
        while places > FEWEST_PLACES // 2 and comb(places, stages - 1) > MOST_CUTS:
            places = places * 9 // 10
        return places

    def _pins_kept(self, tables: Stages, cuts: Indices) -> Indices:
        """Cuts that keep the layers of different nodes apart."""
        at = np.stack([np.sum(tables.positions[cuts] <= layer, axis=1) for layer in self._pinned], axis=1)
        apart = np.ones(len(cuts), bool)
        for (one, (_, node)), (other, (_, next_node)) in combinations(enumerate(self._q.pins), 2):
            apart &= (at[:, one] == at[:, other]) == (node == next_node)
        return np.flatnonzero(apart)

    def _own_pins(self, tables: Stages, cuts: Indices, row: Sequence[Member]) -> Indices:
        """Cuts that give every pinned layer to its node."""
        place = {member.node: index for index, member in enumerate(row)}
        kept = np.ones(len(cuts), bool)
        for layer, node in self._q.pins:
            kept &= np.sum(tables.positions[cuts] <= layer, axis=1) == place[node]
        return np.flatnonzero(kept)

    def _ranks(self, weighed: Weighed) -> tuple[Floats, Floats, Floats]:
        """As ``rank``, for arrays."""
        q = self._q
        late = np.maximum(0.0, weighed.latency_s - (q.latency_bound_s or inf))
        possible = weighed.rate > 0
        value = {"latency": weighed.latency_s, "memory": weighed.memory, "throughput": -weighed.rate}[q.objective]
        return np.where(possible, weighed.lacking, np.inf), late, np.where(possible, value, np.inf)

    def _distinct(self, orders: Iterable[tuple[NodeId, ...]], replicas: int) -> Iterator[tuple[NodeId, ...]]:
        """One of those that cannot be told apart."""
        seen = set[object]()
        for order in orders:
            look = self._looks(order, replicas)
            if look not in seen:
                seen.add(look)
                yield order

    def _looks(self, order: Sequence[NodeId], replicas: int) -> object:
        ends = [(one, other) for one in (*order, WORKSTATION) for other in (*order, WORKSTATION) if one != other]
        kinds = tuple(self._kind[node] for node in order)
        if not self._ways.plain:
            return kinds, tuple((way.hop_s, way.byte_s) for way in (self._ways.way(*pair) for pair in ends))
        size = len(order) // replicas
        return tuple(sorted(kinds[i * size : (i + 1) * size] for i in range(replicas)))

    # ------------------------------------------------------------ many nodes

    def _programmed(self, most: int) -> list[Candidate]:
        """Orders by dynamic programming towards several goals, and the best cuts of each."""
        runs = self._runs()
        steps = transitions(self._members, self._ways)
        bounded = BOUND_STEPS if self._q.latency_bound_s is not None else 0
        places = max(FEWEST_PLACES, min(MOST_PLACES, int(sqrt(WORK / (len(runs) + bounded) / steps))))
        coarse = self._stages(places)
        found = self._follow(runs, coarse, most)
        if bounded and found:
            self._trials.allow_more()
            found += self._follow(self._paces(found), coarse, most)
        return found

    def _runs(self) -> list[_Run]:
        q, members = self._q, self._members
        runs = [_Run("pace", members)]
        if q.objective == "latency" or q.latency_bound_s is not None or crowded(members):
            runs.append(_Run("sum", members))  # cores that are shared set the pace by the sum of what runs on them
        if q.objective == "memory" or q.limits:
            runs.append(_Run("memory", members))
        if crowded(members):
            runs.append(_Run("pace", self._slowed()))
        return runs

    def _follow(self, runs: Sequence[_Run], coarse: Stages, most: int) -> list[Candidate]:
        """The likeliest of all their lines, predicted."""
        asked: dict[PlanRequest, None] = {}
        for run in runs:
            by_node = {member.node: member for member in run.members}
            tables, exact = (self._tables(stages, run.goal, run.slowest) for stages in (coarse, self._fine))
            taken: dict[int, int] = {}
            for index, line in enumerate(best_lines(tables, run.members, self._ways, self._trials.check, most=most)):
                length = len(line.nodes)
                if index >= MOST_LINES and taken.get(length, 0) >= PER_LENGTH:
                    continue
                taken[length] = taken.get(length, 0) + 1
                better = best_cuts(exact, [by_node[node] for node in line.nodes]) if index < RECUT else line
                asked[PlanRequest(PIPELINE, better.nodes, self._q.batch, better.cuts)] = None
        return self._trials.first_of(sorted(asked, key=self._estimate))

    def _estimate(self, request: PlanRequest) -> tuple[float, float, float]:
        """Its rank by sums."""
        at = [bisect_left(self._places, cut) for cut in request.cuts or ()]
        row = [self._by_node[node] for node in request.nodes]
        lacking, late, value = self._ranks(self._joint.weigh([row], np.array([at], np.intp)))
        return float(lacking[0]), float(late[0]), float(value[0])

    def _paces(self, found: Iterable[Candidate]) -> list[_Run]:
        """Between the pace of the fastest line and that of the quickest: the quickest of those that keep it."""
        rates = [one.prediction.throughput / self._q.batch for one in found]
        fastest, slowest = 1 / max(rates), 1 / min(rates)
        steps = [fastest * (slowest / fastest) ** ((1 + index) / (BOUND_STEPS + 1)) for index in range(BOUND_STEPS)]
        return [_Run("sum", self._members, pace) for pace in steps]

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

    def _least_lacking(self, most: int) -> None:
        """Nothing fits: the pipelines that come nearest to it."""
        tables = self._tables(self._fine, "excess")
        roomy = sorted(self._members, key=lambda member: -member.room)
        for length in range(2, most + 1):
            line = best_cuts(tables, roomy[:length])
            if line.value < inf:
                self._trials.predicted(PIPELINE, line.nodes, line.cuts)

    # ------------------------------------------------------------ side by side

    def _side_by_side(self) -> list[Candidate]:
        """Replicas of pipelines: every order of a few nodes; else of the fastest ones, stage i of all on nodes of about
        the same speed."""
        found: list[Candidate] = []
        tables = self._tables(self._fine, "memory" if self._q.objective == "memory" else "pace")
        members = sorted(self._members, key=lambda member: -member.cost.speed)
        asked: list[PlanRequest] = []
        for stages in range(2, min(len(members) // 2, self._setting.known.count) + 1):
            for replicas in range(2, len(members) // stages + 1):
                text = f"{REPLICATE}({replicas}) > {PIPELINE}({stages})"
                if len(members) <= FEW_BESIDE:
                    orders = permutations([member.node for member in self._members], replicas * stages)
                    firsts = (order for order in orders if _in_order(order[::stages]))
                    found += self._best_of(text, replicas, stages, firsts)
                    continue
                used = members[: stages * replicas]
                rows = [used[stage * replicas : (stage + 1) * replicas] for stage in range(stages)]
                slowest = [replace(row[-1], room=min(member.room for member in row)) for row in rows]
                line = best_cuts(tables, slowest)
                nodes = [row[replica].node for replica in range(replicas) for row in rows]
                if line.value < inf:
                    asked.append(PlanRequest(text, tuple(nodes), self._q.batch, line.cuts))
        self._trials.allow_more()
        found += self._trials.first_of(asked)
        return found


def _combinations(positions: int, cuts: int) -> Indices:
    """Every choice of so many of the inner positions, in order, a row each."""
    chosen = list(combinations(range(1, positions - 1), cuts))
    return np.array(chosen, np.intp).reshape(len(chosen), cuts)


def _least(ranks: tuple[Floats, Floats, Floats], most: int) -> list[int]:
    """Indices of the best, those that cannot be left out."""
    order = np.lexsort(ranks[::-1])[:most]
    return [int(index) for index in order if ranks[0][index] < np.inf]


def _in_order(firsts: Sequence[NodeId]) -> bool:
    """One of the orders that only name replicas otherwise."""
    return list(firsts) == sorted(firsts)
