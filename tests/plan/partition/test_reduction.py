"""Reductions: other axes are followed; along a split axis what adds up leaves terms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.plan.layouts import REPLICATED, Partial, Split
from core.plan.operators.base import AxisLink
from tests.plan.partition.drawing import SHARES, examples, floats
from tests.plan.partition.held_inputs import cut, scattered
from tests.plan.partition.rule_check import Case

THIRDS = (0.5, 0.3, 0.2)
ALL = ["Sum", "Mean", "L1", "L2", "SumSquare", "Max", "Min", "Prod", "LogSum", "LogSumExp"]
ADDS_UP = {"Sum", "Mean", "L1", "SumSquare"}


def reduced(name: str, axes: list[int] | None, opset: int = 23, **attributes: Any) -> Case:
    feed = {"x": np.abs(floats(3, 4, 5)) + 0.5}
    if axes is None:
        return Case(f"Reduce{name}", feed, shares=THIRDS, opset=opset, **attributes)
    if opset < 13:
        return Case(f"Reduce{name}", feed, shares=THIRDS, opset=opset, axes=axes, **attributes)
    return Case(
        f"Reduce{name}", feed | {"axes": np.array(axes, np.int64)}, ["axes"], shares=THIRDS, opset=opset, **attributes
    )


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("opset", [11, 23])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_one_axis_is_reduced(name: str, opset: int, keepdims: int) -> None:
    case = reduced(name, [-2], opset, keepdims=keepdims)
    assert case.check(x=cut(0, 0, 2, 2, 3))[0].outputs == (cut(0, 0, 2, 2, 3),)
    last = Split(2, (((3, 5),), ((0, 2),), ((2, 3),)))
    assert case.check(x=last)[0].outputs == (Split(1 + keepdims, last.parts),)
    found = case.check(x=cut(1, 0, 3, 3, 4))
    assert [choice.outputs for choice in found] == ([(Partial((0, 2)),)] if name in ADDS_UP else [])
    assert not case.choices(x=Split(1, (((0, 3),), ((2, 4),), ())))
    assert not case.choices()
    assert case.links() == [AxisLink(("out0", 0), ("x", 0)), AxisLink(("out0", 1 + keepdims), ("x", 2))]


@pytest.mark.parametrize("name", ALL)
def test_everything_is_reduced(name: str) -> None:
    found = reduced(name, None).check(x=Split(1, (((0, 1), (2, 3)), (), ((1, 2), (3, 4)))))
    assert [choice.outputs for choice in found] == ([(Partial((0, 2)),)] if name in ADDS_UP else [])
    assert all(choice.shares == (0.5, 0, 0.5) for choice in found)


@pytest.mark.parametrize("name", ["Sum", "Mean", "Max", "SumSquare"])
def test_nothing_is_reduced(name: str) -> None:
    case = reduced(name, [], noop_with_empty_axes=1)
    for axis, size in enumerate((3, 4, 5)):
        assert case.check(x=cut(axis, 0, 1, 2, size))[0].outputs == (cut(axis, 0, 1, 2, size),)
    assert reduced(name, None, noop_with_empty_axes=1).check(x=cut(1, 0, 1, 3, 4))[0].outputs == (cut(1, 0, 1, 3, 4),)
    assert len(case.links()) == 3


def test_computed_axes_are_not_guessed() -> None:
    case = Case("ReduceMax", {"x": floats(3, 4), "axes": np.array([1])})
    assert not case.choices(x=cut(0, 0, 1, 3))
    assert not case.links()


def test_terms_pass_through_sums_and_means() -> None:
    terms = Partial((1, 2))
    for name in ALL:
        found = reduced(name, [1]).check(x=terms)
        assert [choice.outputs for choice in found] == ([(terms,)] if name in {"Sum", "Mean"} else [])


def test_whole_numbers_are_not_averaged_in_parts() -> None:
    feed = {"x": np.arange(12, dtype=np.int32).reshape(3, 4), "axes": np.array([1])}
    assert Case("ReduceSum", feed, ["axes"]).check(x=cut(1, 0, 1, 4))[0].outputs == (Partial((0, 1)),)
    assert not Case("ReduceMean", feed, ["axes"]).choices(x=cut(1, 0, 1, 4))


def test_half_precision_means_keep_their_type() -> None:
    feed = {"x": floats(3, 4).astype(np.float16), "axes": np.array([1])}
    assert Case("ReduceMean", feed, ["axes"]).check(rtol=1e-2, x=cut(1, 0, 1, 4))


@pytest.mark.parametrize("op_type", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_places_of_the_largest(op_type: str, keepdims: int) -> None:
    case = Case(op_type, {"x": floats(3, 4, 5)}, axis=1, keepdims=keepdims)
    assert case.check(x=cut(2, 0, 1, 5))[0].outputs == (cut(1 + keepdims, 0, 1, 5),)
    assert case.check(x=cut(0, 0, 1, 3))
    assert not case.choices(x=cut(1, 0, 1, 4))
    assert not Case(op_type, {"x": floats(3, 4, 5)}).choices(x=cut(0, 0, 1, 3))
    assert len(case.links()) == 2


def test_the_first_few() -> None:
    case = Case("TopK", {"x": floats(3, 4, 5), "k": np.array([2])}, ["k"], outputs=2)
    (choice,) = case.check(x=cut(1, 0, 1, 4))
    assert choice.inputs == (cut(1, 0, 1, 4), REPLICATED)
    assert choice.outputs == (cut(1, 0, 1, 4),) * 2
    assert not case.choices(x=cut(2, 0, 1, 5))
    assert not case.choices(x=Partial((0, 1)))
    assert {link.child[0] for link in case.links()} == {"out0", "out1"}


def test_running_sums() -> None:
    case = Case("CumSum", {"x": floats(3, 4), "axis": np.array(-1)}, ["axis"], reverse=1)
    assert case.check(x=cut(0, 0, 1, 3))[0].outputs == (cut(0, 0, 1, 3),)
    assert case.check(x=Partial((0, 1)))[0].outputs == (Partial((0, 1)),)
    assert not case.choices(x=cut(1, 0, 1, 4))
    assert not Case("CumSum", {"x": floats(3, 4), "axis": np.array(-1)}).choices(x=cut(0, 0, 1, 3))


@given(st.data())
@examples(50)
def test_random_reductions(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=4)))
    axes = data.draw(st.lists(st.integers(0, len(shape) - 1), unique=True, min_size=1))
    signed = [axis - len(shape) if data.draw(st.booleans()) else axis for axis in axes]
    shares = data.draw(SHARES)
    name = data.draw(st.sampled_from(ALL))
    feed = {"x": np.abs(floats(*shape)) + 0.5, "axes": np.array(signed)}
    keepdims = data.draw(st.integers(0, 1))
    case = Case(f"Reduce{name}", feed, ["axes"], shares=shares, keepdims=keepdims)
    axis = data.draw(st.integers(0, len(shape) - 1))
    split = Split(axis, data.draw(scattered(shape[axis], len(shares))))
    found = [choice.outputs[0] for choice in case.check(x=split)]
    if axis in axes:
        assert found == ([Partial(split.ranks)] if name in ADDS_UP else [])
    else:
        after = axis if keepdims else axis - sum(one < axis for one in axes)
        assert found == [Split(after, split.parts)]
