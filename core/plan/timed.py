"""What plans would do by what their shards take on this workstation, beside one node alone by the same measure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from core.cost.dataflow import predict_outline
from core.cost.types import Prediction
from core.errors import PlanError
from core.model.graph import Model
from core.plan.draft import Costs
from core.plan.form import PlanRequest, ShardId
from core.plan.outline import Outline
from core.plan.schedule import outline
from core.plan.single import single
from core.plan.strategy_text import REPLICATE, SINGLE

Timed = Callable[[Outline], Mapping[ShardId, float]]
"""Seconds of one run of each shard of an outline, as far as they could be timed (``core.cost.shard_times``)."""


def predict_timed(
    model: Model, found: Outline, costs: Costs, timed: Timed, in_flight: int | None = None
) -> tuple[Prediction, float | None]:
    """As ``predict_outline``, by what ``timed`` tells; and the seconds of the whole model in one shard.

    Where not all shards can be timed the prediction is not ``timed``, and nothing is told of the whole model: what sums
    over layers give is compared with what they give. Raises PlanError, and what ``timed`` raises.
    """
    if costs.profile is None:
        raise PlanError("Nothing is foretold of a model whose layers were not timed.")
    seconds = timed(found)
    complete = all(part.id in seconds for part in found.parts)
    whole = _whole_seconds(model, found, seconds, timed) if complete else None
    told = predict_outline(
        costs.profile,
        found,
        model,
        costs.speeds,
        costs.machines,
        costs.links,
        in_flight=in_flight,
        shard_seconds=seconds,
        whole_seconds=whole,
    )
    return told, whole


def _whole_seconds(model: Model, found: Outline, seconds: Mapping[ShardId, float], timed: Timed) -> float | None:
    """None where it cannot be timed, as where this machine has no memory for all of it."""
    request = found.request
    if request.strategy in (SINGLE, REPLICATE):
        return next(iter(seconds.values()), None)
    alone = PlanRequest(SINGLE, request.nodes[:1], request.micro_batch)
    return next(iter(timed(outline(model, alone, single(model, alone, Costs()))).values()), None)
