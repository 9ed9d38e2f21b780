from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
from msgspec.structs import replace

from core.cost.benchmark import Mix, free_memory, speed_for, stale_reasons
from core.cost.speed import (
    Kernel,
    convolution_kernel,
    elementwise_kernel,
    gemm_kernel,
    local_rate,
    memory_kernel,
)
from core.plan.form import NodeId
from core.wire.messages import NodeInfo, Telemetry
from tests.benchmarks import GIB, benchmark

HERE = benchmark()
FOUR_THREADS = benchmark(
    threads=4, gemm_flops=400e9, convolution_flops=320e9, elementwise_bytes_per_s=25e9, free_memory=4 * GIB
)


def info(**other: object) -> NodeInfo:
    plain = NodeInfo(
        id=NodeId("a"),
        name="a",
        version="",
        hostname="",
        system="",
        cpu="",
        cores=4,
        threads=4,
        memory_total=8 * GIB,
        memory_limit=8 * GIB,
        cpu_limit=1.0,
        link_limit=0,
        data_port=1,
        engine="onnxruntime 1.31.0",
    )
    return replace(plain, **other)


def telemetry(used: int, own: int = 0) -> Telemetry:
    return Telemetry(
        time=0, cpu=0, cpu_per_core=(), process_cpu=0, memory_used=used, memory_total=8 * GIB, process_memory=own,
        net_sent_per_s=0, net_received_per_s=0, data_sent=0, data_received=0, temperature=None, power=None, queue=0,
        shards=(), executions=(), deployment="", owner="",
    )  # fmt: skip


def test_speed_follows_what_a_model_is_made_of() -> None:
    assert speed_for(Mix(0.2, 0.3, 0.5), HERE, HERE) == pytest.approx(1.0)
    assert speed_for(Mix(1, 0, 0), FOUR_THREADS, HERE) == pytest.approx(4.0)
    assert speed_for(Mix(0, 0, 1), FOUR_THREADS, HERE) == pytest.approx(1.25)
    # half of the time becomes four times as fast, the other half 1.25 times
    assert speed_for(Mix(0.5, 0, 0.5), FOUR_THREADS, HERE) == pytest.approx(1 / (0.5 / 4 + 0.5 / 1.25))
    # a mix that does not add up to 1 is taken for its parts
    assert speed_for(Mix(2, 0, 2), FOUR_THREADS, HERE) == pytest.approx(1 / (0.5 / 4 + 0.5 / 1.25))


def test_what_other_programs_take_of_a_node_slows_it() -> None:
    half = replace(FOUR_THREADS, held=0.5)
    assert speed_for(Mix(1, 0, 0), half, HERE) == pytest.approx(2.0)
    assert stale_reasons(FOUR_THREADS, info(), held=0.85) == ()
    assert stale_reasons(half, info(), held=0.45) == ()
    assert stale_reasons(half, info(), held=1.0) == ()  # that is taken as it is
    (words,) = stale_reasons(FOUR_THREADS, info(), held=0.48)
    assert words == "became slower: other programs leave it 48% of its time"
    (words,) = stale_reasons(half, info(), held=0.2)
    assert words == "became slower: other programs leave it 20% of its time, 50% when it was measured"


def test_a_benchmark_that_holds_has_no_reasons_against_it() -> None:
    assert stale_reasons(FOUR_THREADS, info()) == ()
    now = telemetry(used=4 * GIB)
    assert stale_reasons(FOUR_THREADS, info(), telemetry=now, gemm_core_flops=0.95 * 100e9) == ()
    assert stale_reasons(FOUR_THREADS, info(cpu_limit=0.25, link_limit=1000)) == ()  # limits are not in it


@pytest.mark.parametrize(
    ("node", "used", "own", "gemm", "words"),
    [
        (info(threads=2), 0, 0, 100e9, "computes with 2 threads now and had 4"),
        (info(engine="onnxruntime 1.40.0"), 0, 0, 100e9, "runs onnxruntime 1.40.0 now"),
        (info(), 0, 0, 50e9, "became slower: it computes at 50% of what was measured"),
        (info(), 6 * GIB, 0, 100e9, "lost memory: 2.00 GiB are free now, 4.00 GiB were"),
        (info(memory_limit=GIB), 0, 0, 100e9, "lost memory: 1.00 GiB are free now"),
    ],
)
def test_what_changed_is_said(node: NodeInfo, used: int, own: int, gemm: float, words: str) -> None:
    (reason,) = stale_reasons(FOUR_THREADS, node, telemetry=telemetry(used, own), gemm_core_flops=gemm)
    assert words in reason


def test_what_the_agent_holds_itself_is_not_lost() -> None:
    assert free_memory(info(), telemetry(used=7 * GIB, own=3 * GIB)) == 4 * GIB
    assert stale_reasons(FOUR_THREADS, info(), telemetry=telemetry(used=7 * GIB, own=3 * GIB)) == ()


def test_several_things_are_all_said() -> None:
    reasons = stale_reasons(FOUR_THREADS, info(threads=1), telemetry=telemetry(7 * GIB), gemm_core_flops=1e9)
    assert len(reasons) == 3


KERNELS = {
    "gemm": gemm_kernel,
    "convolution": convolution_kernel,
    "elementwise": elementwise_kernel,
    "memory": lambda: memory_kernel(4 * 1024**2),
}


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_are_small_always_the_same_and_run(name: str) -> None:
    kernel: Kernel = KERNELS[name]()
    assert kernel == KERNELS[name]()
    assert len(kernel.graph) < 2000
    session = ort.InferenceSession(kernel.graph, providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {port.name: np.ones(port.shape, port.dtype) for port in kernel.inputs})
    assert np.isfinite(result).all()
    assert np.any(result != 0)


def test_operations_are_counted() -> None:
    assert gemm_kernel().amount == 2 * 128 * 768 * (768 + 1536 + 1536 + 768)
    # three element-wise operators with two inputs and one with one, on a million elements of four bytes
    assert memory_kernel(4_000_000).amount == 4_000_000 * (2 + 3 + 2 + 3)
    session = ort.InferenceSession(convolution_kernel().graph, providers=["CPUExecutionProvider"])
    assert session.get_outputs()[0].shape == [1, 128, 28, 28]


def test_this_machine_does_something_in_a_second() -> None:
    assert 1e8 < local_rate(gemm_kernel(), 1, 3, 0.05) < 1e13
