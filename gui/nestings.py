"""Strategies that nest: which suit a number of nodes, and which nodes share the work of a layer. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from msgspec import Struct

from core.plan.form import NodeId, PlanRequest
from core.plan.strategy_text import (
    PIPELINE,
    REPLICATE,
    SPATIAL,
    TENSOR,
    Level,
    Levels,
    format_strategy,
    read_strategy,
    settled,
    simplified,
)

ORDER: Final = (
    (REPLICATE, TENSOR),
    (PIPELINE, TENSOR),
    (REPLICATE, PIPELINE),
    (REPLICATE, SPATIAL),
    (PIPELINE, SPATIAL),
    (REPLICATE, PIPELINE, TENSOR),
    (REPLICATE, PIPELINE, SPATIAL),
)
"""What is offered, the most useful first."""


class Nesting(Struct, frozen=True):
    """A strategy settled for certain nodes."""

    levels: tuple[Level, ...]
    nodes: tuple[NodeId, ...]
    """Those that take part; the outermost level varies slowest."""

    @property
    def text(self) -> str:
        """Canonical, without the nodes."""
        return format_strategy(Levels(self.levels))

    @property
    def kinds(self) -> frozenset[str]:
        return frozenset(level.kind for level in self.levels)

    @property
    def groups(self) -> tuple[tuple[NodeId, ...], ...]:
        """Nodes that share the work of a layer: those below the outermost level that divides layers."""
        size, dividing = 1, False
        for level in self.levels:
            dividing = dividing or level.kind in {TENSOR, SPATIAL}
            size *= level.count if dividing else 1
        return tuple(self.nodes[first : first + size] for first in range(0, len(self.nodes), size))

    def place(self, index: int) -> tuple[tuple[str, int], ...]:
        """(kind, position from 0) of the node at ``index`` in each level, outermost first."""
        found = []
        for level in reversed(self.levels):
            index, position = divmod(index, level.count)
            found.append((level.kind, position))
        return tuple(reversed(found))


def settle(text: str, nodes: Sequence[NodeId], names: Mapping[NodeId, str]) -> Nesting:
    """Read ``text`` for ``nodes``; one that needs fewer takes the first of them, one that names nodes takes those.

    Raises PlanError that shows the place in the text.
    """
    written = read_strategy(text)
    called = [names.get(node, node) for node in nodes]
    wanted = len(nodes)
    if written.nodes is None and None not in written.counts:
        needed = 1
        for count in written.counts:
            needed *= count or 1
        wanted = min(wanted, needed)
    levels = settled(written, wanted, called)
    taken = nodes[:wanted] if levels.nodes is None else [nodes[called.index(name)] for name in levels.nodes]
    return Nesting(simplified(levels).levels, tuple(taken))


def of_request(request: PlanRequest) -> Nesting:
    """How a request that divides layers places its nodes."""
    return settle(request.strategy, request.nodes, {})


def fitting(nodes: int) -> tuple[str, ...]:
    """Nestings of two or more levels for ``nodes`` nodes; where there are none, for as many of them as have some."""
    for count in range(nodes, 3, -1):
        found = tuple(
            format_strategy(Levels(tuple(map(Level, kinds, counts))))
            for kinds in ORDER
            for counts in _factors(count, len(kinds))
        )
        if found:
            return found
    return ()


def _factors(number: int, parts: int) -> Iterator[tuple[int, ...]]:
    """``number`` as a product of ``parts`` factors of at least 2, in all orders, smaller first factors first."""
    if parts == 1:
        if number >= 2:
            yield (number,)
        return
    for first in range(2, number // 2 + 1):
        if number % first == 0:
            for rest in _factors(number // first, parts - 1):
                yield (first, *rest)
