"""What nodes were measured to do, made up."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from core.cost.benchmark import NodeBenchmark

GIB = 1024**3


def benchmark(**other: Any) -> NodeBenchmark:
    """Of a node that computes with one thread; ``other``: fields that differ."""
    one = NodeBenchmark(
        when=1.0,
        threads=1,
        gemm_flops=100e9,
        gemm_core_flops=100e9,
        convolution_flops=80e9,
        convolution_core_flops=80e9,
        elementwise_bytes_per_s=20e9,
        elementwise_core_bytes_per_s=20e9,
        memory_bytes_per_s=10e9,
        free_memory=8 * GIB,
        engine="onnxruntime 1.31.0",
    )
    return replace(one, **other)
