"""The one intermediate form: a plan is a dataflow of shards joined by routes.

Rules that every compiler keeps and every reader may rely on:

* A shard runs as soon as all its inputs for a micro-batch have come; it runs once per micro-batch of its replica.
* A micro-batch goes through exactly one replica; a route never joins shards of different replicas.
* Every shard input is fed by exactly one route: joining and adding up are operators of the shard's graph. A model
  output may come in several pieces, which the client puts together, and as terms of a sum, which it adds up. Every
  shard output that nobody reads was removed.
* Every shard is an ancestor of a route to the client, so when all results of a micro-batch are in, it is finished.
* Graphs and weights are blobs named by the SHA-256 of their bytes; the plan itself holds neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NewType

from msgspec import Struct

NodeId = NewType("NodeId", str)
"""A node's long-term CurveZMQ public key, Z85, 40 characters."""
ShardId = NewType("ShardId", int)
Sha256 = NewType("Sha256", str)
"""Lower-case hexadecimal, 64 characters."""

CLIENT: Final = ShardId(-1)
"""The producer of the model's inputs and the consumer of its outputs."""


class Port(Struct, frozen=True):
    """A named input or output of a shard. ``shape`` has None for dimensions that change between micro-batches."""

    name: str
    dtype: str
    """numpy name: float32, int64, uint8, bool, float16, ..."""
    shape: tuple[int | None, ...] | None
    """None: even the rank is unknown."""


class Weight(Struct, frozen=True):
    """An initializer of a shard's graph that is declared external and fed from a blob (raw little-endian bytes)."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    blob: Sha256
    nbytes: int


class Shard(Struct, frozen=True):
    """What one node executes in one step."""

    id: ShardId
    node: NodeId
    label: str
    """For people: "layers 1-58", "whole model"."""
    replica: int
    stage: int
    rank: int
    graph: Sha256
    """A serialized ONNX ModelProto without the weights below."""
    graph_nbytes: int
    weights: tuple[Weight, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    activation_bytes: int
    """Estimated peak of live intermediate tensors while one micro-batch runs."""
    repacked_bytes: int = 0
    """Weights that onnxruntime holds a second time while it loads the shard: it reorders them for its kernels."""

    @property
    def weight_bytes(self) -> int:
        return sum({w.blob: w.nbytes for w in self.weights}.values())


def memory_bytes(shards: Sequence[Shard]) -> int:
    """What shards take on one node beside the agent itself: each distinct weight once, and what each shard adds.

    One shard runs at a time, and all share one arena: the largest activations count, not those of all shards.
    """
    weights = {w.blob: w.nbytes for shard in shards for w in shard.weights}
    activations = max((s.activation_bytes for s in shards), default=0)
    return sum(weights.values()) + activations + sum(s.graph_nbytes for s in shards)


class Slice(Struct, frozen=True, array_like=True):
    """A range of one axis."""

    axis: int
    start: int
    stop: int


class Route(Struct, frozen=True):
    """One tensor's way, or that of a part of it, from a producer to a consumer; either may be CLIENT."""

    producer: ShardId
    tensor: str
    """Name at the producer: a shard's output, or a model input when the producer is CLIENT."""
    consumer: ShardId
    target: str
    """Name at the consumer: a shard's input, or a model output when the consumer is CLIENT."""
    codec: str = "raw"
    slices: tuple[Slice, ...] = ()
    """What the producer cuts out and sends, axes increasing. Empty: the whole tensor."""
    at: tuple[Slice, ...] = ()
    """Only where the consumer is CLIENT: where the piece belongs in the model's output. Empty: it is all of it. The
    pieces of an output cover it without overlap."""
    term: int | None = None
    """Only where the consumer is CLIENT: the output is a sum, and this piece is of its term with this number. The
    client adds the terms up in the order of their numbers. None: it is no sum."""


class PlanRequest(Struct, frozen=True):
    """What a person asks for; compiling the same request on the same model always gives the same plan."""

    strategy: str
    """single | replicate | pipeline | tensor | spatial, or a nesting: "replicate(2) > pipeline(2) > tensor(2)"."""
    nodes: tuple[NodeId, ...]
    """In order: replica, stage or rank i runs on nodes[i]; of a nesting the outermost level varies slowest."""
    micro_batch: int
    """Items that travel together; equals the model's own batch where that is fixed."""
    cuts: tuple[int, ...] | None = None
    """pipeline: layers at which a new stage begins, increasing, one less than stages. None: balanced by cost."""
    tensor_axis: str | None = None
    """tensor: "columns" (output features or channels) or "rows" (input features or channels) for every layer that can.
    None: chosen by cost, layer by layer."""
    spatial_axis: str | None = None
    """spatial: "rows" (of the image; the positions of a sequence) or "columns" (of the image). None: rows."""
    shares: tuple[float, ...] | None = None
    """tensor, spatial: each node's part of the work of its group; every group's add up to 1. None: by speed."""
    pins: tuple[tuple[int, NodeId], ...] = ()
    """pipeline: (layer, the node whose stage must hold it), wherever the cuts are."""


class Plan(Struct, frozen=True):
    """A request worked out for one model."""

    model: Sha256
    model_name: str
    request: PlanRequest
    shards: tuple[Shard, ...]
    routes: tuple[Route, ...]
    notes: tuple[str, ...] = ()
    """What a person should know: recomputed subgraphs, padded batches, ..."""

    @property
    def replicas(self) -> int:
        return 1 + max(s.replica for s in self.shards)

    def shard(self, shard_id: ShardId) -> Shard:
        return next(s for s in self.shards if s.id == shard_id)

    def on_node(self, node: NodeId) -> tuple[Shard, ...]:
        return tuple(s for s in self.shards if s.node == node)
