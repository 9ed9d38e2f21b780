"""Where one cut of a pipeline is best while all others stay where they are."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from msgspec.structs import replace

from core.cost.links import UNKNOWN, Links
from core.cost.predict import predict
from core.cost.tables import tables
from core.cost.types import Machine, Prediction, Profile
from core.errors import PlanError
from core.model.graph import Model
from core.plan.form import NodeId, PlanRequest

NEAR_EQUAL: Final = 1.02
"""Timings repeat to about 2 %: among positions no worse than this the one that sends least is taken."""


def place_cut(
    profile: Profile,
    model: Model,
    request: PlanRequest,
    index: int,
    speeds: Mapping[NodeId, float],
    machines: Mapping[NodeId, Machine] = MappingProxyType({}),
    links: Links = UNKNOWN,
) -> tuple[int, ...]:
    """The cuts of ``request`` with cut ``index`` put where the pipeline is fastest, and no other moved.

    Every position is predicted. Where another stage is what holds the pipeline up, and the throughput is the same in
    many places, the busier of the two stages beside the cut is made as little busy as can be; among equals the
    narrowest position is taken. Layers that are kept on a node stay there. PlanError when the request is no pipeline
    with cuts, or when pins leave the cut no position.
    """
    cuts = request.cuts
    if cuts is None or not 0 <= index < len(cuts):
        raise PlanError("There is no such cut to place.", hint="Ask for a pipeline with cuts.")
    known = tables(model, profile.batch)
    low = cuts[index - 1] if index else 0
    high = cuts[index + 1] if index + 1 < len(cuts) else known.count
    stages = {node: stage for stage, node in enumerate(request.nodes)}
    before = max((layer for layer, node in request.pins if stages[node] <= index), default=-1)
    after = min((layer for layer, node in request.pins if stages[node] > index), default=known.count)
    found: list[tuple[Prediction, tuple[int, ...]]] = []
    for position in range(max(low, before) + 1, min(high - 1, after) + 1):
        if known.legal[position - 1]:
            moved = (*cuts[:index], position, *cuts[index + 1 :])
            found.append((predict(profile, model, replace(request, cuts=moved), speeds, machines, links), moved))
    if not found:
        raise PlanError("Layers that are kept on nodes leave this cut no position.", hint="Unpin a layer.")
    fastest = max(told.throughput for told, _ in found)
    fast = [(told, moved) for told, moved in found if told.throughput * NEAR_EQUAL >= fastest]
    least = min(_busier(told, index) for told, _ in fast)
    even = [moved for told, moved in fast if _busier(told, index) <= least * NEAR_EQUAL]
    return min(even, key=lambda moved: float(known.crossing[moved[index] - 1]))


def _busier(told: Prediction, index: int) -> float:
    """Seconds per micro-batch of the busier stage beside a cut."""
    return max(one.compute_s + one.receive_s + one.send_s for one in told.nodes[index : index + 2])
