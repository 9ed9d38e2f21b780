"""What moving values takes follows from what the workstation was measured to do."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from core.cost.benchmark import NodeBenchmark
from core.cost.dataflow import predict_outline
from core.cost.moving import BYTE_SECONDS, moving_seconds
from core.cost.types import Profile
from core.plan.compile import outline_plan
from core.plan.form import PlanRequest
from tests.plan.models import chain, node_ids

HERE = NodeBenchmark(
    when=0.0,
    threads=1,
    gemm_flops=1e9,
    gemm_core_flops=1e9,
    convolution_flops=1e9,
    convolution_core_flops=1e9,
    elementwise_bytes_per_s=3e9,
    elementwise_core_bytes_per_s=4e9,
    memory_bytes_per_s=5e9,
    free_memory=1 << 30,
)


def test_a_byte_is_read_and_written_at_the_pace_of_one_core() -> None:
    assert moving_seconds(HERE) == pytest.approx(0.5e-9)
    assert moving_seconds(None) == BYTE_SECONDS, "typical, where nothing was measured"


def test_what_a_partition_adds_takes_as_long_as_its_bytes() -> None:
    model, nodes = chain(4, width=64), node_ids(2)
    layers = len(model.layers(8))
    profile = Profile(model.sha256, 8, 1, (1e-3,) * layers, 1e-3 * layers)
    found = outline_plan(model, PlanRequest("tensor", nodes, 8), profile=profile)

    def computing(moving_s: float) -> float:
        told = predict_outline(replace(profile, moving_s=moving_s), found, model, {})
        return sum(node.compute_s for node in told.nodes)

    programs = [part.program for part in found.parts]
    added = sum(
        program.types[name].nbytes
        for program in programs
        for op in program.ops
        if op.layer < 0
        for name in op.outputs
        if name in program.types and name not in program.fixed
    )
    assert added > 0
    assert computing(1e-6) - computing(0.0) == pytest.approx(1e-6 * added)
