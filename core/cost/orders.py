"""Which nodes in which order, and where to cut: dynamic programming over places in the model and nodes used so far.

Nodes that cannot be told apart form a kind, and only how many of each kind are used counts: symmetric orders are
not tried again. Where there are too many different nodes, similar ones count as equal while the order is sought; the
cuts of an order are always found with the nodes themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf, prod
from statistics import fmean
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from msgspec.structs import replace

from core.cost.links import WORKSTATION, Way, Ways
from core.cost.nodes import NodeCost
from core.cost.stages import Floats, Stages
from core.plan.form import NodeId

Indices = npt.NDArray[np.intp]
Goal = Literal["pace", "sum", "memory", "excess"]
"""The slowest stage or line; the time of one micro-batch; the memory of the stage that needs most; the most that a
stage needs beyond the room there is, which may then be too little."""
MOST_STATES: Final = 300
"""Ways to use some of each kind of node."""
ALIKE: Final = (1.0, 1.03, 1.1, 1.25, 1.6, 2.5, 1e9)
"""Speeds within such a factor count as equal; the first one that leaves few enough states is taken."""


class Member(Struct, frozen=True):
    """A node that may become a stage."""

    node: NodeId
    cost: NodeCost
    room: float
    """Bytes for weights and activations."""
    pinned: tuple[int, ...] = ()
    """Layers that it runs, and nobody else."""


class Line(Struct, frozen=True):
    """Stages in order."""

    value: float
    """Of the goal; inf where it cannot be done."""
    nodes: tuple[NodeId, ...]
    cuts: tuple[int, ...]


def best_lines(
    costs: CostTables, members: Sequence[Member], ways: Ways, check: Callable[[], None], *, most: int
) -> list[Line]:
    """For each way to use some of each kind of node, 2 to ``most`` in all, the best order and cuts; the best first.

    ``check`` is called between steps and may raise.
    """
    kinds = _kinds(members, ways, crowded(members))
    found = _Search(costs, kinds, ways, check, min(most, len(members))).run()
    return sorted(found, key=lambda line: (line.value, len(line.nodes), line.nodes))


def best_cuts(costs: CostTables, members: Sequence[Member]) -> Line:
    """The best cuts for these nodes in this order; the value is inf where there are none."""
    stages = costs.stages
    reach, origins = costs.start(), []
    nodes = (None, *(member.node for member in members), None)
    for index, member in enumerate(members):
        reach, origin = costs.step(reach, member, nodes[index], nodes[index + 2])
        origins.append(origin)
    place, cuts = len(stages.positions) - 1, []
    for origin in reversed(origins[1:]):
        place = int(origin[place])
        cuts.append(int(stages.positions[place]))
    return Line(float(reach[-1]), tuple(member.node for member in members), tuple(reversed(cuts)))


def transitions(members: Sequence[Member], ways: Ways) -> int:
    """About how many steps ``best_lines`` takes, each over all pairs of positions."""
    kinds = _kinds(members, ways, crowded(members))
    states = prod(len(kind.nodes) + 1 for kind in kinds)
    return states * len(kinds) * (1 if ways.plain else len(kinds))


class _Kind(Struct, frozen=True):
    """Nodes that count as equal."""

    member: Member
    """What stands for all of them."""
    nodes: tuple[NodeId, ...]


class _State(Struct, eq=False):
    """So many nodes of each kind have a stage, the last one a node of kind ``last``; by position in the model."""

    used: tuple[int, ...]
    last: int
    reach: Floats
    """The best value with that many layers done."""
    before: list[_State]
    """States that it was reached from."""
    came: Indices
    """Index of the one of them with which the value was reached."""
    origin: Indices
    """Where the last stage begins."""
    kind: Indices
    """Of its node."""


class CostTables:
    """What a stage costs towards a goal, from each position to each other; made once for each sort of node between
    neighbours of a sort."""

    def __init__(
        self, stages: Stages, ways: Ways, goal: Goal, *, slowest: float = inf, pinned: Sequence[int] = ()
    ) -> None:
        """``slowest``: seconds that no stage and no line may take longer for one micro-batch, whatever the goal.
        ``pinned``: the layers that only the members they are pinned to may run."""
        self.stages = stages
        self._ways = ways
        self._goal = goal
        self._slowest = slowest
        starts, ends = stages.positions[:, None], stages.positions[None, :]
        self._holds = {layer: (starts <= layer) & (layer < ends) for layer in pinned}
        self._made: dict[object, Floats] = {}

    def start(self) -> Floats:
        reach = np.full(len(self.stages.positions), np.inf)
        reach[0] = 0.0
        return reach

    def step(
        self, reach: Floats, member: Member, before: NodeId | None = None, after: NodeId | None = None
    ) -> tuple[Floats, Indices]:
        """The best value at the end of a stage on such a node, for each end, and where that stage begins.

        ``before`` and ``after`` are the nodes of its neighbours: what comes from the one and goes to the other is on
        the lines in between. None: there is none, or it is not known yet, and is counted at its own end.
        """
        by_end = self.table(member, before, after).T
        joined = reach + by_end if self._goal == "sum" else np.maximum(reach, by_end)
        origin = joined.argmin(axis=1)
        return joined[np.arange(len(origin)), origin], origin

    def table(self, member: Member, before: NodeId | None = None, after: NodeId | None = None) -> Floats:
        """What a stage costs on such a node; inf where it does not fit or may not be."""
        ends = (before, WORKSTATION), (WORKSTATION, after)
        coming = [None if node is None else self._ways.way(node, member.node) for node in ends[0]]
        leaving = [None if node is None else self._ways.way(member.node, node) for node in ends[1]]
        if self._goal in ("memory", "excess") and self._slowest == inf:
            coming, leaving = [], []  # tell nothing apart
        key = member.cost, member.room, member.pinned, *coming, *leaving
        found = self._made.get(key)
        if found is None:
            stages = self.stages
            fits = stages.allowed & ((stages.memory <= member.room) | (self._goal == "excess"))
            for layer, holds in self._holds.items():
                fits = fits & (holds if layer in member.pinned else ~holds)
            if self._slowest < inf:
                fits = fits & (self._pace(member, coming, leaving) <= self._slowest)
            value = np.where(fits, self._value(member, coming, leaving), np.inf)
            found = self._made[key] = np.asfortranarray(value)  # a step goes through the starts of each end
        return found

    def _value(self, member: Member, coming: Sequence[Way | None], leaving: Sequence[Way | None]) -> Floats:
        stages = self.stages
        match self._goal:
            case "memory":
                return stages.memory
            case "excess":
                return stages.memory - member.room
            case "pace":
                return self._pace(member, coming, leaving)
            case "sum":
                return stages.through_seconds(member.cost) + self._under_way(coming, leaving)

    def _pace(self, member: Member, coming: Sequence[Way | None], leaving: Sequence[Way | None]) -> Floats:
        """Of the stage itself or the fullest line at its ends: what goes over the same line adds up."""
        stages = self.stages
        slowest = stages.cycle_seconds(member.cost)
        for ways, sizes in ((coming, (stages.received, stages.given)), (leaving, (stages.results, stages.sent))):
            carried: dict[str, Floats] = {}
            for way, nbytes in zip(ways, sizes, strict=True):
                for name, byte_s in way.lines if way is not None else ():
                    carried[name] = carried.get(name, 0.0) + nbytes * byte_s
            for seconds in carried.values():
                slowest = np.maximum(slowest, seconds)
        return slowest

    def _under_way(self, coming: Sequence[Way | None], leaving: Sequence[Way | None]) -> Floats:
        """What a micro-batch is under way to the stage: from the one before, while what the workstation gives comes in
        beside it; and from the last stage to the workstation."""
        stages = self.stages
        (before, given), (results, after) = coming, leaving
        seconds = np.zeros_like(stages.given)
        if before is not None:
            seconds = stages.received * before.byte_s + before.hop_s * (stages.received > 0)
        if given is not None:
            seconds = np.maximum(seconds, stages.given * given.byte_s + given.hop_s * (stages.given > 0))
        if after is None and results is not None:
            seconds = seconds + stages.results * results.byte_s + results.hop_s * (stages.results > 0)
        return seconds


class _Search:
    def __init__(
        self, costs: CostTables, kinds: Sequence[_Kind], ways: Ways, check: Callable[[], None], most: int
    ) -> None:
        self._costs = costs
        self._stages = costs.stages
        self._kinds = kinds
        self._check = check
        self._most = most
        self._by_last = not ways.plain and len(kinds) > 1
        """Whether the next stage minds of which kind the last one is."""

    def run(self) -> list[Line]:
        size = len(self._stages.positions)
        nowhere = np.zeros(size, np.intp)
        now = [_State((0,) * len(self._kinds), -1, self._costs.start(), [], nowhere, nowhere, nowhere)]
        best: dict[tuple[int, ...], Line] = {}
        for length in range(1, self._most + 1):
            later: dict[tuple[tuple[int, ...], int], _State] = {}
            for state in now:
                self._check()
                for index, kind in enumerate(self._kinds):
                    if state.used[index] < len(kind.nodes):
                        self._extend(later, state, index)
            now = [state for state in later.values() if np.isfinite(state.reach).any()]
            for state in now:
                value = float(state.reach[-1])
                known = best.get(state.used)
                if length > 1 and value < np.inf and (known is None or value < known.value):
                    best[state.used] = self._line(state)
        return list(best.values())

    def _extend(self, later: dict[tuple[tuple[int, ...], int], _State], state: _State, index: int) -> None:
        kind, last = self._kinds[index], state.last
        member, before = kind.member, None
        if last >= 0:
            before = self._kinds[last].nodes[0]
            if last == index:
                member = replace(member, node=kind.nodes[-1])
        reach, origin = self._costs.step(state.reach, member, before)
        used = (*state.used[:index], state.used[index] + 1, *state.used[index + 1 :])
        key = (used, index if self._by_last else 0)
        found = later.get(key)
        if found is None:
            zeros = np.zeros(len(reach), np.intp)
            later[key] = _State(used, key[1], reach, [state], zeros, origin, np.full(len(reach), index, np.intp))
            return
        better = reach < found.reach
        found.before.append(state)
        found.reach = np.where(better, reach, found.reach)
        found.came = np.where(better, len(found.before) - 1, found.came)
        found.origin = np.where(better, origin, found.origin)
        found.kind = np.where(better, index, found.kind)

    def _line(self, state: _State) -> Line:
        place, value = len(self._stages.positions) - 1, float(state.reach[-1])
        kinds, starts = [], []
        while state.before:
            kinds.append(int(state.kind[place]))
            state, place = state.before[int(state.came[place])], int(state.origin[place])
            starts.append(place)
        left = [iter(kind.nodes) for kind in self._kinds]
        nodes = tuple(next(left[kind]) for kind in reversed(kinds))
        return Line(value, nodes, tuple(int(self._stages.positions[start]) for start in reversed(starts[:-1])))


def _kinds(members: Sequence[Member], ways: Ways, full: frozenset[str]) -> list[_Kind]:
    """The fewest kinds that tell nodes apart; or fewer, where there would be too many states."""
    for alike in ALIKE:
        found: list[list[Member]] = []
        for member in sorted(members, key=lambda member: -member.cost.speed):
            home = next((own for own in found if _alike(own[0], member, members, ways, full, alike)), None)
            if home is None:
                found.append([member])
            else:
                home.append(member)
        if prod(len(own) + 1 for own in found) <= MOST_STATES or alike == ALIKE[-1]:
            break
    place = {member.node: index for index, member in enumerate(members)}
    kinds = []
    for own in found:
        speed = fmean(member.cost.speed for member in own) if len(own) > 1 else own[0].cost.speed
        member = replace(own[0], cost=replace(own[0].cost, speed=speed), room=min(member.room for member in own))
        kinds.append(_Kind(member, tuple(one.node for one in sorted(own, key=lambda one: place[one.node]))))
    return kinds


def _alike(
    one: Member, other: Member, members: Sequence[Member], ways: Ways, full: frozenset[str], alike: float
) -> bool:
    """``alike`` 1.0: they cannot be told apart."""
    if one.pinned or other.pinned:
        return False
    if alike == ALIKE[-1]:
        return True
    if one.cost.speed > alike * other.cost.speed or one.cost.spare_core != other.cost.spare_core:
        return False
    if alike == 1.0 and (one.room != other.room or one.cost.cpu_limit != other.cost.cpu_limit):
        return False
    names = [member.cost.machine.name if member.cost.machine is not None else "" for member in (one, other)]
    if names[0] != names[1] and full.intersection(names):
        return False
    if ways.plain:
        return True
    others = [member.node for member in members if member.node not in (one.node, other.node)]
    return all(
        _same(ways, (one.node, third), (other.node, third)) and _same(ways, (third, one.node), (third, other.node))
        for third in (*others, WORKSTATION)
    )


def _same(ways: Ways, ends: tuple[NodeId, NodeId], others: tuple[NodeId, NodeId]) -> bool:
    one, other = ways.way(*ends), ways.way(*others)
    return one.hop_s == other.hop_s and one.byte_s == other.byte_s


def crowded(members: Sequence[Member]) -> frozenset[str]:
    """Machines whose nodes together have more threads than it has cores."""
    threads: dict[str, int] = {}
    cores: dict[str, int] = {}
    for member in members:
        if (machine := member.cost.machine) is not None:
            threads[machine.name] = threads.get(machine.name, 0) + machine.threads
            cores[machine.name] = machine.cores
    return frozenset(name for name, needed in threads.items() if needed > cores[name])
