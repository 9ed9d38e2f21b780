"""What a plan file says, beside the text of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from core import __version__
from core.plan.form import NodeId, Sha256

FORMAT: Final = 2
PROGRAM: Final = "Shardboard"
AGAIN: Final = "Make a new one with shardboard plan MODEL --save."
"""What to do with a file that cannot be mended."""


class PlanModel(Struct, frozen=True):
    """The model that a plan is for."""

    name: str
    sha256: Sha256
    """Of the model's file, without pre- and postprocessing."""
    layers: int | None = None
    """With them."""
    parameters: int | None = None
    processed_sha256: Sha256 | None = None
    """With pre- and postprocessing; None: there is none."""


class PlanNode(Struct, frozen=True):
    """At least one of both is known."""

    name: str | None
    id: NodeId | None

    @property
    def called(self) -> str:
        return self.name if self.name is not None else f"{(self.id or '')[:8]}…"


class Mark(Struct, frozen=True):
    """A layer: by position, by name, or both."""

    position: int | None
    layer: str | None


class Pin(Struct, frozen=True):
    at: Mark
    node: int
    """Index among the plan's nodes."""


class Expected(Struct, frozen=True, kw_only=True):
    """What was predicted when the plan was saved; for people only."""

    throughput: float
    """Items per second."""
    latency_ms: float
    efficiency: float | None = None
    bottleneck: str | None = None
    memory_bytes: Mapping[str, int] = {}
    """By the node's name."""


class PlanFile(Struct, frozen=True, kw_only=True):
    """What a plan file says. ``core.plan.plan_fit.fit_to`` makes a request of it."""

    model: PlanModel
    strategy: str
    micro_batch: int
    nodes: tuple[PlanNode, ...]
    cuts: tuple[Mark, ...] | None = None
    shares: tuple[float, ...] | None = None
    """Of 1 for each group."""
    pins: tuple[Pin, ...] = ()
    tensor_axis: str | None = None
    spatial_axis: str | None = None
    predicted: Expected | None = None
    saved: str | None = None
    """When, ISO 8601."""
    written_by: str = f"{PROGRAM} {__version__}"

    @property
    def node_names(self) -> tuple[str, ...]:
        return tuple(node.called for node in self.nodes)
