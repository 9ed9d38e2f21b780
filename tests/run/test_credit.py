"""Micro-batches under way: enough to keep every node busy, and no more than nodes hold."""

from __future__ import annotations

from core.plan.form import CLIENT, NodeId, Plan, PlanRequest, Port, Route, Sha256, Shard, ShardId
from core.run.credit import default_in_flight

MIB = 1024**2


def plan_of(stages: int, ranks: int, inputs: int, micro_batch: int = 4) -> Plan:
    """Stages of groups; every shard takes ``inputs`` float32 an item."""
    port = (Port("x", "float32", (None, inputs)),)
    nodes = tuple(NodeId(f"n{i}") for i in range(stages * ranks))
    shards = tuple(
        Shard(ShardId(i), node, "", 0, i // ranks, i % ranks, Sha256("0" * 64), 0, (), port, port, 0)
        for i, node in enumerate(nodes)
    )
    routes = (Route(CLIENT, "x", ShardId(0), "x"),)
    return Plan(Sha256("0" * 64), "", PlanRequest("tensor", nodes, micro_batch), shards, routes)


def test_two_for_every_stage() -> None:
    assert default_in_flight(plan_of(stages=1, ranks=1, inputs=8)) == 2
    assert default_in_flight(plan_of(stages=1, ranks=4, inputs=8)) == 2
    assert default_in_flight(plan_of(stages=3, ranks=2, inputs=8)) == 6


def test_a_small_node_bounds_them_but_every_stage_has_one() -> None:
    large = plan_of(stages=3, ranks=1, inputs=4 * MIB)  # 64 MiB a micro-batch
    nodes = large.request.nodes
    plenty, little, middle = (dict.fromkeys(nodes, limit * MIB) for limit in (16 * 1024, 512, 192 + 4 * 5 * 64))
    assert default_in_flight(large, plenty) == 6
    assert default_in_flight(large, middle) == 5
    assert default_in_flight(large, little) == 3
    assert default_in_flight(large, plenty | {nodes[1]: 512 * MIB}) == 3
    assert default_in_flight(plan_of(stages=1, ranks=2, inputs=4 * MIB), little) == 2
