"""One cut placed while the others stay, against every position it could take."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.cost.one_cut import NEAR_EQUAL, place_cut
from core.cost.predict import predict
from core.cost.types import Profile
from core.errors import PlanError
from core.plan.form import NodeId, PlanRequest
from tests.plan.models import chain

CHAIN = chain(5)
"""Of ten layers."""
A, B, C = (NodeId(letter * 40) for letter in "abc")


def profile(seconds: list[float]) -> Profile:
    return Profile(CHAIN.sha256, 2, 1, tuple(seconds), sum(seconds))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    seconds=st.lists(st.floats(1e-4, 1.0), min_size=10, max_size=10),
    speeds=st.lists(st.floats(0.1, 8.0), min_size=3, max_size=3),
    cuts=st.sets(st.integers(1, 9), min_size=2, max_size=2),
    index=st.integers(0, 1),
)
def test_no_position_is_clearly_better(seconds: list[float], speeds: list[float], cuts: set[int], index: int) -> None:
    known, before = profile(seconds), tuple(sorted(cuts))
    request = PlanRequest("pipeline", (A, B, C), 2, before)
    fast = dict(zip((A, B, C), speeds, strict=True))
    placed = place_cut(known, CHAIN, request, index, fast)
    assert placed[1 - index] == before[1 - index], "the other cut stays"
    edges = (0, *before, 10)
    everywhere = range(edges[index] + 1, edges[index + 2])
    best = max(
        predict(known, CHAIN, PlanRequest("pipeline", (A, B, C), 2, tuple(cuts)), fast).throughput
        for position in everywhere
        if (cuts := [*before[:index], position, *before[index + 1 :]])
    )
    reached = predict(known, CHAIN, PlanRequest("pipeline", (A, B, C), 2, placed), fast).throughput
    assert reached * NEAR_EQUAL * (1 + 1e-9) >= best


def test_where_another_stage_is_the_bottleneck_the_two_beside_the_cut_are_evened() -> None:
    known = profile([0.01] * 6 + [1.0] * 4)
    request = PlanRequest("pipeline", (A, B, C), 2, (1, 6))
    assert place_cut(known, CHAIN, request, 0, {}) == (3, 6)


def test_pins_bound_it_and_may_leave_nothing() -> None:
    known = profile([0.1] * 10)
    request = PlanRequest("pipeline", (A, B), 2, (2,), pins=((7, A),))
    assert place_cut(known, CHAIN, request, 0, {}) == (8,)
    assert place_cut(known, CHAIN, PlanRequest("pipeline", (A, B), 2, (8,), pins=((3, B),)), 0, {}) == (3,)
    with pytest.raises(PlanError, match="no position"):
        place_cut(known, CHAIN, PlanRequest("pipeline", (A, B), 2, (5,), pins=((7, A), (3, B))), 0, {})
    with pytest.raises(PlanError, match="no such cut"):
        place_cut(known, CHAIN, request, 1, {})


def test_stages_stay_in_order() -> None:
    known = profile([0.1] * 10)
    placed = place_cut(known, CHAIN, PlanRequest("pipeline", (A, B, C), 2, (4, 5)), 1, {})
    assert all(one < other for one, other in pairwise((0, *placed, 10)))
