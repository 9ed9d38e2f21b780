from __future__ import annotations

import pytest

from core.run.metrics import RunMetrics, latency_of, per_second, steady_throughput


def test_steady_throughput_leaves_the_filling_out() -> None:
    assert steady_throughput([(5.0, 8), (6.0, 8), (7.0, 8), (8.0, 8)], started=0.0) == pytest.approx(8.0)


def test_few_completions_count_from_the_start() -> None:
    assert steady_throughput([(2.0, 10)], started=0.0) == pytest.approx(5.0)
    assert steady_throughput([], started=0.0) == 0.0


def test_percentiles_are_milliseconds() -> None:
    latency = latency_of([0.001] * 99 + [1.0])
    assert latency.p50 == pytest.approx(1.0)
    assert latency.p99 > 1.0
    assert latency_of([]).p99 == 0.0


def test_items_per_second_series() -> None:
    assert per_second([(10.1, 2), (10.9, 2), (12.5, 4)], started=10.0) == (4.0, 0.0, 4.0)


def test_recent_throughput_forgets() -> None:
    metrics = RunMetrics(started=0.0)
    for i in range(10):
        metrics.completed(0.1 * (i + 1), 5, 0.01)
    assert metrics.recent_throughput(1.0) == pytest.approx(50.0)
    assert metrics.recent_throughput(10.0) == 0.0
    assert metrics.items_done == 50
    assert metrics.recent_latency().p50 == pytest.approx(10.0)
