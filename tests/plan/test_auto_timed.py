"""The choice by what shards take: timed plans against timed plans, and words that hold."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import combinations

import pytest
from msgspec.structs import replace

from core.cost.links import UNKNOWN, WORKSTATION, Link, Links
from core.cost.types import Prediction, Profile
from core.errors import Cancelled
from core.plan.auto import Choice, Objective, Question, best_for
from core.plan.auto_timed import MOST, best_by_times
from core.plan.compile import outline_plan
from core.plan.draft import Costs
from core.plan.form import NodeId, PlanRequest, ShardId
from core.plan.outline import Outline
from core.plan.timed import predict_timed
from tests.plan.models import chain, node_ids

NODES = node_ids(3)
NAMES = dict(zip(NODES, ("ant", "bee", "cat"), strict=True))
MODEL = chain(6, width=400)
LAYER = 0.01
ROOM = (1 << 20) + 5_000_000
"""Bytes; not enough for the whole model with what it needs beside."""


def question(
    speeds: tuple[float, float, float],
    objective: Objective = "throughput",
    *,
    batch: int = 2,
    room: int = 0,
    bound_s: float | None = None,
) -> Question:
    layers = len(MODEL.layers(batch))
    profile = Profile(MODEL.sha256, batch, 1, (LAYER,) * layers, LAYER * layers, base_bytes=1 << 20)
    known = dict(zip(NODES, speeds, strict=True))
    limits = dict.fromkeys(NODES, room) if room else {}
    return Question(MODEL, profile, NODES, known, {}, UNKNOWN, limits, objective, bound_s, batch, NAMES)


class Timer:
    """Tells what plans do whose shards take ``border`` seconds more, each, than their layers in the whole model."""

    def __init__(self, asked: Question, border: float, untimed: tuple[str, ...] = ()) -> None:
        self.asked: list[PlanRequest] = []
        self._q, self._border, self._untimed = asked, border, untimed

    def __call__(self, request: PlanRequest, told: Callable[[float], None]) -> Prediction | None:
        self.asked.append(request)
        told(0.5)
        q = self._q
        costs = Costs(q.profile, q.speeds, q.machines, q.links)
        found = outline_plan(q.model, request, profile=q.profile, speeds=q.speeds)
        prediction, _ = predict_timed(q.model, found, costs, self._seconds)
        return prediction if prediction.timed else None

    def _seconds(self, outline: Outline) -> Mapping[ShardId, float]:
        if outline.request.strategy in self._untimed:
            return {}
        border = 0.0 if outline.request.strategy in ("single", "replicate") else self._border
        return {part.id: border + LAYER * sum(share for _, share in part.work) for part in outline.parts}


def timed_choice(asked: Question, timer: Timer) -> tuple[Choice, Choice]:
    first = best_for(asked)
    return first, best_by_times(asked, first, timer)


def test_where_shards_take_what_their_layers_take_nothing_changes() -> None:
    asked = question((1.0, 1.0, 1.0))
    timer = Timer(asked, 0.0)
    first, found = timed_choice(asked, timer)
    assert found.request == first.request
    assert found.words == first.words == "All 3 nodes, replicate: 3.00 times what the best node does alone."
    assert found.prediction.timed
    assert found.candidates == first.candidates, "those are still told by sums"
    assert {request.strategy for request in timer.asked} >= {"replicate", "single"}


def test_a_plan_that_is_better_by_what_its_shards_take_is_taken() -> None:
    """The third node is hardly worth its border: by sums it is, by what shards take it is not."""
    asked = question((1.0, 1.0, 0.38), batch=200, room=ROOM)
    timer = Timer(asked, 0.008)
    first, found = timed_choice(asked, timer)
    assert (first.request.strategy, len(first.request.nodes)) == ("pipeline", 3)
    assert (found.request.strategy, len(found.request.nodes)) == ("pipeline", 2)
    assert found.prediction == timer(found.request, lambda _share: None)
    by_times = {request: timer(request, lambda _share: None) for request in (first.request, found.request)}
    assert by_times[first.request].throughput < by_times[found.request].throughput  # type: ignore[union-attr]
    assert found.words.startswith("2 of 3 nodes, pipeline: the third, cat, would ")
    sentence = r"Sums over layers put pipeline on .* first; timed, it does (\S+) items/s, and this (\S+)\."
    said = re.search(sentence, found.words)
    assert said is not None
    assert float(said[1]) == pytest.approx(by_times[first.request].throughput, rel=1e-3)  # type: ignore[union-attr]
    assert float(said[2]) == pytest.approx(found.prediction.throughput, rel=1e-3)


def test_one_node_alone_is_always_among_those_that_are_timed() -> None:
    asked = question((1.0, 1.0, 1.0), "latency")
    first = best_for(asked)
    timer = Timer(asked, 0.2)
    found = best_by_times(asked, first, timer)
    assert first.request.strategy != "single"
    assert found.request.strategy == "single"
    assert found.words.startswith("One node alone is best, ant: ")
    assert ". Sums over layers put tensor on " in found.words
    assert f"and this {1000 * found.prediction.latency_s:.3g} ms." in found.words


def test_only_a_few_are_timed_whatever_there_is() -> None:
    asked = question((1.0, 1.0, 0.2), batch=200, room=ROOM)
    timer = Timer(asked, 0.0)
    timed_choice(asked, timer)
    assert 1 < sum(request.strategy not in ("single", "replicate") for request in timer.asked) <= MOST
    assert len(set(timer.asked)) == len(timer.asked), "each once"


def test_what_cannot_be_timed_leaves_the_choice_as_it_is() -> None:
    asked = question((1.0, 1.0, 1.0))
    first, found = timed_choice(asked, Timer(asked, 0.0, untimed=("replicate",)))
    assert found is first
    memory = question((1.0, 1.0, 1.0), "memory")
    timer = Timer(memory, 0.0)
    first, found = timed_choice(memory, timer)
    assert found is first
    assert timer.asked == [], "times say nothing of memory"


def test_of_cuts_that_sums_like_as_well_the_even_ones_are_timed() -> None:
    """By sums one layer sets the pace, and the others may be cut anywhere; timed, it takes half of that."""
    layers = len(MODEL.layers(200))
    heavy = (0.04, *(0.03 / (layers - 1),) * (layers - 1))
    asked = question((1.0, 1.0, 1.0), batch=200, room=ROOM)
    slow = Links(dict.fromkeys(combinations((WORKSTATION, *NODES), 2), Link(1e-4, 4e7)))  # too slow for tensor
    profile = replace(asked.profile, layer_seconds=heavy, total_seconds=sum(heavy))
    asked = replace(asked, profile=profile, links=slow)
    by_times = (heavy[0] / 2, *heavy[1:])

    class Quicker(Timer):
        def _seconds(self, outline: Outline) -> Mapping[ShardId, float]:
            return {part.id: sum(share * by_times[layer] for layer, share in part.work) for part in outline.parts}

    first, found = timed_choice(asked, Quicker(asked, 0.0))
    assert max(node.compute_s for node in first.prediction.nodes) == pytest.approx(heavy[0], rel=0.01)
    assert (found.request.strategy, len(found.request.nodes)) == ("pipeline", 3)
    assert max(node.compute_s for node in found.prediction.nodes) == pytest.approx(by_times[0], rel=0.01)
    assert found.request in {one.request for one in found.candidates}


def test_a_bound_is_kept_by_what_shards_take() -> None:
    free = question((1.0, 1.0, 0.9), batch=200, room=ROOM)
    shards = best_for(free)
    asked = question((1.0, 1.0, 0.9), batch=200, room=ROOM, bound_s=1.02 * shards.prediction.latency_s)
    first, found = timed_choice(asked, Timer(asked, 0.01))
    assert first.request == shards.request
    assert asked.latency_bound_s is not None
    late = Timer(asked, 0.01)(first.request, lambda _share: None)
    assert late is not None
    assert late.latency_s > asked.latency_bound_s
    if found.request != first.request:
        assert found.prediction.latency_s <= asked.latency_bound_s
        assert "longer than asked for" in found.words
    else:
        assert found.prediction.latency_s == late.latency_s, "whoever asked sees that it is missed"


def test_progress_rises_and_who_is_told_to_stop_stops() -> None:
    asked = question((1.0, 1.0, 1.0), "latency")
    first, shares = best_for(asked), list[float]()
    best_by_times(asked, first, Timer(asked, 0.0), shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0

    def stopped(_request: PlanRequest, _told: Callable[[float], None]) -> Prediction | None:
        raise Cancelled("Timing the shards was stopped.")

    with pytest.raises(Cancelled):
        best_by_times(asked, first, stopped)


def test_one_node_alone_does_all_that_it_can() -> None:
    """However much quicker or slower the whole model is in one shard than its layers were in the profile."""
    asked = question((1.0, 1.0, 1.0))
    costs = Costs(asked.profile, asked.speeds)
    for seconds in (0.05, 0.2):

        def timed(outline: Outline, seconds: float = seconds) -> Mapping[ShardId, float]:
            stages = 1 + max(part.stage for part in outline.parts)
            return {part.id: seconds / stages for part in outline.parts}

        for strategy, nodes in (("single", 1), ("replicate", 3), ("pipeline", 2)):
            own: tuple[NodeId, ...] = NODES[:nodes]
            found = outline_plan(MODEL, PlanRequest(strategy, own, 2), profile=asked.profile)
            told, whole = predict_timed(MODEL, found, costs, timed)
            assert whole == seconds
            assert told.efficiency == pytest.approx(1.0, rel=0.005 if strategy == "single" else 0.03)
            assert told.single_throughput == pytest.approx(2 / seconds, rel=0.02)
