"""Parts put together, taken apart and cut out."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.plan.layouts import REPLICATED, Layout, Partial, Split
from core.plan.operators.base import AxisLink
from tests.plan.partition.drawing import SHARES, examples, floats
from tests.plan.partition.held_inputs import cut, scattered, vary
from tests.plan.partition.rule_check import Case

THIRDS = (0.5, 0.3, 0.2)
TERMS = Partial((0, 1))


def outputs(case: Case, **have: Layout) -> list[Layout]:
    return [choice.outputs[0] for choice in case.check(**have)]


# Concat


def test_concat_on_another_axis() -> None:
    feed = {"a": floats(2, 4, 3), "b": floats(2, 4, 5), "c": floats(2, 4, 1)}
    case = Case("Concat", feed, ["c"], axis=-1, shares=THIRDS)
    split = Split(1, (((2, 4),), (), ((0, 2),)))
    (choice,) = case.check(b=split)
    assert choice.inputs == (split,) * 3
    assert choice.outputs == (split,)
    assert len(case.check(a=cut(0, 0, 1, 1, 2), b=split)) == 2
    assert not vary(Case("Concat", feed, axis=2), {"a": (1,)}).choices(b=cut(1, 0, 2, 4))
    assert not case.choices()
    links = case.links()
    assert links[:3] == [
        AxisLink(("out0", 0), ("a", 0)),
        AxisLink(("out0", 1), ("a", 1)),
        AxisLink(("a", 2), ("out0", 2), offset=0),
    ]
    assert links[5] == AxisLink(("b", 2), ("out0", 2), offset=3)
    assert len(links) == 6


def test_concat_along_the_split_axis() -> None:
    case = Case("Concat", {"a": floats(6, 2), "b": floats(4, 2)}, axis=0, shares=THIRDS)
    a, b = cut(0, 0, 2, 4, 6), cut(0, 0, 1, 3, 4)
    assert outputs(case, a=a, b=b) == [Split(0, (((0, 2), (6, 7)), ((2, 4), (7, 9)), ((4, 6), (9, 10))))]
    # positions behind one that every rank has
    first = Case("Concat", {"cls": floats(1, 2), "x": floats(6, 2)}, axis=0, shares=THIRDS)
    (choice,) = first.check(x=a)
    assert choice.inputs == (REPLICATED, a)
    assert choice.outputs == (cut(0, 0, 3, 5, 7),)
    last = Case("Concat", {"x": floats(6, 2), "end": floats(1, 2)}, axis=0, shares=THIRDS)
    assert outputs(last, x=cut(0, 0, 2, 6, 6)) == [cut(0, 0, 2, 7, 7)]


def test_what_is_joined_to_parts_can_be_shared_out_too() -> None:
    segments = {("b", 1): ((8, 2),)}
    case = Case("Concat", {"a": floats(2, 6), "b": floats(2, 8)}, axis=1, shares=(0.75, 0.25), segments=segments)
    whole, shared = case.check(a=cut(1, 0, 4, 6))
    assert whole.outputs == (Split(1, (((0, 4),), ((4, 14),))),)
    assert shared.inputs == (cut(1, 0, 4, 6), cut(1, 0, 6, 8))
    assert shared.outputs == (Split(1, (((0, 4), (6, 12)), ((4, 6), (12, 14)))),)
    # who has nothing of one input takes no part, so that input is joined as a whole
    found = case.check(a=cut(1, 0, 4, 6), b=cut(1, 0, 8, 8))
    assert [choice.inputs[1] for choice in found] == [REPLICATED, cut(1, 0, 6, 8)]


def test_terms_are_joined_when_all_are_terms() -> None:
    case = Case("Concat", {"a": floats(2, 6), "b": floats(2, 4)}, axis=1)
    assert outputs(case, a=TERMS, b=TERMS) == [TERMS]
    assert not case.choices(a=TERMS)


@given(st.data())
@examples(60)
def test_random_concats(data: st.DataObject) -> None:
    shares = data.draw(SHARES)
    sizes = data.draw(st.lists(st.integers(1, 8), min_size=1, max_size=4))
    axis = data.draw(st.integers(0, 1))
    feed = {f"x{i}": floats(*((size, 3) if axis == 0 else (3, size))) for i, size in enumerate(sizes)}
    case = Case("Concat", feed, axis=axis, shares=shares)
    have: dict[str, Layout] = {
        name: Split(axis, data.draw(scattered(array.shape[axis], len(shares))))
        for name, array in feed.items()
        if data.draw(st.booleans())
    }
    assert bool(case.check(**have)) == bool(have)


# Split


@pytest.mark.parametrize(
    ("form", "opset"),
    [("attribute", 11), ("input", 13), ("input", 18), ("num_outputs", 18), ("default", 13), ("default", 11)],
)
def test_split(form: str, opset: int) -> None:
    feed = {"x": floats(2, 12)}
    more: dict[str, Any] = {}
    sizes = [4, 4, 4] if form in ("num_outputs", "default") else [4, 6, 2]
    if form == "attribute":
        more = {"split": sizes}
    elif form == "num_outputs":
        more = {"num_outputs": 3}
    elif form == "input":
        feed["split"] = np.array(sizes)
    case = Case("Split", feed, [*feed][1:], outputs=3, axis=-1, opset=opset, **more)
    (choice,) = case.check(x=cut(0, 0, 1, 2))
    assert choice.outputs == (cut(0, 0, 1, 2),) * 3
    bounds = np.cumsum([0, *sizes])
    ends = [(int(stop) - 1, int(stop)) for stop in bounds[1:]]
    starts = tuple((int(start), int(stop) - 1) for start, stop in pairwise(bounds))
    found = case.check(x=Split(1, (starts, tuple(ends))))
    if form == "default":
        assert [choice.outputs for choice in found] == [(cut(1, 0, 3, 4),) * 3]
    else:
        assert [choice.outputs for choice in found] == [tuple(cut(1, 0, size - 1, size) for size in sizes)]
    assert not case.choices(x=cut(1, 0, 6, 12))
    assert not case.choices(x=cut(1, 0, 4, 12))
    assert [link.offset for link in case.links() if link.parent == ("x", 1)] == [0, 4, 4 + sizes[1]]
    assert len(case.links()) == 6


def test_split_needs_parts_in_order() -> None:
    case = Case("Split", {"x": floats(8)}, outputs=2, num_outputs=2, axis=0, shares=THIRDS)
    assert not case.choices(x=Split(0, (((4, 6), (0, 2)), ((2, 4), (6, 8)), ())))
    (choice,) = case.check(x=Split(0, (((2, 4), (0, 1), (6, 8)), ((1, 2), (4, 6)), ())))
    assert choice.outputs == (Split(0, (((2, 4), (0, 1)), ((1, 2),), ())), Split(0, (((2, 4),), ((0, 2),), ())))


@pytest.mark.parametrize("opset", [11, 13, 17])
def test_split_without_sizes_where_ranks_have_unequal_parts(opset: int) -> None:
    case = Case("Split", {"x": floats(8)}, outputs=2, axis=0, opset=opset)
    (choice,) = case.check(x=Split(0, (((0, 3), (4, 5)), ((3, 4), (5, 8)))))
    assert choice.outputs == (cut(0, 0, 3, 4), cut(0, 0, 1, 4))


# Slice


def sliced(
    shape: tuple[int, ...], starts: list[int], ends: list[int], axes: list[int] | None, opset: int, **more: Any
) -> Case:
    if opset < 10:
        given = {"axes": axes} if axes is not None else {}
        return Case("Slice", {"x": floats(*shape)}, opset=opset, starts=starts, ends=ends, **given, **more)
    feed = {"x": floats(*shape), "starts": np.array(starts, np.int32), "ends": np.array(ends, np.int32)}
    if axes is not None:
        feed["axes"] = np.array(axes, np.int32)
    return Case("Slice", feed, [*feed][1:], opset=opset, **more)


@pytest.mark.parametrize("opset", [9, 23])
def test_slice(opset: int) -> None:
    case = sliced((4, 10), [2, -100], [9, 2**31 - 1], [1, 0], opset, shares=THIRDS)
    assert outputs(case, x=cut(0, 0, 1, 2, 4)) == [cut(0, 0, 1, 2, 4)]
    assert outputs(case, x=cut(1, 0, 4, 9, 10)) == [cut(1, 0, 2, 7, 7)]
    assert outputs(case, x=Split(1, (((3, 6), (0, 3)), (), ((6, 10),)))) == []
    assert outputs(case, x=Split(1, (((0, 3), (6, 8)), (), ((3, 6), (8, 10))))) == [
        Split(1, (((0, 1), (4, 6)), (), ((1, 4), (6, 7))))
    ]
    assert outputs(case, x=Split(1, (((0, 5),), ((4, 8),), ((7, 10),)))) == [
        Split(1, (((0, 3),), ((2, 6),), ((5, 7),)))
    ]
    assert case.links() == [AxisLink(("out0", 1), ("x", 1), offset=2), AxisLink(("out0", 0), ("x", 0), offset=0)]
    first = sliced((6, 3), [0], [1], None, opset)
    assert outputs(first, x=cut(0, 0, 3, 6)) == [Split(0, (((0, 1),), ()))]
    assert outputs(first, x=cut(1, 0, 1, 3)) == [cut(1, 0, 1, 3)]
    negative = sliced((6, 3), [-4], [-1], [-2], opset)
    assert outputs(negative, x=cut(0, 0, 4, 6)) == [cut(0, 0, 2, 3)]


def test_computed_bounds_and_steps() -> None:
    feed = {
        "x": floats(4, 10),
        "starts": np.array([2]),
        "ends": np.array([9]),
        "axes": np.array([1]),
        "steps": np.array([2]),
    }
    case = Case("Slice", feed, ["starts", "ends", "axes", "steps"])
    assert outputs(case, x=cut(0, 0, 1, 4)) == [cut(0, 0, 1, 4)]
    assert outputs(case, x=cut(1, 0, 5, 10)) == [cut(1, 0, 2, 4)]
    assert outputs(case, x=Split(1, (((0, 4), (6, 8)), ((4, 6), (8, 10))))) == [
        Split(1, (((0, 1), (2, 3)), ((1, 2), (3, 4))))
    ]
    assert not case.choices(x=Split(1, (((0, 4), (7, 10)), ((4, 7),))))
    assert [link.child for link in case.links()] == [("out0", 0)]
    every = sliced((4, 10), [1], [10], [1], 23)
    every = Case("Slice", every.feed | {"steps": np.array([2], np.int32)}, ["starts", "ends", "axes", "steps"])
    assert outputs(every, x=Split(1, (((0, 5),), ((4, 10),)))) == [Split(1, (((0, 2),), ((2, 5),)))]
    assert AxisLink(("out0", 1), ("x", 1), inner=2) in every.links()
    back = Case("Slice", feed | {"starts": np.array([9]), "ends": np.array([2]), "steps": np.array([-1])}, [*feed][1:])
    assert outputs(back, x=cut(0, 0, 1, 4)) == [cut(0, 0, 1, 4)]
    assert not back.choices(x=cut(1, 0, 5, 10))
    computed = Case("Slice", feed, ["axes"])
    assert outputs(computed, x=cut(0, 0, 1, 4)) == [cut(0, 0, 1, 4)]
    assert not computed.choices(x=cut(1, 0, 4, 10))
    assert not Case("Slice", feed).choices(x=cut(0, 0, 1, 4))


@given(st.data())
@examples(60)
def test_random_slices(data: st.DataObject) -> None:
    shares = data.draw(SHARES)
    size = data.draw(st.integers(1, 9))
    first = data.draw(st.integers(-size - 1, size - 1))
    stop = data.draw(st.integers(-size - 1, size + 2))
    step = data.draw(st.integers(1, 3))
    if not len(range(size)[first:stop]):
        return
    feed = {"x": floats(size, 2), "from": np.array([first]), "to": np.array([stop])}
    feed |= {"axes": np.array([0]), "steps": np.array([step])}
    case = Case("Slice", feed, [*feed][1:], shares=shares)
    ordered = Split(0, tuple(tuple(sorted(ranges)) for ranges in data.draw(scattered(size, len(shares)))))
    contiguous = all(len(ranges) < 2 for ranges in ordered.parts)
    found = case.check(x=ordered)
    assert len(found) == 1 or (step > 1 and not contiguous)
    case.check(x=Split(0, data.draw(scattered(size, len(shares)))))


def test_terms_move_along() -> None:
    for case in (
        Case("Slice", {"x": floats(4, 2), "from": np.array([1]), "to": np.array([3])}, ["from"]),
        Case("Split", {"x": floats(4, 2)}, outputs=2, num_outputs=2),
    ):
        (choice,) = case.check(x=TERMS)
        assert set(choice.outputs) == {TERMS}
        assert not case.choices()
