"""Requests into plans: what comes out, what is refused and in which words, and that it computes the right thing."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from core.cost.types import Profile
from core.errors import PlanError
from core.model.graph import Model
from core.model.library import resolve_model
from core.model.reader import open_model
from core.plan.compile import STRATEGIES, CompiledPlan, compile_plan, micro_batch_for, outline_plan
from core.plan.form import CLIENT, Plan, PlanRequest, Sha256
from core.plan.verify import verify_outputs
from tests.plan.in_process import InProcessPlan
from tests.plan.models import WIDTH, build, chain, matrix, node_ids, request, rows, skipping, to_model


def assert_right(model: Model, compiled: CompiledPlan, items: int = 3) -> None:
    """Every replica of the plan gives the whole model's outputs."""
    feed = model.random_feed(items)
    expected = model.reference(threads=1)(feed)
    running = InProcessPlan(compiled)
    for replica in range(compiled.plan.replicas):
        results = running.infer(feed, replica)
        verdict = verify_outputs(expected, [results[info.name] for info in model.outputs])
        assert verdict.passed, verdict.reason


def weights(plan: Plan, shard: int) -> set[str]:
    return {weight.name for weight in plan.shards[shard].weights}


class TestSingle:
    def test_one_shard_holds_everything(self) -> None:
        model = chain(3)
        compiled = compile_plan(model, request("single", 1))
        (shard,) = compiled.plan.shards
        assert shard.label == "whole model"
        assert weights(compiled.plan, 0) == {"w0", "w1", "w2"}
        assert shard.weight_bytes == 3 * WIDTH * WIDTH * 4
        assert [port.shape for port in shard.inputs] == [(None, WIDTH)]
        assert_right(model, compiled)

    def test_one_node_only(self) -> None:
        with pytest.raises(PlanError, match="2 were given"):
            compile_plan(chain(2), request("single", 2))

    def test_small_weights_stay_in_the_graph(self) -> None:
        model = chain(2, width=16)  # 1024 bytes
        compiled = compile_plan(model, request("single", 1))
        assert compiled.plan.shards[0].weights == ()
        assert_right(model, compiled)


class TestReplicate:
    def test_replicas_share_graph_and_weights(self) -> None:
        model = chain(2)
        compiled = compile_plan(model, request("replicate", 3))
        assert compiled.plan.replicas == 3
        assert len({shard.graph for shard in compiled.plan.shards}) == 1
        assert len(compiled.blobs) == 1 + 2
        assert [shard.node for shard in compiled.plan.shards] == list(node_ids(3))
        assert_right(model, compiled)

    def test_no_cuts(self) -> None:
        with pytest.raises(PlanError, match="no cuts"):
            compile_plan(chain(2), request("replicate", 2, cuts=(1,)))


class TestPipeline:
    def test_stages_hold_their_own_weights(self) -> None:
        model = chain(3)
        compiled = compile_plan(model, request("pipeline", 3, cuts=(2, 4)))
        assert [weights(compiled.plan, i) for i in range(3)] == [{"w0"}, {"w1"}, {"w2"}]
        assert [shard.label for shard in compiled.plan.shards] == ["layers 1-2", "layers 3-4", "layers 5-6"]
        assert [shard.stage for shard in compiled.plan.shards] == [0, 1, 2]
        assert_right(model, compiled)

    def test_a_skip_connection_goes_straight_to_its_reader(self) -> None:
        model = skipping()
        compiled = compile_plan(model, request("pipeline", 4, cuts=(1, 2, 4)))
        routes = {(route.producer, route.consumer, route.target) for route in compiled.plan.routes}
        assert (0, 1, "a") in routes
        assert (0, 3, "a") in routes
        assert (0, 2, "a") not in routes
        assert (CLIENT, 3, "z") in routes
        assert (CLIENT, 0, "z") not in routes
        assert (1, CLIENT, "b") in routes
        assert (3, CLIENT, "y") in routes
        assert_right(model, compiled)

    def test_every_cut_of_a_small_model_is_right(self) -> None:
        model = skipping()
        for position in range(1, len(model.layers(2))):
            assert_right(model, compile_plan(model, request("pipeline", 2, cuts=(position,))))

    def test_moving_a_cut_ships_only_that_layer(self) -> None:
        model = chain(4)
        before = compile_plan(model, request("pipeline", 2, cuts=(4,)))
        after = compile_plan(model, request("pipeline", 2, cuts=(6,)))
        held = {weight.blob for weight in before.plan.shards[0].weights}
        needed = {weight.blob for weight in after.plan.shards[0].weights}
        assert len(needed - held) == 1

    def test_the_same_request_gives_the_same_plan(self, tmp_path: Path) -> None:
        path = tmp_path / "model.onnx"
        path.write_bytes(helper_chain_bytes())
        first = compile_plan(open_model(path), request("pipeline", 2, cuts=(2,)))
        second = compile_plan(open_model(path), request("pipeline", 2, cuts=(2,)))
        assert msgspec.msgpack.encode(first.plan) == msgspec.msgpack.encode(second.plan)
        assert first.blobs.shas() == second.blobs.shas()

    def test_a_blob_is_named_by_its_bytes(self) -> None:
        blobs = compile_plan(chain(3), request("pipeline", 2, cuts=(2,))).blobs
        for sha in blobs.shas():
            data = blobs.read(sha)
            assert hashlib.sha256(data).hexdigest() == sha
            assert blobs.nbytes(sha) == len(data)
            assert bytes(blobs.read(sha, 3, 5)) == bytes(data[3:8])

    def test_equal_weights_are_one_blob(self) -> None:
        nodes = [
            helper.make_node("MatMul", ["x", "w0"], ["a"]),
            helper.make_node("MatMul", ["a", "w1"], ["y"]),
        ]
        model = to_model(build(nodes, [rows("x")], [rows("y")], [matrix("w0", 5), matrix("w1", 5)]))
        compiled = compile_plan(model, request("single", 1))
        assert len(compiled.blobs) == 2
        assert_right(model, compiled)

    def test_left_to_balance_the_cuts_are_chosen_and_kept(self) -> None:
        model = chain(8)
        compiled = compile_plan(model, request("pipeline", 2))
        assert compiled.plan.request.cuts in {(7,), (8,), (9,)}
        again = compile_plan(model, compiled.plan.request)
        assert again.plan == compiled.plan

    def test_balanced_by_a_profile_and_speeds(self) -> None:
        model = chain(8)
        fast, slow = node_ids(2)
        profile = Profile(model.sha256, 2, 1, (0.01,) * 16, 0.16)
        compiled = compile_plan(model, request("pipeline", 2), profile=profile, speeds={fast: 3.0, slow: 1.0})
        assert compiled.plan.request.cuts == (12,)

    def test_one_node_is_a_pipeline_of_one_stage(self) -> None:
        model = chain(2)
        assert_right(model, compile_plan(model, request("pipeline", 1)))

    @pytest.mark.parametrize(
        ("cuts", "nodes", "words"),
        [
            ((2,), 3, "A pipeline over 3 nodes has 2 cuts; 1 were given"),
            ((0,), 2, "no cut at 0: this model's cuts lie at layers 1 to 5"),
            ((6,), 2, "no cut at 6"),
            ((3, 3), 3, "must increase"),
            ((4, 2), 3, "must increase"),
        ],
    )
    def test_cuts_that_make_no_sense(self, cuts: tuple[int, ...], nodes: int, words: str) -> None:
        with pytest.raises(PlanError, match=words):
            compile_plan(chain(3), request("pipeline", nodes, cuts=cuts))

    def test_more_nodes_than_layers(self) -> None:
        with pytest.raises(PlanError, match="4 layers cannot be cut into 5 stages"):
            compile_plan(chain(2), request("pipeline", 5))


class TestRequests:
    def test_unknown_strategy_lists_those_there_are(self) -> None:
        with pytest.raises(PlanError) as refused:
            compile_plan(chain(2), request("magic", 2))
        assert all(name in str(refused.value) for name in STRATEGIES)

    def test_a_node_twice(self) -> None:
        node = node_ids(1)[0]
        with pytest.raises(PlanError, match="more than once"):
            compile_plan(chain(2), PlanRequest("replicate", (node, node), 1))

    def test_no_node(self) -> None:
        with pytest.raises(PlanError, match="at least one node"):
            compile_plan(chain(2), PlanRequest("replicate", (), 1))

    def test_no_item(self) -> None:
        with pytest.raises(PlanError, match="at least 1 item"):
            compile_plan(chain(2), request("single", 1, batch=0))

    def test_a_fixed_batch_is_kept(self) -> None:
        fixed = helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, WIDTH])
        proto = build([helper.make_node("MatMul", ["x", "w0"], ["y"])], [fixed], ["y"], [matrix("w0")])
        model = to_model(proto)
        assert micro_batch_for(model, 8) == 4
        with pytest.raises(PlanError, match="fixed batch of 4"):
            compile_plan(model, request("single", 1, batch=8))
        compiled = compile_plan(model, request("single", 1, batch=4))
        assert compiled.plan.shards[0].inputs[0].shape == (4, WIDTH)
        assert_right(model, compiled, items=4)

    @pytest.mark.parametrize("strategy", ["single", "replicate", "pipeline"])
    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ({"shares": (1.0,)}, "no shares"),
            ({"tensor_axis": "rows"}, "no tensor axis"),
            ({"spatial_axis": "rows"}, "no spatial axis"),
        ],
    )
    def test_how_to_divide_layers_means_nothing_where_none_is(
        self, strategy: str, given: dict[str, object], words: str
    ) -> None:
        asked = msgspec.structs.replace(request(strategy, 1), **given)
        with pytest.raises(PlanError, match=words):
            compile_plan(chain(2), asked)

    def test_an_outline_writes_and_reads_nothing(self, tmp_path: Path) -> None:
        path = tmp_path / "model.onnx"
        path.write_bytes(helper_chain_bytes())
        model = open_model(path)
        found = outline_plan(model, request("pipeline", 2, cuts=(2,)))
        compiled = compile_plan(model, request("pipeline", 2, cuts=(2,)))
        assert [(part.id, part.node, part.label) for part in found.parts] == [
            (shard.id, shard.node, shard.label) for shard in compiled.plan.shards
        ]
        assert found.routes == compiled.plan.routes
        assert found.route_bytes == (2 * WIDTH * 4,) * 3
        kinds = {(one.kind, one.tensor): one.links for one in found.division.exchanges}
        first, second = node_ids(2)
        size = 2 * WIDTH * 4
        assert kinds == {
            ("input", "x"): (("", first, size),),
            ("hand-over", "r"): ((first, second, size),),
            ("output", "y"): ((second, "", size),),
        }
        assert [[part.node for part in layer.parts] for layer in found.division.layers] == [[first], [first], [second]]


class TestOddOutputs:
    def test_outputs_that_are_inputs_or_constants(self) -> None:
        proto = build(
            [helper.make_node("MatMul", ["x", "w0"], ["y"]), helper.make_node("Relu", ["y"], ["r"])],
            [rows("x"), rows("z")],
            [rows("y"), rows("x"), rows("z"), rows("r"), "w0", "c"],
            [matrix("w0"), numpy_helper.from_array(np.ones(3, np.float32), "c")],
        )
        model = to_model(proto)
        assert [info.name for info in model.outputs] == ["y", "x", "z", "r", "w0", "c"]
        for asked in (request("single", 1), request("replicate", 2), request("pipeline", 2, cuts=(1,))):
            assert_right(model, compile_plan(model, asked))

    def test_a_stage_that_needs_no_input_is_started_by_one(self) -> None:
        nodes = [
            helper.make_node("RandomUniformLike", ["w0"], ["noise"], seed=3.0),
            helper.make_node("Mul", ["noise", "zero"], ["nothing"]),
            helper.make_node("MatMul", ["x", "w0"], ["m"]),
            helper.make_node("MatMul", ["m", "nothing"], ["n"]),
            helper.make_node("Add", ["m", "n"], ["y"]),
        ]
        zero = numpy_helper.from_array(np.zeros(1, np.float32), "zero")
        model = to_model(build(nodes, [rows("x")], [rows("y")], [matrix("w0"), zero]))
        for position in range(1, len(model.layers(2))):
            assert_right(model, compile_plan(model, request("pipeline", 2, cuts=(position,))))


class TestOddGraphs:
    def test_a_subgraph_reads_weights_and_values_of_the_outer_graph(self) -> None:
        def branch(name: str, weight: str) -> onnx.GraphProto:
            inner = numpy_helper.from_array(np.full((WIDTH, WIDTH), 0.01, np.float32), f"{name}_inner")
            nodes = [
                helper.make_node("MatMul", ["a", weight], [f"{name}_1"]),
                helper.make_node("MatMul", [f"{name}_1", f"{name}_inner"], [f"{name}_2"]),
            ]
            out = helper.make_tensor_value_info(f"{name}_2", TensorProto.FLOAT, None)
            return helper.make_graph(nodes, name, [], [out], [inner])

        nodes = [
            helper.make_node("MatMul", ["x", "w0"], ["a"]),
            helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
            helper.make_node("Greater", ["sum", "zero"], ["positive"]),
            helper.make_node("If", ["positive"], ["b"], then_branch=branch("t", "w1"), else_branch=branch("e", "w2")),
            helper.make_node("Add", ["b", "x"], ["y"]),
        ]
        constants = [*(matrix(f"w{i}", i) for i in range(3)), numpy_helper.from_array(np.float32(0), "zero")]
        model = to_model(build(nodes, [rows("x")], [rows("y")], constants))
        batch = micro_batch_for(model, 2)
        for position in range(1, len(model.layers(batch))):
            compiled = compile_plan(model, request("pipeline", 2, batch, cuts=(position,)))
            assert_right(model, compiled, items=batch)

    def test_model_functions_travel_with_their_callers(self) -> None:
        function = helper.make_function(
            "local",
            "Twice",
            ["a", "w"],
            ["c"],
            [helper.make_node("MatMul", ["a", "w"], ["b"]), helper.make_node("MatMul", ["b", "w"], ["c"])],
            [helper.make_opsetid("", 17)],
        )
        nodes = [
            helper.make_node("Twice", ["x", "w0"], ["m"], domain="local"),
            helper.make_node("Relu", ["m"], ["r"]),
            helper.make_node("Twice", ["r", "w1"], ["y"], domain="local"),
        ]
        proto = build(nodes, [rows("x")], [rows("y")], [matrix("w0"), matrix("w1", 1)])
        proto.functions.append(function)
        proto.opset_import.append(helper.make_opsetid("local", 1))
        model = to_model(proto)
        for position in range(1, len(model.layers(2))):
            assert_right(model, compile_plan(model, request("pipeline", 2, cuts=(position,))))

    def test_contributed_operators(self) -> None:
        nodes = [
            helper.make_node("MatMul", ["x", "w0"], ["m"]),
            helper.make_node("FastGelu", ["m"], ["g"], domain="com.microsoft"),
            helper.make_node("MatMul", ["g", "w1"], ["y"]),
        ]
        proto = build(nodes, [rows("x")], [rows("y")], [matrix("w0"), matrix("w1", 1)])
        proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
        model = to_model(proto)
        for position in (1, 2):
            assert_right(model, compile_plan(model, request("pipeline", 2, cuts=(position,))))

    def test_exporters_notes_do_not_travel(self) -> None:
        proto = onnx.load_from_string(helper_chain_bytes())
        proto.graph.node[0].doc_string = "a long stack trace"
        entry = proto.graph.node[1].metadata_props.add()
        entry.key, entry.value = "pkg.torch.onnx.stack_trace", "another long stack trace"
        compiled = compile_plan(to_model(proto), request("single", 1))
        assert b"stack trace" not in bytes(compiled.blobs.read(compiled.plan.shards[0].graph))

    def test_weights_in_a_data_file(self, tmp_path: Path) -> None:
        path = tmp_path / "model.onnx"
        onnx.save_model(
            onnx.load_from_string(helper_chain_bytes()),
            path,
            save_as_external_data=True,
            location="weights.data",
            size_threshold=0,
        )
        model = open_model(path)
        inside = to_model(onnx.load_from_string(helper_chain_bytes()))
        outside = compile_plan(model, request("pipeline", 2, cuts=(2,)))
        assert_right(model, outside)
        assert {w.blob for s in outside.plan.shards for w in s.weights} == {
            w.blob for s in compile_plan(inside, request("pipeline", 2, cuts=(2,))).plan.shards for w in s.weights
        }


class TestActivations:
    def test_peak_is_of_what_lives_at_once(self) -> None:
        compiled = compile_plan(chain(5), request("single", 1, batch=10))
        row = 10 * WIDTH * 4
        assert compiled.plan.shards[0].activation_bytes == 2 * row

    def test_a_skip_connection_stays_alive(self) -> None:
        compiled = compile_plan(skipping(), request("single", 1, batch=10))
        assert compiled.plan.shards[0].activation_bytes == 10 * WIDTH * 4 * 5  # z and b are kept, a is, c and d


def helper_chain_bytes() -> bytes:
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["m"]),
        helper.make_node("Relu", ["m"], ["r"]),
        helper.make_node("MatMul", ["r", "w1"], ["y"]),
    ]
    proto = build(nodes, [rows("x")], [rows("y")], [matrix("w0"), matrix("w1", 1)])
    return bytes(proto.SerializeToString(deterministic=True))


def test_blobs_answer_for_what_they_do_not_hold() -> None:
    blobs = compile_plan(chain(2), request("single", 1)).blobs
    with pytest.raises(KeyError):
        blobs.read(Sha256("0" * 64))
    sha = blobs.shas()[0]
    with pytest.raises(ValueError, match="outside"):
        blobs.read(sha, blobs.nbytes(sha) + 1)


def test_weights_of_convolutions_are_held_twice_while_they_are_loaded() -> None:
    model, _ = resolve_model("digits-cnn")
    (shard,) = compile_plan(model, request("single", 1)).plan.shards
    convolved = sum(weight.nbytes for weight in shard.weights if len(weight.shape) == 4)
    assert 0 < convolved <= shard.repacked_bytes < shard.weight_bytes
