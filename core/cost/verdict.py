"""From what each replica would do by itself to a prediction of all together, in figures and in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from core.cost.chain import chain
from core.cost.loads import Load, Replica, Setting
from core.cost.nodes import crowding
from core.cost.types import Machine, NodePrediction, Prediction
from core.errors import PlanError

_WHOLE: Final = 1000
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


def prediction(setting: Setting, replicas: Sequence[Replica]) -> Prediction:
    """All replicas side by side: they share the workstation, and nodes of one machine its cores."""
    if not replicas or not any(replica.loads for replica in replicas):
        raise PlanError("This plan has nothing to do: it has no shards.")
    items = setting.request.micro_batch
    limits = _limits(setting, replicas)
    throughput = sum(replica.rate for replica in replicas) * limits.possible * items
    nodes = {node: NodePrediction(node, 0.0, 0, 0, setting.base_bytes, 0, 0.0) for node in setting.request.nodes}
    for replica in replicas:
        for load in replica.loads:
            nodes[load.node] = _node(setting, load, replica.rate * limits.possible)
    alone = [chain(setting, [node]) for node in setting.request.nodes]
    rates = [one.rate * _limits(setting, [one]).possible for one in alone]
    best = max(range(len(alone)), key=lambda index: (rates[index], -alone[index].loads[0].compute_s))
    single = items * rates[best]
    busiest = max(nodes.values(), key=lambda node: (node.share, node.compute_s))
    notes = (*_sharing(limits, busiest.share), *_slower(setting, throughput, single)) if len(nodes) > 1 else ()
    return Prediction(
        throughput=throughput,
        latency_s=max(replica.latency_s for replica in replicas),
        nodes=tuple(nodes.values()),
        bottleneck=busiest.node,
        efficiency=throughput / sum(items / one.loads[0].compute_s for one in alone),
        single_throughput=single,
        single_node=alone[best].loads[0].node,
        notes=notes,
    )


def _limits(setting: Setting, replicas: Sequence[Replica]) -> _Limits:
    client = sum(replica.rate * replica.client_s for replica in replicas)
    used = [
        (cost, replica.rate * cost.cores(load.compute_s, load.handling_s))
        for replica in replicas
        for load in replica.loads
        for cost in (setting.costs[load.node],)
    ]
    lines: dict[str, float] = {}
    for replica in replicas:
        for name, seconds in replica.lines.items():
            lines[name] = lines.get(name, 0.0) + replica.rate * seconds
    room, crowded = crowding(used, client)
    full = max(lines.values(), default=0.0)
    if full > max(1.0, client) * (1 + NOISE) and 1 / full < room:
        return _Limits(1 / full, line=True)
    if client > 1 + NOISE and 1 / client < room:
        return _Limits(1 / client)
    return _Limits(room, crowded, line=room > 1 - NOISE and full > 1 - NOISE)


def _node(setting: Setting, load: Load, rate: float) -> NodePrediction:
    cycle = max(setting.costs[load.node].cycle_seconds(load.compute_s, load.handling_s), load.line_s)
    return NodePrediction(
        node=load.node,
        compute_s=load.compute_s,
        weight_bytes=load.weight_bytes,
        activation_bytes=load.activation_bytes,
        memory_bytes=load.weight_bytes + load.repacked_bytes + load.activation_bytes + setting.base_bytes,
        sent_bytes=load.sent_bytes,
        share=min(1.0, rate * cycle),
        receive_s=max(load.receive_s, load.receive_line_s),
        send_s=max(load.send_s, load.send_line_s),
        wait_s=max(0.0, 1 / rate - cycle),
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
    slower = f"Slower than the best node alone: {_number(throughput)} against {_number(single)} items/s."
    cuts = " move the cuts," if setting.request.cuts else ""
    return (f"{slower} Leave out the slowest node,{cuts} or use strategy single.",)


def _number(rate: float) -> str:
    """Three digits; of more than 999 all that are whole."""
    return f"{rate:.3g}" if rate < _WHOLE else f"{rate:.0f}"
