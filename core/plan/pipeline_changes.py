"""Small changes of pipelines that were found, as long as that is better: a cut moved, nodes swapped, another taken."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations, pairwise, product
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from core.cost.joint import Joint
from core.cost.links import Ways
from core.cost.orders import Member
from core.plan.auto_types import Candidate, Question
from core.plan.form import NodeId, PlanRequest
from core.plan.pipeline_trials import Trials

CHANGES_SECONDS: Final = 0.15
"""That predictions of changed plans may take, by rule of thumb."""


class Field(Struct, frozen=True, eq=False):
    """Where pipelines are looked for."""

    question: Question
    members: Mapping[NodeId, Member]
    kinds: Mapping[NodeId, int]
    """Nodes of the same one cannot be told apart."""
    ways: Ways
    joint: Joint
    places: Sequence[int]
    """Positions that may be cut, with both ends of the model."""
    base_bytes: int
    """Of an agent."""
    holds_pins: Callable[[Sequence[NodeId]], bool]
    """Whether an order of nodes may keep the pins."""


class Polish:
    def __init__(self, field: Field, trials: Trials) -> None:
        self._field = field
        self._trials = trials
        self._left = CHANGES_SECONDS

    def polished(self, start: Candidate) -> None:
        """Move cuts, swap two nodes, or take another node, as long as that is better."""
        best, changed = start, True
        while changed:
            changed = False
            for request in self._changed(best.request):
                if self._left <= 0:
                    break
                if self._trials.knows(request) or not self._may_be_better(request, best):
                    continue
                self._left -= self._trials.seconds(len(request.nodes))
                found = self._trials.weighed(request)
                if found is not None and self._trials.rank(found) < self._trials.rank(best):
                    best, changed = found, True
                    break
        self._trials.keep(best)

    def _may_be_better(self, request: PlanRequest, best: Candidate) -> bool:
        """Whether what can be told at once does not rule it out."""
        if best.lacking or self._trials.rank(best)[1] > 0:
            return True
        cuts = request.cuts or ()
        at = [bisect_left(self._field.places, cut) for cut in cuts]
        size = len(cuts) + 1
        row = [self._field.members[node] for node in request.nodes]
        least = self._field.joint.least([row[first : first + size] for first in range(0, len(row), size)], at)
        match self._field.question.objective:
            case "throughput":
                return least.rate * self._field.question.batch > best.prediction.throughput
            case "latency":
                return least.latency_s < best.prediction.latency_s
            case "memory":
                return least.memory + self._field.base_bytes < best.memory_bytes

    def _changed(self, request: PlanRequest) -> Iterator[PlanRequest]:
        yield from _moves(request, self._field.places)
        nodes, others = request.nodes, [node for node in self._field.members if node not in request.nodes]
        swapped = (
            (*nodes[:i], nodes[j], *nodes[i + 1 : j], nodes[i], *nodes[j + 1 :])
            for i, j in combinations(range(len(nodes)), 2)
            if self._field.kinds[nodes[i]] != self._field.kinds[nodes[j]] or not self._field.ways.plain
        )
        taken = ((*nodes[:i], node, *nodes[i + 1 :]) for i, node in product(range(len(nodes)), others))
        for order in (*swapped, *taken):
            if self._field.holds_pins(order):
                yield replace(request, nodes=order)


def _moves(request: PlanRequest, places: Sequence[int]) -> Iterator[PlanRequest]:
    """One cut, or two that follow one another, a little to the left or to the right."""
    at = [bisect_left(places, cut) for cut in request.cuts or ()]
    for moving, step in product((1, 2), (-1, 1, -2, 2, -5, 5)):
        for first in range(len(at) - moving + 1):
            moved = [*at[:first], *(place + step for place in at[first : first + moving]), *at[first + moving :]]
            if all(a < b for a, b in pairwise((0, *moved, len(places) - 1))):
                yield replace(request, cuts=tuple(places[place] for place in moved))
