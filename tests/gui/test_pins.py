"""Layers kept on nodes, edges between shares, and estimates while the mouse moves: without Qt's event loop."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from core.cost.types import NodePrediction, Prediction, Profile
from core.plan.division import Division, LayerDivision, NodePart
from core.plan.form import NodeId, PlanRequest, Sha256
from gui.partition_state import PIPELINE, TENSOR, PartitionState
from gui.pins import Kept, clash, fitted, kept, pinned, ranges
from gui.quick_figure import base_of, with_shares
from gui.shares import LEAST, WHOLE, with_edge_at

A, B, C = (NodeId(name) for name in "abc")


def holds(cuts: tuple[int, ...], pins: Kept) -> bool:
    return all(sum(cut <= layer for cut in cuts) == stage for layer, stage in pins)


def test_a_layer_is_kept_on_one_node() -> None:
    pins = pinned(pinned((), 5, B), 2, A)
    assert pins == ((2, A), (5, B))
    assert pinned(pins, 5, C) == ((2, A), (5, C))
    assert pinned(pins, 2, None) == ((5, B),)
    assert kept(pins, (B, A)) == ((2, 1), (5, 0))
    assert kept(pins, (B, C)) == ((5, 0),), "the pin of a node that takes no part waits for it"


@settings(derandomize=True, max_examples=150, deadline=None)
@given(st.data())
def test_pins_and_cuts_against_every_way_to_cut(data: st.DataObject) -> None:
    layers, stages = data.draw(st.integers(3, 9)), data.draw(st.integers(2, 4))
    assume(stages <= layers)
    pins = tuple(
        sorted(data.draw(st.dictionaries(st.integers(0, layers - 1), st.integers(0, stages - 1), max_size=3)).items())
    )
    all_ways = [cuts for cuts in combinations(range(1, layers), stages - 1) if holds(cuts, pins)]
    assert bool(clash(pins, stages, layers)) == (not all_ways)
    if all_ways:
        allowed = ranges(pins, stages, layers)
        for cut, (low, high) in enumerate(allowed):
            assert {ways[cut] for ways in all_ways} == set(range(low, high + 1))
        before = tuple(sorted(data.draw(st.sets(st.integers(1, layers - 1), min_size=stages - 1, max_size=stages - 1))))
        after = fitted(before, pins, layers)
        assert after in all_ways
        assert before not in all_ways or after == before
        assert all(one < other for one, other in pairwise((0, *after, layers)))


def test_the_request_of_a_pipeline_keeps_its_pins_and_no_other() -> None:
    usable = [A, B, C]
    state = PartitionState(strategy=PIPELINE, order=(A, B, C), cuts=(3, 6)).with_pin(4, A, usable, 9)
    assert state.cuts == (5, 6), "the cut moves as little as the pin asks for"
    assert state.request(usable, A) == PlanRequest(PIPELINE, (A, B, C), 1, (5, 6), pins=((4, A),))
    assert state.request(usable, A, TENSOR) == PlanRequest(TENSOR, (A, B, C), 1)
    out = state.toggled(A)
    assert out.request(usable, B) == PlanRequest(PIPELINE, (B, C), 1)
    assert out.toggled(A).pins == ((4, A),)
    assert state.with_pin(4, None, usable, 9).pins == ()
    assert state.for_another_model(1).pins == ()
    assert state.adopted(PlanRequest(PIPELINE, (C, A), 1, (2,), pins=((0, C),))).pins == ((0, C),)


def test_nodes_in_another_order_may_clash_with_pins() -> None:
    usable = [A, B]
    state = PartitionState(strategy=PIPELINE, order=(A, B)).with_pin(1, A, usable, 9).with_pin(7, B, usable, 9)
    assert state.clash(usable, 9) == ()
    assert state.swapped(A, B).clash(usable, 9) == ((1, A), (7, B))


# ---------------------------------------------------------------- shares


def test_an_edge_moves_work_between_two_nodes_only() -> None:
    percents = {A: 36, B: 50, C: 14}
    assert with_edge_at(percents, A, 40) == ({A: 40, B: 46, C: 14}, None)
    assert with_edge_at(percents, B, 20) == ({A: 36, B: 20, C: 44}, None)
    assert with_edge_at(percents, A, 99) == ({A: 85, B: 1, C: 14}, B)
    assert with_edge_at(percents, A, -3) == ({A: 1, B: 85, C: 14}, A)


@settings(derandomize=True, max_examples=60)
@given(st.integers(1, 98), st.integers(-50, 150))
def test_shares_beside_an_edge_add_up(first: int, wanted: int) -> None:
    after, starved = with_edge_at({A: first, B: 99 - first, C: 1}, A, wanted)
    assert sum(after.values()) == WHOLE
    assert min(after.values()) >= LEAST
    assert (starved is None) == (after[A] == wanted)


# ---------------------------------------------------------------- estimates


def predicted(*seconds: float) -> Prediction:
    nodes = tuple(NodePrediction(node, took, 1, 1, 1, 1, 1.0) for node, took in zip((A, B), seconds, strict=False))
    return Prediction(10.0, 0.1, nodes, A, 0.5, 8.0, A)


def halves(kind: str = "columns") -> LayerDivision:
    ranges_of = {A: ((0, 4),), B: ((4, 8),)} if kind == "columns" else {A: None, B: None}
    share = 0.5 if kind == "columns" else 1.0
    return LayerDivision(0, kind, 1, tuple(NodePart(node, 0, 0, share, ranges_of[node]) for node in (A, B)))


def test_an_estimate_grows_with_the_share_of_what_is_divided() -> None:
    profile = Profile(Sha256("0" * 64), 1, 1, (0.2,), 0.2)
    base = base_of(predicted(0.1, 0.1), Division((halves(),), (), 1.0), profile, {A: 50, B: 50})
    assert with_shares(base, {A: 50, B: 50}).throughput == pytest.approx(10.0)
    told = with_shares(base, {A: 75, B: 25})
    assert [node.compute_s for node in told.nodes] == pytest.approx([0.15, 0.05])
    assert told.throughput == pytest.approx(10 / 1.5)
    assert told.latency_s == pytest.approx(0.15)
    assert told.bottleneck == A


def test_what_every_node_runs_in_full_does_not_change() -> None:
    profile = Profile(Sha256("0" * 64), 1, 1, (0.1,), 0.1)
    base = base_of(predicted(0.1, 0.1), Division((halves("replicated"),), (), 0.0), profile, {A: 50, B: 50})
    told = with_shares(base, {A: 90, B: 10})
    assert told.throughput == pytest.approx(10.0)
    assert [node.compute_s for node in told.nodes] == pytest.approx([0.1, 0.1])
