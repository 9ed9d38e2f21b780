"""Operators on single elements: every axis is followed, inputs are broadcast, sums take terms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.plan.layouts import REPLICATED, Partial, Split
from core.plan.operators.base import AxisLink
from tests.plan.partition.drawing import SHARES, examples, floats
from tests.plan.partition.held_inputs import cut, scattered, split_outputs, vary
from tests.plan.partition.rule_check import Array, Case

THIRDS = (0.5, 0.3, 0.2)
FLOAT = (
    "Celu Elu Erf Gelu HardSigmoid HardSwish LeakyRelu Mish Relu Round Selu Sigmoid Softplus Softsign Tanh Exp Floor"
)
MORE = "Ceil Sign Abs Neg Identity Reciprocal Sin Cos Tan Sinh Cosh Asinh Atan ThresholdedRelu Shrink IsNaN IsInf"


@pytest.mark.parametrize("op_type", [*FLOAT.split(), *MORE.split()])
def test_a_function_of_each_element_follows_any_axis(op_type: str) -> None:
    case = Case(op_type, {"x": floats(3, 4, 5)}, shares=THIRDS)
    for split in (Split(1, (((1, 2), (3, 4)), (), ((2, 3), (0, 1)))), cut(2, 0, 2, 3, 5)):
        (choice,) = case.check(x=split)
        assert choice.inputs == (split,)
        assert choice.outputs == (split,)
        assert choice.shares == tuple(size / case.view.shape(0)[split.axis] for size in split.sizes)
    assert not case.choices()


@pytest.mark.parametrize(
    ("op_type", "array", "attributes"),
    [
        ("Sqrt", floats(4, 6) ** 2, {}),
        ("Log", floats(4, 6) ** 2 + 1, {}),
        ("Acos", np.clip(floats(4, 6), -1, 1), {}),
        ("Asin", np.clip(floats(4, 6), -1, 1), {}),
        ("Atanh", np.clip(floats(4, 6), -0.9, 0.9), {}),
        ("Acosh", floats(4, 6) ** 2 + 1, {}),
        ("Not", floats(4, 6) > 0, {}),
        ("BitwiseNot", np.arange(24, dtype=np.int32).reshape(4, 6), {}),
        ("Cast", floats(4, 6) * 9, {"to": 7}),
        ("Gelu", floats(4, 6), {"approximate": "tanh"}),
        ("Gelu", floats(4, 6), {"domain": "com.microsoft"}),
        ("QuickGelu", floats(4, 6), {"domain": "com.microsoft", "alpha": 1.5}),
        ("FastGelu", floats(4, 6), {"domain": "com.microsoft"}),
        ("Clip", floats(4, 6), {"opset": 7, "min": -0.5, "max": 0.5}),
        ("Dropout", floats(4, 6), {"opset": 11, "ratio": 0.4}),
        ("LeakyRelu", floats(4, 6), {"alpha": 0.3, "opset": 7}),
    ],
)
def test_functions_of_other_types_and_opsets(op_type: str, array: Array, attributes: dict[str, Any]) -> None:
    case = Case(op_type, {"x": array}, shares=THIRDS, **attributes)
    for split in (cut(0, 0, 1, 1, 4), cut(1, 0, 3, 4, 6)):
        (choice,) = case.check(x=split)
        assert choice.outputs == (split,)


def test_bounds_and_ratios_stay_whole() -> None:
    bounds = {"x": floats(4, 6), "low": np.float32(-0.3), "high": np.float32(0.4)}
    (choice,) = Case("Clip", bounds, ["low", "high"]).check(x=cut(1, 0, 2, 6))
    assert choice.inputs == (cut(1, 0, 2, 6), REPLICATED, REPLICATED)
    (choice,) = Case("Clip", {"x": floats(4, 6), "high": np.float32(0)}, inputs=["x", "", "high"]).check(
        x=cut(0, 0, 2, 4)
    )
    assert choice.inputs == (cut(0, 0, 2, 4), None, REPLICATED)


def test_dropout_with_its_mask_and_not_in_training() -> None:
    ratio = np.float32(0.5)
    split = cut(1, 0, 4, 6)
    (choice,) = Case("Dropout", {"x": floats(4, 6), "ratio": ratio}, ["ratio"], outputs=2).check(x=split)
    assert choice.outputs == (split, split)
    training = {"x": floats(4, 6), "ratio": ratio, "training": np.array(True)}
    assert not Case("Dropout", training, ["ratio", "training"]).choices(x=split)
    off = {"x": floats(4, 6), "ratio": ratio, "training": np.array(False)}
    assert Case("Dropout", off, ["ratio", "training"]).check(x=split)
    assert Case("Dropout", {"x": floats(4, 6)}).check(x=Partial((0, 1)))[0].outputs == (Partial((0, 1)),)


def test_cast_like_keeps_any_layout_of_the_pattern() -> None:
    case = Case("CastLike", {"x": floats(4, 6), "like": np.arange(6)}, shares=THIRDS)
    split = cut(0, 0, 1, 4, 4)
    (choice,) = case.check(x=split, like=cut(0, 0, 3, 6, 6))
    assert choice.inputs == (split, cut(0, 0, 3, 6, 6))
    (choice,) = case.check(x=split, like=cut(0, 0, 6, 6, 6))
    assert choice.inputs == (split, REPLICATED)


def test_a_triangle_is_cut_along_other_axes_only() -> None:
    case = Case("Trilu", {"x": floats(3, 4, 4), "k": np.array(1)}, ["k"], upper=0)
    assert case.check(x=cut(0, 0, 1, 3))[0].outputs == (cut(0, 0, 1, 3),)
    assert not case.choices(x=cut(1, 0, 2, 4))
    assert [link.child for link in case.links()] == [("out0", 0)]


NUMBERS = {"a": floats(2, 4, 6), "b": floats(4, 1)}
WHOLE = np.arange(48, dtype=np.int32).reshape(2, 4, 6)
BITS = {"a": WHOLE.astype(np.uint32), "b": np.full((4, 1), 3, np.uint32)}
LOGIC = {"a": floats(2, 4, 6) > 0, "b": floats(4, 1) > 0}
ON_NUMBERS = (
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Max",
    "Min",
    "Sum",
    "Mean",
    "PRelu",
    "Less",
    "LessOrEqual",
    "Greater",
    "Equal",
)
PAIRS = [
    *((name, NUMBERS, {}) for name in ON_NUMBERS),
    ("GreaterOrEqual", NUMBERS, {}),
    ("Pow", {"a": np.abs(NUMBERS["a"]) + 1, "b": NUMBERS["b"]}, {}),
    ("Mod", {"a": WHOLE, "b": np.full((4, 1), 5, np.int32)}, {}),
    ("Mod", {"a": NUMBERS["a"], "b": NUMBERS["b"]}, {"fmod": 1}),
    *((name, LOGIC, {}) for name in ("And", "Or", "Xor")),
    *((name, BITS, {}) for name in ("BitwiseAnd", "BitwiseOr", "BitwiseXor")),
    ("BitShift", BITS, {"direction": "LEFT"}),
]


@pytest.mark.parametrize(("op_type", "feed", "attributes"), PAIRS)
def test_two_inputs_are_broadcast(op_type: str, feed: dict[str, Array], attributes: dict[str, Any]) -> None:
    case = Case(op_type, feed, shares=THIRDS, **attributes)
    (choice,) = case.check(a=cut(1, 0, 1, 1, 4))
    assert choice.inputs == (cut(1, 0, 1, 1, 4), cut(0, 0, 1, 1, 4))
    assert choice.outputs == (cut(1, 0, 1, 1, 4),)
    assert choice.shares == (0.25, 0, 0.75)
    (choice,) = case.check(a=cut(2, 0, 3, 5, 6))
    assert choice.inputs == (cut(2, 0, 3, 5, 6), REPLICATED)
    (choice,) = case.check(b=Split(0, (((2, 4),), ((0, 1),), ((1, 2),))))
    assert choice.outputs == (Split(1, (((2, 4),), ((0, 1),), ((1, 2),))),)
    assert len(case.check(a=cut(0, 0, 1, 1, 2), b=cut(0, 0, 2, 3, 4))) == 2
    assert len(case.check(a=cut(1, 0, 2, 3, 4), b=cut(0, 0, 2, 3, 4))) == 1
    assert not case.choices()


def test_a_choice_of_three_values() -> None:
    feed = {"c": floats(4, 1) > 0, "a": floats(2, 1, 6), "b": floats(1)}
    case = Case("Where", feed, ["b"])
    (choice,) = case.check(c=cut(0, 0, 3, 4))
    assert choice.inputs == (cut(0, 0, 3, 4), REPLICATED, REPLICATED)
    assert choice.outputs == (cut(1, 0, 3, 4),)
    assert len(case.check(c=cut(0, 0, 3, 4), a=cut(2, 0, 3, 6))) == 2


@pytest.mark.parametrize("op_type", ["BiasGelu", "FastGelu"])
def test_a_bias_is_cut_with_the_features(op_type: str) -> None:
    case = Case(op_type, {"x": floats(2, 3, 8), "b": floats(8)}, ["b"], domain="com.microsoft")
    (choice,) = case.check(x=cut(2, 0, 5, 8))
    assert choice.inputs == (cut(2, 0, 5, 8), cut(0, 0, 5, 8))
    assert case.check(x=cut(1, 0, 1, 3))[0].inputs == (cut(1, 0, 1, 3), REPLICATED)


def test_slopes_of_channels() -> None:
    case = Case("PRelu", {"x": floats(2, 4, 3, 3), "slope": floats(4, 1, 1)}, ["slope"])
    (choice,) = case.check(x=cut(1, 0, 1, 4))
    assert choice.inputs[1] == cut(0, 0, 1, 4)
    assert case.check(x=cut(2, 0, 1, 3))[0].inputs[1] == REPLICATED


@given(st.data())
@examples(50)
def test_random_broadcasts(data: st.DataObject) -> None:
    out = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    count = data.draw(st.integers(2, 3))
    feed = {}
    for index in range(count):
        rank = data.draw(st.integers(0 if index else len(out), len(out)))
        kept = [size if data.draw(st.booleans()) or not index else 1 for size in out[len(out) - rank :]]
        feed[f"x{index}"] = floats(*kept)
    shares = data.draw(SHARES)
    op_type = data.draw(st.sampled_from(["Sum", "Max", "Mean"]))
    case = Case(op_type, feed, shares=shares)
    index = data.draw(st.integers(0, count - 1).filter(lambda i: feed[f"x{i}"].ndim > 0))
    array = feed[f"x{index}"]
    axis = data.draw(st.integers(0, array.ndim - 1))
    split = Split(axis, data.draw(scattered(array.shape[axis], len(shares))))
    found = case.check(**{f"x{index}": split})
    place = axis + len(out) - array.ndim
    assert split_outputs(found) == ([Split(place, split.parts)] if array.shape[axis] == out[place] else [])


TERMS = Partial((0, 2))


@pytest.mark.parametrize("op_type", ["Add", "Sub", "Sum"])
def test_terms_are_added(op_type: str) -> None:
    case = Case(op_type, {"a": floats(3, 4), "b": floats(3, 4)}, shares=THIRDS)
    assert [c.outputs for c in case.check(a=TERMS, b=TERMS)] == [(TERMS,)]
    (choice,) = case.check(a=TERMS)
    assert choice.inputs == (TERMS, REPLICATED)
    assert choice.outputs == (TERMS,)
    assert choice.shares == (1, 0, 1)
    assert [c.inputs for c in case.check(b=TERMS)] == [(REPLICATED, TERMS)]
    assert len(case.check(a=TERMS, b=Partial((0, 1)))) == 2
    assert [c.outputs for c in case.check(a=TERMS, b=cut(1, 0, 1, 2, 4))] == [(cut(1, 0, 1, 2, 4),), (TERMS,)]


def test_a_bias_is_added_once() -> None:
    case = Case("Add", {"x": floats(3, 4), "b": floats(4)}, ["b"])
    assert case.check(x=Partial((0, 1)))[0].outputs == (Partial((0, 1)),)
    # the term would have to grow to the output's shape on each rank
    assert not case.choices(b=Partial((0, 1)))
    three = Case("Sum", {"x": floats(3, 4), "b": floats(4), "y": floats(3, 1)}, shares=THIRDS)
    assert three.check(x=TERMS, y=TERMS)[0].inputs == (TERMS, REPLICATED, TERMS)
    same_now = Case("Add", {"x": floats(1, 4), "y": floats(1, 4)})
    assert same_now.check(x=Partial((0, 1)))
    assert not vary(same_now, {"y": (0,), "out0": (0,)}).choices(x=Partial((0, 1)))


def test_integers_are_added_up_but_not_scaled() -> None:
    whole = {"a": WHOLE, "b": WHOLE + 7}
    assert Case("Add", whole).choices(a=Partial((0, 1)))
    assert not Case("Mul", whole).choices(a=Partial((0, 1)))
    assert not Case("Add", {"a": WHOLE.astype(np.int64), "b": WHOLE.astype(np.int64)}).choices(a=Partial((0, 1)))


def test_terms_are_scaled_and_nothing_else() -> None:
    feed = {"a": floats(3, 4), "b": floats(4) + 3}
    assert [c.inputs for c in Case("Mul", feed, shares=THIRDS).check(a=TERMS)] == [(TERMS, REPLICATED)]
    assert [c.inputs for c in Case("Mul", feed, shares=THIRDS).check(b=TERMS)] == [(REPLICATED, TERMS)]
    assert len(Case("Mul", feed, shares=THIRDS).check(a=TERMS, b=TERMS)) == 2
    assert [c.inputs for c in Case("Div", feed, shares=THIRDS).check(a=TERMS)] == [(TERMS, REPLICATED)]
    assert not Case("Div", feed, shares=THIRDS).choices(b=TERMS)
    for op_type in ("Neg", "Identity"):
        assert Case(op_type, {"x": floats(3, 4)}, shares=THIRDS).check(x=TERMS)[0].outputs == (TERMS,)
    for op_type in ("Relu", "Cast", "Exp"):
        extra = {"to": 11} if op_type == "Cast" else {}
        assert not Case(op_type, {"x": floats(3, 4)}, shares=THIRDS, **extra).choices(x=TERMS)
    assert not Case("Max", feed, shares=THIRDS).choices(a=TERMS, b=TERMS)


def test_what_varies_is_not_followed() -> None:
    case = vary(Case("Add", {"a": floats(4, 6), "b": floats(4, 6)}), {"b": (0,), "out0": (0,)})
    assert not case.choices(a=cut(0, 0, 2, 4))
    assert case.choices(a=cut(1, 0, 2, 6))


def test_axes_of_equal_size_are_linked() -> None:
    feed = {"a": floats(2, 4, 6), "b": floats(4, 1), "c": floats(6)}
    links = vary(Case("Sum", feed, ["c"]), {"a": (0,), "out0": (0,)}).links()
    assert links == [
        AxisLink(("out0", 1), ("a", 1)),
        AxisLink(("out0", 2), ("a", 2)),
        AxisLink(("out0", 1), ("b", 0)),
    ]
    assert Case("Relu", {"x": floats(1, 4)}).links() == [AxisLink(("out0", 1), ("x", 1))]
    assert Case("Dropout", {"x": floats(1, 4)}, outputs=2).links() == [AxisLink(("out0", 1), ("x", 1))]
