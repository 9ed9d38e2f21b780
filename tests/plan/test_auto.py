"""The planner against brute force by the same predictor; its words; what does not fit."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from itertools import combinations, permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.cost.balance import estimated_profile
from core.cost.dataflow import predict_outline
from core.cost.links import UNKNOWN, WORKSTATION, Link, Links
from core.cost.predict import predict
from core.cost.types import Machine, Prediction, Profile
from core.errors import Cancelled, DoesNotFitError, PlacementError, PlanError
from core.model.graph import Model
from core.model.library import open_entry
from core.plan.auto import Choice, Objective, best_plan
from core.plan.compile import compile_plan, outline_plan
from core.plan.form import NodeId, PlanRequest
from tests.counting import Asked
from tests.plan.models import chain, node_ids, skipping

NODES = node_ids(3)
NAMES = dict(zip(NODES, ("ant", "bee", "cat"), strict=True))
MBIT100 = Link(3e-4, 12.5e6)
GBIT = Link(1e-4, 125e6)
SMALL = [chain(4), chain(3), skipping()]
LINKS = [Link(), GBIT, MBIT100, Link(2e-3, 1e6)]
BESIDE = "replicate(2) > pipeline(2)"


def timed(model: Model, seconds: list[float], batch: int = 2) -> Profile:
    known = tuple(seconds[: len(model.layers(batch))])
    return Profile(model.sha256, batch, 1, known, sum(known), base_bytes=1 << 20)


def worth(told: Prediction, objective: Objective) -> float:
    """More is better."""
    match objective:
        case "throughput":
            return told.throughput
        case "latency":
            return 1 / told.latency_s
        case "memory":
            return 1 / max(node.memory_bytes for node in told.nodes)


def by_force(
    model: Model,
    profile: Profile,
    nodes: tuple[NodeId, ...],
    speeds: Mapping[NodeId, float],
    machines: Mapping[NodeId, Machine],
    links: Links,
    limits: Mapping[NodeId, int],
    objective: Objective,
    bound: float | None = None,
) -> float:
    """The best of every subset, order and cut, also side by side; 0 when nothing fits, or keeps the bound."""
    layers = len(model.layers(profile.batch))
    requests = [PlanRequest("single", (node,), profile.batch) for node in nodes]
    for count in range(2, len(nodes) + 1):
        requests += [PlanRequest("replicate", own, profile.batch) for own in combinations(nodes, count)]
        requests += [
            PlanRequest("pipeline", order, profile.batch, cuts)
            for order in permutations(nodes, count)
            for cuts in combinations(range(1, layers), count - 1)
        ]
    for order in permutations(nodes, 4):
        if order[0] < order[2]:
            requests += [PlanRequest(BESIDE, order, profile.batch, (cut,)) for cut in range(1, layers)]
    best = 0.0
    for request in requests:
        try:
            told = predict(profile, model, request, speeds, machines, links)
        except PlanError:
            continue  # a stage would have nothing to do
        fits = all(use.memory_bytes <= limits.get(use.node, use.memory_bytes) for use in told.nodes)
        if fits and (bound is None or told.latency_s <= bound):
            best = max(best, worth(told, objective))
    return best


@given(
    st.sampled_from(SMALL),
    st.lists(st.floats(1e-5, 3e-3), min_size=8, max_size=8),
    st.lists(st.sampled_from([0.2, 0.5, 0.9, 1.0, 1.7]), min_size=3, max_size=3),
    st.lists(st.sampled_from(LINKS), min_size=6, max_size=6),
    st.booleans(),
    st.sampled_from(["throughput", "latency", "memory"]),
    st.sampled_from([None, 5000, 8000]),
    st.sampled_from([None, 1, 2]),
)
@settings(max_examples=40, derandomize=True, deadline=None)
def test_brute_force_finds_nothing_better(
    model: Model,
    seconds: list[float],
    speeds: list[float],
    found_links: list[Link],
    plain: bool,
    objective: Objective,
    room: int | None,
    cores: int | None,
) -> None:
    profile = timed(model, seconds)
    known = dict(zip(NODES, speeds, strict=True))
    pairs = combinations((WORKSTATION, *NODES), 2)
    links = UNKNOWN if plain else Links(dict(zip(pairs, found_links, strict=True)))
    machines = {node: Machine("lab", cores) for node in NODES[:2]} if cores is not None else {}
    limits = dict.fromkeys(NODES, (1 << 20) + room) if room is not None else {}
    best = by_force(model, profile, NODES, known, machines, links, limits, objective)
    if best == 0:
        with pytest.raises(DoesNotFitError):
            best_plan(model, profile, NODES, known, machines, links, limits, objective)
        return
    choice = best_plan(model, profile, NODES, known, machines, links, limits, objective)
    assert worth(choice.prediction, objective) >= 0.98 * best
    for use in choice.prediction.nodes:
        assert use.memory_bytes <= limits.get(use.node, use.memory_bytes)


@given(
    st.lists(st.floats(1e-5, 3e-3), min_size=6, max_size=6),
    st.lists(st.sampled_from([0.2, 0.5, 0.9, 1.0, 1.7]), min_size=5, max_size=5),
    st.lists(st.sampled_from(LINKS), min_size=15, max_size=15),
    st.booleans(),
    st.integers(4, 5),
    st.sampled_from(["throughput", "latency", "memory", "bound"]),
    st.booleans(),
)
@settings(max_examples=8, derandomize=True, deadline=None)
def test_brute_force_on_more_nodes(
    seconds: list[float],
    speeds: list[float],
    found_links: list[Link],
    plain: bool,
    count: int,
    aim: str,
    tight: bool,
) -> None:
    model, nodes = chain(3 if count == 4 else 2), node_ids(count)
    profile = timed(model, seconds)
    known = dict(zip(nodes, speeds, strict=False))
    pairs = combinations((WORKSTATION, *nodes), 2)
    links = UNKNOWN if plain else Links(dict(zip(pairs, found_links, strict=False)))
    limits = dict.fromkeys(nodes, (1 << 20) + 6000) if tight else {}
    objective: Objective = "throughput" if aim == "bound" else aim  # type: ignore[assignment]
    bound = None
    if aim == "bound":
        bound = 1.3 / by_force(model, profile, nodes, known, {}, links, limits, "latency")
    best = by_force(model, profile, nodes, known, {}, links, limits, objective, bound)
    choice = best_plan(model, profile, nodes, known, {}, links, limits, objective, latency_bound_s=bound)
    assert worth(choice.prediction, objective) >= 0.98 * best
    assert bound is None or choice.prediction.latency_s <= bound


@pytest.mark.parametrize("objective", ["throughput", "latency", "memory"])
def test_no_group_of_any_order_is_better(objective: Objective) -> None:
    """Tensor, spatial and nested groups against every subset and order, each worked out and played."""
    model, nodes = open_entry("digits-cnn"), node_ids(3)
    once = estimated_profile(model, 16)
    profile = timed(model, [40 * seconds for seconds in once.layer_seconds], 16)
    speeds = dict(zip(nodes, (1.0, 0.5, 2.0), strict=True))
    links = Links({(WORKSTATION, nodes[0]): GBIT, (nodes[0], nodes[2]): GBIT, (nodes[1], nodes[2]): MBIT100})
    best = 0.0
    for count in (1, 2, 3):
        for order in permutations(nodes, count):
            for strategy in ("single",) if count == 1 else ("replicate", "pipeline", "tensor", "spatial"):
                request = PlanRequest(strategy, order, 16)
                try:
                    made = outline_plan(model, request, profile=profile, speeds=speeds, links=links)
                except PlanError:
                    continue  # a rank would have nothing to do
                best = max(best, worth(predict_outline(profile, made, model, speeds, {}, links), objective))
    found = best_plan(model, profile, nodes, speeds, {}, links, {}, objective)
    assert worth(found.prediction, objective) >= 0.98 * best


def asked(
    model: Model,
    profile: Profile,
    count: int = 3,
    speeds: tuple[float, ...] = (1.0, 1.0, 1.0),
    links: Links = UNKNOWN,
    limits: Mapping[NodeId, int] | None = None,
    objective: Objective = "throughput",
    **more: float,
) -> Choice:
    nodes = node_ids(count)
    known = dict(zip(nodes, speeds, strict=False))
    return best_plan(model, profile, nodes, known, {}, links, limits or {}, objective, names=NAMES, **more)  # type: ignore[arg-type]


class TestWords:
    def test_a_node_behind_a_slow_link_is_left_out(self) -> None:
        """No node has room for the whole model, so that replicas are not possible."""
        model = chain(6, width=400)
        profile = timed(model, [0.01] * 12, batch=200)
        fast = dict.fromkeys(combinations((WORKSTATION, *NODES[:2]), 2), GBIT)
        links = Links(fast | {(other, NODES[2]): Link(3e-4, 2e6) for other in (WORKSTATION, *NODES[:2])})
        limits = dict.fromkeys(NODES, (1 << 20) + 5_000_000)
        found = asked(model, profile, links=links, limits=limits)
        assert set(found.request.nodes) == set(NODES[:2])
        assert found.words.startswith("2 of 3 nodes, pipeline: the third, cat, would cost ")
        assert found.words.endswith(" % because of its 16 Mbit/s link.")

    def test_a_node_that_is_held_to_a_slow_line(self) -> None:
        """Its --link-limit, on a network that is fast."""
        model = chain(6, width=400)
        profile = timed(model, [0.01] * 12, batch=200)
        machines = {node: Machine(f"machine {node}", 1) for node in NODES[:2]}
        machines[NODES[2]] = Machine("slow", 1, link_limit=16_000_000)
        limits = dict.fromkeys(NODES, (1 << 20) + 5_000_000)
        speeds = dict.fromkeys(NODES, 1.0)
        found = best_plan(model, profile, NODES, speeds, machines, UNKNOWN, limits, names=NAMES)
        assert set(found.request.nodes) == set(NODES[:2])
        assert found.words.startswith("2 of 3 nodes, pipeline: the third, cat, would cost ")
        assert found.words.endswith(" % because of its 16 Mbit/s link.")

    def test_one_node_alone(self) -> None:
        model = chain(4)
        found = asked(model, timed(model, [1e-6] * 8), links=Links(default=Link(1e-2, 1e6)), objective="latency")
        assert found.request.strategy == "single"
        assert found.words.startswith("One node alone is best, ant: the second")
        assert "would take" in found.words

    def test_all_nodes(self) -> None:
        model = chain(4)
        found = asked(model, timed(model, [0.01] * 8))
        assert found.request.strategy == "replicate"
        assert found.words == "All 3 nodes, replicate: 3.00 times what the best node does alone."

    def test_the_workstations_link_is_the_limit(self) -> None:
        model = chain(2, width=1000)
        found = asked(model, timed(model, [1e-4] * 4, batch=100), links=Links(default=MBIT100))
        assert "would bring nothing because of the workstation's 100 Mbit/s link" in found.words
        assert len(found.request.nodes) < 3

    def test_the_only_node(self) -> None:
        model = chain(4)
        assert asked(model, timed(model, [0.01] * 8), count=1).words == "ant is the only node."


class TestLimits:
    MODEL = chain(4, width=200)
    """Four matrices of 160 kB."""
    PROFILE = timed(MODEL, [0.01] * 8)

    def test_a_model_that_fits_no_node_is_cut(self) -> None:
        limits = dict.fromkeys(NODES, (1 << 20) + 400_000)
        found = asked(self.MODEL, self.PROFILE, limits=limits)
        assert found.request.strategy in {"pipeline", "tensor"}
        assert any(one.lacking for one in found.candidates)
        lacking = [bool(one.lacking) for one in found.candidates]
        assert lacking == sorted(lacking)

    def test_nothing_fits(self) -> None:
        limits = dict(zip(NODES, ((1 << 20) + 100_000, 1 << 20, 1 << 20), strict=True))
        with pytest.raises(DoesNotFitError) as caught:
            asked(self.MODEL, self.PROFILE, limits=limits)
        assert "fits in no way. Nearest to it comes" in caught.value.message
        assert "ant would need 1.62 MiB, 539 KiB more than its limit of 1.10 MiB" in caught.value.message
        assert caught.value.missed is not None
        assert caught.value.missed[0] >> 10 == 539
        assert "of ant by 539 KiB higher, single on 1 of 3 nodes fits. Or add a node." in caught.value.hint

    def test_smaller_micro_batches_would_fit(self) -> None:
        profile = timed(chain(2), [0.01] * 4, batch=4096)
        with pytest.raises(DoesNotFitError) as caught:
            asked(chain(2), profile, limits=dict.fromkeys(NODES, (1 << 20) + 10_000))
        assert caught.value.hint.startswith("With micro-batches of 1 it fits: ")

    def test_a_bound_on_the_latency(self) -> None:
        profile = timed(self.MODEL, [0.01] * 8)
        slow = (1.0, 1.0, 0.2)
        every = asked(self.MODEL, profile, speeds=slow)
        assert set(every.request.nodes) == set(NODES)
        bound = asked(self.MODEL, profile, speeds=slow, latency_bound_s=0.1)
        assert bound.prediction.latency_s <= 0.1
        assert bound.prediction.throughput < every.prediction.throughput
        with pytest.raises(
            PlacementError, match=r"No plan answers within 1 ms: the quickest, .* on .* takes "
        ) as caught:
            asked(self.MODEL, profile, latency_bound_s=0.001)
        assert caught.value.hint.startswith("Even micro-batches of 1 item take ")
        single = min(one.prediction.latency_s for one in asked(self.MODEL, profile, micro_batch=1).candidates)
        with pytest.raises(PlacementError) as caught:
            asked(self.MODEL, profile, latency_bound_s=1.01 * single)
        assert caught.value.hint.startswith("With micro-batches of 1 item it is done: ")


def test_the_plan_can_be_made() -> None:
    for objective in ("throughput", "latency", "memory"):
        model = open_entry("digits-cnn")
        profile = estimated_profile(model, 4)
        found = asked(model, profile, objective=objective)  # type: ignore[arg-type]
        kinds = {one.request.strategy for one in found.candidates}
        assert {"single", "replicate", "pipeline", "tensor", "spatial"} <= kinds
        assert compile_plan(model, found.request, profile=profile).plan.request == found.request
        again = asked(model, profile, objective=objective)  # type: ignore[arg-type]
        assert (again.request, again.words, len(again.candidates)) == (
            found.request,
            found.words,
            len(found.candidates),
        )


def test_replicas_of_pipelines_where_no_node_has_room() -> None:
    model, nodes = chain(4, width=200), node_ids(4)
    profile = timed(model, [0.01] * 8)
    limits = dict.fromkeys(nodes, (1 << 20) + 400_000)
    found = best_plan(model, profile, nodes, {}, {}, UNKNOWN, limits)
    kinds = {one.request.strategy for one in found.candidates if not one.lacking}
    assert "replicate(2) > pipeline(2)" in kinds
    assert set(found.request.nodes) == set(nodes)
    assert outline_plan(model, found.request, profile=profile).request.nodes == found.request.nodes


def test_stopped() -> None:
    model, stop = chain(4), threading.Event()
    stop.set()
    with pytest.raises(Cancelled):
        best_plan(model, timed(model, [0.01] * 8), NODES, {}, cancel=stop)


def test_sixteen_nodes_of_different_speeds_and_links() -> None:
    """A graph with as many layers as GPT-2; ``tests.bench.planning`` tells the seconds."""
    model, nodes = chain(210, width=16), node_ids(16)
    profile = timed(model, [1e-3] * 420, batch=1)
    speeds = {node: 1.0 - 0.03 * index for index, node in enumerate(nodes)}
    pairs = combinations((WORKSTATION, *nodes), 2)
    links = Links({pair: Link(1e-4, (1 + index % 3) * 12.5e6) for index, pair in enumerate(pairs)})
    asked = Asked()
    found = best_plan(model, profile, nodes, speeds, {}, links, cancel=asked)
    assert len(found.candidates) < asked.count < 400, "it is asked before every prediction"
    assert set(found.request.nodes) == set(nodes)
    assert found.prediction.throughput > 0.9 * sum(speeds.values()) / 0.42
