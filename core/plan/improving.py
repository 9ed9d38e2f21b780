"""The best single change of a plan: one cut moved, two nodes swapped, one left out, work shifted between ranks, another
micro-batch, another strategy.

Changes of plans that sums foretell are all predicted. The others take an outline each: only as many as there is work
for, the likeliest first. Nothing depends on the clock: the same question has the same answer.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import Struct

from core.cost.dataflow import predict_outline
from core.cost.predict import Predictor, is_predicted
from core.cost.types import Prediction
from core.errors import Cancelled, PlanError
from core.plan.auto_types import Candidate, Question, badness
from core.plan.bottleneck import bottleneck_words, milliseconds, sent_by
from core.plan.change_words import strategy_words
from core.plan.changes import BATCH, STRATEGY, Proposal, Proposals
from core.plan.compile import strategy_named
from core.plan.draft import Costs
from core.plan.form import PlanRequest
from core.plan.schedule import outline
from core.units import format_bytes

__all__ = ["Change", "best_change", "best_changes", "bottleneck_words", "sent_by"]

LEAST: Final = 0.01
"""A smaller gain is not worth a change."""
ENOUGH: Final = 0.05
"""A change within a strategy that gains so much comes before another strategy, and before another micro-batch."""
NEAR: Final = 0.03
"""Of changes that bring about as much, against the best, the smallest one is taken."""
MANY_TIMES: Final = 2.0
"""A gain above this is told as a factor."""
OUTLINE_SECONDS: Final = 0.5
"""That outlines may take, by the estimate of ``Proposals.outline_seconds``."""


class Change(Struct, frozen=True):
    request: PlanRequest
    """The plan with the change."""
    words: str
    """What to do and what it brings, without a full stop: "Move the cut to layer3.2: + 18 %"."""
    gain: float
    """Of what was asked for: 0.18 is 18 % more throughput, or less latency, or less memory. Where the plan did not fit,
    or missed its latency bound, and now keeps it, it may be below 0."""
    prediction: Prediction
    """Of ``request``."""


def best_change(
    question: Question,
    request: PlanRequest,
    *,
    prediction: Prediction | None = None,
    others: Iterable[Candidate] = (),
    cancel: threading.Event | None = None,
) -> Change | None:
    """The one change of ``request`` that brings most by the question's objective, within its strategy where that is
    worth the name; None where none brings 1 %. The first of ``best_changes``."""
    found = best_changes(question, request, prediction=prediction, others=others, cancel=cancel)
    return found[0] if found else None


def best_changes(
    question: Question,
    request: PlanRequest,
    *,
    prediction: Prediction | None = None,
    others: Iterable[Candidate] = (),
    cancel: threading.Event | None = None,
) -> tuple[Change, ...]:
    """The best change within the strategy of ``request``, and another strategy or micro-batch where that brings more.

    What they propose fits the question's memory limits and keeps its latency bound; where ``request`` does not, it is
    what does. ``prediction`` is that of ``request`` where ``predict_outline`` made it from the same figures, without
    shards that were timed; ``others`` are plans that were weighed already, as by ``core.plan.auto``. The question's
    ``batch`` is not looked at. PlanError when ``request`` makes no sense for the model; Cancelled.
    """
    return _Improver(question, cancel).run(request, prediction, tuple(others))


class _Improver:
    def __init__(self, question: Question, cancel: threading.Event | None) -> None:
        self._q = question
        self._cancel = cancel
        q = question
        self._predictor = Predictor(q.profile, q.model, q.speeds, q.machines, q.links)

    def run(self, request: PlanRequest, known: Prediction | None, others: Sequence[Candidate]) -> tuple[Change, ...]:
        # what is compared was predicted in the same way, whatever else is known of the plan as it is
        by_sums = is_predicted(request.strategy)
        now = self._candidate(request, known) if known is not None and not by_sums else self._weighed(request)
        proposals = Proposals(self._q, now)
        found: list[tuple[Proposal, Candidate]] = []
        for moves in proposals.cut_moves():
            found += self._near_best(moves, proposals)
        found += self._all(proposals.by_sums())
        left = OUTLINE_SECONDS
        for proposal in proposals.by_outlines(all_strategies=not others):
            seconds = proposals.outline_seconds(proposal.request)
            if seconds <= left:
                left -= seconds
                found += self._all([proposal])
        if not request.pins:
            told = [Proposal(one.request, strategy_words(self._q, request, one.request), STRATEGY) for one in others]
            found += [pair for pair in zip(told, others, strict=True) if pair[0].request != request]
        return self._best(now, found)

    def _near_best(self, moves: Sequence[Proposal], proposals: Proposals) -> list[tuple[Proposal, Candidate]]:
        """Places of one cut; and the neighbours of the best of them."""
        tried = self._all(moves)
        if not tried:
            return []
        best = min(tried, key=lambda one: self._rank(one[1]))
        return tried + self._all(proposals.beside(best[0].request))

    def _all(self, proposals: Iterable[Proposal]) -> list[tuple[Proposal, Candidate]]:
        found = []
        for proposal in proposals:
            try:
                found.append((proposal, self._weighed(proposal.request)))
            except PlanError:
                continue  # the model does not allow it
        return found

    def _weighed(self, request: PlanRequest) -> Candidate:
        if self._cancel is not None and self._cancel.is_set():
            raise Cancelled("Stopped.")
        q = self._q
        if is_predicted(request.strategy):
            told = self._predictor.predict(request)
        else:
            divided = strategy_named(request.strategy)(
                q.model, request, Costs(q.profile, q.speeds, q.machines, q.links)
            )
            found = outline(q.model, request, divided)
            request = found.request
            told = predict_outline(q.profile, found, q.model, q.speeds, q.machines, q.links)
        return self._candidate(request, told)

    def _candidate(self, request: PlanRequest, told: Prediction) -> Candidate:
        over = {use.node: use.memory_bytes - self._q.limits.get(use.node, use.memory_bytes) for use in told.nodes}
        return Candidate(request, told, {node: nbytes for node, nbytes in over.items() if nbytes > 0})

    # ------------------------------------------------------------ the best

    def _best(self, now: Candidate, found: Sequence[tuple[Proposal, Candidate]]) -> tuple[Change, ...]:
        fitting = [one for one in found if self._keeps(one[1])]
        within = self._change(now, [one for one in fitting if one[0].effort < BATCH])
        batches = [one for one in fitting if one[0].effort == BATCH]
        if self._q.objective == "latency" and self._keeps(now):
            batches = []  # fewer items always take less time: that is no answer
        beyond = self._change(now, [one for one in fitting if one[0].effort > BATCH] + batches)
        changes = [one for one in (within, beyond) if one is not None]
        if within is not None and beyond is not None:
            if beyond.gain <= within.gain:
                return (within,)
            if within.gain < ENOUGH and self._keeps(now):
                return (beyond,)
        return tuple(changes)

    def _change(self, now: Candidate, fitting: Sequence[tuple[Proposal, Candidate]]) -> Change | None:
        if not fitting:
            return None
        mends = not self._keeps(now)
        best = min(self._badness(one) for _, one in fitting)
        near = [one for one in fitting if self._badness(one[1]) <= best + NEAR * abs(best)]
        least = min(proposal.effort for proposal, _ in near)
        proposal, chosen = min(
            (one for one in near if one[0].effort == least), key=lambda one: (self._badness(one[1]), one[0].words)
        )
        gain = self._gain(now, chosen)
        if gain < LEAST and not mends:
            return None
        return Change(
            chosen.request, f"{proposal.words}: {self._brings(now, chosen, gain, mends=mends)}", gain, chosen.prediction
        )

    def _keeps(self, one: Candidate) -> bool:
        """The limits, and the bound."""
        bound = self._q.latency_bound_s
        return not one.lacking and (bound is None or one.prediction.latency_s <= bound)

    def _rank(self, one: Candidate) -> tuple[int, float]:
        return sum(one.lacking.values()), self._badness(one)

    def _badness(self, one: Candidate) -> float:
        return badness(one, self._q.objective)

    def _gain(self, now: Candidate, one: Candidate) -> float:
        before, after = self._badness(now), self._badness(one)
        return (before - after) / abs(before)

    def _brings(self, now: Candidate, one: Candidate, gain: float, *, mends: bool) -> str:
        percent = f"{1 + gain:.3g} times as fast" if gain > MANY_TIMES else f"+ {100 * gain:.0f} %"
        if mends and now.lacking:
            spare = {use.node: self._q.limits[use.node] - use.memory_bytes for use in one.prediction.nodes
                     if use.node in self._q.limits}  # fmt: skip
            node = min(spare, key=spare.__getitem__)
            name = self._q.names.get(node, node[:8])
            return f"fits, with {format_bytes(spare[node])} to spare on {name}"
        if mends:
            return f"answers in {milliseconds(one.prediction.latency_s)} ms, within the bound"
        if self._q.objective != "throughput":
            return f"− {100 * gain:.0f} % {self._q.objective}"
        if now.request.micro_batch != one.request.micro_batch:
            before, after = milliseconds(now.prediction.latency_s), milliseconds(one.prediction.latency_s)
            return f"{percent}, latency {after} instead of {before} ms"
        return percent
