"""What the ranks of a group run: numbers as of the whole, weights divided, names that never collide."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from core.cost.exchange import LinkCost
from core.plan.layouts import REPLICATED, Group, Partial, Split
from core.plan.rank_program import LocalOp, RankProgram, local_name, names_of
from core.plan.strategy_text import REPLICATE, SPATIAL
from tests.plan.partition.joined import Array
from tests.plan.partition.programs import Played, floats, node, program

X = {"x": floats(4, 24)}


def decompressed(more: list[onnx.NodeProto], weights: dict[str, Array]) -> Played:
    """x · w · v, where ``more`` makes w of something else."""
    nodes = [*more, node("MatMul", "x w", "h"), node("MatMul", "h v", "y")]
    return Played(program(nodes, X, "y", weights | {"v": floats(48, 24)}), X)


def test_weights_are_divided() -> None:
    played = decompressed([], {"w": floats(24, 48)})
    assert played.weights(0) == {"w[1:0-24]": (24, 24), "v[0:0-24]": (24, 24)}
    assert played.weights(1) == {"w[1:24-48]": (24, 24), "v[0:24-48]": (24, 24)}
    assert played.kinds == {"all-reduce": 1}


# ---------------------------------------------------------------- weights that are decompressed


QUANTISED = np.random.default_rng(1).integers(-100, 100, (24, 48)).astype(np.int8)


@pytest.mark.parametrize("per_column", [True, False])
def test_dequantised_weights(per_column: bool) -> None:
    scale = np.abs(floats(48)) + 0.1 if per_column else np.float32(0.02)
    zero = np.zeros(48, np.int8) if per_column else np.int8(3)
    weights = {"q": QUANTISED, "s": np.asarray(scale, np.float32), "z": np.asarray(zero)}
    played = decompressed([node("DequantizeLinear", "q s z", "w", axis=1)], weights)
    held = played.weights(1)
    assert held["q[1:24-48]"] == (24, 24)
    assert "q" not in held
    assert ("s[0:24-48]" in held) == per_column


def test_transposed_cast_and_scaled_weights() -> None:
    more = [
        node("Transpose", "q", "t", perm=[1, 0]),
        node("Cast", "t", "c", to=TensorProto.FLOAT),
        node("Mul", "c s", "w"),
    ]
    played = decompressed(more, {"q": np.ascontiguousarray(QUANTISED.T), "s": np.abs(floats(48))})
    assert played.weights(0) == {"q[0:0-24]": (24, 24), "s[0:0-24]": (24,), "v[0:0-24]": (24, 24)}
    assert not any(op.type == "Slice" for op in played.divided.programs[0].ops)


def test_constants_of_one_number_are_made_in_the_size_of_the_part() -> None:
    value = numpy_helper.from_array(np.array([0.5], np.float32))
    played = decompressed([node("ConstantOfShape", "shape", "w", value=value)], {"shape": np.array([24, 48])})
    filled = [op for op in played.divided.programs[0].ops if op.type == "ConstantOfShape"]
    assert len(filled) == 1
    told = played.divided.programs[0].constants[filled[0].inputs[0]].numpy()
    assert told.tolist() == [24, 24]
    assert not any(op.type == "Slice" for op in played.divided.programs[0].ops)


def test_a_weight_made_by_an_operator_without_rule_is_cut_out_of_the_whole() -> None:
    weights = {"a": floats(24, 48), "lengths": np.full(48, 20)}
    more = [node("ReverseSequence", "a lengths", "s"), node("Neg", "s", "w")]
    played = decompressed(more, weights)
    assert played.kind("h") == "columns"
    assert any(op.type == "Slice" for op in played.divided.programs[0].ops)


def test_decompressed_weights_stay_weights_of_the_ranks_programs() -> None:
    played = decompressed([node("Cast", "q", "w", to=TensorProto.FLOAT)], {"q": QUANTISED})
    for one in played.divided.programs:
        finished = one.finished()
        assert [op.outputs[0] in finished.fixed for op in finished.ops if op.type == "Cast"] == [True]


# ---------------------------------------------------------------- inputs, outputs, subgraphs


def test_an_input_is_fetched_as_it_is_wanted() -> None:
    feed = {"x": floats(4, 24), "wide": floats(4, 48)}
    nodes = [node("MatMul", "x w", "h"), node("Add", "h wide", "s"), node("MatMul", "s v", "y")]
    played = Played(program(nodes, feed, "y", {"w": floats(24, 48), "v": floats(48, 24)}), feed)
    cut = {(one.rank, one.slices) for one in played.divided.imports if one.value == "wide"}
    assert {(rank, one.start, one.stop) for rank, (one,) in cut} == {(0, 0, 24), (1, 24, 48)}


def test_an_input_in_several_ranges_comes_as_one_span() -> None:
    """Queries, keys and values of three heads, side by side: each rank wants three ranges of the bias that is fed."""
    feed = {"x": floats(1, 5, 12), "more": floats(1, 5, 36)}
    nodes = [
        node("MatMul", "x w", "h"),
        node("Add", "h more", "s"),
        node("Split", "s sizes", "q k v", axis=2),
        node("Mul", "q k", "qk"),
        node("Mul", "qk v", "qkv"),
        node("MatMul", "qkv out", "y"),
    ]
    weights = {"w": floats(12, 36), "out": floats(12, 12), "sizes": np.array([12, 12, 12])}
    played = Played(program(nodes, feed, "y", weights), feed, (1, 1, 1))
    assert [len(ranges) for ranges in played.layout("h").parts] == [3, 3, 3]  # type: ignore[union-attr]
    spans = [one for one in played.divided.imports if one.value == "more"]
    assert [(s.start, s.stop) for one in spans for s in one.slices] == [(0, 28), (4, 32), (8, 36)]
    assert played.kinds == {"all-reduce": 1}


def test_outputs_that_are_inputs_or_constants() -> None:
    whole = program(
        [node("MatMul", "x w", "h"), node("MatMul", "h v", "y"), node("Relu", "c", "fixed")],
        X,
        "y x w fixed h",
        {"w": floats(24, 48), "v": floats(48, 24), "c": floats(3, 3)},
    )
    played = Played(whole, X)
    assert isinstance(played.layout("h"), Split)
    assert played.layout("h") in played.divided.exports["h"]


def branch(name: str, factor: float) -> onnx.GraphProto:
    """h · factor, of an outer h."""
    value = numpy_helper.from_array(np.array(factor, np.float32), f"{name}/factor")
    return helper.make_graph(
        [helper.make_node("Mul", ["h", f"{name}/factor"], [f"{name}/out"])],
        name,
        [],
        [helper.make_tensor_value_info(f"{name}/out", TensorProto.FLOAT, None)],
        [value],
    )


@pytest.mark.parametrize("yes", [True, False])
def test_values_that_subgraphs_capture_are_whole_under_their_names(yes: bool) -> None:
    feed = {"x": floats(4, 24), "yes": np.array(yes)}
    nodes = [
        node("MatMul", "x w", "h"),
        node("If", "yes", "m", then_branch=branch("then", 2.0), else_branch=branch("else", -1.0)),
        node("MatMul", "m v", "y"),
    ]
    weights = {"w": floats(24, 48), "v": floats(48, 24)}
    played = Played(program(nodes, feed, "y", weights, {"m": "h"}), feed)
    assert played.kinds["all-gather"] == 1
    assert played.kind("m") == "replicated"
    assert played.kind("h") == "columns"


def test_values_that_a_loop_captures() -> None:
    body = helper.make_graph(
        [
            helper.make_node("Add", ["state", "h"], ["next"]),
            helper.make_node("Identity", ["go"], ["go_on"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, [4, 48]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, [4, 48]),
        ],
    )
    nodes = [
        node("MatMul", "x w", "h"),
        node("Loop", "times - h", "m", body=body),
        node("MatMul", "m v", "y"),
    ]
    weights = {"w": floats(24, 48), "v": floats(48, 24), "times": np.array(3)}
    played = Played(program(nodes, X, "y", weights, {"m": "h"}), X, (1, 1, 1))
    assert played.kind("m") == "replicated"


def test_integer_terms_are_added_up() -> None:
    feed = {"x": np.random.default_rng(0).integers(0, 255, (4, 24)).astype(np.uint8)}
    weights = {"w": QUANTISED, "v": np.random.default_rng(2).integers(-9, 9, (48, 8)).astype(np.int8)}
    nodes = [node("MatMulInteger", "x w", "h"), node("Cast", "h", "y", to=TensorProto.FLOAT)]
    played = Played(program(nodes, feed, "h y", weights), feed, (1, 1, 1), tensor_axis="rows")
    assert played.kind("h") == "rows"
    assert played.kinds == {"all-reduce": 1}
    adders = [op.type for op in played.divided.programs[0].ops if op.type in ("Add", "Sum")]
    assert adders == ["Add", "Add"]


def test_a_value_used_in_several_layouts() -> None:
    nodes = [
        node("MatMul", "x w", "h"),
        node("MatMul", "h v", "a"),
        node("Softmax", "h", "p", axis=1),
        node("ReduceSum", "h zero", "b", keepdims=0),
        node("TopK", "h five", "values indices"),
    ]
    weights = {"w": floats(24, 48), "v": floats(48, 24), "zero": np.array([0]), "five": np.array([5])}
    played = Played(program(nodes, X, "a p b values indices", weights), X, (1, 2, 1))
    assert played.collectives["all-gather", "h"] == 1  # for TopK, which needs whole rows


@pytest.mark.parametrize("shares", [(1, 1), (5, 2, 1), (1, 1, 1, 1)])
def test_images_in_rows(shares: tuple[float, ...]) -> None:
    feed = {"x": floats(1, 3, 22, 9)}
    nodes = [
        node("Conv", "x w", "a", pads=[1, 1, 1, 1]),
        node("Relu", "a", "b"),
        node("MaxPool", "b", "c", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", "c v", "d", pads=[2, 2, 2, 2]),
        node("GlobalAveragePool", "d", "e"),
    ]
    weights = {"w": floats(4, 3, 3, 3), "v": floats(5, 4, 5, 5)}
    played = Played(program(nodes, feed, "d e", weights), feed, shares, kind=SPATIAL)
    assert all(isinstance(played.layout(name), Split) for name in "abcd")
    turned = Played(program(nodes, feed, "d e", weights), feed, shares[:2], kind=SPATIAL, spatial_axis="columns")
    assert turned.layout("a").axis == 3  # type: ignore[union-attr]


def test_items() -> None:
    feed = {"x": floats(7, 24)}
    nodes = [node("MatMul", "x w", "h"), node("Softmax", "h", "y", axis=-1)]
    played = Played(program(nodes, feed, "y", {"w": floats(24, 10)}), feed, (2, 1), kind=REPLICATE)
    assert played.layout("y").sizes == (5, 2)  # type: ignore[union-attr]
    assert not played.divided.hops


def test_large_sums_are_handed_over_in_parts() -> None:
    link = LinkCost(message_s=0.0, hop_s=0.0)
    weights = {"w": floats(24, 48), "v": floats(48, 24)}
    whole = program([node("MatMul", "x w", "h"), node("MatMul", "h v", "y")], X, "y", weights)
    played = Played(whole, X, (1, 1, 1), link=link)
    assert list(played.divided.exports["y"]) == [Split(0, (((0, 2),), ((2, 3),), ((3, 4),)))]
    assert played.kinds == {"reduce-scatter": 1}


def test_a_sum_that_the_client_adds_up_is_not_added_up_before() -> None:
    weights = {"w": floats(24, 48), "b": floats(48), "v": floats(48, 24), "c": floats(24)}
    nodes = [node("Gemm", "x w b", "h"), node("Relu", "h", "r"), node("Gemm", "r v c", "y")]
    whole = program(nodes, X, "y", weights)
    asked = Played(whole, X, (2, 1, 1), added_outside=frozenset("y"))
    assert list(asked.divided.exports["y"]) == [Partial((0, 1, 2))]
    assert not asked.divided.hops
    assert Played(whole, X, (2, 1, 1)).kinds == {"all-reduce": 1}


# ---------------------------------------------------------------- names


def test_names_that_the_program_has_already_are_not_taken() -> None:
    """A model whose values are called what its ranks would call their parts."""
    feed = {"x": floats(4, 24)}
    nodes = [
        node("MatMul", "x w", "h"),
        node("Relu", "h", "h[1:0-24]"),
        node("MatMul", "h[1:0-24] v", "y"),
        node("Add", "y y", "y/partial"),
        node("Neg", "y/partial", "y/from1"),
        node("Sub", "y/from1 y", "y/1"),
        node("TopK", "y/1 k", "y/2 y/3"),
    ]
    weights = {"w": floats(24, 48), "v": floats(48, 24), "k": np.array([2])}
    outputs = "y h h[1:0-24] y/partial y/from1 y/1 y/2"
    Played(program(nodes, feed, outputs, weights), feed, (1, 1))
    Played(program(nodes, feed, outputs, weights), feed, (1, 1, 1, 1), link=LinkCost(trunk_byte_s=1.0))


@pytest.mark.parametrize("shares", [(1, 1), (1, 2, 1)])
def test_one_rank_draws_for_all(shares: tuple[float, ...]) -> None:
    """If each drew for itself, parts of what follows would come from different numbers."""
    turned = np.linalg.qr(floats(24, 24))[0]
    nodes = [
        node("RandomNormalLike", "x", "n"),
        node("MatMul", "n w", "h"),
        node("MatMul", "h v", "back"),
        node("Sub", "back n", "difference"),
        node("Round", "difference", "y"),
    ]
    feed = {"x": floats(4, 24)}
    played = Played(program(nodes, feed, "y", {"w": turned, "v": turned.T.copy()}), feed, shares)
    assert played.kind("h") == "columns"
    drawing = [
        rank for rank, one in enumerate(played.divided.programs) for op in one.ops if op.type == nodes[0].op_type
    ]
    assert drawing == [0]


def test_inner_names_count_as_taken() -> None:
    nodes = [node("If", "yes", "m", then_branch=branch("then", 2.0), else_branch=branch("else", -1.0))]
    whole = program(nodes, {"yes": np.array(True), "h": floats(2)}, "m", {}, {"m": "h"})
    assert {"then/out", "then/factor", "h", "m", "yes"} <= names_of(whole)


def test_local_names_say_what_is_held() -> None:
    plain = RankProgram(1)
    assert local_name("x", REPLICATED, plain) == "x"
    assert local_name("x", Partial((0, 1)), plain) == "x/partial"
    assert local_name("x", Split(2, (((0, 4),), ((4, 6), (8, 9)))), plain) == "x[2:4-6+8-9]"
    many = Split(0, ((), tuple((i, i + 1) for i in range(0, 10, 2))))
    assert local_name("x", many, plain).startswith("x[0:5 ranges of 5 #")
    taken = RankProgram(1, frozenset({"x/partial", "x/partial'"}))
    assert local_name("x", Partial((0, 1)), taken) == "x/partial''"
    assert taken.fresh("x") != taken.fresh("x")


def test_attributes_are_replaced_and_taken_away() -> None:
    whole = program([node("Softmax", "x", "y", axis=1)], X, "y")
    rank = RankProgram(0)
    LocalOp(rank, whole.ops[0], ("x",), ("y",), 0.5).same(axis=None)
    LocalOp(rank, whole.ops[0], ("x",), ("z",), 0.5).same(axis=0)
    assert [list(op.attributes) for op in rank.ops] == [[], ["axis"]]
    assert rank.ops[1].attributes["axis"].as_int() == 0
    assert rank.ops[0].share == 0.5
    assert rank.ops[0].bundle != rank.ops[1].bundle
    assert Group((1.0,)).ranks == range(1)
