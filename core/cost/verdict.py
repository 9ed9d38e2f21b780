"""From what each replica would do by itself to a prediction of all together, in figures and in words."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Final, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from core.cost.chain import chain
from core.cost.loads import Load, Replica, Setting
from core.cost.network import network_of
from core.cost.nodes import NodeCost, crowding, share_cores
from core.cost.simulation import rates
from core.cost.types import Machine, NodePrediction, Prediction
from core.errors import PlanError
from core.plan.form import NodeId
from core.units import format_pace

BUSY: Final = 0.97
"""Cores, or a line, that are in use for more of the time than this are what keeps a plan from being faster."""
_HALVINGS: Final = 40
NOISE: Final = 1e-6
"""A share above 1 by less than this is 1."""


class _Limits(Struct, frozen=True):
    """What all replicas share."""

    possible: float
    """Part of their rates that is left, at most 1.0."""
    crowded: Machine | None = None
    """Whose cores do not suffice."""
    line: bool = False
    """A line does not carry more."""


class Alone(Struct, frozen=True):
    """What a node would do with the whole model to itself."""

    node: NodeId
    rate: float
    """Micro-batches per second, by way of its lines and the workstation."""
    cycle_s: float
    """The least time between two micro-batches, by the node's own work: the speed that efficiency is against."""


def each_alone(setting: Setting, whole_s: float | None = None) -> tuple[Alone, ...]:
    """In the order of the request's nodes; the same for all requests on the same nodes with the same micro-batch.

    ``whole_s``: seconds of the whole model in one shard at speed 1, as it was timed; None: what its layers add up to.
    """
    if whole_s is not None:
        setting = replace(setting, layer_seconds=_adding_up(setting.layer_seconds, whole_s))
    return tuple(_alone(setting, node) for node in setting.request.nodes)


def _alone(setting: Setting, node: NodeId) -> Alone:
    replica = chain(setting, [node])
    (load,) = replica.loads
    cycle = setting.costs[node].cycle_seconds(load.compute_s, load.handling_s)
    return Alone(node, _together(setting, [replica])[0][0], cycle)


def _adding_up(layer_seconds: Sequence[float], total: float) -> tuple[float, ...]:
    before = sum(layer_seconds)
    return tuple(total * (taken / before if before > 0 else 1 / len(layer_seconds)) for taken in layer_seconds)


def prediction(setting: Setting, replicas: Sequence[Replica], alone: Sequence[Alone] | None = None) -> Prediction:
    """All replicas side by side: they share the workstation, and nodes of one machine its cores. ``alone`` as
    ``each_alone`` gives it, where that is known already."""
    if not replicas or not any(replica.loads for replica in replicas):
        raise PlanError("This plan has nothing to do: it has no shards.")
    items = setting.request.micro_batch
    each_rate, limits = _together(setting, replicas)
    throughput = sum(each_rate) * items
    nodes = {node: NodePrediction(node, 0.0, 0, 0, setting.base_bytes, 0, 0.0) for node in setting.request.nodes}
    for replica, each in zip(replicas, each_rate, strict=True):
        for load in replica.loads:
            nodes[load.node] = _node(setting, load, each)
    alone = alone if alone is not None else each_alone(setting)
    best = max(alone, key=lambda one: (one.rate, -one.cycle_s))
    single = items * best.rate
    busiest = max(nodes.values(), key=lambda node: (node.share, node.compute_s))
    notes = (*_sharing(limits, busiest.share), *_slower(setting, throughput, single)) if len(nodes) > 1 else ()
    return Prediction(
        throughput=throughput,
        latency_s=max(replica.latency_s for replica in replicas),
        nodes=tuple(nodes.values()),
        bottleneck=busiest.node,
        efficiency=throughput / sum(items / one.cycle_s for one in alone),
        single_throughput=single,
        single_node=best.node,
        notes=notes,
        loaded_latency_s=loaded_latency([(rate, own.under_way) for own, rate in zip(replicas, each_rate, strict=True)]),
        in_flight=replicas[0].under_way,
    )


def loaded_latency(paces: Sequence[tuple[float, int]]) -> float:
    """Median seconds of the micro-batches of all replicas, from (micro-batches per second, unfinished at any time) of
    each; 0 where nothing is ever finished.

    Who takes a new one for each that it finishes has had all that were under way go by: each takes as long as so many
    need together.
    """
    taken = sorted((under_way / rate, rate) for rate, under_way in paces if rate > 0)
    half, passed = sum(rate for _, rate in taken) / 2, 0.0
    for place, (seconds, rate) in enumerate(taken):
        passed += rate
        if passed > half * (1 + NOISE):
            return seconds
        if passed >= half * (1 - NOISE):  # as many above as below
            return (seconds + taken[min(place + 1, len(taken) - 1)][0]) / 2
    return 0.0


def _limits(setting: Setting, replicas: Sequence[Replica]) -> _Limits:
    """From the rates that they would have by themselves."""
    used, client, full = _use(setting, replicas, [replica.rate for replica in replicas])
    room, crowded = crowding(used, client)
    if full > max(1.0, client) * (1 + NOISE) and 1 / full < room:
        return _Limits(1 / full, line=True)
    if client > 1 + NOISE and 1 / client < room:
        return _Limits(1 / client)
    return _Limits(room, crowded, line=room > 1 - NOISE and full > 1 - NOISE)


def _together(setting: Setting, replicas: Sequence[Replica]) -> tuple[list[float], _Limits]:
    """Micro-batches per second of each, and what keeps them from more. Where nodes, and the workstation, share cores
    that do not suffice for all of them, they are played side by side."""
    flows = [replica.flow for replica in replicas if replica.flow is not None]
    costs = [setting.costs[load.node] for replica in replicas for load in replica.loads]
    if len(flows) < len(replicas) or not share_cores(costs):
        limits = _limits(setting, replicas)
        return held_up([(one.rate, one.latency_s, one.under_way) for one in replicas], limits.possible), limits
    network = network_of(flows, setting.costs, setting.ways, setting.messages)
    played = list(rates(network, replicas[0].under_way))
    use = _use(setting, replicas, played)
    _, crowded = crowding(use.cores, use.client, BUSY)
    return played, _Limits(1.0, crowded, line=use.line > BUSY)


def held_up(replicas: Sequence[tuple[float, float, int]], possible: float) -> list[float]:
    """Micro-batches per second of each, where what all share leaves ``possible`` of what they would do by themselves.

    Each is (rate by itself, seconds of one micro-batch through an idle cluster, unfinished at any time). All wait as
    long where they meet; a node that is slower than that has something to do meanwhile and loses nothing, while a fast
    one is held up.
    """
    goal = possible * sum(rate for rate, _, _ in replicas)
    if possible >= 1.0 or len(replicas) < 2 or goal == inf:
        return [possible * rate for rate, _, _ in replicas]

    def each(wait: float) -> list[float]:
        return [min(rate, held / (alone + wait)) for rate, alone, held in replicas]

    least, most = 0.0, sum(held for _, _, held in replicas) / goal
    for _ in range(_HALVINGS):
        wait = (least + most) / 2
        least, most = (wait, most) if sum(each(wait)) > goal else (least, wait)
    found = each(most)
    return [rate * goal / sum(found) for rate in found]


class _Use(NamedTuple):
    cores: list[tuple[NodeCost, float]]
    """That each node needs."""
    client: float
    """Part of the time that the workstation is busy."""
    line: float
    """The same of the fullest line."""


def _use(setting: Setting, replicas: Sequence[Replica], each_rate: Sequence[float]) -> _Use:
    client = sum(rate * replica.client_s for replica, rate in zip(replicas, each_rate, strict=True))
    cores = []
    lines: dict[str, float] = {}
    for replica, rate in zip(replicas, each_rate, strict=True):
        for load in replica.loads:
            cost = setting.costs[load.node]
            cores.append((cost, rate * cost.cores(load.compute_s, load.handling_s)))
        for name, seconds in replica.lines.items():
            lines[name] = lines.get(name, 0.0) + rate * seconds
    return _Use(cores, client, max(lines.values(), default=0.0))


def _node(setting: Setting, load: Load, rate: float) -> NodePrediction:
    cycle = max(setting.costs[load.node].cycle_seconds(load.compute_s, load.handling_s), load.line_s)
    period = 1 / rate if rate > 0 else 0.0  # one so slow that it finishes none while it is played
    return NodePrediction(
        node=load.node,
        compute_s=load.compute_s,
        weight_bytes=load.weight_bytes,
        activation_bytes=load.activation_bytes,
        memory_bytes=load.weight_bytes + load.sessions_bytes + load.activation_bytes + setting.base_bytes,
        sent_bytes=load.sent_bytes,
        share=min(1.0, rate * cycle),
        receive_s=max(load.receive_s, load.receive_line_s),
        send_s=max(load.send_s, load.send_line_s),
        wait_s=max(0.0, period - cycle),
        received_bytes=load.received_bytes,
        period_s=period,
    )


def _sharing(limits: _Limits, busiest: float) -> tuple[str, ...]:
    if limits.crowded is not None:
        machine = limits.crowded
        return (f"{machine.name} has {machine.cores} cores for its agents: at best {busiest:.0%} busy each.",)
    if limits.line:
        return ("The network is the limit: a line is busy all the time. Send less, or use fewer nodes behind it.",)
    if limits.possible < 1.0:
        return ("The workstation's own messages are the limit: nodes wait for it. Send more items at a time.",)
    return ()


def _slower(setting: Setting, throughput: float, single: float) -> tuple[str, ...]:
    if throughput >= single:
        return ()
    slower = f"Slower than the best node alone: {format_pace(throughput)} against {format_pace(single)} items/s."
    cuts = " move the cuts," if setting.request.cuts else ""
    return (f"{slower} Leave out the slowest node,{cuts} or use strategy single.",)
