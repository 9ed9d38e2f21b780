"""The best single change of a plan: one cut moved, two nodes swapped, one left out, work shifted between ranks, another
micro-batch, another strategy.

Changes of plans that sums foretell are all predicted. The others take an outline each: only as many as there is work
for, the likeliest first. Nothing depends on the clock: the same question has the same answer.

Where shards can be timed, the few changes that promise most are told by what their shards take and what those of the
plan as it is take: sums over layers know nothing of fusions that a border costs, nor of slices that do not take their
share of a layer's time.
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
from core.plan.changes import Proposals
from core.plan.compile import strategy_named
from core.plan.draft import Costs
from core.plan.form import PlanRequest
from core.plan.misses import lacking
from core.plan.outline import Outline
from core.plan.proposal import BATCH, STRATEGY, Proposal
from core.plan.schedule import outline
from core.plan.timed import Timed
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
MOST_TIMED: Final = 3
"""Times that what promises most is timed, where what was timed before did not keep its promise."""
SLOW_SECONDS: Final = 0.3
"""Of a model that takes longer only what promises most is timed."""
KEPT: Final = 0.5
"""Of its promise, that is: a change that brings less is compared with the next one that promises more."""

_Pair = tuple[Proposal, Candidate]


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
    others: Iterable[Candidate] = (),
    timed: Timed | None = None,
    cancel: threading.Event | None = None,
) -> Change | None:
    """The one change of ``request`` that brings most by the question's objective, within its strategy where that is
    worth the name; None where none brings 1 %. The first of ``best_changes``."""
    found = best_changes(question, request, others=others, timed=timed, cancel=cancel)
    return found[0] if found else None


def best_changes(
    question: Question,
    request: PlanRequest,
    *,
    others: Iterable[Candidate] = (),
    timed: Timed | None = None,
    cancel: threading.Event | None = None,
) -> tuple[Change, ...]:
    """The best change within the strategy of ``request``, and another strategy or micro-batch where that brings more.

    What they propose fits the question's memory limits and keeps its latency bound; where ``request`` does not, it is
    what does. ``others`` are plans that were weighed already, from the same profile and without shards that were timed,
    as by ``core.plan.auto``. ``timed`` times the shards of ``request`` and of what is proposed, so that both are told
    by the same figures; None: by the profile. The question's ``batch`` is not looked at. PlanError when ``request``
    makes no sense for the model; Cancelled, and what ``timed`` raises.
    """
    return _Improver(question, timed, cancel).run(request, tuple(others))


class _Improver:
    def __init__(self, question: Question, timed: Timed | None, cancel: threading.Event | None) -> None:
        self._q = question
        self._timed = timed
        self._cancel = cancel
        q = question
        self._predictor = Predictor(q.profile, q.model, q.speeds, q.machines, q.links)

    def run(self, request: PlanRequest, others: Sequence[Candidate]) -> tuple[Change, ...]:
        now = self._weighed(request)
        proposals = Proposals(self._q, now)
        found: list[_Pair] = []
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
        return self._best(now, found) if self._timed is None else self._confirmed(now, found, self._timed)

    def _near_best(self, moves: Sequence[Proposal], proposals: Proposals) -> list[_Pair]:
        """Places of one cut; and the neighbours of the best of them."""
        tried = self._all(moves)
        if not tried:
            return []
        best = min(tried, key=lambda one: self._rank(one[1]))
        return tried + self._all(proposals.beside(best[0].request))

    def _all(self, proposals: Iterable[Proposal]) -> list[_Pair]:
        found = []
        for proposal in proposals:
            try:
                found.append((proposal, self._weighed(proposal.request)))
            except PlanError:
                continue  # the model does not allow it
        return found

    def _weighed(self, request: PlanRequest) -> Candidate:
        self._check()
        q = self._q
        if is_predicted(request.strategy):
            return self._candidate(request, self._predictor.predict(request))
        found = self._outlined(request)
        told = predict_outline(q.profile, found, q.model, q.speeds, q.machines, q.links)
        return self._candidate(found.request, told)

    def _exact(self, request: PlanRequest, timed: Timed) -> Candidate | None:
        """By what its shards take; None where not all of them could be timed."""
        self._check()
        q, found = self._q, self._outlined(request)
        seconds = timed(found)
        if any(part.id not in seconds for part in found.parts):
            return None
        told = predict_outline(q.profile, found, q.model, q.speeds, q.machines, q.links, shard_seconds=seconds)
        return self._candidate(found.request, told)

    def _outlined(self, request: PlanRequest) -> Outline:
        q = self._q
        divided = strategy_named(request.strategy)(q.model, request, Costs(q.profile, q.speeds, q.machines, q.links))
        return outline(q.model, request, divided)

    def _check(self) -> None:
        if self._cancel is not None and self._cancel.is_set():
            raise Cancelled("Stopped.")

    def _candidate(self, request: PlanRequest, told: Prediction) -> Candidate:
        return Candidate(request, told, lacking(told, self._q.limits))

    # ------------------------------------------------------------ the best

    def _confirmed(self, now: Candidate, found: Sequence[_Pair], timed: Timed) -> tuple[Change, ...]:
        """Those that keep what they promise once their shards are timed, and those of the plan as it is. Where some
        cannot be timed, all are told by the profile."""
        promised = self._best(now, found)
        exact_now = self._exact(now.request, timed) if promised else None
        if exact_now is None:
            return promised
        left, exact, told = list(found), list[_Pair](), tuple[Change, ...]()
        for _ in range(MOST_TIMED if self._q.profile.total_seconds <= SLOW_SECONDS else 1):
            requests = {change.request for change in promised}
            for proposal, one in (pair for pair in left if pair[1].request in requests):
                weighed = self._exact(one.request, timed)
                if weighed is None:
                    return self._best(now, found)
                exact.append((proposal, weighed))
            left = [pair for pair in left if pair[1].request not in requests]
            told = self._best(exact_now, exact)
            promised = self._best(now, left)
            reached = max((change.gain for change in told), default=0.0)
            if not promised or (told and reached >= KEPT * max(change.gain for change in promised)):
                break
        return told

    def _best(self, now: Candidate, found: Sequence[_Pair]) -> tuple[Change, ...]:
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

    def _change(self, now: Candidate, fitting: Sequence[_Pair]) -> Change | None:
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
