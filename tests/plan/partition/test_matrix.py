"""Products of matrices, divided by columns, rows, batch axes and terms."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.plan.layouts import REPLICATED, Partial, Split
from core.plan.operators.base import AxisLink
from tests.plan.partition.rule_check import Case
from tests.plan.partition.rule_inputs import EXAMPLES, SHARES, bytes_of, floats, kinds, some_parts, wanted


def test_a_weight_on_the_right_is_divided_by_columns_and_by_rows() -> None:
    case = Case("MatMul", {"x": floats(2, 5, 12), "w": floats(12, 8)}, ["w"], shares=(0.75, 0.25))
    found = case.check()
    assert kinds(found) == ["columns", "rows"]
    columns, rows = wanted(found, "columns"), wanted(found, "rows")
    cut = (((0, 6),), ((6, 8),))
    assert columns.inputs == (REPLICATED, Split(1, cut))
    assert columns.outputs == (Split(2, cut),)
    assert columns.shares == rows.shares == (0.75, 0.25)
    assert rows.inputs == (Split(2, (((0, 9),), ((9, 12),))), Split(0, (((0, 9),), ((9, 12),))))
    assert rows.outputs == (Partial((0, 1)),)


def test_a_weight_on_the_left_gives_the_output_its_rows() -> None:
    case = Case("MatMul", {"w": floats(8, 12), "x": floats(12, 5)}, ["w"])
    found = case.check()
    assert wanted(found, "columns").outputs == (Split(0, (((0, 4),), ((4, 8),))),)
    assert wanted(found, "rows").inputs[1] == Split(0, (((0, 6),), ((6, 12),)))


def test_seeds_respect_what_readers_want() -> None:
    segments = {("out0", 2): ((6, 2), (6, 2), (6, 2)), ("x", 2): ((8, 4), (4, 2))}
    case = Case("MatMul", {"x": floats(1, 3, 12), "w": floats(12, 18)}, ["w"], segments=segments, shares=(0.7, 0.3))
    found = case.check()
    assert wanted(found, "columns").inputs[1] == Split(1, (((0, 4), (6, 10), (12, 16)), ((4, 6), (10, 12), (16, 18))))
    assert wanted(found, "rows").inputs[0] == Split(2, (((0, 4), (8, 10)), ((4, 8), (10, 12))))


def test_more_ranks_than_columns_leave_some_without_work() -> None:
    found = Case("MatMul", {"x": floats(3, 2), "w": floats(2, 3)}, ["w"], shares=(0.2,) * 5).check()
    assert wanted(found, "columns").shares == (1 / 3, 1 / 3, 1 / 3, 0, 0)
    assert kinds(Case("MatMul", {"x": floats(3, 2), "w": floats(2, 1)}, ["w"]).choices()) == ["rows"]


def test_an_outer_product_is_not_divided_for_its_weight() -> None:
    """Rotary angles: a few frequencies times positions."""
    assert Case("MatMul", {"f": floats(4, 1), "x": floats(1, 6)}, ["f"]).choices() == []


def test_what_varies_is_not_divided() -> None:
    case = Case("MatMul", {"x": floats(4, 6), "w": floats(6, 6)}, ["w"])
    assert case.check(x=Split(0, (((0, 1),), ((1, 4),))))[0].kind == ""
    case.vary({"x": [0]})
    assert kinds(case.choices(x=Split(0, (((0, 1),), ((1, 4),))))) == ["columns", "rows"]


def test_two_computed_matrices_only_follow() -> None:
    case = Case("MatMul", {"q": floats(2, 4, 5, 6), "k": floats(2, 4, 6, 7)})
    assert case.choices() == []
    heads = Split(1, (((0, 3),), ((3, 4),)))
    (one,) = case.check(q=heads, k=heads)
    assert (one.inputs, one.outputs, one.kind) == ((heads, heads), (heads,), "")
    (one,) = case.check(k=heads)
    assert one.inputs == (heads, heads)
    assert case.check(q=Split(2, (((0, 3),), ((3, 5),))))[0].inputs[1] == REPLICATED
    assert case.check(k=Split(3, (((0, 3),), ((3, 7),))))[0].outputs == (Split(3, (((0, 3),), ((3, 7),))),)
    assert case.check(q=Split(3, (((0, 3),), ((3, 6),))))[0].outputs == (Partial((0, 1)),)
    assert [c.inputs for c in case.check(q=Partial((0, 1)))] == [(Partial((0, 1)), REPLICATED)]
    assert len(case.check(q=Partial((0, 1)), k=Partial((0, 1)))) == 2


def test_overlapping_parts_are_not_summed() -> None:
    case = Case("MatMul", {"x": floats(4, 6), "w": floats(6, 6)}, ["w"])
    halo = (((0, 4),), ((3, 6),))
    assert all(choice.inputs[0] != Split(1, halo) for choice in case.choices(x=Split(1, halo)))


def test_the_square_of_a_sum_is_not_the_sum_of_squares() -> None:
    case = Case("MatMul", {"x": floats(4, 4)}, inputs=("x", "x"))
    assert case.choices(x=Partial((0, 1))) == []
    assert case.choices(x=Split(1, (((0, 2),), ((2, 4),)))) == []


@EXAMPLES
@given(st.data(), SHARES)
def test_matmul_of_any_shapes(data: st.DataObject, shares: tuple[float, ...]) -> None:
    size = st.integers(1, 5)
    rows, inner, columns = data.draw(size), data.draw(st.integers(1, 9)), data.draw(size)
    batch = data.draw(st.lists(st.integers(1, 4), max_size=2))
    one = data.draw(st.sampled_from([0, 1, 2])) if batch else 0
    batches = [list(batch), list(batch)]
    if one:
        batches[one - 1] = data.draw(st.sampled_from([[1] * len(batch), batch[1:], []]))
    a, b = (*batches[0], rows, inner), (*batches[1], inner, columns)
    if data.draw(st.booleans()) and len(a) == 2:
        a = (inner,)
    if data.draw(st.booleans()) and len(b) == 2 and len(a) > 1:
        b = (inner,)
    weight = data.draw(st.sampled_from([[], ["a"], ["b"]]))
    case = Case("MatMul", {"a": floats(*a), "b": floats(*b, seed=1)}, weight, shares=shares)
    held = data.draw(st.sampled_from(sorted({"a", "b"} - {*weight})))
    shape = {"a": a, "b": b}[held]
    axis = data.draw(st.integers(0, len(shape) - 1))
    layout = data.draw(some_parts(shape[axis], len(shares), axis))
    found = case.check(**{held: layout})
    if shape[axis] > 1:
        assert any(choice.inputs["ab".index(held)] == layout for choice in found)
    assert case.check(**{held: Partial(tuple(range(1, len(shares))))})


@EXAMPLES
@given(
    st.data(),
    SHARES,
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, (), (1,), "n", "1n", "m1", "mn"]),
    st.booleans(),
)
def test_gemm(
    data: st.DataObject, shares: tuple[float, ...], turn_a: bool, turn_b: bool, bias: Any, bias_is_weight: bool
) -> None:
    m, k, n = (data.draw(st.integers(2, 6)) for _ in range(3))
    feed = {"a": floats(*((k, m) if turn_a else (m, k))), "b": floats(*((n, k) if turn_b else (k, n)), seed=1)}
    if bias is not None:
        feed["c"] = floats(*({"n": n, "1": 1, "m": m}[x] for x in bias) if isinstance(bias, str) else bias, seed=2)
    weights = ["b", "c"] if bias is not None and bias_is_weight else ["b"]
    turns: dict[str, Any] = {"transA": int(turn_a), "transB": int(turn_b), "alpha": 0.5, "beta": 1.5}
    case = Case("Gemm", feed, weights, shares=shares, **turns)
    axis = data.draw(st.integers(0, 1))
    layout = data.draw(some_parts(feed["a"].shape[axis], len(shares), axis))
    found = case.check(a=layout)
    assert {"columns", "rows"} <= {choice.kind for choice in found}
    assert any(choice.inputs[0] == layout for choice in found)
    assert len(case.check(a=Partial((0, 1)))) == 3


def test_rows_add_the_bias_once() -> None:
    feed = {"a": floats(2, 4), "b": floats(4, 3), "c": floats(3)}
    found = Case("Gemm", feed, ["b", "c"]).check()
    assert wanted(found, "rows").inputs[2] == REPLICATED
    assert wanted(found, "columns").inputs[2] == Split(0, (((0, 2),), ((2, 3),)))


EQUATIONS = [
    ("bsd,df->bsf", {"columns", "rows"}),
    ("bsd,dhe->bshe", {"columns", "rows"}),
    ("bshe,hed->bsd", {"columns", "rows"}),
    ("gsd,gdf->gsf", {"columns", "rows", "groups"}),
    ("bd,fd", {"columns", "rows"}),
    ("b s d , d f -> f s b", {"columns", "rows"}),
]


@pytest.mark.parametrize(("equation", "expected"), EQUATIONS)
@pytest.mark.parametrize("shares", [(0.6, 0.4), (0.5, 0.3, 0.2)])
def test_einsum_with_a_weight(equation: str, expected: set[str], shares: tuple[float, ...]) -> None:
    sizes = dict(zip("bsdfheg", (2, 5, 4, 3, 4, 6, 3), strict=True))
    left, right = equation.replace(" ", "").split("->")[0].split(",")
    feed = {"x": floats(*(sizes[c] for c in left)), "w": floats(*(sizes[c] for c in right))}
    case = Case("Einsum", feed, ["w"], shares=shares, equation=equation)
    assert {choice.kind for choice in case.check()} == expected


@EXAMPLES
@given(st.data(), SHARES)
def test_einsum_of_computed_values(data: st.DataObject, shares: tuple[float, ...]) -> None:
    equation = data.draw(
        st.sampled_from(["bhqd,bhkd->bhqk", "ij,jk,kl->il", "i,j->ij", "ab->b", "ab,ab->", "abc->cba"])
    )
    sizes = {letter: data.draw(st.integers(1, 5)) for letter in "abcdhijklq"}
    terms = equation.split("->")[0].split(",")
    feed = {f"x{i}": floats(*(sizes[c] for c in term), seed=i) for i, term in enumerate(terms)}
    case = Case("Einsum", feed, shares=shares, equation=equation)
    name = data.draw(st.sampled_from(sorted(feed)))
    axis = data.draw(st.integers(0, feed[name].ndim - 1))
    layout = data.draw(some_parts(feed[name].shape[axis], len(shares), axis))
    (one,) = case.check(**{name: layout})
    assert one.inputs[case.op.inputs.index(name)] == layout
    assert len(case.check(**{name: Partial((0, 1))})) == 1


def test_einsum_keeps_what_is_broadcast_whole() -> None:
    case = Case("Einsum", {"x": floats(3, 1), "y": floats(4, 5)}, equation="ij,jk->ik")
    (one,) = case.check(y=Split(0, (((0, 1),), ((1, 4),))))
    assert (one.inputs[0], one.outputs) == (REPLICATED, (Partial((0, 1)),))


def test_einsum_leaves_diagonals_and_ellipses_alone() -> None:
    halves = Split(0, (((0, 2),), ((2, 4),)))
    assert Case("Einsum", {"x": floats(4, 4)}, equation="ii->i").choices(x=halves) == []
    case = Case("Einsum", {"x": floats(4, 4), "w": floats(4, 4)}, ["w"], equation="...a,ab->...b")
    assert case.choices(x=halves) == []


@EXAMPLES
@given(st.data(), SHARES, st.sampled_from(["MatMulInteger", "QLinearMatMul"]), st.booleans(), st.booleans())
def test_integer_products(
    data: st.DataObject, shares: tuple[float, ...], op_type: str, each_column: bool, batched: bool
) -> None:
    m, k, n = data.draw(st.integers(2, 5)), data.draw(st.integers(2, 9)), data.draw(st.integers(2, 5))
    a = bytes_of("uint8", *((2, m, k) if batched else (m, k)))
    b = bytes_of("int8", k, n)
    zeros = bytes_of("int8", n, seed=3) if each_column else np.array(3, np.int8)
    scales = np.abs(floats(n)) + 0.01 if each_column else np.float32(0.02)
    if op_type == "MatMulInteger":
        feed = {"a": a, "b": b, "az": np.array(120, np.uint8), "bz": zeros}
    else:
        feed = {"a": a, "as": np.float32(0.02), "az": np.array(120, np.uint8), "b": b, "bs": scales, "bz": zeros}
        feed |= {"ys": np.float32(0.5), "yz": np.array(100, np.uint8)}
    case = Case(op_type, feed, [name for name in feed if name != "a"], shares=shares)
    axis = data.draw(st.integers(0, a.ndim - 1))
    layout = data.draw(some_parts(a.shape[axis], len(shares), axis))
    found = case.check(a=layout)
    assert "columns" in kinds(found)
    assert ("rows" in kinds(found)) == (op_type == "MatMulInteger")
    assert any(choice.inputs[0] == layout for choice in found) == (op_type == "MatMulInteger" or axis < a.ndim - 1)
    index = case.op.inputs.index("bz")
    assert isinstance(wanted(found, "columns").inputs[index], Split) == each_column


@EXAMPLES
@given(st.data(), SHARES)
def test_fused_products(data: st.DataObject, shares: tuple[float, ...]) -> None:
    turns = {"transA": data.draw(st.integers(0, 1)), "transB": data.draw(st.integers(0, 1))}
    m, k, n = (data.draw(st.integers(2, 6)) for _ in range(3))
    feed = {
        "a": floats(*((k, m) if turns["transA"] else (m, k))),
        "b": floats(*((n, k) if turns["transB"] else (k, n))),
    }
    case = Case("FusedMatMul", feed, ["b"], domain="com.microsoft", shares=shares, alpha=0.25, **turns)
    assert kinds(case.check()) == ["columns", "rows"]
    feed["c"] = floats(n)
    fused: dict[str, Any] = {**turns, "alpha": 0.5, "activation": "Relu"}
    case = Case("FusedGemm", feed, ["b", "c"], domain="com.microsoft", shares=shares, **fused)
    assert kinds(case.check(a=Partial((0, 1)))) == ["columns"]


def test_transposed_batches_are_left_alone() -> None:
    feed = {"a": floats(4, 3, 5), "b": floats(3, 5, 6)}
    case = Case("FusedMatMul", feed, ["b"], domain="com.microsoft", transBatchA=1)
    assert case.choices() == []


@pytest.mark.parametrize("shares", [(0.6, 0.4), (0.5, 0.3, 0.2)])
def test_dynamically_quantised_products(shares: tuple[float, ...]) -> None:
    feed: dict[str, Any] = {"a": floats(3, 8), "b": bytes_of("int8", 8, 6), "bs": np.abs(floats(6)) + 0.01}
    feed |= {"bz": np.zeros(6, np.int8), "bias": floats(6)}
    weights = ["b", "bs", "bz", "bias"]
    case = Case("DynamicQuantizeMatMul", feed, weights, domain="com.microsoft", shares=shares)
    assert kinds(case.check(a=Split(0, (((0, 1),), ((1, 3),), ())[: len(shares)]))) == ["columns"]
    feed = {"a": bytes_of("uint8", 3, 8), "b": feed["b"], "as": np.float32(0.1), "bs": feed["bs"]} | {
        "az": np.array(7, np.uint8),
        "bz": feed["bz"],
        "bias": feed["bias"],
    }
    case = Case("MatMulIntegerToFloat", feed, weights, domain="com.microsoft", shares=shares)
    assert kinds(case.check()) == ["columns", "rows"]


@pytest.mark.parametrize("shares", [(0.6, 0.4), (0.5, 0.3, 0.2)])
@pytest.mark.parametrize("rounded", [True, False])
def test_qgemm(shares: tuple[float, ...], rounded: bool) -> None:
    feed: dict[str, Any] = {"a": bytes_of("uint8", 3, 8), "as": np.float32(0.1), "az": np.array(7, np.uint8)}
    feed |= {"b": bytes_of("int8", 6, 8), "bs": np.abs(floats(6)) + 0.01, "bz": np.zeros(6, np.int8)}
    feed |= {"c": np.arange(6, dtype=np.int32)}
    if rounded:
        feed |= {"ys": np.float32(3), "yz": np.array(90, np.uint8)}
    weights = [name for name in feed if name != "a"]
    case = Case("QGemm", feed, weights, domain="com.microsoft", shares=shares, transB=1)
    assert kinds(case.check(a=Split(0, (((0, 1),), ((1, 3),), ())[: len(shares)]))) == ["", "columns"]


@pytest.mark.parametrize("shares", [(0.6, 0.4), (0.5, 0.3, 0.2)])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("zeros", ["", "packed"])
@pytest.mark.parametrize("flat", [True, False])
def test_weights_of_few_bits(shares: tuple[float, ...], bits: int, zeros: str, flat: bool) -> None:
    block, blocks, columns = 16, 4, 6
    feed: dict[str, Any] = {
        "a": floats(2, 3, block * blocks),
        "b": bytes_of("uint8", columns, blocks, block * bits // 8),
        "s": np.abs(floats(columns, blocks)),
    }
    if zeros:
        feed["z"] = bytes_of("uint8", columns, blocks * bits // 8)
    if flat:
        feed |= {name: feed[name].reshape(-1) for name in ("s", "z") if name in feed}
    feed["bias"] = floats(columns)
    names = ("a", "b", "s", "z" if zeros else "", "", "bias")
    sizes: dict[str, Any] = {"K": block * blocks, "N": columns, "bits": bits, "block_size": block}
    weights = [name for name in feed if name != "a"]
    case = Case("MatMulNBits", feed, weights, inputs=names, domain="com.microsoft", shares=shares, **sizes)
    found = case.check(a=Split(1, (((0, 1),), ((1, 3),), ())[: len(shares)]))
    many_enough = len(shares) == 2 or not (zeros and bits == 4)
    assert kinds(found) == ["", "columns"] + ([] if flat else ["rows"])
    if not flat and many_enough:
        assert len(wanted(found, "rows").outputs[0].ranks) == len(shares)  # type: ignore[union-attr]


def test_links_join_features_and_batches() -> None:
    found = Case("MatMul", {"x": floats(2, 5, 12), "w": floats(12, 8)}, ["w"]).links()
    assert AxisLink(("out0", 2), ("w", 1)) in found
    assert AxisLink(("x", 2), ("w", 0)) in found
    assert AxisLink(("out0", 0), ("x", 0)) in found
    assert len(found) == 4
    found = Case("MatMul", {"q": floats(2, 4, 5, 6), "k": floats(1, 4, 6, 7)}).links()
    assert {AxisLink(("out0", 1), ("q", 1)), AxisLink(("out0", 1), ("k", 1))} <= {*found}
    assert AxisLink(("out0", 0), ("k", 0)) not in found
    gemm = Case("Gemm", {"a": floats(2, 4), "b": floats(3, 4), "c": floats(3)}, ["b", "c"], transB=1).links()
    assert {AxisLink(("out0", 1), ("b", 0)), AxisLink(("out0", 1), ("c", 0)), AxisLink(("a", 1), ("b", 1))} <= {*gemm}


def test_gpt2_addmm_keeps_queries_keys_and_values_apart() -> None:
    """Gemm on [items x positions, features], whose 36 columns are three times three heads of four."""
    segments = {("out0", 1): ((12, 4), (12, 4), (12, 4))}
    feed = {"a": floats(10, 12), "b": floats(12, 36), "c": floats(36)}
    found = Case("Gemm", feed, ["b", "c"], segments=segments, shares=(0.6, 0.4)).check()
    parts = wanted(found, "columns").outputs[0]
    assert parts == Split(1, (((0, 8), (12, 20), (24, 32)), ((8, 12), (20, 24), (32, 36))))
    assert prod(feed["b"].shape) == 12 * 36


def test_gemm_that_must_add_something() -> None:
    """Until opset 10 C is not optional."""
    feed = {"a": floats(3, 8), "b": floats(8, 6), "c": floats(6)}
    choices = Case("Gemm", feed, ["b", "c"], opset=9).check(a=Split(1, (((0, 4),), ((4, 8),))))
    assert "rows" in [choice.kind for choice in choices]
