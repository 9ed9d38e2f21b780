"""From what runs on which node, and what goes where, to a network that can be played."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from core.cost.messages import HOP_SECONDS, handling_seconds
from core.cost.nodes import NodeCost
from core.cost.simulation import CLIENT, Message, Network, Run, Station


class Traffic(NamedTuple):
    """All that one run gives another for a micro-batch: one message, unless both are on the same node."""

    producer: int
    """Index of a run, or CLIENT."""
    consumer: int
    nbytes: int


def network_of(costs: Sequence[NodeCost], runs: Sequence[tuple[int, float]], traffic: Sequence[Traffic]) -> Network:
    """``costs`` are those of the nodes, ``runs`` are (index of the node, seconds at speed 1).

    A run sends in the order of ``traffic``, and so does the client.
    """
    feeds: list[list[int]] = [[] for _ in runs]
    sends: list[list[int]] = [[] for _ in runs]
    messages: list[Message] = []
    for producer, consumer, nbytes in traffic:
        source = runs[producer][0] if producer != CLIENT else CLIENT
        target = runs[consumer][0] if consumer != CLIENT else CLIENT
        if source == target:
            feeds[producer].append(consumer)
            continue
        if producer != CLIENT:
            sends[producer].append(len(messages))
        ends = [_end_seconds(costs, end, nbytes) for end in (source, target)]
        messages.append(Message(source, target, consumer, *ends))
    stations, cores = _stations(costs)
    made = []
    for (node, seconds), sent, fed in zip(runs, sends, feeds, strict=True):
        taken, limit = costs[node].compute_seconds(seconds), costs[node].cpu_limit
        made.append(Run(node, taken * limit, taken * (1 - limit), tuple(sent), tuple(fed)))
    return Network(stations, cores, tuple(made), tuple(messages), HOP_SECONDS)


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
