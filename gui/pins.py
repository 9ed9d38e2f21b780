"""Layers that a person keeps on a node, and what that leaves of a pipeline's cuts. Pure functions.

Every position between two layers may be cut, so what is left for each cut is a range of positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from core.plan.form import NodeId

Pins = tuple[tuple[int, NodeId], ...]
"""(layer, the node that runs it), by layer."""
Kept = tuple[tuple[int, int], ...]
"""(layer, its stage), by layer."""


def pinned(pins: Pins, layer: int, node: NodeId | None) -> Pins:
    """With ``layer`` kept on ``node``; None: on no node in particular."""
    others = tuple(pin for pin in pins if pin[0] != layer)
    return others if node is None else tuple(sorted((*others, (layer, node))))


def kept(pins: Pins, nodes: Sequence[NodeId]) -> Kept:
    """The pins of nodes that take part; ``nodes`` in the order of stages."""
    stages = {node: stage for stage, node in enumerate(nodes)}
    return tuple(sorted((layer, stages[node]) for layer, node in pins if node in stages))


def clash(pins: Kept, stages: int, layers: int) -> Kept:
    """The first pins that no cuts can satisfy: two that exclude each other, or one too near an end; () where all hold.

    Every stage has at least one layer.
    """
    for layer, stage in pins:
        if layer < stage or layers - layer < stages - stage:
            return ((layer, stage),)
    for one, other in pairwise(pins):
        if not 0 <= other[1] - one[1] <= other[0] - one[0]:
            return (one, other)
    return ()


def ranges(pins: Kept, stages: int, layers: int) -> tuple[tuple[int, int], ...]:
    """The first and the last position that each cut may take, where nothing clashes."""
    found = []
    for cut in range(stages - 1):
        lows = [layer + 1 + cut - stage for layer, stage in pins if stage <= cut]
        highs = [layer - (stage - 1 - cut) for layer, stage in pins if stage > cut]
        found.append((max([cut + 1, *lows]), min([layers - (stages - 1 - cut), *highs])))
    return tuple(found)


def fitted(cuts: Sequence[int], pins: Kept, layers: int) -> tuple[int, ...]:
    """``cuts`` moved as little as the pins ask for, where nothing clashes."""
    moved: list[int] = []
    for cut, (low, high) in zip(cuts, ranges(pins, len(cuts) + 1, layers), strict=True):
        at = min(max(cut, low), high)
        moved.append(max(at, moved[-1] + 1) if moved else at)
    return tuple(moved)
