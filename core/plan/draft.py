"""What a strategy decides, before it is turned into shards and routes."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from core.cost.types import Profile
from core.plan.extract import Fragment, LayerGraph
from core.plan.form import NodeId


class Costs(Struct, frozen=True):
    """What is known when a strategy is to balance by itself."""

    profile: Profile | None = None
    """None: balanced by the multiply-adds and bytes of each layer."""
    speeds: Mapping[NodeId, float] = {}
    """Speed of a node against this workstation; 1.0 where unknown."""

    def speed(self, node: NodeId) -> float:
        return self.speeds.get(node, 1.0)


class Part(Struct, frozen=True):
    """A fragment of the model with its place. Parts that run the same fragment share graph and weights."""

    node: NodeId
    fragment: Fragment
    label: str
    replica: int = 0
    stage: int = 0
    rank: int = 0


class Draft(Struct, frozen=True):
    graph: LayerGraph
    parts: tuple[Part, ...]
    cuts: tuple[int, ...] | None = None
    """pipeline: the cuts that were taken."""
    notes: tuple[str, ...] = ()
