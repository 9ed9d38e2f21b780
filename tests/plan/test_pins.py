"""Layers that a person wants on a certain node: cuts and orders keep them; what cannot be kept is refused in words."""

from __future__ import annotations

from itertools import combinations, permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from core.cost.balance import NEAR_EQUAL, balanced_cuts, estimated_profile
from core.cost.links import UNKNOWN, WORKSTATION, Link, Links
from core.cost.predict import predict
from core.cost.types import Profile
from core.errors import PlanError
from core.plan.auto import best_plan
from core.plan.compile import compile_plan, outline_plan
from core.plan.form import NodeId, PlanRequest
from core.plan.pins import check_pins
from tests.plan.models import chain, node_ids

MODEL = chain(4)
"""Eight layers: product0, relu0, product1, ..."""
A, B, C = NODES = node_ids(3)
NAMES = {A: "ant", B: "bee", C: "cat"}
Pins = tuple[tuple[int, NodeId], ...]


def profile(seconds: list[float]) -> Profile:
    return Profile(MODEL.sha256, 2, 1, tuple(seconds), sum(seconds), base_bytes=1 << 20)


def keeps(nodes: tuple[NodeId, ...], cuts: tuple[int, ...], pins: Pins) -> bool:
    return all(nodes[sum(cut <= layer for cut in cuts)] == node for layer, node in pins)


PINS = st.lists(st.tuples(st.integers(0, 7), st.sampled_from(NODES)), min_size=1, max_size=3, unique_by=lambda p: p[0])
SECONDS = st.lists(st.floats(1e-4, 1e-2), min_size=8, max_size=8)


@given(PINS.map(tuple), SECONDS, st.lists(st.sampled_from([0.5, 1.0, 2.0]), min_size=3, max_size=3))
@settings(max_examples=40, derandomize=True, deadline=None)
def test_the_best_cuts_that_keep_them(pins: Pins, seconds: list[float], speeds: list[float]) -> None:
    known, by_node = profile(seconds), dict(zip(NODES, speeds, strict=True))
    possible = [cuts for cuts in combinations(range(1, 8), 2) if keeps(NODES, cuts, pins)]
    if not possible:
        with pytest.raises(PlanError):
            outline_plan(MODEL, PlanRequest("pipeline", NODES, 2, pins=pins), profile=known, speeds=by_node)
        return
    cuts = balanced_cuts(known, MODEL, speeds, nodes=NODES, pins=pins)
    assert keeps(NODES, cuts, pins)
    rates = {
        one: predict(known, MODEL, PlanRequest("pipeline", NODES, 2, one, pins=pins), by_node).throughput
        for one in possible
    }
    assert rates[cuts] >= max(rates.values()) / NEAR_EQUAL * (1 - 1e-9)


@given(PINS.map(tuple), SECONDS, st.lists(st.sampled_from([0.3, 1.0, 2.0]), min_size=3, max_size=3), st.booleans())
@settings(max_examples=30, derandomize=True, deadline=None)
def test_the_best_order_that_keeps_them(pins: Pins, seconds: list[float], speeds: list[float], plain: bool) -> None:
    known, by_node = profile(seconds), dict(zip(NODES, speeds, strict=True))
    links = UNKNOWN if plain else Links({(WORKSTATION, A): Link(1e-3, 1e6), (A, C): Link(1e-3, 2e6)})
    best = 0.0
    for count in (1, 2, 3):
        for nodes in permutations(NODES, count):
            if not {node for _, node in pins} <= set(nodes):
                continue
            for cuts in combinations(range(1, 8), count - 1):
                if keeps(nodes, cuts, pins):
                    told = predict(known, MODEL, PlanRequest("pipeline", nodes, 2, cuts, pins=pins), by_node, {}, links)
                    best = max(best, told.throughput)
    if best == 0:
        with pytest.raises(PlanError):
            best_plan(MODEL, known, NODES, by_node, {}, links, pins=pins)
        return
    found = best_plan(MODEL, known, NODES, by_node, {}, links, pins=pins)
    assert found.request.pins == pins
    assert keeps(found.request.nodes, found.request.cuts or (), pins)
    assert found.prediction.throughput >= 0.98 * best


def refused(**changed: object) -> PlanError:
    request = replace(PlanRequest("pipeline", NODES, 2, pins=((4, B),)), **changed)
    with pytest.raises(PlanError) as caught:
        check_pins(MODEL, request, NAMES)
    with pytest.raises(PlanError):
        outline_plan(MODEL, request)
    return caught.value


class TestRefused:
    def test_cuts_that_break_a_pin(self) -> None:
        error = refused(cuts=(5, 7))
        assert error.message == "Layer 5 (product2) is pinned to bee; these cuts give it to ant."
        assert "take the pin away" in error.hint
        with pytest.raises(PlanError, match=r"Layer 5 \(product2\) is pinned to node0000; these cuts"):
            predict(estimated_profile(MODEL, 2), MODEL, PlanRequest("pipeline", NODES, 2, (5, 7), pins=((4, B),)), {})

    @pytest.mark.parametrize(
        ("strategy", "why"),
        [
            ("single", "one node runs all of them"),
            ("replicate", "every node runs all of them"),
            ("tensor", "every layer is divided among all nodes"),
            ("spatial", "every layer is divided among all nodes"),
            ("replicate(3) > pipeline(1)", "a layer runs on several nodes"),
        ],
    )
    def test_other_strategies(self, strategy: str, why: str) -> None:
        error = refused(strategy=strategy)
        assert error.message == (
            "Layer 5 (product2) is pinned to bee, but only a pipeline gives a layer to one node: "
            f"with {strategy} {why}."
        )

    def test_an_order_that_contradicts_them(self) -> None:
        error = refused(pins=((1, B), (4, A)))
        assert error.message == (
            "Layer 2 (relu0) is pinned to bee and Layer 5 (product2), which comes later in the model, to ant, which "
            "comes earlier in the pipeline."
        )

    def test_a_node_that_is_not_there(self) -> None:
        error = refused(nodes=(A, C))
        assert error.message == "Layer 5 (product2) is pinned to bee, which is not among this plan's nodes."

    def test_a_layer_that_is_not_there_or_is_there_twice(self) -> None:
        assert refused(pins=((8, A),)).message == "Layer 9 is pinned to ant, but this model has 8 layers."
        assert refused(pins=((4, A), (4, B))).message == "Layer 5 (product2) is pinned to both ant and bee."

    def test_too_few_layers_between_pins(self) -> None:
        with pytest.raises(PlanError, match="cannot be cut into 3 stages that keep the pins"):
            outline_plan(MODEL, PlanRequest("pipeline", NODES, 2, pins=((3, A), (4, C))))


def test_open_cuts_keep_them() -> None:
    made = compile_plan(MODEL, PlanRequest("pipeline", NODES, 2, pins=((0, A), (1, B), (7, C))))
    assert made.plan.request.cuts is not None
    assert keeps(NODES, made.plan.request.cuts, ((0, A), (1, B), (7, C)))
    assert made.plan.request.cuts[0] == 1
