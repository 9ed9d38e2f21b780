"""What a node was measured to do, how fast that makes it for a model, and whether it still holds."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from core.units import format_bytes
from core.wire.messages import NodeInfo, Telemetry

SLOWER: Final = 0.8
"""A node that now computes at less than this share of what was measured became slower; noise stays above it."""
KEPT_BUSY: Final = 0.85
"""Where other programs leave more than this share of the time to a node, that is noise."""
LESS_MEMORY: Final = 0.75
"""The same of free memory; what programs come and go with stays above it."""
_LEAST_LOST: Final = 128 * 1024**2
"""Bytes; less is not worth a word."""


class Mix(Struct, frozen=True):
    """What a model's time is made of on this workstation with one thread: parts that add up to 1."""

    gemm: float
    convolution: float
    elementwise: float
    """And all else that is bound by memory."""


EVEN: Final = Mix(1 / 3, 1 / 3, 1 / 3)
"""Where no model is known yet."""


class NodeBenchmark(Struct, frozen=True, kw_only=True):
    """What a node does by itself: onnxruntime's own kernels, without the node's CPU limit, noise taken out.

    Rates are per second; those of a core are with one thread, the others with all ``threads`` of the node.
    """

    when: float
    """Unix time, this workstation's clock."""
    threads: int
    """That the node computes with."""
    gemm_flops: float
    """Floating point operations in matrix products."""
    gemm_core_flops: float
    convolution_flops: float
    convolution_core_flops: float
    elementwise_bytes_per_s: float
    """Read and written by element-wise operators on tensors of the size that models have (12 MiB)."""
    elementwise_core_bytes_per_s: float
    memory_bytes_per_s: float
    """Read and written by an element-wise operator on tensors that no cache holds, with all threads."""
    free_memory: int
    """Bytes that shards may take: within the node's memory limit, and free on its machine."""
    engine: str = ""
    """The runtime that was measured, with its version."""
    held: float = 1.0
    """Part of the time that other programs on its machine left to the node, 0..1."""


def speed_for(mix: Mix, node: NodeBenchmark, here: NodeBenchmark) -> float:
    """How many times as fast as this workstation with one thread ``node`` runs, with all its threads, without its CPU
    limit, and beside what other programs took when it was measured, a model that spends its time here as ``mix`` says.
    ``here`` is the benchmark of this workstation."""
    seconds = (
        mix.gemm * here.gemm_core_flops / node.gemm_flops
        + mix.convolution * here.convolution_core_flops / node.convolution_flops
        + mix.elementwise * here.elementwise_core_bytes_per_s / node.elementwise_bytes_per_s
    )
    return node.held * (mix.gemm + mix.convolution + mix.elementwise) / seconds


def free_memory(info: NodeInfo, telemetry: Telemetry) -> int:
    """Bytes that shards may take on a node now, what its agent holds at present counted as free."""
    free = telemetry.memory_total - telemetry.memory_used + telemetry.process_memory
    return max(0, min(info.memory_limit, free))


def stale_reasons(
    benchmark: NodeBenchmark,
    info: NodeInfo,
    *,
    telemetry: Telemetry | None = None,
    gemm_core_flops: float | None = None,
    held: float | None = None,
) -> tuple[str, ...]:
    """Why ``benchmark`` no longer holds for a node, each a clause for "NAME ..."; empty where it seems to hold.

    Args:
        telemetry: the newest one; None: free memory is not looked at.
        gemm_core_flops: measured just now (see ``core.cluster.measuring.check_nodes``); None: not measured.
        held: the part of its time that other programs leave to it now; None: not measured.
    """
    reasons = []
    if info.threads != benchmark.threads:
        reasons.append(f"computes with {info.threads} threads now and had {benchmark.threads} when it was measured")
    if benchmark.engine and info.engine != benchmark.engine:
        reasons.append(f"runs {info.engine} now and ran {benchmark.engine} when it was measured")
    if gemm_core_flops is not None and gemm_core_flops < SLOWER * benchmark.gemm_core_flops:
        share = gemm_core_flops / benchmark.gemm_core_flops
        reasons.append(f"became slower: it computes at {share:.0%} of what was measured")
    if held is not None and held < SLOWER * benchmark.held:
        reasons.append(f"became slower: other programs leave it {held:.0%} of its time{_before(benchmark)}")
    if telemetry is not None:
        free = free_memory(info, telemetry)
        if free < LESS_MEMORY * benchmark.free_memory and benchmark.free_memory - free > _LEAST_LOST:
            before = format_bytes(benchmark.free_memory)
            reasons.append(f"lost memory: {format_bytes(free)} are free now, {before} were when it was measured")
    return tuple(reasons)


def _before(benchmark: NodeBenchmark) -> str:
    return f", {benchmark.held:.0%} when it was measured" if benchmark.held < 1.0 else ""
