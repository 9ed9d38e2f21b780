"""What a run of the deployed plan says of the measurements behind its prediction. Worker threads."""
# ruff: noqa: PLC0415 - onnx and onnxruntime are imported by the worker: the window is there a second earlier

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from msgspec import structs

from core.cost.links import UNKNOWN, Links
from core.plan.form import NodeId, ShardId

if TYPE_CHECKING:
    from core.cluster.node import Node
    from core.cost.types import Prediction, Profile
    from core.model.graph import Model
    from core.plan.compile import CompiledPlan
    from core.run.observing import Observation
    from core.run.recalibrating import Correction


class Ran(NamedTuple):
    """A plan as it is deployed and run, and what it is predicted with."""

    model: Model
    compiled: CompiledPlan
    profile: Profile
    speeds: Mapping[NodeId, float]
    nodes: Sequence[Node]
    in_flight: int
    """Micro-batches of each replica under way."""
    links: Links = UNKNOWN
    timed: bool = False
    """By what its shards take, as far as they were timed."""


def predict(
    ran: Ran,
    speeds: Mapping[NodeId, float] | None = None,
    messages: float = 1.0,
    shards: Mapping[ShardId, float] | None = None,
) -> Prediction:
    """The deployed shards as they are, with other ``speeds`` and with messages that cost so many times as much.
    ``shards`` as ``shard_seconds`` gives them, where they are known already."""
    from core.cluster.machines import machines_of
    from core.cost.dataflow import predict_outline

    profile = structs.replace(ran.profile, messages=ran.profile.messages.scaled(messages))
    return predict_outline(
        profile,
        ran.compiled.outline,
        ran.model,
        ran.speeds if speeds is None else speeds,
        machines_of(ran.nodes),
        ran.links,
        in_flight=ran.in_flight,
        shard_seconds=shard_seconds(ran) if shards is None else shards,
    )


def shard_seconds(ran: Ran) -> dict[ShardId, float]:
    """Of the deployed shards, as far as they count and were timed before; nothing is run."""
    from core.cost.shard_times import time_shards

    return time_shards(ran.model, ran.compiled.outline, only_kept=True) if ran.timed else {}


class Corrected(NamedTuple):
    correction: Correction
    pace: float
    """Of the prediction before, against that of the deployed shards played."""
    links: Mapping[NodeId, tuple[str, ...]] = {}
    """Why links are not what they were measured to be: clauses for "NAME ..."."""


def correct(
    ran: Ran,
    told: Prediction,
    observations: Mapping[NodeId, Observation],
    throughput: float,
    latency_s: float | None,
    check_links: Callable[[], Mapping[NodeId, tuple[str, ...]]] | None = None,
) -> Corrected:
    """What to correct after a run that was predicted as ``told``; see ``core.run.recalibrating``. ``check_links`` is
    asked where a link could be the cause: one that is not what it was measured to be is no property of the model.

    However ``told`` was worked out: a correction changes it by as much as it changes the deployed shards played.
    """
    from core.run.recalibrating import correction

    pace = told.throughput / predict(ran).throughput

    def again(speeds: Mapping[NodeId, float], messages: float) -> Prediction:
        return at_pace(predict(ran, speeds, messages), pace)

    found = correction(again, told, observations, ran.speeds, throughput, latency_s)
    links = check_links() if check_links is not None and found.may_be_links else {}
    return Corrected(found.without("links") if links else found, pace, links)


def at_pace(played: Prediction, pace: float) -> Prediction:
    """So many times as fast."""
    return structs.replace(played, throughput=played.throughput * pace, loaded_latency_s=played.loaded_latency_s / pace)
