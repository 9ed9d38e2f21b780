"""The best plan by what shards take: of the plans that sums over layers like best a few are timed and compared anew.

Sums know nothing of the fusions that a border between shards costs, nor of slices that do not take their share of a
layer's time. What a plan's shards take can be measured, though, and what was measured is compared with what was
measured, one node alone among it. Which plans are timed hangs on figures, not on the clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import inf
from typing import Final

from core.cost.balance import NEAR_EQUAL
from core.cost.types import Prediction
from core.plan.auto_types import Candidate, Choice, Question, badness, badness_of, family, most_even, simplest
from core.plan.auto_words import best_alone, reasons, reordered
from core.plan.form import PlanRequest
from core.plan.misses import lacking
from core.plan.strategy_text import REPLICATE, SINGLE

NEAR: Final = 0.2
"""A plan whose estimate is worse by this share than the best, estimated or timed, is not timed. Against one node alone
sums were off by up to 15 %: ResNet-50, MobileNetV2 and the LSTM in every strategy on two and three nodes."""
MOST: Final = 3
"""Plans, beside those of whole models, which all take what one node alone takes."""
NODE_SECONDS: Final = 0.6
"""About what timing the shards of one node takes, beside a few runs of each; by rule of thumb, not by the clock."""
RUNS: Final = 5
MORE_SECONDS: Final = 6.0
"""That plans may take beyond the first, by this rule."""

Foretell = Callable[[PlanRequest, Callable[[float], None]], Prediction | None]
"""What a plan would do by what its shards take; None where they cannot be timed. It tells how far it is, 0 to 1."""


def best_by_times(
    question: Question, choice: Choice, foretell: Foretell, progress: Callable[[float], None] | None = None
) -> Choice:
    """``choice``, found by sums, or a plan beside it that is better by what their shards take; its candidates stay told
    by sums. Where the first cannot be timed, or the objective is memory, of which times say nothing, it stays as it is.

    Raises what ``foretell`` raises.
    """
    if question.objective == "memory":
        return choice
    return _Contest(question, choice, foretell, progress or (lambda _share: None)).run()


class _Contest:
    def __init__(
        self, question: Question, choice: Choice, foretell: Foretell, progress: Callable[[float], None]
    ) -> None:
        self._q = question
        self._choice = choice
        self._foretell = foretell
        self._progress = progress
        self._first = next(one for one in choice.candidates if one.request == choice.request)
        self._timed: dict[PlanRequest, Prediction] = {}
        self._bound = question.latency_bound_s if question.latency_bound_s is not None else inf

    def run(self) -> Choice:
        first = self._seconds(self._first.request)
        whole = first + MORE_SECONDS
        self._time(self._first.request, first / whole, 0.0)
        if not self._timed:
            return self._choice
        spent, count = 0.0, int(not _is_whole(self._first.request))
        for one in self._rivals():
            request, seconds = one.request, self._seconds(one.request)
            if not self._may_win(one) or spent + seconds > MORE_SECONDS or (count == MOST and not _is_whole(request)):
                continue
            self._time(request, seconds / whole, (first + spent) / whole)
            spent += seconds
            count += not _is_whole(request)
        self._progress(1.0)
        return self._best()

    def _rivals(self) -> Iterator[Candidate]:
        """One node alone; then the best of each strategy and number of nodes, the likeliest first."""
        fitting = [one for one in self._choice.candidates if not one.lacking]
        alone = best_alone(self._q, fitting)
        within = [one for one in fitting if one.prediction.latency_s <= self._bound]
        seen = {family(self._first.request)}
        for one in (*((alone,) if alone is not None else ()), *fitting):
            if family(one.request) not in seen:
                seen.add(family(one.request))
                yield most_even(one, within, self._q.objective, NEAR_EQUAL)

    def _may_win(self, one: Candidate) -> bool:
        """By what is known of it, and of those that were timed; one node alone is what all are compared with."""
        if one.request.strategy == SINGLE:
            return True
        objective = self._q.objective
        keep = [badness_of(told, objective) for told in self._timed.values() if told.latency_s <= self._bound]
        worst = max(badness(self._first, objective), min(keep, default=inf))
        late = one.prediction.latency_s > (1 + NEAR) * self._bound
        return not late and badness(one, objective) <= worst + NEAR * abs(worst)

    def _time(self, request: PlanRequest, part: float, before: float) -> None:
        told = self._foretell(request, lambda share: self._progress(before + part * share))
        if told is not None:
            self._timed[request] = told

    def _seconds(self, request: PlanRequest) -> float:
        """About what its shards take to be timed. Those of whole models are timed for every plan, to compare with."""
        places = 0 if _is_whole(request) else len(request.nodes)
        return places * NODE_SECONDS + (RUNS * self._q.profile.total_seconds if places else 0.0)

    def _best(self) -> Choice:
        q, timed = self._q, self._timed
        known = {one.request: one for one in self._choice.candidates}
        found = [Candidate(request, told, lacking(told, q.limits)) for request, told in timed.items()]
        within = [one for one in found if not one.lacking and one.prediction.latency_s <= self._bound]
        if within:
            best = simplest(within, q.objective, NEAR_EQUAL)
        else:  # the first by sums: whoever asked sees that it misses
            best = next(one for one in found if one.request == self._first.request)
        words = reasons(q, known[best.request], self._choice.candidates, timed)
        if best.request != self._first.request:
            words = f"{words} {reordered(q, self._first.request, best.request, timed)}"
        return Choice(best.request, best.prediction, self._choice.candidates, words)


def _is_whole(request: PlanRequest) -> bool:
    return request.strategy in (SINGLE, REPLICATE)
