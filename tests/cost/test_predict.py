from __future__ import annotations

import random
from functools import partial

import pytest

from core.cost.messages import IN_FLIGHT, MESSAGE_SECONDS, MessageCosts
from core.cost.nodes import NodeCost
from core.cost.predict import Predictor, balanced_cuts, predict
from core.cost.tables import tables
from core.cost.types import Machine, Profile
from core.errors import PlanError
from core.model.graph import Model
from core.plan.compile import compile_plan
from core.plan.form import CLIENT
from tests.counting import calls_of
from tests.plan.models import WIDTH, chain, node_ids, request, skipping

ROW = WIDTH * 4


def even(model: Model, batch: int = 2, seconds: float = 0.01) -> Profile:
    count = len(model.layers(batch))
    return Profile(model.sha256, batch, 1, (seconds,) * count, seconds * count, base_bytes=50 << 20)


class TestSingleAndReplicate:
    def test_one_node(self) -> None:
        model = chain(5)
        found = predict(even(model), model, request("single", 1), {})
        assert found.throughput == pytest.approx(2 / 0.1, rel=0.01)
        assert found.latency_s == pytest.approx(0.1, rel=0.02)
        assert found.single_throughput == found.throughput
        assert found.efficiency == pytest.approx(1.0, rel=0.01)
        assert found.nodes[0].weight_bytes == 5 * WIDTH * ROW
        assert found.nodes[0].memory_bytes >= (50 << 20) + 5 * WIDTH * ROW
        assert found.notes == ()

    def test_replicas_add_up_by_speed(self) -> None:
        model = chain(5)
        fast, slow = node_ids(2)
        found = predict(even(model), model, request("replicate", 2), {fast: 2.0, slow: 0.5})
        assert found.throughput == pytest.approx(2.5 * 2 / 0.1, rel=0.01)
        assert found.single_throughput == pytest.approx(2 * 2 / 0.1, rel=0.01)
        assert found.single_node == fast
        assert found.bottleneck == slow
        assert found.latency_s == pytest.approx(0.2, rel=0.02)

    def test_a_larger_micro_batch_takes_longer(self) -> None:
        model = chain(5)
        found = predict(even(model, batch=2), model, request("single", 1, batch=8), {})
        assert found.nodes[0].compute_s == pytest.approx(0.4, rel=1e-3)


class TestPipeline:
    def test_the_slowest_stage_sets_the_pace(self) -> None:
        model = chain(5)
        found = predict(even(model), model, request("pipeline", 2, cuts=(4,)), {})
        assert [node.compute_s for node in found.nodes] == pytest.approx([0.04, 0.06], rel=5e-3)
        assert found.throughput == pytest.approx(2 / 0.06, rel=0.01)
        assert found.bottleneck == node_ids(2)[1]
        assert [node.share for node in found.nodes] == pytest.approx([0.667, 1.0], rel=0.01)
        assert found.latency_s == pytest.approx(0.1, rel=0.02)
        assert found.efficiency == pytest.approx(0.1 / 0.12, rel=0.01)

    def test_a_fast_node_shortens_its_stage(self) -> None:
        model = chain(5)
        fast = node_ids(2)[1]
        found = predict(even(model), model, request("pipeline", 2, cuts=(4,)), {fast: 3.0})
        assert found.nodes[1].compute_s == pytest.approx(0.02, rel=1e-2)
        assert found.bottleneck == node_ids(2)[0]

    def test_bytes_and_weights_are_those_of_the_compiled_plan(self) -> None:
        model = skipping()
        for cuts in ((1, 2, 4), (2, 3, 5), (1, 3, 4)):
            asked = request("pipeline", 4, cuts=cuts)
            plan = compile_plan(model, asked).plan
            found = predict(even(model), model, asked, {})
            for shard, node in zip(plan.shards, found.nodes, strict=True):
                assert node.weight_bytes == shard.weight_bytes
                routes = [route for route in plan.routes if route.producer == shard.id]
                assert node.sent_bytes == len(routes) * 2 * ROW
                received = sum(route.consumer == shard.id for route in plan.routes) * 2 * ROW
                waiting = IN_FLIGHT * (received + node.sent_bytes)
                assert node.activation_bytes >= waiting + shard.activation_bytes
            assert any(route.producer == CLIENT and route.consumer == 3 for route in plan.routes)

    def test_open_cuts_are_balanced(self) -> None:
        model = chain(6)
        found = predict(even(model), model, request("pipeline", 3), {})
        assert found.throughput == pytest.approx(2 / 0.04, rel=0.02)

    def test_slower_than_one_node_alone_is_said(self) -> None:
        model = chain(5)
        fast, slow = node_ids(2)
        asked, speeds = request("pipeline", 2, cuts=(5,)), {fast: 1.0, slow: 0.1}
        found = predict(even(model), model, asked, speeds)
        assert found.throughput < found.single_throughput
        assert any("Slower than the best node alone" in note for note in found.notes)
        compiled = compile_plan(model, asked, profile=even(model), speeds=speeds)
        assert found.notes[0] in compiled.plan.notes

    def test_messages_cost_more_than_a_tiny_model(self) -> None:
        model = chain(5)
        found = predict(even(model, seconds=1e-7), model, request("pipeline", 2, cuts=(5,)), {})
        assert found.throughput < 2 / MESSAGE_SECONDS
        assert found.efficiency == pytest.approx(0.5, rel=0.01), "what messages take is every node's own work"

    def test_cuts_that_make_no_sense(self) -> None:
        model = chain(5)
        with pytest.raises(PlanError, match="do not divide"):
            predict(even(model), model, request("pipeline", 2, cuts=(12,)), {})

    def test_unknown_strategy(self) -> None:
        model = chain(5)
        with pytest.raises(PlanError, match="no strategy"):
            predict(even(model), model, request("magic", 2), {})


def test_a_dragged_cut_is_as_little_work_in_a_long_model() -> None:
    """As many layers as GPT-2 has, and twice as many; ``tests.bench.planning`` tells the seconds."""
    work = []
    for matrices in (210, 420):
        model = chain(matrices, width=8)
        known = even(model, 1)
        layers = len(known.layer_seconds)
        assert len(tables(model, 1).cuts) == layers - 1
        predictor = Predictor(known, model, {})
        drawn = [sorted(random.Random(seed).sample(range(1, layers), 7)) for seed in range(10)]
        asked = [request("pipeline", 8, 1, tuple(cuts)) for cuts in drawn]
        predictor.predict(asked[0])
        work.append(max(calls_of(partial(predictor.predict, one)) for one in asked))
        assert len(balanced_cuts(known, model, [1.0] * 8)) == 7
    assert work[1] < 1.2 * work[0]


class TestSharedMachines:
    def test_nodes_of_one_machine_share_its_cores(self) -> None:
        model = chain(5)
        asked, profile = request("replicate", 4), even(model)
        apart = predict(profile, model, asked, {})
        crowded = {node: Machine("lab-pc", cores=2) for node in asked.nodes}
        together = predict(profile, model, asked, {}, crowded)
        assert together.throughput == pytest.approx(apart.throughput / 2, rel=0.02)
        assert any("lab-pc has 2 cores" in note for note in together.notes)
        one_core = {asked.nodes[0]: Machine("lab-pc", cores=1)}
        assert predict(profile, model, asked, {}, one_core) == apart

    def test_a_limited_node_leaves_its_core_to_others(self) -> None:
        model = chain(5)
        asked, profile = request("replicate", 4), even(model)
        halves = dict.fromkeys(asked.nodes, 0.5)
        limited = {node: Machine("lab-pc", cores=2, cpu_limit=0.5) for node in asked.nodes[:2]}
        crowded = {node: Machine("lab-pc", cores=2) for node in asked.nodes[2:]}
        apart = predict(profile, model, asked, halves)
        together = predict(
            profile, model, asked, dict(zip(asked.nodes, (0.5, 0.5, 1, 1), strict=True)), limited | crowded
        )
        whole = predict(profile, model, asked, {}, {node: Machine("lab-pc", cores=2) for node in asked.nodes})
        assert together.throughput == pytest.approx(whole.throughput, rel=0.02)
        assert together.throughput == pytest.approx(apart.throughput, rel=0.02)
        assert together.nodes[0].share < together.nodes[2].share


def test_a_node_rests_for_as_long_as_it_ran_and_not_for_giving_the_run_to_another_thread() -> None:
    messages = MessageCosts(run_s=10e-6, switch_s=100e-6)
    half = NodeCost(speed=0.5, machine=Machine("lab", 1, cpu_limit=0.5))
    full = NodeCost(machine=Machine("lab", 1))
    taken = 200e-6
    assert full.compute_seconds(taken + messages.call_seconds(taken)) == pytest.approx(taken + 10e-6)
    assert half.compute_seconds(taken + messages.call_seconds(taken, 0.5)) == pytest.approx(
        2 * (taken + 10e-6) + 100e-6
    )
