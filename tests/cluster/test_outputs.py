"""Outputs put together from what the shards of a replica send."""

from __future__ import annotations

import numpy as np
import pytest

from core.cluster.outputs import Outputs
from core.errors import ProtocolError
from core.plan.form import CLIENT, NodeId, Plan, PlanRequest, Route, Sha256, Shard, ShardId, Slice

SHA = Sha256("0" * 64)


def outputs(*routes: Route) -> Outputs:
    """Of a plan with two shards of one replica."""
    nodes = NodeId("a" * 40), NodeId("b" * 40)
    shards = tuple(
        Shard(ShardId(i), node, "", 0, 0, i, SHA, 0, (), (), (), activation_bytes=0) for i, node in enumerate(nodes)
    )
    return Outputs(Plan(SHA, "m", PlanRequest("tensor", nodes, 1), shards, routes))


def route(shard: int, target: str, *, term: int | None = None, at: tuple[Slice, ...] = ()) -> Route:
    return Route(ShardId(shard), "t", CLIENT, target, at=at, term=term)


def test_terms_are_added_in_their_order_whatever_the_order_of_arrival() -> None:
    made = outputs(route(1, "y", term=1), route(0, "y", term=0), route(1, "y", term=2), route(0, "z"))
    assert made.names == (frozenset({"y+0", "y+1", "y+2", "z"}),)
    terms = [np.array(term, np.float32) for term in ([1e8, 1.0], [-1e8, 2.0], [1.0, 3.0])]
    z = np.ones(3)
    arrived = {"y+2": terms[2], "z": z, "y+1": terms[1], "y+0": terms[0]}
    joined = made.join(0, arrived)
    np.testing.assert_array_equal(joined["y"], (terms[0] + terms[1]) + terms[2])
    assert joined["y"][0] != terms[0][0] + (terms[1][0] + terms[2][0]), "another order would show"
    assert not joined["y"].flags.writeable
    assert joined["z"] is z


def test_a_term_in_pieces() -> None:
    halves = (Slice(0, 0, 2),), (Slice(0, 2, 4),)
    made = outputs(route(0, "y", term=0, at=halves[0]), route(0, "y", term=0, at=halves[1]), route(1, "y", term=1))
    arrived = {"y[0=0:2]+0": np.arange(2.0), "y[0=2:4]+0": np.arange(2.0), "y+1": np.ones(4)}
    np.testing.assert_array_equal(made.join(0, arrived)["y"], [1, 2, 1, 2])


@pytest.mark.parametrize("second", [np.ones((4, 1)), np.ones(4, np.float32), np.ones(5)])
def test_terms_that_are_not_alike(second: np.ndarray) -> None:
    made = outputs(route(0, "y", term=0), route(1, "y", term=1))
    with pytest.raises(ProtocolError, match="terms of an output are not alike"):
        made.join(0, {"y+0": np.ones(4), "y+1": second})
