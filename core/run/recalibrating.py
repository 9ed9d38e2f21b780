"""Which correction makes the prediction of a plan that was run agree with the run: nodes' speeds, what messages cost,
or both; or none, which is said.

What nodes took to compute is seen by itself (``core.run.calibration``). What messages cost is not, but where computing
does not account for the pace of the run they are what is left; the factor is the one that gives that pace.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import exp, log
from typing import Final, Literal

from msgspec import Struct

from core.cost.types import Prediction
from core.plan.form import NodeId
from core.run.calibration import SAME, WIDEST, Change, changes_of
from core.run.observing import Observation

STEPS: Final = 12
"""Halvings of the range in which the factor of messages is looked for: down to 0.2 %."""
IDLE: Final = 0.5
"""Of the micro-batches that are predicted to be under way. Where inputs set the pace each one meets idle nodes, and no
more than half of them are: such a run does not show what the plan can do."""

Predict = Callable[[Mapping[NodeId, float], float], Prediction]
"""The plan that was run, with these speeds and with messages that cost so many times what they do now."""
Reason = Literal["", "same", "idle", "links", "unexplained"]
"""Why nothing is corrected. "same": nothing differs. "idle": the nodes were not kept busy, because inputs came too
slowly, were too few, or this workstation was too busy to send them. "links": a link is not what it was measured to be.
"unexplained": no correction brings the prediction nearer to the run."""


class Correction(Struct, frozen=True):
    """What a run says of the measurements behind its prediction."""

    changes: tuple[Change, ...] = ()
    """Of nodes' speeds."""
    messages: float = 1.0
    """Factor of what messages cost."""
    measured: float = 0.0
    """Items per second of the run."""
    before: float = 0.0
    """As they were predicted."""
    after: float = 0.0
    """As they are predicted with the correction."""
    reason: Reason = ""

    @property
    def empty(self) -> bool:
        return not self.changes and self.messages == 1.0

    @property
    def may_be_links(self) -> bool:
        """Whether a link that is not what it was measured to be would show as this."""
        return self.messages != 1.0 or self.reason in {"idle", "unexplained"}

    def without(self, reason: Reason) -> Correction:
        """Nothing corrected, and why."""
        return Correction((), 1.0, self.measured, self.before, self.before, reason)


def correction(
    predict: Predict,
    told: Prediction,
    observations: Mapping[NodeId, Observation],
    speeds: Mapping[NodeId, float],
    throughput: float,
    latency_s: float | None = None,
) -> Correction:
    """What to correct after a run that was predicted as ``told``, with ``speeds``, and did ``throughput`` items a
    second at the median ``latency_s``. ``predict`` is asked a dozen times or two.

    With a correction the plan is predicted nearer to ``throughput`` than before. The first of these that gives it
    within ``SAME`` is taken, else the one that comes nearest: speeds as the nodes were seen to compute, both, messages.
    """
    nothing = Correction(measured=throughput, before=told.throughput, after=told.throughput)
    if not throughput > 0 or not told.throughput > 0 or _idle(told, throughput, latency_s):
        return nothing.without("idle")
    changes = changes_of(told, observations, speeds)
    off = _off(told.throughput, throughput)
    if not changes and off < SAME:
        return nothing.without("same")
    seen = {**speeds, **{change.node: change.after for change in changes}}
    found: list[Correction] = []
    if changes:
        found.append(Correction(changes, 1.0, throughput, told.throughput, predict(seen, 1.0).throughput))
        if _off(found[0].after, throughput) < SAME:
            return found[0]
    for corrected, fast in ((changes, seen), ((), speeds)):
        fitted = _fitted(predict, fast, throughput)
        if fitted is not None:
            found.append(Correction(corrected, fitted[0], throughput, told.throughput, fitted[1]))
        if fitted is not None or not changes:
            break
    best = min(found, key=lambda one: _off(one.after, throughput), default=None)
    if best is None or _off(best.after, throughput) >= max(off, SAME):
        return nothing.without("unexplained")
    return best


def _fitted(predict: Predict, speeds: Mapping[NodeId, float], wanted: float) -> tuple[float, float] | None:
    """The factor of messages with which nodes of these speeds reach ``wanted`` items per second, and what they reach
    then; None: none gives that, within SAME."""
    low, high = -log(WIDEST), log(WIDEST)
    for _ in range(STEPS):
        middle = (low + high) / 2
        reached = predict(speeds, exp(middle)).throughput
        if reached > wanted:
            low = middle
        else:
            high = middle
    return (exp(middle), reached) if _off(reached, wanted) < SAME else None


def _off(predicted: float, measured: float) -> float:
    return abs(log(predicted / measured)) if predicted > 0 else float("inf")


def _idle(told: Prediction, throughput: float, latency_s: float | None) -> bool:
    """Rate times latency is what is under way, however fast the nodes are."""
    expected = told.throughput * told.loaded_latency_s
    return latency_s is not None and expected > 0 and throughput * latency_s < IDLE * expected
