"""Jobs over real agents: order, credits, lost nodes, stops."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest

from core.errors import Cancelled, NodeLostError
from core.model.graph import Model
from core.model.library import resolve_model
from core.run.report import RunProgress, RunReport
from core.run.runner import run_job
from core.run.sink import CallbackSink, MemorySink
from core.run.source import FeedSource
from tests.run.conftest import Bed, bed


@pytest.fixture(scope="module")
def digits() -> Model:
    return resolve_model("digits-cnn")[0]


def feed_of(model: Model, items: int) -> dict[str, Any]:
    return dict(model.random_feed(items, seed=3))


@pytest.mark.parametrize(("strategy", "nodes"), [("single", 1), ("replicate", 3), ("pipeline", 3)])
def test_results_are_those_of_the_whole_model_in_order(three: Bed, digits: Model, strategy: str, nodes: int) -> None:
    feed, sink = feed_of(digits, 103), MemorySink()
    with three.deployed(digits, strategy, nodes) as deployment:
        report = run_job(deployment, FeedSource(digits, feed), sink)
    (expected,) = digits.reference()(feed)
    np.testing.assert_allclose(sink.outputs["logits"], expected, rtol=1e-4, atol=1e-5)
    assert report.items == 103
    assert {use.name for use in report.nodes} == {f"local-{i + 1}" for i in range(nodes)}
    assert sum(use.items for use in report.nodes) == (103 if strategy != "pipeline" else 103 * nodes)
    assert report.latency_ms.p50 > 0
    assert report.throughput > 0
    assert all(use.received_bytes > 0 and use.sent_bytes > 0 for use in report.nodes)


def test_repeat_and_progress(three: Bed, digits: Model) -> None:
    seen: list[RunProgress] = []
    with three.deployed(digits, "replicate", 2) as deployment:
        source = FeedSource(digits, feed_of(digits, 10))
        report = run_job(deployment, source, MemorySink(), repeat=7, progress=seen.append)
        again = run_job(deployment, source, MemorySink())
    assert report.items == 70
    assert again.items == 10
    assert seen[-1].items_done == seen[-1].items_total == 70


def test_a_stop_ends_the_job_and_the_deployment_can_be_used_again(three: Bed, digits: Model) -> None:
    stop = threading.Event()
    with three.deployed(digits, "pipeline", 2) as deployment:
        source = FeedSource(digits, feed_of(digits, 8))
        with pytest.raises(Cancelled):
            run_job(deployment, source, CallbackSink(lambda *_: stop.set()), repeat=1_000_000, cancel=stop)
        assert run_job(deployment, source, MemorySink()).items == 8


def kill_during_a_run(nodes: int, strategy: str, model: Model, victim: int) -> tuple[RunReport, MemorySink]:
    with bed(nodes) as made, made.deployed(model, strategy, nodes) as deployment:
        sink = MemorySink()

        def kill_after_some(progress: RunProgress) -> None:
            if progress.items_done >= 400 and made.agents.alive(victim):
                made.agents.kill(victim)

        source = FeedSource(model, feed_of(model, 200))
        report = run_job(deployment, source, sink, repeat=60, progress=kill_after_some)
    return report, sink


def test_a_killed_replica_loses_nothing(digits: Model) -> None:
    report, sink = kill_during_a_run(3, "replicate", digits, victim=1)
    (expected,) = digits.reference()(feed_of(digits, 200))
    assert report.items == 200 * 60
    np.testing.assert_allclose(sink.outputs["logits"], np.tile(expected, (60, 1)), rtol=1e-4, atol=1e-5)
    assert any("local-2" in note for note in report.notes)


def test_a_killed_stage_ends_the_job_soon_and_names_the_node(digits: Model) -> None:
    started = time.monotonic()
    with pytest.raises(NodeLostError, match="local-2"):
        kill_during_a_run(2, "pipeline", digits, victim=1)
    assert time.monotonic() - started < 60, "whoever waits for a stage that will not come back waits for ever"
