"""Which nodes share a machine, so that a prediction does not count its cores twice."""

from __future__ import annotations

from collections.abc import Iterable

from core.cluster.discovery import own_addresses
from core.cluster.node import Node
from core.cluster.reach import is_loopback
from core.cost.types import Machine
from core.plan.form import NodeId

THIS_MACHINE = "This machine"


def machines_of(nodes: Iterable[Node]) -> dict[NodeId, Machine]:
    """By address: host names are often the same on machines that were set up from one image."""
    found = {}
    own = own_addresses()
    for node in nodes:
        if node.info is not None:
            here = is_loopback(node.host) or node.host in own
            name = THIS_MACHINE if here else node.host
            found[node.id] = Machine(
                name,
                node.info.cores,
                node.info.threads,
                node.info.cpu_limit,
                here,
                node.info.link_limit,
                node.info.pinned,
                node.info.own_memory,
            )
    return found
