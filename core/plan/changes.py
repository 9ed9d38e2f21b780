"""Changes of a plan that are worth a look: each a request and what a person would do for it, in words."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from itertools import combinations
from math import inf
from typing import Final

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from core.cost.balance import balanced_cuts
from core.cost.loads import Setting, setting_of
from core.cost.orders import CostTables, Goal, Member, best_cuts
from core.cost.predict import is_predicted
from core.cost.stages import stages_of
from core.plan.auto_types import Candidate, Question
from core.plan.change_words import layer_words, strategy_words
from core.plan.compile import micro_batch_for
from core.plan.form import NodeId, PlanRequest
from core.plan.pins import pinned_layers
from core.plan.proposal import BATCH, LEAVE_OUT, MOVE, SHARES, STRATEGY, SWAP, USE_OTHER, Proposal
from core.plan.share_changes import shifted
from core.plan.strategy_text import (
    PIPELINE,
    REPLICATE,
    SINGLE,
    SPATIAL,
    TENSOR,
    parse_strategy,
    simplified,
)

Floats = npt.NDArray[np.float64]

FEW: Final = 4
"""So many nodes: every pair of them is swapped."""
PLACES: Final = 6
"""Of one cut that are predicted, for each thing it may be good for."""
BESIDE: Final = 3
"""Neighbours of the best place on either side."""
POSITIONS: Final = 250
"""Of a model that is cut anew: of longer ones the narrowest of several neighbours."""
MOST_CUTS: Final = 6
"""That are moved; those beside the bottleneck first."""
MOST_BATCH: Final = 1024
HALO_FACTOR: Final = 3.0


class Proposals:
    """Of one plan."""

    def __init__(self, question: Question, now: Candidate) -> None:
        self._q = question
        self._now = now
        self._request = now.request
        self._levels = simplified(parse_strategy(now.request.strategy, len(now.request.nodes)))
        self._layers = question.model.layers(now.request.micro_batch)
        self._by_sums = is_predicted(now.request.strategy)
        self._unused = [node for node in question.nodes if node not in now.request.nodes]

    def outline_seconds(self, request: PlanRequest) -> float:
        """About what an outline takes, with its prediction; by rule of thumb, not by the clock."""
        if is_predicted(request.strategy):
            return 0.0
        factor = HALO_FACTOR if SPATIAL in request.strategy and self._images else 1.0
        return factor * len(self._layers) * (2.5e-4 + 1.0e-4 * len(request.nodes))

    @property
    def _images(self) -> bool:
        return any(len(info.dims) > 3 for info in self._q.model.inputs)

    def by_sums(self) -> Iterator[Proposal]:
        """All whose prediction takes next to nothing, but for cuts."""
        if self._by_sums:
            yield from self._new_cuts()
            yield from self._swaps()
            yield from self._without()
            yield from self._with_others()
            yield from self._batches()
        if not self._request.pins:
            yield from self._strategies()

    def by_outlines(self, *, all_strategies: bool) -> Iterator[Proposal]:
        """The likeliest first."""
        if not self._by_sums:
            yield from shifted(self._q, self._now, self._levels.group)
            for places in self._places(1):
                yield from places
            yield from self._without()
            yield from self._batches()
            yield from self._swapped_ranks()
        if all_strategies and not self._request.pins:
            yield from self._divided()

    # ------------------------------------------------------------ cuts

    def cut_moves(self) -> Iterator[list[Proposal]]:
        """For each cut places that it may be moved to."""
        if self._by_sums:
            yield from self._places(PLACES)

    def beside(self, request: PlanRequest) -> Iterator[Proposal]:
        """The neighbours of the cut by which ``request`` differs."""
        old, new = self._request.cuts or (), request.cuts or ()
        index = next((i for i, (one, other) in enumerate(zip(old, new, strict=True)) if one != other), None)
        if index is None:
            return
        low, high = self._around(index)
        for step in (*range(-BESIDE, 0), *range(1, BESIDE + 1)):
            if low < new[index] + step < high and new[index] + step != old[index]:
                yield self._moved(index, new[index] + step)

    def _places(self, most: int) -> Iterator[list[Proposal]]:
        cuts = self._request.cuts or ()
        stages = [level.count for level in self._levels.levels if level.kind == PIPELINE]
        if len(stages) != 1 or len(cuts) != stages[0] - 1:
            return
        for index in sorted(range(len(cuts)), key=self._away)[:MOST_CUTS]:
            yield [self._moved(index, place) for place in self._good_places(index, most)]

    def _away(self, index: int) -> tuple[int, int]:
        """How far a cut is from the stage that sets the pace, or needs the most memory."""
        told = self._now.prediction
        node = told.bottleneck
        if self._now.lacking:
            node = max(self._now.lacking, key=self._now.lacking.__getitem__)
        elif self._q.objective == "memory":
            node = max(told.nodes, key=lambda use: use.memory_bytes).node
        stage = self._stage_of()[node]
        return min(abs(index - stage), abs(index + 1 - stage)), index

    def _stage_of(self) -> dict[NodeId, int]:
        """The stage that a node works at."""
        inside = 1
        for level in reversed(self._levels.levels):
            if level.kind == PIPELINE:
                break
            inside *= level.count
        count = next(level.count for level in self._levels.levels if level.kind == PIPELINE)
        return {node: place // inside % count for place, node in enumerate(self._request.nodes)}

    def _around(self, index: int) -> tuple[int, int]:
        bounds = (0, *(self._request.cuts or ()), len(self._layers))
        return bounds[index], bounds[index + 2]

    def _good_places(self, index: int, most: int) -> list[int]:
        """By rough sums: where both stages take about as long, where little crosses, where memory is even."""
        q, request = self._q, self._request
        known = self._setting.known
        low, high = self._around(index)
        places = np.array([p for p in range(low + 1, high) if known.legal[p - 1] and p != (request.cuts or ())[index]])
        if not places.size:
            return []
        seconds = np.concatenate([[0.0], np.cumsum(self._setting.layer_seconds)])
        stage_of = self._stage_of()
        members = [[node for node in request.nodes if stage_of[node] == stage] for stage in (index, index + 1)]
        before, after = (sum(q.speeds.get(node, 1.0) for node in nodes) for nodes in members)
        replicas = max(1, len(members[0]) // self._levels.group)
        first, second = (seconds[places] - seconds[low]) / before, (seconds[high] - seconds[places]) / after
        way = self._setting.ways.way(members[0][0], members[1][0])
        crossing = known.crossing[places - 1]
        pace = np.maximum(np.maximum(first, second) * replicas, crossing * way.byte_s)
        own = np.array(known.own_weights, np.float64)
        rooms = [min(q.limits.get(node, 0) for node in nodes) for nodes in members]
        held = np.maximum(own[places] - own[low] - rooms[0], own[high] - own[places] - rooms[1])
        through = first + second + crossing * (way.byte_s + 2 * self._q.profile.messages.byte_s)
        narrow = np.where(pace <= 1.5 * pace.min(), crossing, np.inf)
        wanted = {"latency": (through, narrow), "memory": (held, pace), "throughput": (pace, narrow, held)}
        orders = wanted[q.objective] if not self._now.lacking else (held, pace, narrow)
        chosen = [int(places[i]) for order in orders for i in np.argsort(order, kind="stable")[:most]]
        return list(dict.fromkeys(chosen if most > 1 else chosen[:1]))

    def _moved(self, index: int, place: int) -> Proposal:
        cuts = list(self._request.cuts or ())
        cuts[index] = place
        stage_of = self._stage_of()
        names = [self._name(next(node for node in self._request.nodes if stage_of[node] == stage))
                 for stage in (index, index + 1)]  # fmt: skip
        which = f"the cut between {names[0]} and {names[1]}" if len(cuts) > 1 else "the cut"
        return Proposal(
            replace(self._request, cuts=tuple(cuts)), f"Move {which} to {layer_words(self._layers, place)}", MOVE
        )

    def _new_cuts(self) -> Iterator[Proposal]:
        """As the planner itself would place them."""
        q, request = self._q, self._request
        if not request.cuts or request.strategy != PIPELINE:
            return
        speeds = [q.speeds.get(node, 1.0) for node in request.nodes]
        cuts = balanced_cuts(
            q.profile, q.model, speeds,
            nodes=request.nodes, links=q.links, machines=q.machines, pins=request.pins, batch=request.micro_batch,
        )  # fmt: skip
        words = f"Let the planner place the cut{'s' if len(cuts) > 1 else ''}"
        yield Proposal(replace(request, cuts=cuts), words, SHARES)

    def _balanced(self, request: PlanRequest) -> PlanRequest | None:
        """With new cuts where there are any; None where it cannot be cut so, or a stage has no room."""
        if request.strategy in (SINGLE, REPLICATE):
            return request
        levels = parse_strategy(request.strategy, len(request.nodes))
        count = next(level.count for level in levels.levels if level.kind == PIPELINE)
        line = best_cuts(self._tables, [self._member(node, request) for node in request.nodes[:count]])
        return replace(request, cuts=line.cuts) if line.value < inf else None

    @cached_property
    def _setting(self) -> Setting:
        """With all nodes there are."""
        q = self._q
        nodes = tuple(dict.fromkeys((*q.nodes, *self._request.nodes)))
        every = PlanRequest(REPLICATE, nodes, self._request.micro_batch)
        return setting_of(q.profile, q.model, every, q.speeds, q.machines, q.links)

    @cached_property
    def _tables(self) -> CostTables:
        stages = stages_of(self._setting.known, self._setting.layer_seconds, POSITIONS)
        goals: dict[str, Goal] = {"throughput": "pace", "latency": "sum", "memory": "memory"}
        pinned = [layer for layer, _ in self._request.pins]
        return CostTables(stages, self._setting.ways, goals[self._q.objective], pinned=pinned)

    def _member(self, node: NodeId, request: PlanRequest) -> Member:
        room = self._q.limits.get(node, inf) - self._setting.base_bytes
        return Member(node, self._setting.costs[node], room, pinned_layers(request.pins, node))

    # ------------------------------------------------------------ nodes

    def _swaps(self) -> Iterator[Proposal]:
        """Two nodes of a pipeline, with the same cuts and with new ones."""
        nodes = self._request.nodes
        if self._request.cuts is None or self._request.pins:
            return
        slowest = self._now.prediction.bottleneck
        for one, other in combinations(nodes, 2):
            if (len(nodes) > FEW and slowest not in (one, other)) or self._alike(one, other):
                continue
            swapped = tuple(other if node == one else one if node == other else node for node in nodes)
            words = f"Swap {self._name(one)} and {self._name(other)}"
            yield Proposal(replace(self._request, nodes=swapped), words, SWAP)
            anew = self._balanced(replace(self._request, nodes=swapped)) if slowest in (one, other) else None
            if anew is not None and anew.cuts != self._request.cuts:
                yield Proposal(anew, f"{words}, with new cuts", LEAVE_OUT)

    def _alike(self, one: NodeId, other: NodeId) -> bool:
        """Nothing is known that tells them apart."""
        q = self._q
        return (
            self._setting.ways.plain
            and q.speeds.get(one, 1.0) == q.speeds.get(other, 1.0)
            and q.machines.get(one) == q.machines.get(other)
            and q.limits.get(one) == q.limits.get(other)
        )

    def _without(self) -> Iterator[Proposal]:
        nodes = self._request.nodes
        if len(self._levels.levels) > 1 or len(nodes) == 1:
            return
        pinned = {node for _, node in self._request.pins}
        slow_first = sorted(nodes, key=lambda node: self._q.speeds.get(node, 1.0))
        for node in dict.fromkeys((self._now.prediction.bottleneck, *slow_first)):
            left = tuple(one for one in nodes if one != node)
            if node in pinned:
                continue
            words = f"Leave out {self._name(node)}"
            if len(left) == 1:
                yield self._alone(left[0])
            elif self._by_sums:
                yield from self._changed(replace(self._request, nodes=left), words, LEAVE_OUT)
            else:
                yield Proposal(replace(self._request, nodes=left, shares=None), words, LEAVE_OUT)

    def _with_others(self) -> Iterator[Proposal]:
        """A node that the plan does not use, in the place of another or beside them."""
        request = self._request
        if request.pins or len(self._levels.levels) > 1:
            return
        worst = self._now.prediction.bottleneck
        for node in self._unused:
            instead = tuple(node if one == worst else one for one in request.nodes)
            words = f"Use {self._name(node)} instead of {self._name(worst)}"
            yield from self._changed(replace(request, nodes=instead), words, USE_OTHER)
            if request.strategy != SINGLE:
                more = replace(request, nodes=(*request.nodes, node))
                yield from self._changed(more, f"Add {self._name(node)}", USE_OTHER)

    def _changed(self, request: PlanRequest, words: str, effort: int) -> Iterator[Proposal]:
        placed = self._balanced(request)
        if placed is not None:
            yield Proposal(placed, words, effort)

    def _swapped_ranks(self) -> Iterator[Proposal]:
        """Nodes of several groups, so that those of a group are about equally fast."""
        group, nodes = self._levels.group, self._request.nodes
        if group in (1, len(nodes)) or self._request.shares is not None:
            return
        slowest = self._now.prediction.bottleneck
        home = nodes.index(slowest) // group
        mates = [node for node in nodes[home * group : (home + 1) * group] if node != slowest]
        speed = self._q.speeds.get
        wanted = sum(speed(node, 1.0) for node in mates) / len(mates)
        others = [node for place, node in enumerate(nodes) if place // group != home]
        other = min(others, key=lambda node: abs(speed(node, 1.0) - wanted))
        if abs(speed(other, 1.0) - wanted) < abs(speed(slowest, 1.0) - wanted):
            swapped = tuple(other if node == slowest else slowest if node == other else node for node in nodes)
            words = f"Swap {self._name(slowest)} and {self._name(other)}"
            yield Proposal(replace(self._request, nodes=swapped, cuts=None), words, SWAP)

    # ------------------------------------------------------------ the whole plan

    def _batches(self) -> Iterator[Proposal]:
        now = self._request.micro_batch
        wanted = {"throughput": (2 * now, now // 2), "latency": (now // 2,), "memory": (now // 2,)}[self._q.objective]
        for batch in wanted:
            if 1 <= batch <= MOST_BATCH and batch != now and micro_batch_for(self._q.model, batch) == batch:
                items = "items" if batch != 1 else "item"
                words = f"Micro-batches of {batch} {items} instead of {now}"
                yield Proposal(replace(self._request, micro_batch=batch), words, BATCH)

    def _strategies(self) -> Iterator[Proposal]:
        """Those that sums foretell."""
        batch, used, every = self._request.micro_batch, self._request.nodes, self._q.nodes
        if self._request.strategy != SINGLE:
            for node in every:
                yield self._alone(node)
        for nodes in dict.fromkeys((used, every)):
            for strategy in (REPLICATE, PIPELINE):
                if len(nodes) > 1 and (strategy != self._request.strategy or len(nodes) > len(used) + 1):
                    placed = self._balanced(PlanRequest(strategy, nodes, batch))
                    if placed is not None:
                        yield Proposal(placed, strategy_words(self._q, self._request, placed), STRATEGY)

    def _divided(self) -> Iterator[Proposal]:
        used, every = self._request.nodes, self._q.nodes
        for strategy in (TENSOR, SPATIAL):
            nodes = used if len(used) > 1 else every
            if strategy != self._request.strategy and len(nodes) > 1:
                asked = PlanRequest(strategy, nodes, self._request.micro_batch)
                yield Proposal(asked, strategy_words(self._q, self._request, asked), STRATEGY)

    def _alone(self, node: NodeId) -> Proposal:
        asked = PlanRequest(SINGLE, (node,), self._request.micro_batch)
        return Proposal(asked, strategy_words(self._q, self._request, asked), STRATEGY)

    def _name(self, node: NodeId) -> str:
        return self._q.names.get(node, node[:8])
