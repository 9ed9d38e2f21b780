"""Pipelines that were predicted: each once, and no more of them than there is time for.

What a prediction takes is told by rule of thumb: nothing depends on the clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from msgspec import Struct

from core.errors import PlanError
from core.plan.auto_types import Candidate, Question, rank
from core.plan.form import NodeId, PlanRequest

TRIES_SECONDS: Final = 0.25
"""That predictions of the likeliest plans may take, for each way of looking for them."""
CHAIN_SECONDS: Final = 5e-5
"""Of a prediction, for each node."""
PLAYED_SECONDS: Final = 1.5e-4
"""The same for each node and micro-batch under way, where nodes share cores and are played together."""


class Tools(Struct, frozen=True):
    """What the search asks of its caller."""

    weigh: Callable[[PlanRequest], Candidate]
    """PlanError where a stage would have nothing to do."""
    keep: Callable[[Candidate], None]
    check: Callable[[], None]
    """Between steps; may raise."""


class Trials:
    def __init__(self, question: Question, tools: Tools, *, crowded: bool) -> None:
        """``crowded``: nodes share cores."""
        self._q = question
        self._tools = tools
        self._crowded = crowded
        self._tried: dict[PlanRequest, Candidate | None] = {}
        self._left = TRIES_SECONDS

    def check(self) -> None:
        """Between steps; may raise."""
        self._tools.check()

    def keep(self, one: Candidate) -> None:
        self._tools.keep(one)

    def knows(self, request: PlanRequest) -> bool:
        return request in self._tried

    def rank(self, one: Candidate) -> tuple[float, float, float]:
        return rank(self._q, one)

    def weighed(self, request: PlanRequest) -> Candidate | None:
        """None where a stage would have nothing to do."""
        if request not in self._tried:
            try:
                self._tried[request] = self._tools.weigh(request)
            except PlanError:
                self._tried[request] = None
        return self._tried[request]

    def predicted(self, strategy: str, nodes: Sequence[NodeId], cuts: tuple[int, ...]) -> Candidate | None:
        """The same, and kept."""
        found = self.weighed(PlanRequest(strategy, tuple(nodes), self._q.batch, cuts, pins=self._q.pins))
        if found is not None:
            self.keep(found)
        return found

    def allow_more(self) -> None:
        """Another way of looking for them begins."""
        self._left += TRIES_SECONDS / 2

    def first_of(self, requests: Iterable[PlanRequest]) -> list[Candidate]:
        """Predicted one after the other as long as there is time for it, one at least."""
        found: list[Candidate] = []
        for request in requests:
            if found and self._left <= 0:
                break
            self._left -= self.seconds(len(request.nodes))
            one = self.predicted(request.strategy, request.nodes, request.cuts or ())
            if one is not None:
                found.append(one)
        return found

    def seconds(self, nodes: int) -> float:
        """About what a prediction takes."""
        return nodes * (CHAIN_SECONDS + (PLAYED_SECONDS * nodes if self._crowded else 0.0))
