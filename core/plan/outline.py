"""From strategies to shards: first who runs which program and what travels between them, then shards and routes."""

from __future__ import annotations

from msgspec import Struct

from core.plan.division import Division
from core.plan.form import NodeId, PlanRequest, Route, ShardId, Slice
from core.plan.program import Program

OUTSIDE = -1
"""The client, as one end of a transfer."""


class Leaf(Struct, frozen=True, eq=False):
    """Everything that one node runs in one replica."""

    node: NodeId
    program: Program
    label: str
    replica: int = 0
    stage: int = 0
    rank: int = 0


class Transfer(Struct, frozen=True):
    """A value, or a part of it, on its way from one leaf to another, or from or to the client."""

    source: int
    """Index of a leaf, or OUTSIDE."""
    value: str
    """Its name there."""
    target: int
    name: str
    """Its name there: an input of the program; of the client, the model's output."""
    slices: tuple[Slice, ...] = ()
    at: tuple[Slice, ...] = ()
    term: int | None = None
    """To the client: see ``Route.term``."""
    kind: str = "hand-over"
    """As in ``division.Exchange``."""
    tensor: str = ""
    """The model's value that it is a part of."""
    layer: int = -1
    """The layer it is for; -1: the client."""


class Partition(Struct, frozen=True, eq=False):
    """What a strategy decides."""

    leaves: tuple[Leaf, ...]
    transfers: tuple[Transfer, ...]
    division: Division
    cuts: tuple[int, ...] | None = None
    """pipeline: those that were taken."""
    notes: tuple[str, ...] = ()


class Part(Struct, frozen=True, eq=False):
    """A shard to be: a piece of a leaf that runs in one step."""

    id: ShardId
    node: NodeId
    program: Program
    label: str
    replica: int
    stage: int
    rank: int
    work: tuple[tuple[int, float], ...]
    """(layer of the model, part of its multiply-adds) for each operator that comes from the model."""


class Outline(Struct, frozen=True, eq=False):
    """A plan before its graphs are written and its weights are hashed: all that a prediction needs."""

    request: PlanRequest
    """With the cuts that were taken."""
    parts: tuple[Part, ...]
    """Part i becomes shard i."""
    routes: tuple[Route, ...]
    route_bytes: tuple[int, ...]
    """Of each route, for one full micro-batch."""
    division: Division
    notes: tuple[str, ...] = ()
