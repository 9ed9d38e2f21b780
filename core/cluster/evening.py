"""Speeds without the noise of measurement, so that equal nodes get equal parts of a model, this time and the next."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from statistics import fmean
from typing import Final, TypeVar

_Key = TypeVar("_Key", bound=Hashable)

NOISE: Final = 0.05
"""Nodes that differ by less than this share are more likely equal than not."""


def evened(measured: Mapping[_Key, float], known: Mapping[_Key, float], noise: float = NOISE) -> dict[_Key, float]:
    """``measured``, where nodes (or links) that differ by noise have the same speed.

    A node that was ``known`` before keeps its speed unless it clearly changed; a new one is as fast as a known one
    from which it cannot be told apart, or as the others of its group: all within the noise of the fastest of them.
    """
    found = {node: _settled(speed, known.get(node), known.values(), noise) for node, speed in measured.items()}
    open_ones = sorted(
        (node for node in measured if found[node] is None), key=lambda node: (-measured[node], str(node))
    )
    group: list[_Key] = []
    for node in open_ones:
        if group and not _alike(measured[node], measured[group[0]], noise):
            group = []
        group.append(node)
        mean = fmean(measured[member] for member in group)
        found.update(dict.fromkeys(group, mean))
    return {node: speed for node, speed in found.items() if speed is not None}


def _settled(speed: float, before: float | None, known: Collection[float], noise: float) -> float | None:
    """The known speed that counts for a node measured at ``speed``; None: it is a new one."""
    if before is not None and _alike(speed, before, noise):
        return before
    alike = (one for one in known if _alike(speed, one, noise))
    return min(alike, key=lambda one: (abs(one - speed), one), default=None)


def _alike(one: float, other: float, noise: float) -> bool:
    return min(one, other) >= (1 - noise) * max(one, other)
