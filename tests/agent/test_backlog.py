"""Which run is next."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.backlog import Backlog
from agent.blobs import BlobStore
from agent.compute import Compute
from agent.dataflow import Key, Run
from agent.executor import load_shard
from agent.limits import Limits
from agent.telemetry import Meter
from core.plan.form import NodeId, ShardId
from tests.agent.driver import Linear, sha256

KEYS = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 2), st.integers(0, 3)), max_size=20)


def run_of(shard: int, job: int, seq: int) -> Run:
    return Run(ShardId(shard), job, seq, {"x": np.zeros(1, np.float32)})


def drained(backlog: Backlog[Any]) -> list[Any]:
    return [backlog.take() for _ in range(len(backlog))]


def test_the_oldest_micro_batch_then_the_first_shard_then_whoever_came_first() -> None:
    backlog: Backlog[str] = Backlog()
    for name, key in {"d": (0, 1, 2), "b": (5, 1, 1), "a": (4, 1, 1), "e": (0, 2, 0), "c": (5, 1, 1)}.items():
        backlog.put(run_of(*key), name)
    assert drained(backlog) == ["a", "b", "c", "d", "e"]
    with pytest.raises(IndexError):
        backlog.take()


@settings(max_examples=60, derandomize=True, deadline=None)
@given(KEYS, st.sets(st.tuples(st.integers(0, 3), st.integers(1, 2), st.integers(0, 3))))
def test_what_is_dropped_does_not_come_and_all_else_does_in_order(
    keys: list[tuple[int, int, int]], unwanted: set[tuple[int, int, int]]
) -> None:
    backlog: Backlog[Key] = Backlog()
    for key in keys:
        backlog.put(run_of(*key), run_of(*key)[:3])
    backlog.drop(frozenset((ShardId(shard), job, seq) for shard, job, seq in unwanted))
    left = [key for key in keys if key not in unwanted]
    assert len(backlog) == len(left)
    assert drained(backlog) == sorted(left, key=lambda key: (key[1], key[2], key[0]))


def test_the_compute_thread_takes_the_oldest_of_those_that_wait(tmp_path: Path) -> None:
    """While it hands over the result of one run, others come in any order."""
    model = Linear(4, 2)
    blobs = BlobStore(tmp_path, 1 << 20)
    for blob in model.blobs:
        blobs.append(sha256(blob), len(blob), 0, blob)
    shard = load_shard(model.shard(NodeId("here")), blobs, 1)
    go_on, done = threading.Event(), threading.Semaphore(0)

    def ready() -> None:
        done.release()
        assert go_on.wait(60)

    compute = Compute(Meter(), Limits(), ready)
    feed = {model.x: np.ones((1, 4), np.float32)}
    compute.submit(shard, Run(ShardId(0), 1, 9, feed))
    assert done.acquire(timeout=60)
    for seq in (7, 3, 5, 4):
        compute.submit(shard, Run(ShardId(0), 1, seq, feed))
    compute.drop(frozenset({(ShardId(0), 1, 4)}))
    go_on.set()
    for _ in range(3):
        assert done.acquire(timeout=60)
    assert compute.close()
    assert [outcome.run.seq for _, outcome in compute.results] == [9, 3, 5, 7]
