"""From what runs on which node, and what goes where, to a network that can be played."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from core.cost.links import WORKSTATION, Ways
from core.cost.messages import HOP_SECONDS, handling_seconds
from core.cost.nodes import NodeCost
from core.cost.simulation import CLIENT, Message, Network, Run, Station
from core.plan.form import NodeId


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


def network_of(
    nodes: Sequence[NodeId],
    costs: Sequence[NodeCost],
    runs: Sequence[tuple[int, float]],
    traffic: Sequence[Traffic],
    ways: Ways,
) -> Network:
    """``costs`` are those of ``nodes``, ``runs`` are (index of the node, seconds at speed 1).

    A run sends in the order of ``traffic``, and so does the client.
    """
    feeds: list[list[int]] = [[] for _ in runs]
    sends: list[list[int]] = [[] for _ in runs]
    messages: list[Message] = []
    lines: dict[str, int] = {}
    """Only those that are used, in the order of their use: replicas that are alike give equal networks."""
    for producer, consumer, nbytes in traffic:
        source = runs[producer][0] if producer != CLIENT else CLIENT
        target = runs[consumer][0] if consumer != CLIENT else CLIENT
        if source == target:
            feeds[producer].append(consumer)
            continue
        if producer != CLIENT:
            sends[producer].append(len(messages))
        send, receive = (_end_seconds(costs, end, nbytes) for end in (source, target))
        way = ways.way(*(nodes[end] if end != CLIENT else WORKSTATION for end in (source, target)))
        crossed = tuple((lines.setdefault(name, len(lines)), nbytes * byte_s) for name, byte_s in way.lines)
        messages.append(Message(source, target, consumer, send, receive, crossed, way.hop_s - HOP_SECONDS))
    stations, cores = _stations(costs)
    made = []
    for (node, seconds), sent, fed in zip(runs, sends, feeds, strict=True):
        taken, limit = costs[node].compute_seconds(seconds), costs[node].cpu_limit
        made.append(Run(node, taken * limit, taken * (1 - limit), tuple(sent), tuple(fed)))
    return Network(stations, cores, tuple(made), tuple(messages), HOP_SECONDS, len(lines))


def _end_seconds(costs: Sequence[NodeCost], end: int, nbytes: int) -> float:
    return costs[end].handling_seconds(1, nbytes) if end != CLIENT else handling_seconds(1, nbytes)


def _stations(costs: Sequence[NodeCost]) -> tuple[tuple[Station, ...], tuple[int, ...]]:
    """A node that is on no known machine has one core to itself."""
    index: dict[str, int] = {}
    cores: list[int] = []
    stations = []
    for cost in costs:
        machine = cost.machine
        if machine is None or machine.name not in index:
            if machine is not None:
                index[machine.name] = len(cores)
            cores.append(machine.cores if machine is not None else 1)
        place = index[machine.name] if machine is not None else len(cores) - 1
        stations.append(Station(cost.spare_core, place, min(cost.threads, cores[place])))
    return tuple(stations), tuple(cores)
