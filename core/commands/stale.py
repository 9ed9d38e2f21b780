"""Nodes that are no longer what they were measured to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from core.cluster.node import Node
from core.plan.form import NodeId

MEASURE_AGAIN: Final = "To measure again: shardboard nodes --measure"


def stale_words(stale: Mapping[NodeId, Sequence[str]], nodes: Sequence[Node]) -> tuple[str, ...]:
    """A sentence for each reason why a node's benchmark no longer holds, and what to do. ``stale``: clauses by node."""
    return tuple(f"{node.name} {reason}. {MEASURE_AGAIN}" for node in nodes for reason in stale.get(node.id, ()))
