"""Nestings and shares, without Qt."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import PlanError
from core.plan.form import NodeId, PlanRequest
from core.plan.strategy_text import parse_strategy
from gui import nestings
from gui.partition_state import HYBRID, SPATIAL, TENSOR, PartitionState, card_of
from gui.shares import LEAST, WHOLE, by_speed, in_percent, settled, with_one_at

A, B, C, D, E = (NodeId(name) for name in "abcde")


# ---------------------------------------------------------------- shares


def test_shares_follow_the_speeds() -> None:
    assert by_speed([A, B], {A: 1.0, B: 3.0}) == {A: 25, B: 75}
    assert by_speed([A, B, C], {}) == {A: 34, B: 33, C: 33}


@settings(derandomize=True, max_examples=60)
@given(st.lists(st.integers(1, 98), min_size=2, max_size=6), st.integers(0, 5), st.integers(-20, 140))
def test_shares_always_add_up(weights: list[int], place: int, wanted: int) -> None:
    nodes = [NodeId(str(i)) for i in range(len(weights))]
    before = by_speed(nodes, dict(zip(nodes, map(float, weights), strict=True)))
    changed = nodes[place % len(nodes)]
    after = with_one_at(before, changed, wanted)
    assert sum(after.values()) == WHOLE
    assert min(after.values()) >= LEAST
    assert list(after) == nodes
    if LEAST <= wanted <= WHOLE - LEAST * (len(nodes) - 1):
        assert after[changed] == wanted


def test_the_others_keep_their_proportions() -> None:
    assert with_one_at({A: 50, B: 40, C: 10}, A, 25) == {A: 25, B: 60, C: 15}
    assert with_one_at({A: 100}, A, 30) == {A: 100}


def test_shares_are_asked_for_only_where_every_group_adds_up() -> None:
    shares = ((A, 0.25), (B, 0.75), (C, 0.5), (D, 0.5))
    assert settled(shares, [(A, B), (C, D)]) == (0.25, 0.75, 0.5, 0.5)
    assert settled(shares, [(B, A)]) == (0.75, 0.25)
    assert settled(shares, [(A, C), (B, D)]) is None
    assert settled(shares, [(A, B), (C, E)]) is None
    assert settled(None, [(A, B)]) is None
    assert in_percent((C, D), shares) == {C: 50, D: 50}


# ---------------------------------------------------------------- nestings


@pytest.mark.parametrize("count", range(1, 17))
def test_what_is_offered_can_be_read_and_fits(count: int) -> None:
    offered = nestings.fitting(count)
    assert bool(offered) == (count >= 4)
    assert len(set(offered)) == len(offered)
    nodes = [NodeId(str(i)) for i in range(count)]
    for text in offered:
        nesting = nestings.settle(text, nodes, {})
        assert nesting.text == text
        assert len(nesting.levels) >= 2
        assert parse_strategy(text, len(nesting.nodes)).levels == nesting.levels


def test_four_nodes_are_nested_in_pairs() -> None:
    assert nestings.fitting(4)[0] == "replicate(2) > tensor(2)"
    assert "pipeline(2) > spatial(2)" in nestings.fitting(4)
    assert nestings.fitting(5) == nestings.fitting(4)
    assert "replicate(2) > pipeline(2) > tensor(2)" in nestings.fitting(8)


def test_groups_and_places() -> None:
    nesting = nestings.settle("replicate(2) > pipeline > tensor(2)", [NodeId(n) for n in "abcdefgh"], {})
    assert nesting.groups == (("a", "b"), ("c", "d"), ("e", "f"), ("g", "h"))
    assert nesting.place(5) == (("replicate", 1), ("pipeline", 0), ("tensor", 1))
    assert nestings.settle("tensor", [A, B, C], {}).groups == ((A, B, C),)
    assert nestings.settle("replicate(2) > pipeline(2)", [A, B, C, D], {}).groups == ((A,), (B,), (C,), (D,))


def test_a_text_may_name_its_nodes() -> None:
    names = {A: "one", B: "two", C: "three", D: "four"}
    nesting = nestings.settle("pipeline(2) > tensor(2) @ four, three, two, one", [A, B, C, D], names)
    assert nesting.nodes == (D, C, B, A)
    assert nesting.text == "pipeline(2) > tensor(2)"
    with pytest.raises(PlanError, match="no node called five"):
        nestings.settle("pipeline(2) > tensor(2) @ five, three, two, one", [A, B, C, D], names)


# ---------------------------------------------------------------- what is asked for


def test_requests_of_strategies_that_divide_layers() -> None:
    usable = [A, B, C, D]
    state = PartitionState(order=(A, B, C, D), micro_batch=2, tensor_axis="rows", spatial_axis="columns")
    assert state.request(usable, A, TENSOR) == PlanRequest(TENSOR, (A, B, C, D), 2, tensor_axis="rows")
    assert state.request(usable, A, SPATIAL) == PlanRequest(SPATIAL, (A, B, C, D), 2, spatial_axis="columns")
    assert state.request(usable, A, HYBRID) == PlanRequest(
        "replicate(2) > tensor(2)", (A, B, C, D), 2, tensor_axis="rows"
    )
    assert state.request([A], A, TENSOR) is None
    assert state.request([A, B, C], A, HYBRID) is None
    five = state.seen([E])
    asked = five.request([A, B, C, D, E], A, HYBRID)
    assert asked is not None
    assert asked.nodes == (A, B, C, D)


def test_shares_go_with_the_nodes_and_go_when_others_come() -> None:
    state = PartitionState(order=(A, B), shares=((A, 0.3), (B, 0.7)))
    assert state.request([A, B], A, TENSOR) == PlanRequest(TENSOR, (A, B), 1, shares=(0.3, 0.7))
    swapped = state.swapped(A, B)
    assert swapped.request([A, B], A, TENSOR) == PlanRequest(TENSOR, (B, A), 1, shares=(0.7, 0.3))
    assert state.seen([C]).request([A, B, C], A, TENSOR) == PlanRequest(TENSOR, (A, B, C), 1)
    assert state.toggled(B).shares is None


def test_a_wrong_text_says_where() -> None:
    state = PartitionState(order=(A, B, C, D)).with_nesting("replicate(2) > tensr(2)")
    with pytest.raises(PlanError) as raised:
        state.request([A, B, C, D], A)
    assert "Did you mean tensor?" in str(raised.value)
    assert "^^^^^" in raised.value.message


def test_an_earlier_request_is_taken_over_whole() -> None:
    state = PartitionState(order=(A, B, C, D, E))
    for request in (
        PlanRequest("pipeline(2) > tensor(2)", (D, B, A, C), 3, tensor_axis="columns", shares=(0.5, 0.5, 0.25, 0.75)),
        PlanRequest(TENSOR, (B, A), 3, tensor_axis="rows"),
        PlanRequest(SPATIAL, (B, A), 3, spatial_axis="columns", shares=(0.25, 0.75)),
        PlanRequest("pipeline", (B, A, C), 3, cuts=(2, 5)),
        PlanRequest("single", (C,), 3),
    ):
        adopted = state.adopted(request)
        assert adopted.strategy == card_of(request.strategy)
        assert adopted.request([A, B, C, D, E], E) == request
