"""Tensor, spatial and nested plans over real agents: right, in order, the same each time, and what a lost one ends."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from core.errors import NodeLostError
from core.model.library import resolve_model
from core.plan.verify import verify_outputs
from core.run.report import RunReport
from core.run.runner import run_job
from core.run.sink import MemorySink
from core.run.source import Batch, FeedSource
from tests.run.conftest import Bed, bed

ITEMS = 23
"""In micro-batches of 4: the last has 3."""
EVERYWHERE = (("tensor", 2), ("tensor", 3), ("replicate(2) > tensor(2)", 4))
CASES = (
    *(("digits-cnn", *one) for one in EVERYWHERE),
    ("digits-cnn", "spatial", 2),
    ("digits-cnn", "spatial", 3),
    ("digits-cnn", "pipeline(2) > spatial(2)", 4),
    ("digits-cnn", "pipeline(2) > replicate(2)", 4),
    *(("digits-mlp", *one) for one in EVERYWHERE),
    ("digits-mlp", "spatial", 3),
    ("digits-mlp", "pipeline(2) > replicate(2)", 4),
    *(("lstm", *one) for one in EVERYWHERE),
)


@pytest.fixture(scope="module")
def four() -> Iterator[Bed]:
    with bed(4) as made:
        yield made


@pytest.mark.parametrize(("key", "strategy", "nodes"), CASES)
def test_results_are_right_in_order_and_repeat(four: Bed, key: str, strategy: str, nodes: int) -> None:
    model, _ = resolve_model(key)
    feed = model.random_feed(ITEMS, seed=3)
    expected = model.reference(threads=1)(feed)
    found = []
    with four.deployed(model, strategy, nodes) as deployment:
        source = FeedSource(model, feed)
        for _ in range(2):
            sink = MemorySink()
            report = run_job(deployment, source, sink)
            assert report.items == ITEMS
            found.append([sink.outputs[info.name] for info in model.outputs])
    verdict = verify_outputs(expected, found[0])
    assert verdict.passed, verdict.reason
    assert all(np.array_equal(one, other) for one, other in zip(*found, strict=True))


class LosingSink(MemorySink):
    """Kills an agent when the first results come."""

    def __init__(self, made: Bed, victim: int) -> None:
        super().__init__()
        self._made, self._victim = made, victim

    def write(self, outputs: dict[str, np.ndarray], batch: Batch) -> None:
        super().write(outputs, batch)
        if self._made.agents.alive(self._victim):
            self._made.agents.kill(self._victim)


def lose_one(strategy: str, nodes: int, victim: int) -> tuple[RunReport, np.ndarray, np.ndarray]:
    """Report, results, and what they should be, of a job of 500 micro-batches."""
    model, _ = resolve_model("digits-mlp")
    feed = model.random_feed(100, seed=3)
    with bed(nodes) as made, made.deployed(model, strategy, nodes) as deployment:
        sink = LosingSink(made, victim)
        report = run_job(deployment, FeedSource(model, feed), sink, repeat=20)
    (expected,) = model.reference(threads=1)(feed)
    return report, sink.outputs["logits"], np.tile(expected, (20, 1))


def test_a_lost_rank_ends_the_job_and_names_the_node() -> None:
    with pytest.raises(NodeLostError, match="local-2"):
        lose_one("tensor", 2, victim=1)


def test_a_lost_rank_of_one_replica_leaves_its_work_to_the_other() -> None:
    report, found, expected = lose_one("replicate(2) > tensor(2)", 4, victim=1)
    assert report.items == len(expected)
    assert any("local-2" in note for note in report.notes)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
