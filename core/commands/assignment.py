"""Which node takes which place of a nesting, where a person leaves it open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from core.cost.types import Machine
from core.plan.form import NodeId

ALIKE: Final = 0.8
"""Nodes whose speed is at least this part of the fastest one's among them count as equally fast neighbours."""


def assigned(
    nodes: Sequence[NodeId], speeds: Mapping[NodeId, float], machines: Mapping[NodeId, Machine]
) -> tuple[NodeId, ...]:
    """The nodes in an order in which neighbours, who will work on the same layers, suit each other.

    Nodes of one machine stand side by side: tensors between them do not cross the network. Beside that, nodes of equal
    speed do, fast ones first: a group waits for its slowest. Nodes that are alike stay in the order given.
    """
    classes = _classes(nodes, speeds)
    place = {node: index for index, node in enumerate(nodes)}
    homes: dict[str, list[NodeId]] = {}
    for node in nodes:
        homes.setdefault(machines[node].name if node in machines else node, []).append(node)
    members = sorted(homes.values(), key=lambda home: min((classes[node], place[node]) for node in home))
    return tuple(node for home in members for node in sorted(home, key=lambda node: (classes[node], place[node])))


def _classes(nodes: Sequence[NodeId], speeds: Mapping[NodeId, float]) -> dict[NodeId, int]:
    """0 for the fastest nodes, 1 for those that are clearly slower, and so on."""
    found: dict[NodeId, int] = {}
    number, best = -1, float("inf")
    for node in sorted(nodes, key=lambda node: -speeds.get(node, 1.0)):
        speed = speeds.get(node, 1.0)
        if number < 0 or speed < ALIKE * best:
            number, best = number + 1, speed
        found[node] = number
    return found
