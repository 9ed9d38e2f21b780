"""How a plan divides a model, summed up: from one entry for each layer to one for each manner of dividing."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from msgspec import Struct

from core.model.types import Layer
from core.plan.division import Division, Exchange, LayerDivision, NodePart
from core.plan.form import NodeId
from core.plan.layouts import Ranges

COLLECTIVES: Final = ("all-reduce", "all-gather", "reduce-scatter", "reduce", "all-to-all", "halo")
WORKSTATION: Final = "workstation"
"""The client, among the names of nodes."""
LITTLE: Final = 0.005
"""Manners with less of the work than this are told together, kind by kind."""
WHOLE: Final = frozenset({"whole", "replicated"})
"""Kinds of layers that are not divided."""


class PartRow(Struct, frozen=True):
    node: str
    replica: int
    stage: int
    share: float
    """Of the layer's multiply-adds; of several layers the mean."""
    ranges: Ranges | None
    """[first, the one after the last] along ``axis``; None: all of it, a term of it, or not the same in each layer."""


class MannerRow(Struct, frozen=True):
    """Layers that are divided in the same way."""

    kind: str
    axis: int | None
    """Of the layers' first output; None where it is not shared out, or not the same in each layer."""
    layers: int
    first: int
    """Layer, counted from 1."""
    last: int
    operators: tuple[str, ...]
    """Types, the most frequent first."""
    work: float
    """Of the model's multiply-adds, 0..1."""
    parts: tuple[PartRow, ...]


class LayerRow(Struct, frozen=True):
    layer: int
    """Counted from 1."""
    name: str
    operator: str
    kind: str
    axis: int | None
    parts: tuple[PartRow, ...]


class ExchangeRow(Struct, frozen=True):
    """For one micro-batch of one replica."""

    replica: int
    kind: str
    count: int
    nbytes: int


class LinkRow(Struct, frozen=True):
    """From one node to another, for one micro-batch of their replica."""

    source: str
    target: str
    nbytes: int


class DivisionReport(Struct, frozen=True, kw_only=True):
    split_share: float
    """Part of the model's multiply-adds that is divided within groups, 0..1."""
    collectives: int
    """For one micro-batch of the replica that takes the most."""
    collective_bytes: int
    """That these collectives send."""
    exchanges: tuple[ExchangeRow, ...]
    links: tuple[LinkRow, ...]
    manners: tuple[MannerRow, ...]
    """The one with the most work first."""
    without_rule: tuple[str, ...]
    fallbacks: tuple[str, ...]
    layers: tuple[LayerRow, ...]


def division_report(division: Division, layers: Sequence[Layer], names: Mapping[NodeId, str]) -> DivisionReport:
    """``layers``: the model's, for the plan's micro-batch."""
    exchanges = _exchanges(division.exchanges)
    taken = [row for row in exchanges if row.kind in COLLECTIVES]
    of_replica = {row.replica: [one for one in taken if one.replica == row.replica] for row in taken}
    most = max(of_replica.values(), key=lambda rows: sum(row.nbytes for row in rows), default=[])
    return DivisionReport(
        split_share=division.split_share,
        collectives=sum(row.count for row in most),
        collective_bytes=sum(row.nbytes for row in most),
        exchanges=exchanges,
        links=_links(division.exchanges, names),
        manners=_manners(division.layers, layers, names),
        without_rule=tuple(dict.fromkeys(division.without_rule)),
        fallbacks=tuple(dict.fromkeys(division.fallbacks)),  # groups that are alike say the same
        layers=tuple(
            LayerRow(
                layer=one.layer + 1,
                name=layers[one.layer].name,
                operator=layers[one.layer].op,
                kind=one.kind,
                axis=one.axis,
                parts=tuple(_part(part, names) for part in one.parts),
            )
            for one in division.layers
        ),
    )


def is_divided(layer: LayerDivision, replica: int) -> bool:
    """Whether several nodes of a replica have a part of it each."""
    return layer.kind not in WHOLE and sum(part.replica == replica for part in layer.parts) > 1


def by_group(row: MannerRow) -> dict[tuple[int, int], list[PartRow]]:
    """The parts of nodes that work together, by replica and stage."""
    found: dict[tuple[int, int], list[PartRow]] = {}
    for part in row.parts:
        found.setdefault((part.replica, part.stage), []).append(part)
    return found


def _exchanges(exchanges: Iterable[Exchange]) -> tuple[ExchangeRow, ...]:
    count: Counter[tuple[int, str]] = Counter()
    nbytes: Counter[tuple[int, str]] = Counter()
    for one in exchanges:
        count[one.replica, one.kind] += 1
        nbytes[one.replica, one.kind] += one.nbytes
    order = {kind: place for place, kind in enumerate((*COLLECTIVES, "hand-over", "input", "output"))}
    keys = sorted(count, key=lambda key: (key[0], order.get(key[1], len(order)), key[1]))
    return tuple(ExchangeRow(*key, count[key], nbytes[key]) for key in keys)


def _links(exchanges: Iterable[Exchange], names: Mapping[NodeId, str]) -> tuple[LinkRow, ...]:
    sent: Counter[tuple[str, str]] = Counter()
    for one in exchanges:
        for source, target, nbytes in one.links:
            sent[_name(source, names), _name(target, names)] += nbytes
    return tuple(LinkRow(*link, nbytes) for link, nbytes in sent.items())


def _name(node: NodeId, names: Mapping[NodeId, str]) -> str:
    return names[node] if node else WORKSTATION


def _part(part: NodePart, names: Mapping[NodeId, str]) -> PartRow:
    return PartRow(names[part.node], part.replica, part.stage, part.share, part.ranges)


# ---------------------------------------------------------------- manners


class _Manner(Struct, frozen=True):
    kind: str
    parts: tuple[PartRow, ...]


def _manners(
    divided: Sequence[LayerDivision], layers: Sequence[Layer], names: Mapping[NodeId, str]
) -> tuple[MannerRow, ...]:
    total = sum(layer.macs for layer in layers) or 1
    members: dict[_Manner, list[LayerDivision]] = defaultdict(list)
    for one in divided:
        parts = tuple(_part(part, names) for part in one.parts)
        if parts:  # what nobody needs is in no shard
            members[_Manner(one.kind, tuple(_rounded(part) for part in parts))].append(one)
    small: dict[tuple[str, frozenset[tuple[int, int]]], list[_Manner]] = defaultdict(list)
    for manner, held in members.items():
        if sum(layers[one.layer].macs for one in held) < LITTLE * total:
            small[manner.kind, frozenset((part.replica, part.stage) for part in manner.parts)].append(manner)
    for alike in small.values():
        together = [one for manner in alike for one in members.pop(manner)]
        members[_common(alike)] += together
    rows = [_row(manner, held, layers, names, total) for manner, held in members.items()]
    return tuple(sorted(rows, key=lambda row: (row.kind in WHOLE, -row.work, row.first)))


def _rounded(part: PartRow) -> PartRow:
    """Shares that hardly differ are the same manner."""
    digits = 3 if part.ranges else 1
    return PartRow(part.node, part.replica, part.stage, round(part.share, digits), part.ranges)


def _common(manners: Sequence[_Manner]) -> _Manner:
    """What they have in common: the nodes."""
    if len(manners) == 1:
        return manners[0]
    nodes = dict.fromkeys((part.replica, part.stage, part.node) for manner in manners for part in manner.parts)
    in_order = sorted(nodes, key=lambda key: key[:2])
    return _Manner(
        manners[0].kind, tuple(PartRow(node, replica, stage, 0.0, None) for replica, stage, node in in_order)
    )


def _row(
    manner: _Manner,
    held: Sequence[LayerDivision],
    layers: Sequence[Layer],
    names: Mapping[NodeId, str],
    total: int,
) -> MannerRow:
    axes = {one.axis for one in held}
    shares: dict[tuple[int, int, str], list[float]] = defaultdict(list)
    for one in held:
        for part in one.parts:
            shares[part.replica, part.stage, names[part.node]].append(part.share)
    of_model = [layers[one.layer] for one in held]
    return MannerRow(
        kind=manner.kind,
        axis=axes.pop() if len(axes) == 1 else None,
        layers=len(held),
        first=1 + min(layer.index for layer in of_model),
        last=1 + max(layer.index for layer in of_model),
        operators=tuple(op for op, _ in Counter(layer.op for layer in of_model).most_common()),
        work=sum(layer.macs for layer in of_model) / total,
        parts=tuple(
            PartRow(part.node, part.replica, part.stage, sum(found) / len(held), part.ranges)
            for part in manner.parts
            for found in (shares[part.replica, part.stage, part.node],)
        ),
    )
