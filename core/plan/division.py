"""How a plan divides a model, for people: which part of each layer runs where, and what travels for it."""

from __future__ import annotations

from msgspec import Struct

from core.plan.form import NodeId
from core.plan.layouts import Ranges


class NodePart(Struct, frozen=True):
    """What one node does of one layer."""

    node: NodeId
    replica: int
    stage: int
    share: float
    """Of the layer's multiply-adds."""
    ranges: Ranges | None = None
    """Of ``LayerDivision.axis`` of the layer's first output; None: all of it, or a term of it."""


class LayerDivision(Struct, frozen=True):
    layer: int
    kind: str
    """"whole" (one node runs it), "replicated" (each node of a group runs all of it), "items", "columns", "rows",
    "groups", "heads", "vocabulary", "directions", "image rows", "image columns", "positions" (of a sequence), or
    "split" (it follows the layout of its inputs). With several levels of nesting: joined by " + "."""
    axis: int | None
    """Axis of the first output that is shared out; None where it is not, or where each node holds a term of a sum."""
    parts: tuple[NodePart, ...]


class Exchange(Struct, frozen=True):
    """One collective, or a hand-over between stages, for one micro-batch of one replica."""

    kind: str
    """all-gather | all-reduce | reduce-scatter | reduce | all-to-all | halo | hand-over | input | output"""
    tensor: str
    """The model's value."""
    replica: int
    layer: int
    """The layer it is for; -1: the client."""
    nbytes: int
    """That leave all nodes together."""
    links: tuple[tuple[NodeId, NodeId, int], ...]
    """(from, to, bytes); the client is "". """


class Division(Struct, frozen=True):
    layers: tuple[LayerDivision, ...]
    """One for each layer of the model, in order."""
    exchanges: tuple[Exchange, ...]
    split_share: float
    """Part of the model's multiply-adds that is divided within groups, 0..1."""
    without_rule: tuple[str, ...] = ()
    """Operator types that were met split tensors and had no rule for them, so that their inputs were gathered."""
    fallbacks: tuple[str, ...] = ()
    """Layers that are not divided, and why, in words."""
