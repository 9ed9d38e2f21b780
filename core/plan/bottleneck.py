"""What holds a plan back, in words: a node's computing, a link, the cores of a machine, or the workstation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import Final

from msgspec import Struct

from core.cost.links import UNKNOWN, WORKSTATION, Links, Ways
from core.cost.messages import TYPICAL, MessageCosts
from core.cost.types import Machine, NodePrediction, Prediction
from core.model.types import Layer
from core.plan.form import NodeId, PlanRequest
from core.plan.outline import Outline
from core.plan.strategy_text import PIPELINE, REPLICATE, SINGLE
from core.units import format_rate

Sent = Mapping[tuple[NodeId, NodeId], int]
"""Bytes from each node to each other for one micro-batch of their replica; the workstation is the node ""."""
BUSY: Final = 0.95
"""What is busy for so much of the time holds the others up."""
_NOBODY: Final = 0.9
"""Where nothing is as busy as that, messages under way are what all wait for."""
_MOSTLY: Final = 0.75
"""Of what a node does: one kind of work alone is spoken of."""
_MOST_NAMES: Final = 3


class _Limit(Struct, frozen=True):
    full: float
    """Part of the time, 0..1."""
    words: str


def bottleneck_words(
    prediction: Prediction,
    names: Mapping[NodeId, str],
    request: PlanRequest,
    layers: Sequence[Layer],
    *,
    sent: Sent | None = None,
    links: Links = UNKNOWN,
    machines: Mapping[NodeId, Machine] = MappingProxyType({}),
    costs: MessageCosts = TYPICAL,
) -> str:
    """What sets the pace, without a full stop: "pi-2's computing (layers 59-122): 31 of 33 ms per micro-batch".

    ``layers`` are the model's, ``sent`` is what ``sent_by`` finds in the plan's outline; None: taken from the
    prediction as far as the strategy tells. ``links``, ``machines`` and ``costs``, the profile's of messages, as they
    were predicted with.
    """
    handed = sent if sent is not None else _handed(prediction, request)
    messages = _message_seconds(prediction, handed, costs)
    every = [
        *_lines(prediction, names, request, handed, links, machines),
        *(_node(use, names, request, layers) for use in _busiest_first(prediction) if use.period_s > 0),
        *_cores(prediction, names, machines, messages),
        _Limit(min(1.0, messages), f"the workstation feeds {_it(request)} no faster: its messages take all its time"),
    ]
    fullest = max((limit.full for limit in every), default=0.0)
    if fullest < _NOBODY:
        busiest = f"{_name(prediction.bottleneck, names)} is the busiest, for {fullest:.0%} of the time"
        return f"waiting for messages: {busiest}".replace("%", " %")
    return next(limit.words for limit in every if limit.full >= min(BUSY, fullest))


def _busiest_first(prediction: Prediction) -> list[NodePrediction]:
    """As ``Prediction.bottleneck`` has it."""
    return sorted(prediction.nodes, key=lambda use: (-use.share, -use.compute_s))


def sent_by(outline: Outline) -> dict[tuple[NodeId, NodeId], int]:
    """What crosses from each node to each other, and from and to the workstation."""
    found: dict[tuple[NodeId, NodeId], int] = {}
    for exchange in outline.division.exchanges:
        for source, target, nbytes in exchange.links:
            found[source, target] = found.get((source, target), 0) + nbytes
    return found


def _node(use: NodePrediction, names: Mapping[NodeId, str], request: PlanRequest, layers: Sequence[Layer]) -> _Limit:
    name = _name(use.node, names)
    parts = {"computing": use.compute_s, "receiving": use.receive_s, "sending": use.send_s}
    most = max(parts, key=parts.__getitem__)
    if parts[most] >= _MOSTLY * use.period_s:
        where = _layers_of(use.node, request, layers) if most == "computing" else ""
        return _Limit(use.share, f"{name}'s {most}{where}: {_of(parts[most], use.period_s)}")
    told = ", ".join(f"{part} {milliseconds(seconds)}" for part, seconds in parts.items())
    words = f"{name} is busy all the time: {told} of {milliseconds(use.period_s)} ms per micro-batch"
    return _Limit(use.share, words)


def _layers_of(node: NodeId, request: PlanRequest, layers: Sequence[Layer]) -> str:
    """Of a stage."""
    if request.strategy != PIPELINE or request.cuts is None:
        return ""
    bounds = list(pairwise((0, *request.cuts, len(layers))))
    first, last = bounds[request.nodes.index(node)]
    return f" (layers {first + 1}-{last})" if last - first > 1 else f" (layer {last})"


def _lines(
    prediction: Prediction,
    names: Mapping[NodeId, str],
    request: PlanRequest,
    sent: Sent,
    links: Links,
    machines: Mapping[NodeId, Machine],
) -> Iterable[_Limit]:
    """Links and what several of them share, the fullest first."""
    ways = Ways(links, [use.node for use in prediction.nodes], machines)
    if ways.plain:
        return
    period = {use.node: use.period_s for use in prediction.nodes}
    full: dict[str, float] = {}
    ends: dict[str, list[tuple[NodeId, NodeId]]] = {}
    rates: dict[str, float] = {}
    for (source, target), nbytes in sent.items():
        each = period.get(source) or period.get(target) or 0.0
        for line, byte_s in ways.way(source, target).lines if each and nbytes else ():
            full[line] = full.get(line, 0.0) + nbytes * byte_s / each
            ends.setdefault(line, []).append((source, target))
            rates[line] = 1 / byte_s
    every = request.micro_batch / prediction.throughput
    for line in sorted(full, key=lambda line: -full[line]):
        link = _link(ends[line], format_rate(8 * rates[line]), names)
        yield _Limit(min(1.0, full[line]), f"{link}: {_of(full[line] * every, every)}")


def _link(ends: Sequence[tuple[NodeId, NodeId]], rate: str, names: Mapping[NodeId, str]) -> str:
    sources, targets = dict.fromkeys(one for one, _ in ends), dict.fromkeys(other for _, other in ends)
    if len(sources) == 1:
        return f"{_several(sources, names)}'s {rate} link to {_several(targets, names)}"
    if len(targets) == 1:
        return f"{_several(targets, names)}'s {rate} link from {_several(sources, names)}"
    return f"the {rate} line between {_several(sources, names)} and {_several(targets, names)}"


def _cores(
    prediction: Prediction, names: Mapping[NodeId, str], machines: Mapping[NodeId, Machine], messages: float
) -> Iterable[_Limit]:
    """Nodes of one machine that take all of its cores. ``messages``: the workstation's own part of a core."""
    wanted: dict[str, float] = {}
    on: dict[str, list[NodeId]] = {}
    for use in prediction.nodes:
        machine = machines.get(use.node)
        if machine is not None and use.period_s > 0:
            busy = use.compute_s * machine.cpu_limit * machine.threads + use.receive_s + use.send_s
            already = wanted.get(machine.name, messages if machine.here else 0.0)
            wanted[machine.name] = already + busy / use.period_s
            on.setdefault(machine.name, []).append(use.node)
    for name, nodes in on.items():
        machine = machines[nodes[0]]
        if len(nodes) > 1:
            where = "this machine" if machine.here else name
            cores = f"the {machine.cores} core{'s' if machine.cores != 1 else ''} of {where}"
            words = f"{cores}, which {_several(nodes, names)} share"
            yield _Limit(min(1.0, wanted[name] / machine.cores), words)


def _message_seconds(prediction: Prediction, sent: Sent, costs: MessageCosts) -> float:
    """Part of the time that the workstation is busy with messages."""
    period = {use.node: use.period_s for use in prediction.nodes}
    full = 0.0
    for (source, target), nbytes in sent.items():
        node = target if source == WORKSTATION else source
        if WORKSTATION in (source, target) and period.get(node, 0.0) > 0:
            full += costs.handling_seconds(1, nbytes) / period[node]
    return full


def _it(request: PlanRequest) -> str:
    return "the node" if len(request.nodes) == 1 else "the nodes"


def _handed(prediction: Prediction, request: PlanRequest) -> dict[tuple[NodeId, NodeId], int]:
    """As far as the strategy tells: what every stage sends goes to the next one."""
    uses = {use.node: use for use in prediction.nodes}
    if request.strategy in (SINGLE, REPLICATE):
        given = {(WORKSTATION, node): use.received_bytes for node, use in uses.items()}
        return given | {(node, WORKSTATION): use.sent_bytes for node, use in uses.items()}
    if request.strategy != PIPELINE:
        return {}
    found = {(WORKSTATION, request.nodes[0]): uses[request.nodes[0]].received_bytes}
    for one, other in pairwise((*request.nodes, WORKSTATION)):
        found[one, other] = uses[one].sent_bytes
    return found


def _of(seconds: float, period: float) -> str:
    return f"{milliseconds(min(seconds, period))} of {milliseconds(period)} ms per micro-batch"


def milliseconds(seconds: float) -> str:
    """Three digits; of more than 999 all that are whole."""
    number = 1000 * seconds
    return f"{number:.3g}" if number < 999.5 else f"{number:.0f}"


def _several(nodes: Iterable[NodeId], names: Mapping[NodeId, str]) -> str:
    told = [_name(node, names) for node in nodes]
    if len(told) > _MOST_NAMES:
        return f"{', '.join(told[:_MOST_NAMES])} and {len(told) - _MOST_NAMES} more"
    return f"{', '.join(told[:-1])} and {told[-1]}" if len(told) > 1 else "".join(told)


def _name(node: NodeId, names: Mapping[NodeId, str]) -> str:
    return "the workstation" if node == WORKSTATION else names.get(node, node[:8])
