"""About what other shares would come to, from what was worked out for the shares before: for the eye, while the mouse
moves, and from plans near by that were timed. The exact figure follows when it rests. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct, structs

from core.cost.types import NodePrediction, Prediction, Profile
from core.plan.division import Division
from core.plan.form import NodeId
from gui.widgets.division_edges import SHARED
from gui.widgets.division_model import form_of

Percents = Mapping[NodeId, int]


class Base(Struct, frozen=True, eq=False):
    """What was worked out, and the shares that it was worked out for."""

    prediction: Prediction
    percents: Percents
    batch: int
    divided: Mapping[NodeId, float]
    """Which part of each node's time goes to layers that are divided, 0..1."""
    replicas: Mapping[NodeId, int]


def base_of(prediction: Prediction, division: Division, profile: Profile, percents: Percents) -> Base:
    """``prediction`` and ``division`` are exact for the shares ``percents``."""
    replicas = {part.node: part.replica for layer in division.layers for part in layer.parts}
    return Base(prediction, percents, profile.batch, _divided_parts(division, profile), replicas)


def with_shares(base: Base, after: Percents) -> Prediction:
    """About what the shares ``after`` would reach.

    Each node's time for layers that are divided grows as its share does; what a micro-batch takes beside the slowest
    node's own time stays as it was.
    """
    prediction = base.prediction
    nodes = tuple(_grown(one, base, after) for one in prediction.nodes)
    slowest_before, slowest = _slowest(prediction.nodes, base.replicas), _slowest(nodes, base.replicas)
    if not prediction.throughput or not slowest:
        return prediction
    period = len(slowest) * base.batch / prediction.throughput
    beside = max(0.0, period - sum(slowest_before) / len(slowest_before))
    rates = [sum(1 / (seconds + beside) for seconds in some) for some in (slowest_before, slowest)]
    gain = rates[1] / rates[0]
    busy = {one.node: one.share * _ratio(one, old) * gain for one, old in zip(nodes, prediction.nodes, strict=True)}
    top = max(busy.values(), default=1.0) or 1.0
    shown = tuple(structs.replace(one, share=min(1.0, busy[one.node] / max(top, 1.0))) for one in nodes)
    return structs.replace(
        prediction,
        throughput=prediction.throughput * gain,
        latency_s=max(0.0, prediction.latency_s + max(slowest) - max(slowest_before)),
        loaded_latency_s=prediction.loaded_latency_s / gain,
        nodes=shown,
        bottleneck=max(busy, key=lambda node: busy[node]),
        efficiency=min(1.0, prediction.efficiency * gain),
    )


def as_timed(told: Prediction, estimated: Prediction | None, timed: Prediction | None) -> Prediction:
    """About what ``told``, an estimate, would be if its shards were timed: a plan near it was estimated at
    ``estimated`` and is known to reach ``timed``. What changes then is the plan, not the way to predict it."""
    if told.timed or estimated is None or timed is None or not timed.timed:
        return told
    if not estimated.throughput or not estimated.latency_s:
        return told
    pace, time = timed.throughput / estimated.throughput, timed.latency_s / estimated.latency_s
    return structs.replace(
        told,
        throughput=told.throughput * pace,
        latency_s=told.latency_s * time,
        loaded_latency_s=told.loaded_latency_s / pace if pace else told.loaded_latency_s,
        efficiency=min(1.0, told.efficiency * pace),
    )


def _divided_parts(division: Division, profile: Profile) -> dict[NodeId, float]:
    whole: dict[NodeId, float] = {}
    split: dict[NodeId, float] = {}
    for layer in division.layers:
        took = profile.layer_seconds[layer.layer]
        shared = {
            replica: form_of(layer, [part for part in layer.parts if part.replica == replica]) in SHARED
            for replica in {part.replica for part in layer.parts}
        }
        for part in layer.parts:
            whole[part.node] = whole.get(part.node, 0.0) + took * part.share
            if shared[part.replica]:
                split[part.node] = split.get(part.node, 0.0) + took * part.share
    return {node: split.get(node, 0.0) / took for node, took in whole.items() if took}


def _grown(one: NodePrediction, base: Base, after: Percents) -> NodePrediction:
    old, new, split = base.percents.get(one.node, 0), after.get(one.node, 0), base.divided.get(one.node, 0.0)
    return structs.replace(one, compute_s=one.compute_s * (1 - split + split * new / old)) if old else one


def _ratio(new: NodePrediction, old: NodePrediction) -> float:
    return new.compute_s / old.compute_s if old.compute_s else 1.0


def _slowest(nodes: Sequence[NodePrediction], replica: Mapping[NodeId, int]) -> list[float]:
    """Seconds of the slowest node of each replica."""
    slowest: dict[int, float] = {}
    for one in nodes:
        if one.node in replica:
            slowest[replica[one.node]] = max(slowest.get(replica[one.node], 0.0), one.compute_s)
    return list(slowest.values())
