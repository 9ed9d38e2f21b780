"""Which nodes might divide layers among them, and a rough estimate of what that gives, from one outline of two."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import inf
from types import MappingProxyType
from typing import Final

from msgspec import Struct

from core.cost import exchange as price
from core.cost.exchange import LinkCost, link_cost
from core.cost.links import WORKSTATION, Links
from core.cost.loads import Setting
from core.cost.messages import IN_FLIGHT
from core.cost.nodes import NodeCost
from core.cost.simulation import MOST_EVENTS
from core.cost.types import Machine
from core.plan.division import Division
from core.plan.form import NodeId
from core.plan.strategy_text import PIPELINE, REPLICATE

MOST_RANKS: Final = 8
"""Of a group whose estimate is looked into, beside all nodes together."""
EVENTS_PER_MESSAGE: Final = 12
"""Of the simulation, for each micro-batch under way: two, in about six rounds."""
EVENT_SECONDS: Final = 5e-6
HALO_FACTOR: Final = 3.0
"""Halos make an outline of an image network that much longer to work out."""
TYPICAL_BYTES: Final = 1 << 16
"""Of a message, to tell near nodes from far ones."""


class Shape(Struct, frozen=True):
    """A strategy on nodes, with what it might reach."""

    strategy: str
    kind: str
    """Of its innermost level."""
    nodes: tuple[NodeId, ...]
    throughput: float
    latency_s: float
    memory_bytes: float
    """Of each node, roughly."""
    outline_seconds: float
    """That it takes to find out."""
    most: float
    """Throughput, however much of what travels is under way while the nodes compute."""
    least_s: float
    """The same of the latency."""

    def may_be_better(self, objective: str, best: float) -> bool:
        """Than a plan of this badness."""
        if objective == "latency":
            return self.least_s < best
        return objective == "memory" or -self.most < best

    def badness(self, objective: str, latency_bound_s: float | None, room: int | None) -> float:
        """Less is better; plans that keep neither a bound nor the memory come last."""
        if room is not None and self.memory_bytes > room:
            return inf
        if latency_bound_s is not None and self.latency_s > latency_bound_s:
            return inf
        if objective == "latency":
            return self.latency_s
        return self.memory_bytes if objective == "memory" else -self.throughput


class _Cost(Struct, frozen=True):
    """What was seen of a kind of division on two ranks."""

    split: float
    """Part of the work that is divided."""
    exchanges: tuple[tuple[Callable[[int, int, LinkCost], float], int], ...]
    """(what it takes, bytes)"""
    outline_factor: float
    """What an outline takes, against a common one."""


def _halo(nbytes: int, ranks: int, link: LinkCost) -> float:
    return price.halo_seconds(nbytes, link, neighbours=min(2, ranks - 1))


_PRICES: Final[Mapping[str, tuple[Callable[[int, int, LinkCost], float], float]]] = MappingProxyType(
    {
        "all-gather": (price.all_gather_seconds, 1.0),
        "all-reduce": (price.all_reduce_seconds, 0.5),
        "reduce-scatter": (price.reduce_scatter_seconds, 1.0),
        "all-to-all": (price.all_to_all_seconds, 2.0),
        "halo": (_halo, 0.5),
    }
)
"""By kind of exchange: its price, and the tensor's bytes over those that two ranks together send for it."""


class Groups:
    def __init__(
        self,
        setting: Setting,
        links: Links,
        machines: Mapping[NodeId, Machine],
        stage_bytes: Callable[[int], float],
    ) -> None:
        """``stage_bytes``: what the largest of so many stages needs at least."""
        self._stage_bytes = stage_bytes
        self._setting = setting
        self._links = links
        self._machines = machines
        self._nodes = setting.request.nodes
        self._seconds = sum(setting.layer_seconds)
        self._layers = len(setting.layer_seconds)
        self._longest = max(setting.layer_seconds)
        self._messages = setting.messages
        self._ends = LinkCost(setting.messages.message_s, setting.messages.byte_s, 0.0)
        """Of messages only what they take at their ends."""
        self._client = self._client_seconds()

    @property
    def pair(self) -> tuple[NodeId, ...]:
        """Two near and fast nodes."""
        return next(self._disjoint(2))

    def outline_seconds(self, ranks: int, stages: int, exchanges: int, factor: float = 1.0) -> float:
        """About what it takes to make the outline of one replica and to play it; by rule of thumb, not by the clock."""
        messages = exchanges * ranks * (ranks - 1)
        events = min(MOST_EVENTS, EVENTS_PER_MESSAGE * IN_FLIGHT * stages * messages)
        return factor * self._layers * (1.7e-4 + 0.7e-4 * ranks) + EVENT_SECONDS * events

    def shapes(self, kind: str, seen: Division) -> Iterator[Shape]:
        """Groups of every size that makes sense, alone, side by side, and one after the other."""
        count = len(self._nodes)
        exchanges = [(*_PRICES[one.kind], one.nbytes) for one in seen.exchanges if one.kind in _PRICES]
        factor = HALO_FACTOR if any(one.kind == "halo" for one in seen.exchanges) else 1.0
        sized = tuple((seconds, round(part * nbytes)) for seconds, part, nbytes in exchanges)
        cost = _Cost(seen.split_share, sized, factor)
        for ranks in sorted({*range(2, min(count, MOST_RANKS) + 1), count}):
            groups = list(self._disjoint(ranks))
            yield self._shape(kind, kind, ranks, groups[:1], cost, 1, 1)
            for stages in sorted({1, 2, 3, len(groups)}):
                replicas = len(groups) // stages
                if replicas == 0 or replicas * stages == 1:
                    continue
                counts = ((REPLICATE, replicas), (PIPELINE, stages), (kind, ranks))
                text = " > ".join(f"{name}({number})" for name, number in counts if number > 1)
                yield self._shape(text, kind, ranks, groups[: replicas * stages], cost, replicas, stages)

    def _shape(
        self,
        text: str,
        kind: str,
        ranks: int,
        groups: Sequence[tuple[NodeId, ...]],
        cost: _Cost,
        replicas: int,
        stages: int,
    ) -> Shape:
        """Stage s of replica r is group r * stages + s."""
        nodes = tuple(node for group in groups for node in group)
        taken = [self._group_seconds(group, cost) for group in groups]
        busy = [self._busy_seconds(group, cost) for group in groups]
        longest = [self._longest / sum(map(self._speed, group)) for group in groups]
        paces, most, latencies, least = [], [], [], []
        message = 2 * self._messages.handling_seconds(1, TYPICAL_BYTES) + self._messages.hop_s
        for first in range(0, replicas * stages, stages):
            own = slice(first, first + stages)
            slowest = min(longest[own]) if stages > 1 else 0.0  # no stage is shorter than the longest layer
            together = sum(1 / seconds for seconds in taken[own])
            paces.append(1 / max(1 / together, slowest))
            most.append(1 / max(1 / sum(1 / seconds for seconds in busy[own]), slowest))
            latencies.append(stages / together + (stages + 1) * message + self._client)
            least.append(stages / sum(sum(map(self._speed, group)) / self._seconds for group in groups[own]))
        items = self._setting.request.micro_batch
        limit = items * self._speed_of_all(nodes) / self._seconds
        if self._client > 0:
            limit = min(limit, items / self._client)
        held = self._stage_bytes(stages) * (1 - cost.split + cost.split / ranks)
        size = ranks * stages
        different = {tuple(map(self._speed, nodes[first : first + size])) for first in range(0, len(nodes), size)}
        return Shape(
            strategy=text,
            kind=kind,
            nodes=nodes,
            throughput=min(items * sum(paces), limit),
            latency_s=max(latencies),
            memory_bytes=held + self._setting.base_bytes,
            outline_seconds=self.outline_seconds(ranks, stages, len(cost.exchanges), cost.outline_factor)
            * len(different),
            most=min(items * sum(most), limit),
            least_s=max(least) + self._client,
        )

    def _speed_of_all(self, nodes: Iterable[NodeId]) -> float:
        """Those of one machine have no more than its cores."""
        on: dict[str, list[NodeCost]] = {}
        for node in nodes:
            machine = self._setting.costs[node].machine
            on.setdefault(machine.name if machine is not None else f"node {node}", []).append(self._setting.costs[node])
        found = 0.0
        for costs in on.values():
            machine, speed = costs[0].machine, sum(cost.speed for cost in costs)
            cores = machine.cores if machine is not None else inf
            found += min(speed, cores * max(cost.speed / (cost.threads * cost.cpu_limit) for cost in costs))
        return found

    def _client_seconds(self) -> float:
        """That a micro-batch is on the lines that all ways to the workstation, or from it, have in common."""
        known, ways = self._setting.known, self._setting.ways
        taken = [0.0]
        for names, there in ((known.graph.inputs, True), (known.graph.outputs, False)):
            nbytes = sum(known.nbytes.get(name, 0) for name in names)
            every = [ways.way(WORKSTATION, node) if there else ways.way(node, WORKSTATION) for node in self._nodes]
            common = set(every[0].lines).intersection(*(way.lines for way in every))
            taken += [nbytes * byte_s for _, byte_s in common]
        return max(taken)

    def _busy_seconds(self, group: Sequence[NodeId], cost: _Cost) -> float:
        """That a rank is at work for one micro-batch through the whole model, at least."""
        speeds, ranks = [self._speed(node) for node in group], len(group)
        work = self._seconds * ((1 - cost.split) / min(speeds) + cost.split / sum(speeds))
        ends = sum(seconds(nbytes, ranks, self._ends) for seconds, nbytes in cost.exchanges) / max(speeds)
        beside = any(self._setting.costs[node].spare_core for node in group)
        return max(work, ends) if beside else work + ends

    def _group_seconds(self, group: Sequence[NodeId], cost: _Cost) -> float:
        """One micro-batch through the whole model."""
        link, ranks = link_cost(group, self._links, self._machines, self._messages), len(group)
        speeds = [self._speed(node) for node in group]
        work = self._seconds * ((1 - cost.split) / min(speeds) + cost.split / sum(speeds))
        return work + sum(seconds(nbytes, ranks, link) for seconds, nbytes in cost.exchanges)

    def _speed(self, node: NodeId) -> float:
        return self._setting.costs[node].speed

    def _disjoint(self, ranks: int) -> Iterator[tuple[NodeId, ...]]:
        """Groups of so many nodes: the fastest one that is left, and those nearest to it of about its speed."""
        left = sorted(self._nodes, key=lambda node: -self._speed(node))
        while len(left) >= ranks:
            seed = left[0]
            near = sorted(left[1:], key=lambda node: self._distance(seed, node))
            group = (seed, *near[: ranks - 1])
            yield group
            left = [node for node in left if node not in group]

    def _distance(self, one: NodeId, other: NodeId) -> tuple[float, float]:
        there, back = self._setting.ways.way(one, other), self._setting.ways.way(other, one)
        away = sum(way.hop_s + TYPICAL_BYTES * way.byte_s for way in (there, back))
        return away, -self._speed(other)
