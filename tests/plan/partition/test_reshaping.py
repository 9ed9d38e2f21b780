"""The same elements under other axes: where the parts of a split axis go, in both directions."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.plan.layouts import Layout, Partial, Ranges, Split
from core.plan.operators.base import AxisLink
from core.plan.operators.regrouping import axis_groups
from tests.plan.partition.drawing import SHARES, examples, floats
from tests.plan.partition.held_inputs import cut, scattered, split_outputs, vary
from tests.plan.partition.rule_check import Case

THIRDS = (0.5, 0.3, 0.2)
TERMS = Partial((0, 1))


def reshape(
    before: tuple[int, ...], target: tuple[int, ...], shares: tuple[float, ...] = (0.5, 0.5), **more: Any
) -> Case:
    return Case("Reshape", {"x": floats(*before), "shape": np.array(target)}, ["shape"], shares=shares, **more)


def outputs(case: Case, **have: Layout) -> list[Layout]:
    return [choice.outputs[0] for choice in case.check(**have)]


# Reshape


def test_features_become_heads_and_heads_features() -> None:
    apart = reshape((2, 5, 12), (0, 0, 6, 2))
    assert outputs(apart, x=cut(2, 0, 8, 12)) == [cut(2, 0, 4, 6)]
    assert outputs(apart, x=cut(1, 0, 2, 5)) == [cut(1, 0, 2, 5)]
    assert outputs(apart, x=cut(2, 0, 7, 12)) == []
    assert apart.links() == [
        AxisLink(("out0", 0), ("x", 0)),
        AxisLink(("out0", 1), ("x", 1)),
        AxisLink(("out0", 2), ("x", 2), 1, 2),
    ]
    together = reshape((2, 5, 6, 2), (2, 5, -1))
    assert outputs(together, x=cut(2, 0, 4, 6)) == [cut(2, 0, 8, 12)]
    assert outputs(together, x=cut(3, 0, 1, 2)) == [
        Split(2, (tuple((i, i + 1) for i in range(0, 12, 2)), tuple((i, i + 1) for i in range(1, 12, 2))))
    ]
    assert together.links()[2] == AxisLink(("x", 2), ("out0", 2), 1, 2)


def test_queries_keys_and_values_are_cut_alike() -> None:
    parts = (((0, 8), (12, 20), (24, 32)), ((8, 12), (20, 24), (32, 36)))
    apart = reshape((2, 36), (2, 3, 6, 2))
    assert outputs(apart, x=Split(1, parts)) == [cut(2, 0, 4, 6)]
    assert outputs(apart, x=cut(1, 0, 12, 36)) == [cut(1, 0, 1, 3)]
    assert outputs(apart, x=cut(1, 0, 18, 36)) == []
    assert AxisLink(("out0", 2), ("x", 1), 3, 2) in apart.links()
    together = reshape((2, 3, 6, 2), (2, 36))
    assert outputs(together, x=cut(2, 0, 4, 6)) == [Split(1, parts)]
    assert AxisLink(("x", 2), ("out0", 1), 3, 2) in together.links()
    assert reshape((2, 36), (2, 3, 12)).links()[1] == AxisLink(("out0", 1), ("x", 1), 1, 12)


@pytest.mark.parametrize(
    ("before", "after", "axis", "parts", "place", "expected"),
    [
        # order within a part is kept
        ((12,), (6, 2), 0, (((8, 12), (0, 4)), ((4, 8),)), 0, (((4, 6), (0, 2)), ((2, 4),))),
        # an order that the outer axis does not repeat
        ((12,), (2, 6), 0, (((6, 9), (0, 3)), ((3, 6), (9, 12))), None, None),
        ((12,), (2, 6), 0, (((0, 3), (6, 9)), ((3, 6), (9, 12))), 1, (((0, 3),), ((3, 6),))),
        ((12,), (2, 6), 0, (((0, 3), (6, 10)), ((3, 6), (10, 12))), None, None),
        # one rank holds all of it
        ((12,), (2, 6), 0, (((0, 12),), ()), 0, (((0, 2),), ())),
        ((4, 6), (4, 2, 3), 1, (((0, 3),), ((3, 6),)), 1, (((0, 1),), ((1, 2),))),
        ((4, 6), (24,), 0, (((1, 2),), ((0, 1), (2, 4))), 0, (((6, 12),), ((0, 6), (12, 24)))),
        (
            (4, 6),
            (8, 3),
            1,
            (((0, 3),), ((3, 6),)),
            0,
            (((0, 1), (2, 3), (4, 5), (6, 7)), ((1, 2), (3, 4), (5, 6), (7, 8))),
        ),
        ((4, 6), (8, 3), 0, (((0, 3),), ((3, 4),)), 0, (((0, 6),), ((6, 8),))),
        ((6, 4), (3, 8), 0, (((0, 4),), ((4, 6),)), 0, (((0, 2),), ((2, 3),))),
        ((6, 4), (3, 8), 0, (((0, 3),), ((3, 6),)), None, None),
        ((1, 12, 1), (12,), 1, (((0, 5),), ((5, 12),)), 0, (((0, 5),), ((5, 12),))),
        ((12,), (1, 1, 12, 1), 0, (((0, 5),), ((5, 12),)), 2, (((0, 5),), ((5, 12),))),
        # neither axis is made of the other
        ((4, 6), (3, 8), 1, (((0, 3),), ((3, 6),)), None, None),
        ((3, 8), (4, 6), 1, (((0, 4),), ((4, 8),)), None, None),
        # overlapping parts stay so
        ((12,), (6, 2), 0, (((0, 5),), ((4, 12),)), None, None),
        ((12, 2), (4, 3, 2), 0, (((0, 9),), ((6, 12),)), 0, (((0, 3),), ((2, 4),))),
    ],
)
def test_reshapes(
    before: tuple[int, ...],
    after: tuple[int, ...],
    axis: int,
    parts: tuple[Ranges, ...],
    place: int | None,
    expected: tuple[Ranges, ...] | None,
) -> None:
    found = outputs(reshape(before, after), x=Split(axis, parts))
    assert found == ([Split(place, expected)] if place is not None and expected is not None else [])


@given(st.data())
@examples(120)
def test_random_reshapes_keep_whatever_they_can(data: st.DataObject) -> None:
    factors = data.draw(st.lists(st.sampled_from([1, 2, 2, 3, 4]), min_size=1, max_size=5))

    def grouped() -> list[int]:
        sizes = [1]
        for factor in factors:
            if data.draw(st.booleans()):
                sizes.append(factor)
            else:
                sizes[-1] *= factor
        return sizes

    before, after = tuple(grouped()), tuple(grouped())
    shares = data.draw(SHARES)
    case = reshape(before, after, shares, allowzero=data.draw(st.integers(0, 1)))
    axis = data.draw(st.integers(0, len(before) - 1))
    granule = data.draw(st.sampled_from([g for g in range(1, before[axis] + 1) if before[axis] % g == 0]))
    split = Split(axis, data.draw(scattered(before[axis], len(shares), granule)))
    found = case.check(x=split)
    if before == after and before[axis] > 1:
        assert split_outputs(found) == [split]
    if before[axis] > 1 and any(
        axis == sources[0] and len(sources) > 1 and len(targets) == 1
        for sources, targets in (axis_groups(before, (False,) * len(before), after, (False,) * len(after)) or ())
    ):
        assert found  # the outermost of axes that are merged can always be followed


def test_a_batch_that_varies_is_left_to_onnxruntime() -> None:
    case = vary(reshape((2, 5, 12), (2, 5, 6, 2)), {"x": (0,), "out0": (0,)})
    (choice,) = case.check(x=cut(2, 0, 8, 12))
    reshape((7, 5, 12), (7, 5, 6, 2)).play(choice)
    assert len(case.links()) == 2
    assert not vary(reshape((2, 5, 12), (10, 12)), {"x": (0,), "out0": (0,)}).choices(x=cut(1, 0, 2, 5))


def test_two_sizes_that_vary_come_from_the_target_itself() -> None:
    varying = {"x": (0, 1), "out0": (0, 1)}
    constant = vary(reshape((2, 5, 12), (0, -1, 6, 2)), varying)
    (choice,) = constant.check(x=cut(2, 0, 8, 12))
    reshape((3, 4, 12), (0, -1, 6, 2)).play(choice)
    feed = {"x": floats(2, 5, 12), "shape": np.array([2, 5, -1, 2])}
    (choice,) = vary(Case("Reshape", feed), varying).check(x=cut(2, 0, 8, 12))
    Case("Reshape", {"x": floats(3, 4, 12), "shape": np.array([3, 4, -1, 2])}).play(choice)
    Case("Reshape", {"x": floats(3, 4, 12), "shape": np.array([3, 4, 6, 2])}).play(choice)


def test_sizes_that_only_agree_by_chance_are_not_followed() -> None:
    # a batch of 6 now: the features of the output are not the input's
    case = vary(reshape((6, 6), (6, 6)), {"x": (0,), "out0": (1,)})
    assert not case.choices(x=cut(1, 0, 2, 6))
    one = vary(reshape((1, 4, 6), (4, 1, 6)), {"x": (0,), "out0": (1,)})
    assert not one.choices(x=cut(1, 0, 2, 4))
    # a batch of 1 that moves past an axis of size 1 for good
    single = vary(reshape((1, 1, 6), (1, 1, 6)), {"x": (0,), "out0": (1,)})
    assert outputs(single, x=cut(2, 0, 2, 6)) == [cut(2, 0, 2, 6)]


def test_heads_merged_with_items() -> None:
    """As torch.nn.MultiheadAttention does; an item's heads lie side by side, so ranks have some of each item's."""
    merged = reshape((5, 2, 12), (5, 8, 3))
    made = Split(1, (((0, 2), (4, 6)), ((2, 4), (6, 8))))
    assert outputs(merged, x=cut(2, 0, 6, 12)) == [made]
    assert set(merged.links()) == {
        AxisLink(("out0", 0), ("x", 0)),
        AxisLink(("out0/heads", 0), ("x", 2), inner=3),
        AxisLink(("out0/heads", 0), ("out0", 1), outer=2),
    }
    apart = reshape((8, 5, 3), (2, 4, 5, 3))
    assert outputs(apart, x=Split(0, made.parts)) == [cut(1, 0, 2, 4)]
    assert apart.links()[0] == AxisLink(("out0", 1), ("x", 0), outer=2)
    assert not vary(merged, {"x": [1], "out0": [1]}).choices(x=cut(2, 0, 6, 12))


def test_stacked_features_are_no_heads() -> None:
    assert reshape((2, 2, 768), (2, 2, 3, 256)).links()[-1] == AxisLink(("out0", 3), ("x", 2), outer=3)
    assert reshape((2, 2, 192), (2, 2, 3, 64)).links()[-1] == AxisLink(("out0", 2), ("x", 2), inner=64)


def test_groups_of_channels_stay_whole() -> None:
    apart = reshape((2, 12, 3, 3), (2, 4, -1))
    assert AxisLink(("out0", 1), ("x", 1), inner=3) in apart.links()
    assert outputs(apart, x=cut(1, 0, 9, 12)) == [cut(1, 0, 3, 4)]
    together = reshape((2, 4, 27), (2, 12, 3, 3))
    assert AxisLink(("x", 1), ("out0", 1), inner=3) in together.links()
    assert outputs(together, x=cut(1, 0, 3, 4)) == [cut(1, 0, 9, 12)]


def test_groups_of_axes() -> None:
    fixed = (False,) * 4
    assert axis_groups((2, 5, 12), fixed, (2, 5, 6, 2), fixed) == [([0], [0]), ([1], [1]), ([2], [2, 3])]
    assert axis_groups((4, 6), fixed, (8, 3), fixed) == [([0, 1], [0, 1])]
    assert axis_groups((1, 4, 1, 6), fixed, (4, 6), fixed) == [([1], [0]), ([3], [1])]
    assert axis_groups((0, 4), fixed, (4, 0), fixed) is None
    assert axis_groups((6, 6), (True, False), (6, 6), (False, True)) is None
    assert axis_groups((3, 1), (False, True), (3,), (True,)) == [([0, 1], [0])]


# Flatten, Squeeze, Unsqueeze, Transpose


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1])
def test_flatten(axis: int) -> None:
    case = Case("Flatten", {"x": floats(2, 4, 3)}, axis=axis)
    inner = axis % 3 if axis < 3 else 3
    place = 0 if inner > 1 else 1
    assert outputs(case, x=cut(1, 0, 1, 4))[0].axis == place  # type: ignore[union-attr]
    assert (AxisLink(("x", 1), ("out0", 1), 1, 3) in case.links()) == (inner == 1)


@pytest.mark.parametrize("opset", [11, 23])
def test_axes_of_size_1_come_and_go(opset: int) -> None:
    def with_axes(op_type: str, array: np.ndarray[Any, Any], axes: list[int]) -> Case:
        if opset < 13:
            return Case(op_type, {"x": array}, opset=opset, axes=axes)
        return Case(op_type, {"x": array, "axes": np.array(axes)}, ["axes"], opset=opset)

    squeeze = with_axes("Squeeze", floats(1, 4, 1, 3), [0, -2])
    assert outputs(squeeze, x=cut(1, 0, 1, 4)) == [cut(0, 0, 1, 4)]
    assert outputs(squeeze, x=cut(3, 0, 1, 3)) == [cut(1, 0, 1, 3)]
    assert squeeze.links() == [AxisLink(("out0", 0), ("x", 1)), AxisLink(("out0", 1), ("x", 3))]
    unsqueeze = with_axes("Unsqueeze", floats(4, 3), [-1, 0])
    assert outputs(unsqueeze, x=cut(0, 0, 1, 4)) == [cut(1, 0, 1, 4)]
    assert outputs(unsqueeze, x=cut(1, 0, 1, 3)) == [cut(2, 0, 1, 3)]
    assert unsqueeze.links() == [AxisLink(("out0", 1), ("x", 0)), AxisLink(("out0", 2), ("x", 1))]


def test_a_part_of_size_1_is_not_squeezed_away() -> None:
    case = Case("Squeeze", {"x": floats(1, 4, 1, 3)})
    assert outputs(case, x=cut(1, 0, 1, 4)) == [cut(0, 0, 1, 4)]
    assert outputs(case, x=cut(1, 0, 2, 4)) == [cut(0, 0, 2, 4)]
    varying = vary(Case("Squeeze", {"x": floats(1, 4, 2, 3)}), {"x": (2,), "out0": (1,)})
    (choice,) = varying.check(x=cut(1, 0, 1, 4))
    Case("Squeeze", {"x": floats(1, 4, 5, 3)}).play(choice)
    assert not vary(varying, {"x": (2, 3), "out0": (1, 2)}).choices(x=cut(1, 0, 1, 4))


def test_transpose() -> None:
    case = Case("Transpose", {"x": floats(2, 3, 4, 5)}, perm=[0, 2, 3, 1])
    assert outputs(case, x=cut(1, 0, 1, 3)) == [cut(3, 0, 1, 3)]
    assert outputs(case, x=Split(2, (((2, 3), (0, 1)), ((3, 4), (1, 2))))) == [
        Split(1, (((2, 3), (0, 1)), ((3, 4), (1, 2))))
    ]
    assert AxisLink(("out0", 3), ("x", 1)) in case.links()
    default = Case("Transpose", {"x": floats(2, 3, 4)})
    assert outputs(default, x=cut(0, 0, 1, 2)) == [cut(2, 0, 1, 2)]


def test_terms_move_along() -> None:
    for case in (
        reshape((4, 6), (2, 12)),
        Case("Transpose", {"x": floats(4, 6)}),
        Case("Flatten", {"x": floats(4, 3, 2)}),
        Case("Squeeze", {"x": floats(4, 1, 2)}),
        Case("Unsqueeze", {"x": floats(4, 2), "axes": np.array([1])}, ["axes"]),
    ):
        (choice,) = case.check(x=TERMS)
        assert set(choice.outputs) == {TERMS}
        assert not case.choices()
    whole = Case("Transpose", {"x": np.arange(6).reshape(2, 3)})
    assert not whole.choices(x=TERMS)


def test_links_cover_their_axes() -> None:
    """outer x inner x child make up the parent wherever the parent is one axis."""
    for case in (reshape((2, 36), (2, 3, 6, 2)), reshape((3, 6, 2), (36,)), reshape((4, 8, 16), (32, 4, 4))):
        sizes = {"x": case.feed["x"].shape, "out0": case.whole["out0"].shape}
        for link in case.links():
            child, parent = (sizes[name][axis] for name, axis in (link.child, link.parent))
            assert prod((link.outer, link.inner, child)) == parent
