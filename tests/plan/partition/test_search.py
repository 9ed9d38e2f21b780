"""What the search chooses: column-row pairs, sizes by speed, few exchanges, and everything divided that can be."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from core.cost.exchange import LinkCost
from core.plan.layouts import Group, Partial, Split
from core.plan.op_options import LIGHT_BYTES, RELUCTANCE, Aim, Problem
from core.plan.operators.base import KINDS
from core.plan.program import Program
from core.plan.search import Found, search
from core.plan.strategy_text import SPATIAL
from tests.plan.partition.joined import Array
from tests.plan.partition.programs import OPSETS, Played, floats, node, program

WIDTH, HEADS, LENGTH = 48, 6, 5
SHAPE = np.array([1, LENGTH, HEADS, WIDTH // HEADS])
BACK = np.array([1, LENGTH, WIDTH])
Block = tuple[list[onnx.NodeProto], dict[str, Array]]


def norm(x: str, y: str) -> Block:
    return [node("LayerNormalization", f"{x} {y}/g {y}/b", y)], {f"{y}/g": floats(WIDTH), f"{y}/b": floats(WIDTH)}


def attention(x: str, y: str, shared: int = 1) -> Block:
    """``shared`` heads of queries read one head of keys and values; without residual."""
    keys = HEADS // shared
    wide, narrow = WIDTH, WIDTH // shared
    nodes, weights = [], {f"{y}/shape": SHAPE, f"{y}/back": BACK, f"{y}/o": floats(WIDTH, WIDTH, scale=0.1)}
    weights[f"{y}/narrow"] = np.array([1, LENGTH, keys, WIDTH // HEADS])
    for part, width, shape in (("q", wide, "shape"), ("k", narrow, "narrow"), ("v", narrow, "narrow")):
        weights |= {f"{y}/w{part}": floats(WIDTH, width, scale=0.1), f"{y}/b{part}": floats(width)}
        nodes += [
            node("MatMul", f"{x} {y}/w{part}", f"{y}/{part}0"),
            node("Add", f"{y}/{part}0 {y}/b{part}", f"{y}/{part}1"),
            node("Reshape", f"{y}/{part}1 {y}/{shape}", f"{y}/{part}2"),
            node("Transpose", f"{y}/{part}2", f"{y}/{part}", perm=[0, 2, 3, 1] if part == "k" else [0, 2, 1, 3]),
        ]
    key, value = f"{y}/k", f"{y}/v"
    if shared > 1:
        depth = WIDTH // HEADS
        for part, before in (("k", (depth, LENGTH)), ("v", (LENGTH, depth))):
            weights |= {
                f"{y}/{part}axis": np.array([2]),
                f"{y}/{part}wide": np.array([1, keys, shared, *before]),
                f"{y}/{part}flat": np.array([1, HEADS, *before]),
            }
            nodes += [
                node("Unsqueeze", f"{y}/{part} {y}/{part}axis", f"{y}/{part}3"),
                node("Expand", f"{y}/{part}3 {y}/{part}wide", f"{y}/{part}4"),
                node("Reshape", f"{y}/{part}4 {y}/{part}flat", f"{y}/{part}5"),
            ]
        key, value = f"{y}/k5", f"{y}/v5"
    nodes += [
        node("MatMul", f"{y}/q {key}", f"{y}/scores"),
        node("Softmax", f"{y}/scores", f"{y}/p", axis=-1),
        node("MatMul", f"{y}/p {value}", f"{y}/c"),
        node("Transpose", f"{y}/c", f"{y}/c1", perm=[0, 2, 1, 3]),
        node("Reshape", f"{y}/c1 {y}/back", f"{y}/c2"),
        node("MatMul", f"{y}/c2 {y}/o", y),
    ]
    return nodes, weights


def mlp(x: str, y: str) -> Block:
    weights = {
        f"{y}/up": floats(WIDTH, 4 * WIDTH, scale=0.1),
        f"{y}/bias": floats(4 * WIDTH),
        f"{y}/down": floats(4 * WIDTH, WIDTH, scale=0.1),
        f"{y}/bias2": floats(WIDTH),
    }
    nodes = [
        node("MatMul", f"{x} {y}/up", f"{y}/1"),
        node("Add", f"{y}/1 {y}/bias", f"{y}/2"),
        node("Gelu", f"{y}/2", f"{y}/3"),
        node("MatMul", f"{y}/3 {y}/down", f"{y}/4"),
        node("Add", f"{y}/4 {y}/bias2", y),
    ]
    return nodes, weights


def together(feed: dict[str, Array], outputs: str, *blocks: Block) -> Program:
    weights: dict[str, Array] = {}
    for _, more in blocks:
        weights |= more
    return program([one for nodes, _ in blocks for one in nodes], feed, outputs, weights)


FEED = {"x": floats(1, LENGTH, WIDTH)}


def transformer_block(shared: int = 1) -> Program:
    residuals = [([node("Add", "x a", "r")], {}), ([node("Add", "r m", "y")], {})]
    parts = [norm("x", "n"), attention("n", "a", shared), residuals[0], norm("r", "n2"), mlp("n2", "m"), residuals[1]]
    return together(FEED, "y", *parts)


# ---------------------------------------------------------------- transformer blocks


@pytest.mark.parametrize("shares", [(1, 1), (1, 1, 1), (2, 1), (1, 1, 1, 1)])
def test_one_all_reduce_for_attention_and_one_for_the_mlp(shares: tuple[float, ...]) -> None:
    played = Played(transformer_block(), FEED, shares)
    assert played.kinds["all-reduce"] == 2
    assert set(played.kinds) == {"all-reduce"}
    assert [played.kind(name) for name in ("a/q0", "a/k0", "a/v0", "a")] == ["columns"] * 3 + ["rows"]
    assert [played.kind(name) for name in ("m/1", "m/4")] == ["columns", "rows"]
    assert played.layout("a") == Partial(tuple(range(len(shares))))
    scores = played.layout("a/scores")
    assert isinstance(scores, Split)
    assert scores.axis == 1  # whole heads


def test_heads_stay_whole_and_follow_speed() -> None:
    played = Played(transformer_block(), FEED, (2, 1))
    heads, features, wide = (played.layout(name) for name in ("a/scores", "a/q1", "m/2"))
    assert isinstance(heads, Split)
    assert isinstance(features, Split)
    assert isinstance(wide, Split)
    assert heads.sizes == (4, 2)
    assert features.sizes == (32, 16)
    assert wide.sizes == (128, 64)
    assert played.step("m/1").choice.shares == pytest.approx((2 / 3, 1 / 3))  # type: ignore[union-attr]


@pytest.mark.parametrize("shares", [(1, 1), (1, 1, 1), (1, 1, 1, 1)])
def test_grouped_queries(shares: tuple[float, ...]) -> None:
    """Six heads of queries on three of keys: a rank's queries are those of its keys; the fourth rank has none."""
    played = Played(transformer_block(shared=2), FEED, shares)
    keys, queries = played.layout("a/k"), played.layout("a/q")
    assert isinstance(keys, Split)
    assert isinstance(queries, Split)
    assert queries.parts == tuple(tuple((a * 2, b * 2) for a, b in ranges) for ranges in keys.parts)
    assert sum(keys.sizes) == 3
    assert set(played.kinds) == {"all-reduce"}
    assert played.kinds["all-reduce"] == 2


def test_more_ranks_than_heads_leaves_some_without_attention_but_not_without_work() -> None:
    played = Played(transformer_block(), FEED, (1,) * 8)
    scores, wide = played.layout("a/scores"), played.layout("m/2")
    assert isinstance(scores, Split)
    assert isinstance(wide, Split)
    assert sorted(scores.sizes) == [0, 0, 1, 1, 1, 1, 1, 1]
    assert all(wide.sizes)


def test_speeds_that_differ_by_orders_of_magnitude() -> None:
    """Everybody has a part as long as there is one for each; the fast one has nearly all of what is fine-grained."""
    played = Played(transformer_block(), FEED, (1000, 1, 0.001))
    heads, wide = played.layout("a/scores"), played.layout("m/2")
    assert isinstance(heads, Split)
    assert isinstance(wide, Split)
    assert heads.sizes == (4, 1, 1)
    assert wide.sizes == (190, 1, 1)


def test_fused_queries_keys_and_values_need_no_exchange() -> None:
    weights = {
        "w": floats(WIDTH, 3 * WIDTH, scale=0.1),
        "shape": np.array([1, LENGTH, 3, HEADS, WIDTH // HEADS]),
        "o": floats(WIDTH, WIDTH),
        "back": BACK,
        **{f"i{i}": np.array(i) for i in range(3)},
    }
    nodes = [
        node("MatMul", "x w", "f"),
        node("Reshape", "f shape", "f5"),
        node("Transpose", "f5", "t", perm=[2, 0, 3, 1, 4]),
        *[node("Gather", f"t i{i}", part, axis=0) for i, part in enumerate("qkv")],
        node("Transpose", "k", "kt", perm=[0, 1, 3, 2]),
        node("MatMul", "q kt", "s"),
        node("Softmax", "s", "p"),
        node("MatMul", "p v", "c"),
        node("Transpose", "c", "c1", perm=[0, 2, 1, 3]),
        node("Reshape", "c1 back", "c2"),
        node("MatMul", "c2 o", "y"),
    ]
    played = Played(program(nodes, FEED, "y", weights), FEED, (1, 1, 1))
    assert played.kinds == {"all-reduce": 1}
    fused = played.layout("f")
    assert isinstance(fused, Split)
    assert fused.parts[1] == ((16, 32), (64, 80), (112, 128))


# ---------------------------------------------------------------- what is allowed


def pair(first: int = 48, last: int = 24) -> Program:
    weights = {"w": floats(WIDTH, first), "v": floats(first, last)}
    return program([node("MatMul", "x w", "h"), node("MatMul", "h v", "y")], FEED, "y", weights)


@pytest.mark.parametrize("axis", ["rows", "columns"])
def test_a_forced_axis(axis: str) -> None:
    played = Played(pair(), FEED, tensor_axis=axis)
    assert [played.kind(name) for name in "hy"] == [axis, axis]
    assert played.kinds == ({"reduce-scatter": 1, "all-reduce": 1} if axis == "rows" else {"all-gather": 1})


def test_a_layer_that_the_forced_axis_does_not_fit_says_how_it_could_be_divided() -> None:
    nodes = [node("MatMul", "x w", "h"), node("Gather", "table ids", "e", axis=0)]
    feed = FEED | {"ids": np.array([[1, 5]])}
    whole = program(nodes, feed, "h e", {"w": floats(WIDTH, 8), "table": floats(16, 24)})
    found = Played(whole, feed, tensor_axis="columns").found
    barred = Aim(True, frozenset({"groups"}))
    asked = Problem(whole, (1, 1), Group((0.5, 0.5)), lambda op: 1e-3, barred, LinkCost(), {}, OPSETS[""])
    none = search(asked)
    assert [step.choice is None for step in found.steps] == [False, False]
    assert [step.choice for step in none.steps] == [None, None]
    assert none.steps[0].barred == ("columns", "rows")
    assert "columns" in none.steps[1].barred
    assert not any(step.possible for step in none.steps)


def test_an_operator_without_rule_runs_everywhere_and_is_told() -> None:
    nodes = [node("MatMul", "x w", "h"), node("ReverseSequence", "h n", "s", batch_axis=0, time_axis=1)]
    nodes.append(node("MatMul", "s v", "y"))
    weights = {"w": floats(WIDTH, 48), "v": floats(48, 24), "n": np.array([3])}
    step = Played(program(nodes, FEED, "y", weights), FEED).step("s")
    assert step.choice is None
    assert not step.had_rule
    assert step.met_divided


def test_a_small_model_is_divided_all_the_same() -> None:
    """Far cheaper whole; but who asks for tensor wants the weights divided."""
    feed = {"x": floats(1, 8)}
    nodes = [node("Gemm", "x w", "h"), node("Relu", "h", "r"), node("Gemm", "r v", "y")]
    whole = program(nodes, feed, "y", {"w": floats(8, 6), "v": floats(6, 3)})
    played = Played(whole, feed, (1, 1, 1), seconds=dict.fromkeys(("h", "r", "y"), 1e-9))
    assert [played.kind(name) for name in "hy"] == ["columns", "rows"]
    assert played.found.seconds < RELUCTANCE


def test_light_weights_of_a_large_model_are_divided_only_where_that_pays() -> None:
    """Squeeze and excitation between convolutions: too little to exchange anything for."""
    width = 512
    feed = {"x": floats(1, width)}
    weights = {"w": floats(width, width, scale=0.05), "s": floats(width, 4), "e": floats(4, width)}
    weights["v"] = floats(width, width, scale=0.05)
    assert weights["s"].nbytes < LIGHT_BYTES
    nodes = [
        node("MatMul", "x w", "h"),
        node("MatMul", "h s", "small"),
        node("Relu", "small", "r"),
        node("MatMul", "r e", "gate"),
        node("Mul", "h gate", "g"),
        node("MatMul", "g v", "y"),
    ]
    whole = program(nodes, feed, "y", weights)
    costs = {"h": 1e-3, "y": 1e-3} | dict.fromkeys(("small", "r", "gate", "g"), 1e-7)
    played = Played(whole, feed, seconds=costs)
    assert {played.kind("h"), played.kind("y")} <= {"columns", "rows"}
    assert played.found.seconds < RELUCTANCE
    forced = Played(whole, feed, seconds=costs, tensor_axis="columns")
    assert [forced.kind(name) for name in ("h", "small", "gate", "y")] == ["columns"] * 4


def test_light_weights_with_much_work_are_divided() -> None:
    feed = {"x": floats(1, 2, 12, 12)}
    weights = {"w": floats(8, 2, 3, 3), "big": floats(8 * 144, 64)}
    nodes = [
        node("Conv", "x w", "h", pads=[1, 1, 1, 1]),
        node("Flatten", "h", "f"),
        node("MatMul", "f big", "y"),
    ]
    played = Played(program(nodes, feed, "y", weights), feed, seconds={"h": 1e-3, "f": 0.0, "y": 1e-3})
    assert played.kind("h") == "columns"


# ---------------------------------------------------------------- costs


def found_for(whole: Program, aim: Aim, link: LinkCost, speeds: tuple[float, ...] = (1, 1)) -> Found:
    group = Group(tuple(speed / sum(speeds) for speed in speeds))
    return search(Problem(whole, speeds, group, lambda op: 1e-3, aim, link, {}, OPSETS[""]))


ALL = Aim(True, frozenset(KINDS))


def test_seconds_are_the_slowest_ranks_work_and_the_exchanges() -> None:
    free = LinkCost(0.0, 0.0, 0.0)
    assert found_for(pair(), ALL, free).seconds == pytest.approx(2 * 1e-3 / 2)
    assert found_for(pair(), ALL, free, (2, 1)).seconds == pytest.approx(2 * 1e-3 / 3)
    slow = LinkCost(message_s=1.0, byte_s=0.0, hop_s=0.0)
    fetch, reduce = 2.0, 2.0  # one message in and one out, for the input and for the all-reduce
    assert found_for(pair(), ALL, slow).seconds == pytest.approx(1e-3 + fetch + reduce, rel=1e-3)


def test_an_exchange_that_takes_longer_than_the_work_is_no_reason_not_to_divide() -> None:
    steps = found_for(pair(), ALL, LinkCost(message_s=50.0)).steps
    assert [step.choice is not None for step in steps] == [True, True]


def test_an_input_is_fetched_again_in_another_layout_not_exchanged() -> None:
    """The ranks cut what they need of an input of the program, each time they need something else."""
    feed = {"x": floats(6, WIDTH)}
    nodes = [
        node("MatMul", "x w", "h"),
        node("MatMul", "x v", "k"),
        node("Add", "h k", "s"),
        node("MatMul", "s u", "y"),
    ]
    weights = {"w": floats(WIDTH, 32), "v": floats(WIDTH, 32), "u": floats(32, 8)}
    played = Played(program(nodes, feed, "y", weights), feed)
    assert not any(tensor == "x" for _, tensor in played.collectives)


def test_spatial_divides_no_weight() -> None:
    feed = {"x": floats(1, 3, 16, 16)}
    nodes = [node("Conv", "x w", "a", pads=[1, 1, 1, 1]), node("Conv", "a v", "b", pads=[1, 1, 1, 1])]
    weights = {"w": floats(6, 3, 3, 3), "v": floats(4, 6, 3, 3)}
    played = Played(program(nodes, feed, "b", weights), feed, kind=SPATIAL)
    assert [played.kind(name) for name in "ab"] == ["", ""]
    assert played.weights(0) == played.weights(1) == {"w": (6, 3, 3, 3), "v": (4, 6, 3, 3)}


def test_the_same_search_gives_the_same_steps() -> None:
    def choices(found: Found) -> list[object]:
        return [(s.op.outputs, s.choice and (s.choice.inputs, s.choice.outputs, s.choice.kind)) for s in found.steps]

    whole = transformer_block()
    first = Played(whole, FEED, (3, 2, 1))
    second = Played(transformer_block(), FEED, (3, 2, 1))
    assert choices(first.found) == choices(second.found)
    names = [[(op.type, op.inputs, op.outputs) for op in one.ops] for one in first.divided.programs]
    assert names == [[(op.type, op.inputs, op.outputs) for op in one.ops] for one in second.divided.programs]
    assert first.divided.hops == second.divided.hops


def test_everything_replicated_where_nothing_can_be_divided() -> None:
    whole = program([node("Softmax", "x", "p"), node("Exp", "p", "y")], FEED, "y")
    found = found_for(whole, ALL, LinkCost())
    assert [step.choice for step in found.steps] == [None, None]
    assert found.seconds < RELUCTANCE
    assert all(step.had_rule and not step.possible and not step.barred for step in found.steps)
