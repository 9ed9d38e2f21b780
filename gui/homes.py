"""What predictions know of the machines that nodes run on, in a form that two of can be compared. Pure functions."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from msgspec import Struct

from core.plan.form import NodeId

if TYPE_CHECKING:
    from core.cluster.node import Node


class Home(Struct, frozen=True):
    """Of one node; a change of any of it makes predictions stale."""

    node: NodeId
    host: str
    cores: int
    threads: int
    cpu_limit: float
    link_limit: int


def homes_of(nodes: Iterable[Node], wanted: Collection[NodeId]) -> tuple[Home, ...]:
    """Of those of ``nodes`` that are ``wanted`` and have said what they are."""
    return tuple(
        Home(node.id, node.host, info.cores, info.threads, info.cpu_limit, info.link_limit)
        for node in nodes
        if node.id in wanted and (info := node.info) is not None
    )
