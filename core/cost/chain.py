"""A replica whose nodes follow one another, worked out from sums alone: fast enough to follow a mouse.

Only one micro-batch is played, for the latency. At steady state the slowest node sets the pace, unless those that may
be under way are too few to keep it busy. ``core.cost.dataflow`` plays what this sums up.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from core.cost.links import WORKSTATION
from core.cost.loads import Load, Replica, Setting
from core.cost.messages import IN_FLIGHT
from core.cost.network import Flow, Sent, Traffic, line_seconds, network_of
from core.cost.simulation import latency
from core.errors import PlanError
from core.plan.form import NodeId


def chain(setting: Setting, nodes: Sequence[NodeId], cuts: Sequence[int] = (), in_flight: int | None = None) -> Replica:
    """Stage i, layers from one cut to the next, runs on ``nodes[i]``; without cuts the whole model on one node.
    ``in_flight`` micro-batches may be unfinished; None: as many as the runner allows by itself."""
    known = setting.known
    bounds = (0, *cuts, known.count)
    again = ((), *(known.cuts[position - 1].recomputed for position in cuts))
    traffic = [Traffic(*ends, nbytes) for ends, nbytes in known.traffic(bounds).items()]
    costs = [setting.costs[node] for node in nodes]
    layers = [
        sum(setting.layer_seconds[first:last]) + sum(setting.layer_seconds[layer] for layer in extra)
        for (first, last), extra in zip(pairwise(bounds), again, strict=True)
    ]
    seconds = [
        taken + setting.messages.call_seconds(taken, cost.cpu_limit) for taken, cost in zip(layers, costs, strict=True)
    ]
    flow = Flow(tuple(nodes), tuple(enumerate(seconds)), tuple(traffic))
    network = network_of([flow], setting.costs, setting.ways, setting.messages)
    names = (*nodes, WORKSTATION)  # CLIENT is -1
    messages = [Sent(names[one.producer], names[one.consumer], one.nbytes) for one in traffic]

    def longest(own: Iterable[Sent]) -> float:
        return max(line_seconds(own, setting.ways).values(), default=0.0)

    loads = tuple(
        Load(
            node=node,
            compute_s=cost.compute_seconds(taken),
            receive_s=cost.handling_seconds(len(received), sum(received)),
            send_s=cost.handling_seconds(len(sent), sum(sent)),
            sent_bytes=sum(sent),
            received_bytes=sum(received),
            waiting_bytes=sum(received) + sum(sent),
            weight_bytes=known.weight_bytes(first, last, extra),
            sessions_bytes=0,
            live_bytes=known.activation_bytes(first, last),
            receive_line_s=longest(one for one in messages if one.target == node),
            send_line_s=longest(one for one in messages if one.source == node),
        )
        for stage, (node, cost, taken, (first, last), extra) in enumerate(
            zip(nodes, costs, seconds, pairwise(bounds), again, strict=True)
        )
        for received in ([one.nbytes for one in traffic if one.consumer == stage],)
        for sent in ([one.nbytes for one in traffic if one.producer == stage],)
    )
    slowest = max(cost.cycle_seconds(load.compute_s, load.handling_s) for load, cost in zip(loads, costs, strict=True))
    client, lines = network.client_seconds, line_seconds(messages, setting.ways)
    try:
        whole = latency(network)
    except ValueError as error:
        raise PlanError(f"The cuts {list(cuts)} leave a stage with nothing to do: {error}.") from error
    under_way = in_flight if in_flight is not None else IN_FLIGHT * len(loads)
    least = max(slowest, client, whole / under_way, *lines.values())
    return Replica(loads, 1 / least, whole, client, lines, flow, under_way)
