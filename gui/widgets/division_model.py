"""How a division of a model is drawn, without Qt: lanes of layers, bands of nodes in them, marks for what travels.

A lane is a replica. A layer in it is one node's colour (whole), stripes of all nodes' colours (each runs all of it), or
bands in proportion to the nodes' shares. Neighbours that look alike are one box, and what is finer than the eye is
joined: what is drawn depends on the width, not on the number of layers.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from itertools import accumulate, groupby, pairwise
from typing import Final

import numpy as np
from msgspec import Struct

from core.plan.division import Division, Exchange, LayerDivision, NodePart

KINDS: Final = ("all-reduce", "reduce-scatter", "all-gather", "all-to-all", "halo", "hand-over")
"""What is marked, in the order of the rows; what goes to and from the client is not."""
UNDIVIDED: Final = frozenset({"whole", "replicated", "items"})
"""Kinds under which a node runs all of a layer, unless its part of the items has ranges."""
FINEST: Final = 2.0
"""Pixels; a box is at least as wide."""
MARK_GAP: Final = 13.0
"""Pixels; marks of one kind that lie closer become one."""


class Form(enum.Enum):
    """What a layer looks like within one replica."""

    NOWHERE = "runs on no node"
    WHOLE = "on one node"
    COPIES = "all of it on each node"
    BANDS = "a part of the output each"
    TERMS = "a term of a sum each"
    STRIPS = "a part of the image or the sequence each"


class Pattern(Struct, frozen=True):
    form: Form
    parts: tuple[tuple[str, float], ...] = ()
    """(node, share of the replica's work), in the order of the ranks; shares add up to 1."""


class Run(Struct, frozen=True):
    """Layers ``first`` to ``last`` (the latter excluded) that look alike."""

    first: int
    last: int
    pattern: Pattern


class Box(Struct, frozen=True):
    """A rectangle to fill, in pixels; ``nodes``: the colour, or those of the stripes."""

    left: float
    top: float
    width: float
    height: float
    nodes: tuple[str, ...]
    form: Form
    first: bool
    """No other band of its run lies above it."""


class Lane(Struct, frozen=True):
    """The layers of one replica, each with its look: ``patterns[ids[i]]``."""

    ids: tuple[int, ...]
    patterns: tuple[Pattern, ...]

    def of(self, layer: int) -> Pattern:
        return self.patterns[self.ids[layer]]

    @property
    def nodes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(node for pattern in self.patterns for node, _ in pattern.parts))

    @property
    def widest_group(self) -> int:
        """The most nodes that share a layer."""
        return max((len(pattern.parts) for pattern in self.patterns), default=0)


class Mark(Struct, frozen=True):
    """Exchanges of one kind at about one place. ``x`` in pixels."""

    kind: str
    x: float
    exchanges: tuple[Exchange, ...]

    @property
    def nbytes(self) -> int:
        return sum(exchange.nbytes for exchange in self.exchanges)


# ---------------------------------------------------------------- lanes


def lanes_of(division: Division) -> tuple[Lane, ...]:
    """A lane for each replica."""
    replicas = 1 + max((part.replica for layer in division.layers for part in layer.parts), default=0)
    return tuple(_lane([_pattern(layer, replica) for layer in division.layers]) for replica in range(replicas))


def plain_lanes(stages: Sequence[tuple[str, int]]) -> tuple[Lane, ...]:
    """One lane of stages after one another: (node, layers)."""
    ids = tuple(stage for stage, (_, layers) in enumerate(stages) for _ in range(layers))
    return (Lane(ids, tuple(Pattern(Form.WHOLE, ((node, 1.0),)) for node, _ in stages)),)


def replica_lanes(nodes: Sequence[str], layers: int) -> tuple[Lane, ...]:
    """A lane for each node, which runs everything."""
    return tuple(lane for node in nodes for lane in plain_lanes([(node, layers)]))


def _lane(patterns: Sequence[Pattern]) -> Lane:
    known: dict[Pattern, int] = {}
    ids = tuple(known.setdefault(pattern, len(known)) for pattern in patterns)
    return Lane(ids, tuple(known))


def _pattern(layer: LayerDivision, replica: int) -> Pattern:
    parts = [part for part in layer.parts if part.replica == replica]
    if not parts:
        return Pattern(Form.NOWHERE)
    form = form_of(layer, parts)
    weights = [1.0] * len(parts) if form is Form.COPIES else [max(part.share, 0.0) for part in parts]
    total = sum(weights) or float(len(weights))
    shares = [round(weight / total, 2) if sum(weights) else 1 / total for weight in weights]
    return Pattern(form, tuple((part.node, share) for part, share in zip(parts, shares, strict=True)))


def inner_kind(layer: LayerDivision) -> str:
    """How the nodes of one replica divide the layer, without what is divided between replicas."""
    kinds = layer.kind.split(" + ")
    divided = [kind for kind in kinds if kind not in UNDIVIDED]
    return " + ".join(divided) or kinds[-1]


def form_of(layer: LayerDivision, parts: Sequence[NodePart]) -> Form:
    """``parts``: those of one replica."""
    kind = inner_kind(layer)
    if len(parts) == 1:
        return Form.WHOLE
    if kind in UNDIVIDED and all(part.ranges is None for part in parts):
        return Form.COPIES
    if kind in {"image rows", "image columns", "positions"}:
        return Form.STRIPS
    if layer.axis is None and all(part.ranges is None for part in parts):
        return Form.TERMS
    return Form.BANDS


# ---------------------------------------------------------------- boxes


def runs_of(lane: Lane, edges: np.ndarray, finest: float = FINEST) -> tuple[Run, ...]:
    """Neighbours that look alike, joined; runs narrower than ``finest`` take the look of the widest of them.

    ``edges``: float64 [layers + 1], in pixels.
    """
    joined: list[tuple[int, int, int]] = []
    group: list[tuple[int, int, int]] = []
    for look, first, last in _alike(lane.ids):
        group.append((look, first, last))
        if edges[last] - edges[group[0][1]] >= finest:
            joined.append(_one_of(group, edges))
            group = []
    if group and joined:
        look, first, _ = joined.pop()
        joined.append((look, first, group[-1][2]))
    elif group:
        joined.append(_one_of(group, edges))
    found = []
    for look, some in groupby(joined, key=lambda one: one[0]):
        members = list(some)
        found.append(Run(members[0][1], members[-1][2], lane.patterns[look]))
    return tuple(found)


def _alike(ids: Sequence[int]) -> list[tuple[int, int, int]]:
    found, first = [], 0
    for look, some in groupby(ids):
        last = first + len(list(some))
        found.append((look, first, last))
        first = last
    return found


def _one_of(group: Sequence[tuple[int, int, int]], edges: np.ndarray) -> tuple[int, int, int]:
    widths: dict[int, float] = {}
    for look, first, last in group:
        widths[look] = widths.get(look, 0.0) + float(edges[last] - edges[first])
    return max(widths, key=lambda look: widths[look]), group[0][1], group[-1][2]


def boxes_of(runs: Sequence[Run], edges: np.ndarray, top: float, height: float) -> tuple[Box, ...]:
    """Everything that a lane between ``top`` and ``top + height`` is filled with."""
    found: list[Box] = []
    for run in runs:
        left, right = float(edges[run.first]), float(edges[run.last])
        form, parts = run.pattern.form, run.pattern.parts
        if form in {Form.WHOLE, Form.COPIES, Form.NOWHERE}:
            nodes = tuple(node for node, _ in parts)
            found.append(Box(left, top, right - left, height, nodes, form, first=True))
            continue
        bounds = [top + height * share for share in accumulate((share for _, share in parts), initial=0.0)]
        bounds[-1] = top + height
        for place, ((node, _), (upper, lower)) in enumerate(zip(parts, pairwise(bounds), strict=True)):
            if lower > upper:
                found.append(Box(left, upper, right - left, lower - upper, (node,), form, first=place == 0))
    return tuple(found)


# ---------------------------------------------------------------- marks


def shown_exchanges(division: Division, replica: int = 0) -> tuple[Exchange, ...]:
    """What travels between nodes for one micro-batch of a replica."""
    return tuple(one for one in division.exchanges if one.kind in KINDS and one.replica == replica)


def marks_of(exchanges: Sequence[Exchange], edges: np.ndarray, gap: float = MARK_GAP) -> tuple[Mark, ...]:
    """A mark at the beginning of the layer that needs the exchange; those of a kind closer than ``gap`` are one."""
    found: list[Mark] = []
    for kind in KINDS:
        some = sorted(
            ((_place(one, edges), at, one) for at, one in enumerate(exchanges) if one.kind == kind),
            key=lambda placed: placed[:2],
        )
        cluster: list[tuple[float, Exchange]] = []
        for x, _, one in some:
            if cluster and x - cluster[0][0] >= gap:
                found.append(_mark(kind, cluster))
                cluster = []
            cluster.append((x, one))
        if cluster:
            found.append(_mark(kind, cluster))
    return tuple(found)


def _place(exchange: Exchange, edges: np.ndarray) -> float:
    return float(edges[exchange.layer]) if 0 <= exchange.layer < len(edges) else float(edges[-1])


def _mark(kind: str, cluster: Sequence[tuple[float, Exchange]]) -> Mark:
    middle = (cluster[0][0] + cluster[-1][0]) / 2
    return Mark(kind, middle, tuple(one for _, one in cluster))


def link_bytes(division: Division) -> dict[tuple[str, str], int]:
    """(from, to) -> bytes for one micro-batch; the client is ""."""
    total: dict[tuple[str, str], int] = {}
    for exchange in division.exchanges:
        for source, target, size in exchange.links:
            total[source, target] = total.get((source, target), 0) + size
    return total
