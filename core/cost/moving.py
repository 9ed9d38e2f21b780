"""What it takes to move values about within a node: cutting a part out, joining parts, adding terms up.

The benchmark of the workstation tells (``core.cost.benchmark``): onnxruntime's own element-wise operators with one
thread, on tensors of the size that models have.
"""

from __future__ import annotations

from typing import Final

from core.cost.benchmark import NodeBenchmark

BYTE_SECONDS: Final = 0.2e-9
"""Typical of a core; it counts only where no workstation was measured."""


def moving_seconds(here: NodeBenchmark | None) -> float:
    """For each byte that such an operator writes, as it reads one for it; ``here`` is the workstation's benchmark."""
    return 2 / here.elementwise_core_bytes_per_s if here is not None else BYTE_SECONDS
