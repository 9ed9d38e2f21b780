"""Gather from tables, and gathering and scattering of computed values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.plan.layouts import REPLICATED, Partial, Split
from core.plan.operators.base import AxisLink
from tests.plan.partition.rule_check import Array, Case
from tests.plan.partition.rule_inputs import EXAMPLES, SHARES, floats, kinds, some_parts, wanted


def indices(whole: int, *shape: int, dtype: str = "int64", negative: bool = True) -> Array:
    low = -whole if negative else 0
    return np.random.default_rng([7, whole, *shape]).integers(low, whole, shape).astype(dtype)


def test_a_table_is_divided_by_vocabulary_and_by_features() -> None:
    feed = {"table": floats(11, 6), "ids": indices(11, 2, 5)}
    segments = {("out0", 2): ((6, 2),), ("table", 0): ((11, 1),)}
    found = Case("Gather", feed, ["table"], shares=(0.6, 0.4), segments=segments).check()
    assert kinds(found) == ["columns", "vocabulary"]
    assert wanted(found, "columns").inputs == (Split(1, (((0, 4),), ((4, 6),))), REPLICATED)
    assert wanted(found, "columns").outputs == (Split(2, (((0, 4),), ((4, 6),))),)
    assert wanted(found, "vocabulary").inputs == (Split(0, (((0, 7),), ((7, 11),))), REPLICATED)
    assert wanted(found, "vocabulary").outputs == (Partial((0, 1)),)
    assert wanted(found, "vocabulary").shares == (7 / 11, 4 / 11)


def test_a_rank_without_entries_takes_no_part() -> None:
    found = Case("Gather", {"table": floats(2, 4), "ids": indices(2, 3)}, ["table"], shares=(0.5, 0.3, 0.2)).check()
    assert wanted(found, "vocabulary").outputs == (Partial((0, 1)),)


def test_no_vocabulary_before_there_was_a_where() -> None:
    feed = {"table": floats(8, 4), "ids": indices(8, 3, negative=False)}
    assert kinds(Case("Gather", feed, ["table"], opset=9).check()) == ["columns", "vocabulary"]
    assert kinds(Case("Gather", feed, ["table"], opset=8).check()) == ["columns"]


def test_integers_are_not_looked_up_in_terms() -> None:
    table = np.arange(12, dtype=np.int8).reshape(4, 3)
    assert kinds(Case("Gather", {"table": table, "ids": indices(4, 3)}, ["table"]).check()) == ["columns"]
    mask = np.tri(4, 4, dtype=np.bool_)
    assert Case("Gather", {"mask": mask, "ids": indices(4, 3)}, ["mask"]).choices() == []
    shape = np.array([1, 2, 3])
    assert Case("Gather", {"shape": shape, "at": np.array(1)}, ["shape"]).choices() == []


@pytest.mark.parametrize("dtype", ["int32", "int64"])
@pytest.mark.parametrize("shape", [(), (1,), (4,), (2, 3)])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gather_in_any_table(dtype: str, shape: tuple[int, ...], axis: int) -> None:
    feed = {"table": floats(5, 6, 4), "ids": indices((5, 6, 4)[axis], *shape, dtype=dtype)}
    for shares in ((0.7, 0.3), (0.5, 0.3, 0.2)):
        assert kinds(Case("Gather", feed, ["table"], shares=shares, axis=axis).check()) == ["columns", "vocabulary"]


@EXAMPLES
@given(st.data(), SHARES, st.integers(-3, 2), st.lists(st.integers(1, 4), max_size=2))
def test_gather_of_computed_values(data: st.DataObject, shares: tuple[float, ...], axis: int, shape: list[int]) -> None:
    feed = {"x": floats(4, 6, 5), "ids": indices((4, 6, 5)[axis], *shape)}
    case = Case("Gather", feed, shares=shares, axis=axis)
    cut = data.draw(st.integers(0, 2))
    layout = data.draw(some_parts((4, 6, 5)[cut], len(shares), cut))
    found = case.check(x=layout)
    assert len(found) == int(cut != axis % 3 or all(len(ranges) < 2 for ranges in layout.parts))
    assert all(choice.inputs == (layout, REPLICATED) for choice in found)
    assert len(case.check(x=Partial((0, 1)))) == 1
    if shape:
        cut = data.draw(st.integers(0, len(shape) - 1))
        layout = data.draw(some_parts(shape[cut], len(shares), cut))
        assert [choice.inputs for choice in case.check(ids=layout)] == [(REPLICATED, layout)]


@EXAMPLES
@given(st.data(), SHARES, st.sampled_from(["GatherElements", "ScatterElements"]), st.integers(-2, 1), st.booleans())
def test_elements(data: st.DataObject, shares: tuple[float, ...], op_type: str, axis: int, equal: bool) -> None:
    shape = [5, 6]
    taken = [5, 6] if equal else [4, 5]
    taken[axis] = 3
    order = np.argsort(np.random.default_rng(3).random(shape), axis=axis)
    chosen = order[: taken[0], : taken[1]]
    feed: dict[str, Array] = {"x": floats(5, 6), "ids": np.ascontiguousarray(chosen)}
    if op_type == "ScatterElements":
        feed["updates"] = floats(*taken, seed=1)
    case = Case(op_type, feed, shares=shares, axis=axis)
    other = 1 - axis % 2
    layout = data.draw(some_parts(shape[other], len(shares), other))
    assert len(case.check(x=layout)) == int(equal)
    layout = data.draw(some_parts(shape[axis], len(shares), axis % 2))
    assert case.check(x=layout) == []
    layout = data.draw(some_parts(taken[axis], len(shares), axis % 2))
    assert len(case.check(ids=layout)) == int(op_type == "GatherElements")


@EXAMPLES
@given(st.data(), SHARES, st.sampled_from([0, 1]))
def test_gather_nd(data: st.DataObject, shares: tuple[float, ...], batch_dims: int) -> None:
    places = np.random.default_rng(5).integers(0, 3, (4, 6, 2))
    case = Case("GatherND", {"x": floats(4, 5, 3, 7), "ids": places}, shares=shares, batch_dims=batch_dims)
    expected = {0: bool(batch_dims), 1: False, 2: not batch_dims, 3: True}
    for axis, follows in expected.items():
        layout = data.draw(some_parts((4, 5, 3, 7)[axis], len(shares), axis))
        assert len(case.check(x=layout)) == int(follows)
    for axis, follows in {0: True, 1: True, 2: False}.items():
        layout = data.draw(some_parts((4, 6, 2)[axis], len(shares), axis))
        assert len(case.check(ids=layout)) == int(follows)


@EXAMPLES
@given(st.data(), SHARES)
def test_scatter_nd(data: st.DataObject, shares: tuple[float, ...]) -> None:
    places = np.array([[0, 1], [3, 2], [1, 1]])
    case = Case("ScatterND", {"x": floats(4, 5, 6), "ids": places, "updates": floats(3, 6, seed=1)}, shares=shares)
    layout = data.draw(some_parts(6, len(shares), 2))
    (one,) = case.check(x=layout)
    assert one.inputs == (layout, REPLICATED, Split(1, layout.parts))
    assert case.check(x=data.draw(some_parts(5, len(shares), 1))) == []


def test_links_pass_features_and_positions_on() -> None:
    case = Case("Gather", {"table": floats(11, 6), "ids": indices(11, 2, 5)}, ["table"])
    assert {*case.links()} == {
        AxisLink(("out0", 2), ("table", 1)),
        AxisLink(("out0", 0), ("ids", 0)),
        AxisLink(("out0", 1), ("ids", 1)),
    }
