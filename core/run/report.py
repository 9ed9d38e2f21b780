"""What a run tells: progress while it goes, one report when it ends."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from core.cost.types import Prediction
from core.plan.form import NodeId, PlanRequest


class Latency(Struct, frozen=True):
    """Milliseconds from the sending of a micro-batch to its last result."""

    p50: float
    p95: float
    p99: float


class NodeUse(Struct, frozen=True):
    """One node's part in a run."""

    name: str
    id: NodeId
    items: int
    busy: float
    """Share of the run that the node spent in its shards, 0..1."""
    cpu: float
    """Mean load of the machine, 0..1."""
    sent_bytes: int
    received_bytes: int


class Predicted(Struct, frozen=True):
    throughput: float
    """Items per second."""
    latency_ms: float
    """One micro-batch through idle nodes."""
    memory_bytes: dict[str, int]
    """By node name."""
    loaded_latency_ms: float = 0.0
    """Median under load, as a run's ``latency_ms.p50``; 0: not known."""
    in_flight: int = 1
    """Micro-batches of each replica that are under way then."""


def as_predicted(prediction: Prediction, names: Mapping[NodeId, str]) -> Predicted:
    """As reports keep it; a node without a name goes by the first digits of its id."""
    return Predicted(
        throughput=prediction.throughput,
        latency_ms=prediction.latency_s * 1000,
        memory_bytes={names.get(use.node, use.node[:8]): use.memory_bytes for use in prediction.nodes},
        loaded_latency_ms=prediction.loaded_latency_s * 1000,
        in_flight=prediction.in_flight,
    )


class RunProgress(Struct, frozen=True):
    items_done: int
    items_total: int
    throughput: float
    """Items per second over the last second or two."""
    latency_p50_ms: float
    in_flight: int
    """Micro-batches."""
    latency_p95_ms: float = 0.0
    latency_p99_ms: float = 0.0


class RunReport(Struct, frozen=True, kw_only=True):
    """One run, as ``shardboard run --json`` prints it and the history keeps it."""

    model: str
    strategy: str
    items: int
    seconds: float
    throughput: float
    """Items per second over the steady part: from the first result to the last dispatch's end."""
    latency_ms: Latency
    """Under load, with ``in_flight`` micro-batches of each replica under way."""
    nodes: tuple[NodeUse, ...]
    verified: bool | None = None
    """None: not asked for."""
    max_abs_error: float | None = None
    predicted: Predicted | None = None
    efficiency: float | None = None
    """Throughput against the sum of what each node alone would reach with the whole model."""
    started: float = 0.0
    """Unix time."""
    micro_batch: int = 1
    request: PlanRequest | None = None
    model_sha256: str = ""
    input: str = ""
    throughput_series: tuple[float, ...] = ()
    """Items finished in each second of the run."""
    notes: tuple[str, ...] = ()
    in_flight: int = 0
    """Micro-batches of each replica that could be unfinished at a time; 0: not known."""
