"""What a strategy may know of costs when it is to balance by itself."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from core.cost.links import UNKNOWN, Links
from core.cost.types import Machine, Profile
from core.plan.form import NodeId


class Costs(Struct, frozen=True):
    """What is known when a strategy is to balance by itself."""

    profile: Profile | None = None
    """None: balanced by the multiply-adds and bytes of each layer."""
    speeds: Mapping[NodeId, float] = {}
    """Speed of a node against this workstation; 1.0 where unknown."""
    machines: Mapping[NodeId, Machine] = {}
    """Of nodes that share one; a node that is not named has a machine to itself."""
    links: Links = UNKNOWN
    """The ways between nodes; what is not known of them counts as loopback."""

    def speed(self, node: NodeId) -> float:
        return self.speeds.get(node, 1.0)
