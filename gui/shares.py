"""Parts of the work of a group of nodes, in per cent that always add up to 100. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from core.plan.form import NodeId
from core.plan.layouts import apportion

Shares = tuple[tuple[NodeId, float], ...]
"""(node, its part of its group's work)."""
WHOLE: Final = 100
LEAST: Final = 1
"""Per cent."""


def by_speed(group: Sequence[NodeId], speeds: Mapping[NodeId, float]) -> dict[NodeId, int]:
    """Per cent for each node in proportion to its speed (1.0 where unknown)."""
    return dict(zip(group, apportion(WHOLE, [speeds.get(node, 1.0) for node in group]), strict=True))


def in_percent(group: Sequence[NodeId], shares: Shares) -> dict[NodeId, int]:
    """Per cent for each node of ``group``, all of which have a share."""
    known = dict(shares)
    return dict(zip(group, apportion(WHOLE, [max(known[node], 1e-9) for node in group]), strict=True))


def with_one_at(percents: Mapping[NodeId, int], node: NodeId, wanted: int) -> dict[NodeId, int]:
    """``node`` gets ``wanted`` per cent, the others share out what is left in their proportions."""
    others = [other for other in percents if other != node]
    if not others:
        return {node: WHOLE}
    given = min(max(wanted, LEAST), WHOLE - LEAST * len(others))
    rest = apportion(WHOLE - given, [max(percents[other], LEAST) for other in others])
    new = dict(zip(others, rest, strict=True)) | {node: given}
    return {each: new[each] for each in percents}


def with_edge_at(percents: Mapping[NodeId, int], node: NodeId, wanted: int) -> tuple[dict[NodeId, int], NodeId | None]:
    """``node`` gets ``wanted`` per cent and the one after it what both had beside that; all others keep theirs.

    Also returns which of the two would have had less than the least part, where ``wanted`` goes too far.
    """
    nodes = list(percents)
    after = nodes[nodes.index(node) + 1]
    both = percents[node] + percents[after]
    given = min(max(wanted, LEAST), max(both - LEAST, LEAST))
    starved = node if wanted < given else after if wanted > given else None
    return {**percents, node: given, after: max(both - given, 0)}, starved


def settled(shares: Shares | None, groups: Sequence[Sequence[NodeId]]) -> tuple[float, ...] | None:
    """Each node's share, in the order of the groups; None unless all are known and each group's add up to 1."""
    known = dict(shares or ())
    if not known or any(node not in known for group in groups for node in group):
        return None
    if any(abs(sum(known[node] for node in group) - 1.0) > 1e-6 for group in groups):
        return None
    return tuple(known[node] for group in groups for node in group)
