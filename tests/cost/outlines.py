"""Outlines written by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from core.plan.division import Division
from core.plan.form import PlanRequest, Route, ShardId
from core.plan.outline import Outline, Part
from core.plan.program import Program
from tests.plan.models import node_ids

NOTHING = Division((), (), 0.0)


def part(number: int, node: int, layers: Mapping[int, float], *, replica: int = 0, stage: int = 0) -> Part:
    """A shard on the node of this index that does these shares of layers; its program holds nothing."""
    program = Program((), (), (), {}, {})
    return Part(ShardId(number), node_ids(node + 1)[node], program, "part", replica, stage, node, tuple(layers.items()))


def joined(
    nodes: int,
    parts: Sequence[Part],
    traffic: Sequence[tuple[int, int, int]],
    *,
    strategy: str = "tensor",
    batch: int = 1,
) -> Outline:
    """``traffic`` are (producer, consumer, bytes); -1 is the client."""
    routes = tuple(
        Route(ShardId(producer), f"t{index}", ShardId(consumer), f"t{index}")
        for index, (producer, consumer, _) in enumerate(traffic)
    )
    request = PlanRequest(strategy, node_ids(nodes), batch)
    return Outline(request, tuple(parts), routes, tuple(nbytes for *_, nbytes in traffic), NOTHING)
