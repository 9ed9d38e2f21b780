"""What a run tells: progress while it goes, one report when it ends."""

from __future__ import annotations

from msgspec import Struct

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
    memory_bytes: dict[str, int]
    """By node name."""


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
