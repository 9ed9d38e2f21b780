"""What a run showed of how fast nodes are with one model, and of what its messages cost, as corrections of what was
measured.

A node's speed rests on a benchmark; a model may suit a node better or worse than that. After a run the ratio is known:
the seconds predicted for a node's part over the seconds that it took. Speeds times this ratio predict that model.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from math import exp, log
from typing import Final

from msgspec import Struct

from core.cost.types import Prediction
from core.plan.form import NodeId, Sha256
from core.run.observing import Observation

SAME: Final = 0.02
"""A ratio nearer to 1 than this changes nothing."""
FULL: Final = 0.95
"""Where the busiest node is foretold to work for so much of the time, nobody keeps it from that."""
WIDEST: Final = 20.0
"""A ratio beyond this, or under its inverse, is no property of a model: something else was measured."""


class Calibration(Struct, frozen=True):
    """Of one node with one model."""

    node: NodeId
    model: Sha256
    factor: float
    """Its speed with this model against its speed as benchmarked."""
    when: float
    """Unix time."""
    seconds: float
    """Of the run that this rests on."""
    messages: float = 1.0
    """What messages cost in a run with this node, against what was measured."""


class Change(Struct, frozen=True):
    """What a calibration does to a node's speed for the model."""

    node: NodeId
    before: float
    after: float
    predicted_s: float
    """Compute for each micro-batch, with the speed before."""
    measured_s: float


def changes_of(
    prediction: Prediction, observations: Mapping[NodeId, Observation], speeds: Mapping[NodeId, float]
) -> tuple[Change, ...]:
    """What a run that was predicted with ``speeds`` shows of them; nodes that are as fast as predicted are left out.

    Where nodes of one machine were foretold to get in each other's way, the time in which a node's threads waited for
    a core does not count, as far as that was foretold: predictions take it into account by themselves.
    """
    busiest = max((node.share for node in prediction.nodes), default=1.0)
    foretold = busiest if busiest < FULL else 1.0
    found = []
    for node in prediction.nodes:
        seen = observations.get(node.node)
        if seen is None or node.compute_s <= 0:
            continue
        measured = seen.compute_s * max(seen.held, foretold)
        ratio = node.compute_s / measured
        if abs(ratio - 1) >= SAME and 1 / WIDEST <= ratio <= WIDEST:
            before = speeds.get(node.node, 1.0)
            found.append(Change(node.node, before, before * ratio, node.compute_s, measured))
    return tuple(found)


def factors_for(model: Sha256, calibrations: Iterable[Calibration]) -> dict[NodeId, float]:
    """By node, for one model."""
    return {one.node: one.factor for one in calibrations if one.model == model}


def message_factor(model: Sha256, calibrations: Iterable[Calibration], nodes: Collection[NodeId]) -> float:
    """What messages cost with one model on these nodes against what was measured: the mean of what runs with them have
    shown; 1.0 where there was none."""
    shown = [log(one.messages) for one in calibrations if one.model == model and one.node in nodes]
    return exp(sum(shown) / len(shown)) if shown else 1.0
