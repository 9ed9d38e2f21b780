"""Tensors in parts over real agents: the client's inputs, what nodes send each other, and outputs in pieces."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import pytest

from core.cluster.deployment import Deployment, deploy
from core.errors import ProtocolError
from core.plan.form import CLIENT, Route, ShardId, Slice
from core.run.fixed import fixed_items, whole_batch
from core.run.runner import run_job
from core.run.sink import MemorySink
from core.run.source import Batch, Source
from tests.run.conftest import Bed
from tests.run.handmade import Dims, Step, handmade

S0, S1, S2 = ShardId(0), ShardId(1), ShardId(2)


class Rows(Source):
    """Rows of one input, the last batch short."""

    def __init__(self, name: str, array: np.ndarray) -> None:
        self._name, self._array = name, array

    @property
    def items(self) -> int:
        return len(self._array)

    def batches(self, size: int) -> Iterator[Batch]:
        for start in range(0, self.items, size):
            part = np.ascontiguousarray(self._array[start : start + size])
            yield Batch({self._name: part}, len(part), start)


@contextlib.contextmanager
def loaded(bed: Bed, steps: list[Step], routes: list[Route], micro_batch: int) -> Iterator[Deployment]:
    nodes = tuple(node.id for node in bed.cluster.wait_ready(2, timeout=60))[:2]
    plan = handmade(nodes, steps, routes, micro_batch)
    with contextlib.closing(deploy(bed.cluster, plan, owner="test")) as deployment:
        yield deployment


def positions(items: int | None) -> tuple[list[Step], list[Route]]:
    """y = 2|x| over 6 positions: node 0 has the first 4, node 1 the last 2 and asks for one more, as with a halo."""
    low: Dims = (items, 4, 3)
    steps = [
        Step(0, (("Abs", ("x",), ("a",)),), {"x": low}, {"a": low}),
        Step(
            1,
            (
                ("Abs", ("x",), ("p",)),
                ("Add", ("p", "p"), ("s",)),
                ("Add", ("b", "b"), ("t",)),
                ("Max", ("s", "t"), ("y",)),
            ),
            {"x": (items, 2, 3), "b": (items, 1, 3)},
            {"y": (items, 2, 3)},
        ),
        Step(0, (("Add", ("a", "a"), ("y",)),), {"a": (items, 3, 3)}, {"y": (items, 3, 3)}),
    ]
    routes = [
        Route(CLIENT, "x", S0, "x", slices=(Slice(1, 0, 4),)),
        Route(CLIENT, "x", S1, "x", slices=(Slice(1, 4, 6),)),
        Route(S0, "a", S1, "b", slices=(Slice(1, 3, 4),)),
        Route(S0, "a", S2, "a", slices=(Slice(1, 1, 4),)),
        Route(S0, "a", CLIENT, "y", slices=(Slice(1, 0, 1),), at=(Slice(1, 0, 1),)),
        Route(S2, "y", CLIENT, "y", at=(Slice(1, 1, 4),)),
        Route(S1, "y", CLIENT, "y", at=(Slice(1, 4, 6),)),
    ]
    return steps, routes


def by_positions(x: np.ndarray) -> np.ndarray:
    """What ``positions`` computes."""
    a = np.abs(x)
    return np.concatenate([a[:, :1], 2 * a[:, 1:4], np.maximum(2 * a[:, 4:], 2 * a[:, 3:4])], axis=1)


X = np.random.default_rng(1).standard_normal((11, 6, 3)).astype(np.float32)


@pytest.mark.parametrize("items", [None, 4])
def test_parts_of_every_item(three: Bed, items: int | None) -> None:
    with loaded(three, *positions(items), micro_batch=4) as deployment:
        assert fixed_items(deployment.plan) == items
        np.testing.assert_array_equal(deployment.infer({"x": X[:4]})["y"], by_positions(X[:4]))
        report = run_job(deployment, Rows("x", X), sink := MemorySink(), repeat=3)
    assert report.items == 33
    assert list(sink.outputs) == ["y"]
    np.testing.assert_array_equal(sink.outputs["y"], np.tile(by_positions(X), (3, 1, 1)))


def test_items_shared_out_inside_a_replica(three: Bed) -> None:
    """Three of four items go to one node and one to the other; the last micro-batch is filled up and trimmed."""
    sizes = ((0, 3), (3, 4))
    steps = [
        Step(n, (("Neg", ("x",), ("y",)),), {"x": (b - a, 6, 3)}, {"y": (b - a, 6, 3)})
        for n, (a, b) in enumerate(sizes)
    ]
    routes = [Route(CLIENT, "x", ShardId(n), "x", slices=(Slice(0, *one),)) for n, one in enumerate(sizes)]
    routes += [Route(ShardId(n), "y", CLIENT, "y", at=(Slice(0, *one),)) for n, one in enumerate(sizes)]
    with loaded(three, steps, routes, micro_batch=4) as deployment:
        assert fixed_items(deployment.plan) == 4
        report = run_job(deployment, Rows("x", X), sink := MemorySink())
        with pytest.raises(ProtocolError, match="no part 3 to 4 of axis 0"):
            deployment.infer({"x": X[:3]})
        np.testing.assert_array_equal(deployment.infer({"x": X[:4]})["y"], -X[:4])
    assert report.items == 11
    np.testing.assert_array_equal(sink.outputs["y"], -X)


def test_a_micro_batch_is_filled_up_only_where_it_must_be() -> None:
    short = Batch({"x": X[:3]}, 3, 8, ("a", "b", "c"))
    full = whole_batch(short, 4)
    assert (full.rows, full.first, full.names) == (3, 8, ("a", "b", "c"))
    np.testing.assert_array_equal(full.feed["x"], X[[0, 1, 2, 2]])
    assert whole_batch(short, None) is short
    assert whole_batch(short, 3) is short
    whole = Batch({"x": X[:1]}, 1, whole=True)
    assert whole_batch(whole, 4) is whole
