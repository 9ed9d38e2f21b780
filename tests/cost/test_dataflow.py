"""Plans written by hand, as dataflows of shards; and the same figures as ``predict`` where that knows the strategy."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from onnx import TensorProto, helper, numpy_helper

from core.cost.balance import balanced_cuts, estimated_profile
from core.cost.dataflow import _Shards, predict_outline
from core.cost.loads import setting_of
from core.cost.memory import ARENA, WORKING_BYTES
from core.cost.messages import HOP_SECONDS, IN_FLIGHT, MESSAGE_SECONDS, RUN_SECONDS, SEND_SECONDS, SWITCH_SECONDS
from core.cost.network import network_of
from core.cost.predict import predict
from core.cost.simulation import _Play, rates
from core.cost.types import Machine, NodePrediction, Prediction, Profile
from core.cost.verdict import loaded_latency
from core.errors import PlanError
from core.model.graph import Model
from core.model.library import open_entry
from core.plan.compile import outline_plan
from core.plan.form import CLIENT, Route, ShardId
from core.plan.outline import Outline, Part
from core.plan.program import Constant, Op, Program, TensorType
from core.run.credit import PER_STAGE
from tests.cost.outlines import joined, part
from tests.counting import calls_of
from tests.plan.models import build, chain, node_ids, request, skipping, to_model

MESSAGE, HOP, CALL = MESSAGE_SECONDS, HOP_SECONDS, RUN_SECONDS + SWITCH_SECONDS
LAYER = 0.01


def even(model: Model, batch: int = 1, seconds: float = LAYER) -> Profile:
    count = len(model.layers(batch))
    return Profile(model.sha256, batch, 1, (seconds,) * count, seconds * count, base_bytes=50 << 20)


MODEL = chain(2)
"""Four layers."""
PROFILE = even(MODEL)


def found(outline: Outline, speeds: Sequence[float] = (), **known: Machine) -> Prediction:
    ids = node_ids(len(outline.request.nodes))
    machines = {ids[int(name[1:])]: machine for name, machine in known.items()}
    return predict_outline(PROFILE, outline, MODEL, dict(zip(ids, speeds, strict=False)), machines)


def group(first: Sequence[float], second: Sequence[float] | None = None, nbytes: int = 0) -> Outline:
    """Ranks that do these shares of layers 0 and 1, exchange, and do these of layers 2 and 3."""
    ranks, second = len(first), second or first
    parts = [part(rank, rank, {0: share, 1: share}) for rank, share in enumerate(first)]
    parts += [part(ranks + rank, rank, {2: share, 3: share}) for rank, share in enumerate(second)]
    traffic = [(-1, rank, nbytes) for rank in range(ranks)]
    traffic += [(rank, ranks + other, nbytes) for rank in range(ranks) for other in range(ranks)]
    traffic += [(ranks + rank, -1, nbytes) for rank in range(ranks)]
    return joined(ranks, parts, traffic)


class TestByHand:
    def test_one_shard(self) -> None:
        alone = found(joined(1, [part(0, 0, dict.fromkeys(range(4), 1.0))], [(-1, 0, 1000), (0, -1, 500)]))
        own = 4 * LAYER + CALL + 2 * MESSAGE + SEND_SECONDS * 1500
        assert alone.latency_s == pytest.approx(own + 2 * MESSAGE + SEND_SECONDS * 1500 + 2 * HOP)
        assert alone.throughput == pytest.approx(1 / own, rel=1e-3)
        node = alone.nodes[0]
        assert node.compute_s == pytest.approx(4 * LAYER + CALL)
        assert node.receive_s == pytest.approx(MESSAGE + SEND_SECONDS * 1000)
        assert node.send_s == pytest.approx(MESSAGE + SEND_SECONDS * 500)
        assert node.share == pytest.approx(1)
        assert node.wait_s == pytest.approx(0, abs=1e-9)
        assert node.sent_bytes == 500

    def test_two_leaves_that_exchange(self) -> None:
        """The client's second message, the exchange and the second result wait for each other, one message each."""
        both = found(group((0.5, 0.5)))
        run = LAYER + CALL
        assert both.latency_s == pytest.approx(2 * run + 8 * MESSAGE + 2 * HOP)
        assert both.throughput == pytest.approx(1 / (2 * run + 4 * MESSAGE), rel=1e-3)
        assert [node.compute_s for node in both.nodes] == pytest.approx([2 * run] * 2)
        assert [node.share for node in both.nodes] == pytest.approx([1, 1], rel=1e-3)
        assert 0.9 < both.efficiency < 1
        assert both.notes == ()

    def test_what_a_rank_hands_itself_costs_nothing(self) -> None:
        split = [part(0, 0, {0: 1, 1: 1}), part(1, 0, {2: 1, 3: 1})]
        apart = found(joined(1, split, [(-1, 0, 10), (0, 1, 1 << 20), (1, -1, 10)]))
        whole = found(joined(1, [part(0, 0, dict.fromkeys(range(4), 1.0))], [(-1, 0, 10), (0, -1, 10)]))
        assert apart.latency_s == pytest.approx(whole.latency_s + CALL)
        assert apart.nodes[0].sent_bytes == 10
        # while one of its shards runs, the node holds that one's input or output, not both
        more = ARENA * 2 * ((1 << 20) - 10)
        assert apart.nodes[0].activation_bytes == pytest.approx(whole.nodes[0].activation_bytes + more, abs=1)

    def test_tensors_of_one_shard_for_another_travel_together(self) -> None:
        line = [part(0, 0, {0: 1, 1: 1}, stage=0), part(1, 1, {2: 1, 3: 1}, stage=1)]
        ends = [(-1, 0, 8), (1, -1, 8)]
        together = found(joined(2, line, [*ends, (0, 1, 600), (0, 1, 400)]))
        assert together == found(joined(2, line, [*ends, (0, 1, 1000)]))
        assert together.nodes[0].send_s == pytest.approx(MESSAGE + SEND_SECONDS * 1000)

    def test_a_slow_rank_keeps_the_others_waiting(self) -> None:
        """Halves on nodes of speed 2 and 1; then shares by speed."""
        halves, by_speed = found(group((0.5, 0.5)), (2, 1)), found(group((2 / 3, 1 / 3)), (2, 1))
        slow, fast = halves.nodes[1], halves.nodes[0]
        assert halves.bottleneck == node_ids(2)[1]
        assert slow.share == pytest.approx(1, rel=1e-3)
        assert fast.share == pytest.approx(0.5, rel=0.02)
        assert fast.wait_s == pytest.approx(1 / halves.throughput - fast.compute_s - 2 * MESSAGE, rel=0.01)
        assert by_speed.throughput == pytest.approx(halves.throughput * 1.5, rel=0.03)
        assert by_speed.single_node == node_ids(2)[0]

    def test_replicas_add_up(self) -> None:
        one = [part(0, 0, {0: 1, 1: 1}), part(1, 1, {2: 1, 3: 1}, stage=1)]
        two = [*one, part(2, 2, {0: 1, 1: 1}, replica=1), part(3, 3, {2: 1, 3: 1}, replica=1, stage=1)]
        traffic = [(-1, 0, 8), (0, 1, 8), (1, -1, 8)]
        single = found(joined(2, one, traffic))
        double = found(joined(4, two, [*traffic, (-1, 2, 8), (2, 3, 8), (3, -1, 8)]))
        assert double.throughput == pytest.approx(2 * single.throughput)
        assert double.latency_s == pytest.approx(single.latency_s)
        slower = found(joined(4, two, [*traffic, (-1, 2, 8), (2, 3, 8), (3, -1, 8)]), (1, 1, 0.5, 0.5))
        assert slower.throughput == pytest.approx(1.5 * single.throughput, rel=0.01)
        assert slower.latency_s > 1.9 * single.latency_s

    def test_fewer_under_way_than_stages(self) -> None:
        line = joined(
            2,
            [part(0, 0, {0: 1, 1: 1}), part(1, 1, {2: 1, 3: 1}, stage=1)],
            [(-1, 0, 8), (0, 1, 8), (1, -1, 8)],
        )
        full = predict_outline(PROFILE, line, MODEL, {})
        lonely = predict_outline(PROFILE, line, MODEL, {}, in_flight=1)
        assert lonely.throughput == pytest.approx(1 / full.latency_s)
        assert full.throughput > 1.9 * lonely.throughput
        assert lonely.nodes[0].share < 0.52

    def test_added_operators_take_time_by_their_bytes(self) -> None:
        types = {"sum": TensorType("float32", (1_000_000,), (False,))}
        program = Program((Op("Sum", ("a", "b"), ("sum",)),), ("a", "b"), ("sum",), types, {})
        outline = joined(1, [part(0, 0, {0: 1.0})], [(-1, 0, 8), (0, -1, 8)])
        longer = replace(outline, parts=(replace(outline.parts[0], program=program),))
        gained = found(longer).nodes[0].compute_s - found(outline).nodes[0].compute_s
        assert gained == pytest.approx(4_000_000 / 5e9)

    def test_slower_than_one_alone_is_said(self) -> None:
        """A hundred exchanges cost more than half of the work saves."""
        model = chain(50)
        profile = even(model, seconds=1e-5)
        parts, traffic = [], [(-1, 0, 8), (-1, 1, 8), (198, -1, 8), (199, -1, 8)]
        for step in range(100):
            parts += [part(2 * step + rank, rank, {step: 0.5}) for rank in range(2)]
            if step:
                traffic += [(2 * step - 2 + a, 2 * step + b, 8) for a in range(2) for b in range(2)]
        slow = predict_outline(profile, joined(2, parts, traffic), model, {})
        assert slow.throughput < slow.single_throughput / 5
        assert any("Slower than the best node alone" in note for note in slow.notes)


class TestMachines:
    def test_ranks_of_one_core_take_turns(self) -> None:
        apart = found(group((0.5, 0.5)))
        lab = Machine("lab-pc", cores=1)
        crowded = found(group((0.5, 0.5)), n0=lab, n1=lab)
        assert crowded.throughput == pytest.approx(apart.throughput / 2, rel=0.02)
        assert crowded.latency_s == pytest.approx(2 * apart.latency_s, rel=0.05)
        assert found(group((0.5, 0.5)), n0=Machine("lab-pc", 2), n1=Machine("lab-pc", 2)) == apart

    def test_a_spare_core_handles_messages(self) -> None:
        outline = joined(1, [part(0, 0, {0: 0.01})], [(-1, 0, 1 << 20), (0, -1, 8)])
        shared, spare = found(outline), found(outline, n0=Machine("server", cores=8))
        full = found(outline, n0=Machine("server", cores=8, threads=8))
        assert spare.throughput > shared.throughput
        assert full.throughput == shared.throughput

    def test_a_limited_node_rests_after_its_runs(self) -> None:
        """Its speed counts the rest; one micro-batch alone does not wait for it."""
        outline = joined(1, [part(0, 0, dict.fromkeys(range(4), 1.0))], [(-1, 0, 8), (0, -1, 8)])
        limited = found(outline, (0.5,), n0=Machine("pc", cores=1, cpu_limit=0.5))
        assert limited.throughput == pytest.approx(1 / (8 * LAYER), rel=0.01)
        assert limited.latency_s == pytest.approx(found(outline).latency_s, rel=0.01)

    def test_the_workstation_is_a_limit_for_many_fast_nodes(self) -> None:
        tiny = even(MODEL, seconds=1e-6)
        parts = [part(i, i, dict.fromkeys(range(4), 1.0), replica=i) for i in range(8)]
        traffic = [ends for i in range(8) for ends in ((-1, i, 8), (i, -1, 8))]
        many = predict_outline(tiny, joined(8, parts, traffic), MODEL, {})
        assert many.throughput == pytest.approx(1 / (2 * MESSAGE), rel=0.01)
        assert any("workstation" in note for note in many.notes)


def matrix(seed: int, width: int = 64) -> Constant:
    return Constant(ir.Tensor(np.random.default_rng(seed).standard_normal((width, width)).astype(np.float32)))


def holding(op: str, constants: dict[str, Constant]) -> Program:
    return Program((Op(op, ("x", *constants), ("y",), layer=0),), ("x",), ("y",), {}, constants)


class TestMemory:
    def weights(self, *programs: Program) -> NodePrediction:
        """Of one node that runs these one after the other."""
        parts = [replace(part(i, 0, {0: 0.1}), program=program) for i, program in enumerate(programs)]
        traffic = [(i - 1, i, 8) for i in range(len(parts))] + [(len(parts) - 1, -1, 8)]
        return found(joined(1, parts, traffic)).nodes[0]

    def test_each_distinct_slice_counts_once(self) -> None:
        one, other = matrix(0), matrix(1)
        whole = 64 * 64 * 4
        assert self.weights(holding("MatMul", {"w": one})).weight_bytes == whole
        assert self.weights(holding("MatMul", {"w": one}), holding("MatMul", {"v": one})).weight_bytes == whole
        assert self.weights(holding("MatMul", {"w": one}), holding("MatMul", {"w": other})).weight_bytes == 2 * whole
        halves = [one.sliced(1, ((0, 32),)), one.sliced(1, ((32, 64),))]
        assert self.weights(holding("MatMul", {"w": halves[0]})).weight_bytes == whole // 2
        assert self.weights(*(holding("MatMul", {"w": half}) for half in halves)).weight_bytes == whole
        again = one.sliced(1, ((0, 32),))
        assert self.weights(*(holding("MatMul", {"w": half}) for half in (halves[0], again))).weight_bytes == whole // 2

    def test_every_weight_counts_once_whatever_reads_it(self) -> None:
        product = self.weights(holding("MatMul", {"w": matrix(0)}))
        convolution = self.weights(holding("Conv", {"w": matrix(0)}))
        assert (convolution.weight_bytes, convolution.memory_bytes) == (product.weight_bytes, product.memory_bytes)

    @given(
        shards=st.integers(1, 30),
        own=st.integers(0, 1 << 28),
        session=st.integers(0, 1 << 20),
        operator=st.integers(0, 1 << 14),
    )
    @settings(max_examples=30, derandomize=True, deadline=None)
    def test_it_is_what_its_parts_take(self, shards: int, own: int, session: int, operator: int) -> None:
        """Weights, tensors, a session for each shard, the model's operators, and the agent as it tells of itself."""
        profile = replace(PROFILE, session_bytes=session, operator_bytes=operator)
        machines = {node_ids(1)[0]: Machine("lab", 2, own_bytes=own)}
        parts = [part(i, 0, {0: 0.1}) for i in range(shards)]
        traffic = [(i - 1, i, 8) for i in range(shards)] + [(shards - 1, -1, 8)]
        node = predict_outline(profile, joined(1, parts, traffic), MODEL, {}, machines).nodes[0]
        agent = own + WORKING_BYTES if own else PROFILE.base_bytes
        held = node.weight_bytes + node.activation_bytes + shards * session + 4 * operator
        assert node.memory_bytes == agent + held


class TestWhatMakesNoSense:
    def test_no_shards(self) -> None:
        with pytest.raises(PlanError, match="no shards"):
            found(joined(2, [], []))

    def test_a_node_that_nobody_asked_for(self) -> None:
        with pytest.raises(PlanError, match="not asked for"):
            found(joined(1, [part(0, 1, {0: 1})], [(-1, 0, 8), (0, -1, 8)]))

    def test_a_route_from_nowhere(self) -> None:
        with pytest.raises(PlanError, match="not both"):
            found(joined(1, [part(0, 0, {0: 1})], [(-1, 0, 8), (7, 0, 8), (0, -1, 8)]))

    def test_a_route_between_replicas(self) -> None:
        parts = [part(0, 0, {0: 1}), part(1, 1, {0: 1}, replica=1)]
        with pytest.raises(PlanError, match="different replicas"):
            found(joined(2, parts, [(-1, 0, 8), (0, 1, 8), (1, -1, 8)]))

    def test_shards_that_wait_for_each_other(self) -> None:
        parts = [part(0, 0, {0: 1}), part(1, 1, {1: 1})]
        with pytest.raises(PlanError, match="never comes to an end"):
            found(joined(2, parts, [(-1, 0, 8), (0, 1, 8), (1, 0, 8), (1, -1, 8)]))

    def test_nothing_for_the_client(self) -> None:
        with pytest.raises(PlanError, match="never comes to an end"):
            found(joined(1, [part(0, 0, {0: 1})], [(-1, 0, 8)]))

    def test_another_models_profile(self) -> None:
        with pytest.raises(PlanError, match="another model"):
            predict_outline(even(chain(3)), group((0.5, 0.5)), MODEL, {})

    @pytest.mark.parametrize("speed", [0.0, -1.0])
    def test_a_node_without_speed(self, speed: float) -> None:
        with pytest.raises(PlanError, match="speed"):
            found(group((0.5, 0.5)), (1.0, speed))

    def test_nothing_under_way(self) -> None:
        with pytest.raises(PlanError, match="under way"):
            predict_outline(PROFILE, group((0.5, 0.5)), MODEL, {}, in_flight=0)

    def test_a_node_that_has_nothing_to_do(self) -> None:
        idle = found(joined(2, [part(0, 1, dict.fromkeys(range(4), 1.0))], [(-1, 0, 8), (0, -1, 8)]))
        assert [node.node for node in idle.nodes] == list(node_ids(2))
        assert (idle.nodes[0].share, idle.nodes[0].compute_s, idle.nodes[0].memory_bytes) == (0, 0, 50 << 20)
        assert idle.efficiency < 0.51


def residual(blocks: int = 4) -> Model:
    """Convolutions with a way around every second one, and a product at the end, as in a ResNet."""
    nodes, weights, value = [], [], "x"
    for step in range(2 * blocks):
        kernel = np.random.default_rng(step).standard_normal((8, 8, 3, 3)).astype(np.float32)
        weights.append(numpy_helper.from_array(kernel, f"k{step}"))
        nodes.append(helper.make_node("Conv", [value, f"k{step}"], [f"c{step}"], pads=[1, 1, 1, 1]))
        if step % 2:
            nodes.append(helper.make_node("Add", [f"c{step}", f"r{step - 2}" if step > 1 else "x"], [f"a{step}"]))
        nodes.append(helper.make_node("Relu", [f"a{step}" if step % 2 else f"c{step}"], [f"r{step}"]))
        value = f"r{step}"
    nodes.append(helper.make_node("GlobalAveragePool", [value], ["pool"]))
    nodes.append(helper.make_node("Flatten", ["pool"], ["flat"]))
    weights.append(numpy_helper.from_array(np.ones((8, 10), np.float32), "last"))
    nodes.append(helper.make_node("MatMul", ["flat", "last"], ["y"]))
    image: onnx.ValueInfoProto = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 8, 32, 32])
    return to_model(build(nodes, [image], ["y"], weights), "residual")


MODELS = {"residual": residual, "chain": lambda: chain(12), "skipping": skipping}


@pytest.mark.parametrize("name", ["residual", "chain", "skipping", "digits-cnn", "digits-mlp", "lstm"])
@pytest.mark.parametrize("speeds", [(1, 1, 1, 1), (1, 0.5, 2, 1.3)], ids=["alike", "unequal"])
def test_as_predicted_by_sums(name: str, speeds: tuple[float, ...]) -> None:
    """single, replicate and pipeline: the fast way and the simulation, from models of microseconds to 0.1 s."""
    model = MODELS[name]() if name in MODELS else open_entry(name)
    rough = estimated_profile(model, 4)
    for total in (rough.total_seconds, 0.1):
        layers = tuple(taken * total / rough.total_seconds for taken in rough.layer_seconds)
        profile = Profile(model.sha256, 4, 1, layers, total, base_bytes=50 << 20)
        for strategy, count in (("single", 1), ("replicate", 3), ("pipeline", 2), ("pipeline", 3), ("pipeline", 4)):
            known = dict(zip(node_ids(count), speeds, strict=False))
            cuts = balanced_cuts(profile, model, list(known.values())) if strategy == "pipeline" else None
            asked = request(strategy, count, 4, cuts)
            sums = predict(profile, model, asked, known)
            played = predict_outline(profile, outline_plan(model, asked), model, known)
            assert played.throughput == pytest.approx(sums.throughput, rel=0.05), (strategy, count, total)
            assert played.latency_s == pytest.approx(sums.latency_s, rel=0.05), (strategy, count, total)
            for one, other in zip(sums.nodes, played.nodes, strict=True):
                assert other.compute_s == pytest.approx(one.compute_s)
                assert (other.weight_bytes, other.sent_bytes) == (one.weight_bytes, one.sent_bytes)
                assert other.memory_bytes == pytest.approx(one.memory_bytes, rel=0.05)
                assert other.share == pytest.approx(one.share, rel=0.05)


@st.composite
def plans(draw: st.DrawFn) -> tuple[Outline, list[float]]:
    """A pipeline of groups; every layer is shared out in full."""
    stages, ranks, steps = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 2))
    parts: list[Part] = []
    traffic: list[tuple[int, int, int]] = []
    before: list[int] = []
    nbytes = draw(st.integers(0, 1 << 18))
    for step in range(stages * steps):
        stage = step // steps
        now = []
        for rank in range(ranks):
            number = len(parts)
            layers = range(4 * step // (stages * steps), 4 * (step + 1) // (stages * steps))
            parts.append(part(number, stage * ranks + rank, dict.fromkeys(layers, 1 / ranks), stage=stage))
            now.append(number)
        traffic += [(one, other, nbytes) for one in before or [-1] for other in now]
        before = now
    traffic += [(one, -1, nbytes) for one in before]
    nodes = stages * ranks
    speeds = draw(st.lists(st.floats(0.2, 5), min_size=nodes, max_size=nodes))
    return joined(nodes, parts, traffic), speeds


@given(plans())
@settings(max_examples=50, derandomize=True, deadline=None)
def test_nobody_does_more_than_all_nodes_could(planned: tuple[Outline, list[float]]) -> None:
    outline, speeds = planned
    together = found(outline, speeds)
    assert together.throughput <= sum(speeds) / (4 * LAYER)
    assert 0 < together.efficiency <= 1.001, "these routes have no bytes; a node alone handles those of the model"
    for node in together.nodes:
        assert 0 <= node.share <= 1
        busy = node.compute_s + node.receive_s + node.send_s
        assert busy + node.wait_s == pytest.approx(1 / together.throughput, rel=1e-6)


@given(plans(), st.data())
@settings(max_examples=50, derandomize=True, deadline=None)
def test_more_speed_never_hurts(planned: tuple[Outline, list[float]], data: st.DataObject) -> None:
    """But for a message that comes while a shard runs instead of before, which is a thousandth of a run at most."""
    outline, speeds = planned
    which = data.draw(st.integers(0, len(speeds) - 1))
    faster = [2 * speed if node == which else speed for node, speed in enumerate(speeds)]
    before, after = found(outline, speeds), found(outline, faster)
    assert after.throughput >= before.throughput * 0.97
    assert after.latency_s <= before.latency_s * 1.03
    everywhere = found(outline, [2 * speed for speed in speeds])
    assert everywhere.throughput >= before.throughput
    assert everywhere.latency_s <= before.latency_s


@given(plans(), st.integers(2, 10))
@settings(max_examples=50, derandomize=True, deadline=None)
def test_fewer_bytes_never_hurt(planned: tuple[Outline, list[float]], factor: int) -> None:
    outline, speeds = planned
    lighter = replace(outline, route_bytes=tuple(nbytes // factor for nbytes in outline.route_bytes))
    before, after = found(outline, speeds), found(lighter, speeds)
    assert after.throughput >= before.throughput * 0.97
    assert after.latency_s <= before.latency_s * 1.03


def test_as_many_are_under_way_as_the_runner_allows() -> None:
    assert IN_FLIGHT == PER_STAGE


def test_the_same_again_is_the_same() -> None:
    outline = group((0.2, 0.3, 0.5), nbytes=1 << 16)
    assert found(outline, (1, 2, 0.7)) == found(outline, (1, 2, 0.7))


def ranks_that_exchange(steps: int) -> Outline:
    """8 ranks, each of which sends to all others after every step."""
    ranks: list[Part] = []
    exchanges = [(-1, rank, 4096) for rank in range(8)]
    for step in range(steps):
        ranks += [part(8 * step + rank, rank, {step: 1 / 8}) for rank in range(8)]
        if step:
            exchanges += [(8 * step - 8 + one, 8 * step + other, 4096) for one in range(8) for other in range(8)]
    exchanges += [(8 * steps - 8 + rank, -1, 512) for rank in range(8)]
    return joined(8, ranks, exchanges)


def stages_of_many_shards(steps: int) -> Outline:
    """8 stages of as many shards, one after the other."""
    count = 8 * steps
    parts = [part(i, i // steps, {i % steps: 1 / 8}, stage=i // steps) for i in range(count)]
    return joined(8, parts, [(i - 1, i, 4096) for i in range(count)] + [(count - 1, -1, 4096)])


@pytest.mark.parametrize("outlined", [ranks_that_exchange, stages_of_many_shards])
def test_the_work_of_playing_is_linear_in_the_shards(outlined: Callable[[int], Outline]) -> None:
    """``tests.bench.planning`` tells the seconds."""
    model = chain(25)
    profile = even(model, seconds=2e-3)
    work = [calls_of(lambda steps=steps: predict_outline(profile, outlined(steps), model, {})) for steps in (10, 20)]
    assert work[1] < 2.3 * work[0]


def test_random_shares_of_a_group() -> None:
    """The largest share over speed sets the pace, whatever the others have."""
    rng = random.Random(5)
    for _ in range(10):
        shares, speeds = [rng.uniform(0.1, 1) for _ in range(3)], [rng.uniform(0.5, 2) for _ in range(3)]
        total = sum(shares)
        outline = group([share / total for share in shares])
        slowest = max(4 * LAYER * share / total / speed for share, speed in zip(shares, speeds, strict=True))
        assert found(outline, speeds).throughput == pytest.approx(1 / slowest, rel=0.08)


def test_a_route_of_the_client_to_itself_is_no_plan() -> None:
    outline = group((0.5, 0.5))
    odd = replace(
        outline, routes=(*outline.routes, Route(CLIENT, "x", CLIENT, "y")), route_bytes=(*outline.route_bytes, 0)
    )
    with pytest.raises(PlanError, match="not both"):
        found(odd)
    assert ShardId(-1) == CLIENT


class TestUnderLoad:
    """The median of a run: who takes a new micro-batch for each that it finishes waits for all that are under way."""

    def test_by_hand(self) -> None:
        alone = found(joined(1, [part(0, 0, dict.fromkeys(range(4), 1.0))], [(-1, 0, 1000), (0, -1, 500)]))
        assert alone.in_flight == IN_FLIGHT
        assert alone.loaded_latency_s == pytest.approx(IN_FLIGHT / alone.throughput)

    def test_one_at_a_time_is_as_on_idle_nodes(self) -> None:
        outline = group((0.5, 0.5))
        lonely = predict_outline(PROFILE, outline, MODEL, {}, in_flight=1)
        assert lonely.in_flight == 1
        assert lonely.loaded_latency_s == pytest.approx(lonely.latency_s)

    def test_of_unequal_replicas_the_median_is_the_faster_ones(self) -> None:
        whole = dict.fromkeys(range(4), 1.0)
        replicas = [part(0, 0, whole), part(1, 1, whole, replica=1), part(2, 2, whole, replica=2)]
        traffic = [(-1, i, 8) for i in range(3)] + [(i, -1, 8) for i in range(3)]
        told = found(joined(3, replicas, traffic), (1, 1, 0.25))
        assert told.loaded_latency_s == pytest.approx(2 * told.nodes[0].period_s, rel=0.01)
        assert told.latency_s > 2 * told.loaded_latency_s * 0.9, "an idle cluster's is that of the slowest"

    @given(
        st.lists(st.tuples(st.floats(0.1, 100), st.integers(1, 6)), min_size=1, max_size=5),
    )
    @settings(max_examples=60, derandomize=True, deadline=None)
    def test_it_is_the_median_of_all_micro_batches(self, paces: list[tuple[float, int]]) -> None:
        """Of as many as each replica finishes in a long time."""
        every = np.repeat([held / rate for rate, held in paces], [max(1, round(1000 * rate)) for rate, _ in paces])
        low, high = np.percentile(every, (49.5, 50.5))
        assert 0.999 * low <= loaded_latency(paces) <= 1.001 * high

    def test_a_slow_replica_loses_least_where_the_workstation_holds_all_up(self) -> None:
        """As it is when all are played side by side."""
        count, layer = 8, 1e-4
        profile = replace(PROFILE, layer_seconds=(layer,) * 4, total_seconds=4 * layer)
        parts = [part(i, i, dict.fromkeys(range(4), 1.0), replica=i) for i in range(count)]
        outline = joined(count, parts, [*((-1, i, 8) for i in range(count)), *((i, -1, 8) for i in range(count))])
        speeds = dict(zip(node_ids(count), (1.0,) * (count - 1) + (0.1,), strict=True))
        told = predict_outline(profile, outline, MODEL, speeds)
        assert any("workstation's own messages" in note for note in told.notes)
        setting = setting_of(profile, MODEL, outline.request, speeds, {})
        flows = [flow for flow, _, _ in _Shards(setting, outline, {}).replicas()]
        played = rates(network_of(flows, setting.costs, setting.ways, setting.messages), IN_FLIGHT)
        assert [1 / node.period_s for node in told.nodes] == pytest.approx(played, rel=0.06)
        assert told.throughput == pytest.approx(sum(played), rel=0.03)
        assert told.loaded_latency_s == pytest.approx(IN_FLIGHT / played[0], rel=0.06)

    @given(
        layers=st.lists(st.floats(1e-5, 1e-2), min_size=4, max_size=4),
        nodes=st.integers(1, 4),
        in_flight=st.integers(1, 8),
    )
    @settings(max_examples=20, derandomize=True, deadline=None)
    def test_a_run_that_is_played_takes_as_long(self, layers: list[float], nodes: int, in_flight: int) -> None:
        """Pipelines of equal and unequal stages: every micro-batch timed from when it begins to when it ends."""
        profile = replace(PROFILE, layer_seconds=tuple(layers), total_seconds=sum(layers))
        parts = [part(i, i, {i: 1} if i < nodes - 1 else dict.fromkeys(range(i, 4), 1), stage=i) for i in range(nodes)]
        traffic = [(-1, 0, 8), *((i, i + 1, 8) for i in range(nodes - 1)), (nodes - 1, -1, 8)]
        outline = joined(nodes, parts, traffic)
        told = predict_outline(profile, outline, MODEL, {}, in_flight=in_flight)
        setting = setting_of(profile, MODEL, outline.request, {}, {})
        flow = next(iter(_Shards(setting, outline, {}).replicas()))[0]
        play = _Play(network_of([flow], setting.costs, setting.ways, setting.messages), in_flight)
        ended = play.completions(40 * in_flight)
        taken = np.array(ended[in_flight:]) - np.array(ended[:-in_flight])  # one begins when another ends
        assert told.loaded_latency_s == pytest.approx(float(np.median(taken[len(taken) // 2 :])), rel=0.02)
