"""From what runs on which node, and what goes where, to a network that can be played."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from core.cost.links import WORKSTATION, Way, Ways
from core.cost.messages import HOP_SECONDS, TYPICAL, MessageCosts
from core.cost.nodes import NodeCost
from core.cost.shared_cores import Station
from core.cost.simulation import CLIENT, Message, Network, Run
from core.plan.form import NodeId
from core.wire.pacing import BURST_SECONDS, TICK_SECONDS

MOVE_SECONDS: Final = 0.010
"""Until a process that shares a core is taken to one with nothing to do: Linux 6.18 took 9 to 14 ms."""


class Traffic(NamedTuple):
    """All that one run gives another for a micro-batch: one message, unless both are on the same node."""

    producer: int
    """Index of a run, or CLIENT."""
    consumer: int
    nbytes: int


class Sent(NamedTuple):
    """One message; the workstation is ``WORKSTATION``."""

    source: NodeId
    target: NodeId
    nbytes: int


def line_seconds(messages: Iterable[Sent], ways: Ways) -> dict[str, float]:
    """How long these messages take of each line that they cross."""
    taken: dict[str, float] = {}
    for source, target, nbytes in messages:
        for line, byte_s in ways.way(source, target).lines:
            taken[line] = taken.get(line, 0.0) + nbytes * byte_s
    return taken


class Flow(NamedTuple):
    """One replica: what runs where for a micro-batch, and what goes where."""

    nodes: tuple[NodeId, ...]
    runs: tuple[tuple[int, float], ...]
    """(index of the node, seconds at speed 1)"""
    traffic: tuple[Traffic, ...]
    """A run sends in this order, and so does the client."""


def network_of(
    flows: Sequence[Flow], costs: Mapping[NodeId, NodeCost], ways: Ways, messages: MessageCosts = TYPICAL
) -> Network:
    """The replicas side by side. Those that are alike give, each by itself, equal networks. ``messages`` are those of
    the workstation."""
    nodes = list(dict.fromkeys(node for flow in flows for node in flow.nodes))
    machines = _machines([costs[node] for node in nodes])
    made: list[Run] = []
    sent: list[Message] = []
    lines = _Lines()
    for replica, flow in enumerate(flows):
        first, places = len(made), [nodes.index(node) for node in flow.nodes]
        feeds: list[list[int]] = [[] for _ in flow.runs]
        sends: list[list[int]] = [[] for _ in flow.runs]
        for producer, consumer, nbytes in flow.traffic:
            ends = [places[flow.runs[end][0]] if end != CLIENT else CLIENT for end in (producer, consumer)]
            if ends[0] == ends[1]:
                feeds[producer].append(first + consumer)
                continue
            if producer != CLIENT:
                sends[producer].append(len(sent))
            source, target = ((nodes[end], costs[nodes[end]]) if end != CLIENT else (WORKSTATION, None) for end in ends)
            way = ways.way(source[0], target[0])
            crossed, held = lines.crossed(way, nbytes)
            send, receive = (
                (cost if cost is not None else messages).handling_seconds(1, nbytes) for _, cost in (source, target)
            )
            run = first + consumer if consumer != CLIENT else CLIENT
            sent.append(Message(ends[0], ends[1], run, send, receive, crossed, way.hop_s - HOP_SECONDS, held))
        for (place, seconds), leaving, fed in zip(flow.runs, sends, feeds, strict=True):
            cost = costs[flow.nodes[place]]
            taken, limit = cost.compute_seconds(seconds) * cost.cpu_limit, cost.cpu_limit
            made.append(Run(places[place], taken, 1 / limit - 1, tuple(leaving), tuple(fed), replica))
    return Network(
        machines.stations,
        machines.cores,
        tuple(made),
        tuple(sent),
        messages.hop_s,
        lines.count,
        lines.ahead,
        TICK_SECONDS,
        machines.client,
        machines.together,
        MOVE_SECONDS,
    )


class _Lines:
    """Numbers for the lines that are used, in the order of their use."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._limits: set[int] = set()

    @property
    def count(self) -> int:
        return len(self._numbers)

    @property
    def ahead(self) -> tuple[float, ...]:
        """Limits that nodes keep to by themselves let small messages through."""
        return tuple(BURST_SECONDS if line in self._limits else 0.0 for line in range(self.count))

    def crossed(self, way: Way, nbytes: int) -> tuple[tuple[tuple[int, float], ...], tuple[tuple[int, float], ...]]:
        """(line, seconds) of those on which a message flows, and of those that hold it back."""
        flows: list[tuple[int, float]] = []
        holds: list[tuple[int, float]] = []
        for name, byte_s in way.lines:
            line = self._numbers.setdefault(name, len(self._numbers))
            if name in (way.leaves, way.enters):
                self._limits.add(line)
            (holds if name == way.enters else flows).append((line, nbytes * byte_s))
        return tuple(flows), tuple(holds)


class _Machines(NamedTuple):
    stations: tuple[Station, ...]
    cores: tuple[int, ...]
    together: tuple[float, ...]
    client: int | None
    """The workstation's, if any of them is on it."""


def _machines(costs: Sequence[NodeCost]) -> _Machines:
    """A node that is on no known machine has one core to itself."""
    index: dict[str, int] = {}
    cores: list[int] = []
    together: list[float] = []
    stations = []
    client = None
    for cost in costs:
        machine = cost.machine
        if machine is None or machine.name not in index:
            if machine is not None:
                index[machine.name] = len(cores)
            cores.append(machine.cores if machine is not None else 1)
            together.append(cost.together)
        place = index[machine.name] if machine is not None else len(cores) - 1
        if machine is not None and machine.here:
            client = place
        core = machine.pinned if machine is not None and (machine.pinned or 0) < cores[place] else None
        stations.append(Station(cost.spare_core, place, min(cost.threads, cores[place]), core))
    return _Machines(tuple(stations), tuple(cores), tuple(together), client)
