"""Elements made more than once, and spread along a new axis."""

from __future__ import annotations

import numpy as np

from core.plan.layouts import Layout, Partial, Split
from core.plan.operators.base import AxisLink
from tests.plan.partition.drawing import floats
from tests.plan.partition.held_inputs import cut, vary
from tests.plan.partition.rule_check import Case

TERMS = Partial((0, 1))


def outputs(case: Case, **have: Layout) -> list[Layout]:
    return [choice.outputs[0] for choice in case.check(**have)]


def test_expand() -> None:
    case = Case("Expand", {"x": floats(2, 1, 3), "shape": np.array([4, 1, 5, 1])}, ["shape"])
    assert outputs(case, x=cut(0, 0, 1, 2)) == [cut(1, 0, 1, 2)]
    assert outputs(case, x=cut(2, 0, 2, 3)) == [cut(3, 0, 2, 3)]
    assert not case.choices(x=cut(1, 0, 1, 1))
    assert case.links() == [AxisLink(("out0", 1), ("x", 0)), AxisLink(("out0", 3), ("x", 2))]
    heads = {"x": floats(2, 4, 1, 5, 3), "shape": np.array([2, 4, 3, 5, 3])}
    varying = vary(Case("Expand", heads), {"x": (0, 3), "out0": (0, 3)})
    (choice,) = varying.check(x=cut(1, 0, 1, 4))
    Case("Expand", {"x": floats(7, 4, 1, 6, 3), "shape": np.array([7, 4, 3, 6, 3])}).play(choice)
    grows = vary(Case("Expand", {"x": floats(1, 4), "shape": np.array([2, 4])}), {"out0": (0,)})
    (choice,) = grows.check(x=cut(1, 0, 1, 4))
    Case("Expand", {"x": floats(1, 4), "shape": np.array([9, 4])}).play(choice)


def test_tile() -> None:
    case = Case("Tile", {"x": floats(2, 4), "repeats": np.array([3, 1])}, ["repeats"])
    assert outputs(case, x=cut(1, 0, 1, 4)) == [cut(1, 0, 1, 4)]
    assert outputs(case, x=cut(0, 0, 1, 2)) == [Split(0, (((0, 1), (2, 3), (4, 5)), ((1, 2), (3, 4), (5, 6))))]
    assert case.links() == [AxisLink(("x", 0), ("out0", 0), outer=3), AxisLink(("x", 1), ("out0", 1))]
    varying = vary(Case("Tile", {"x": floats(2, 4), "repeats": np.array([3, 1])}), {"out0": (0,)})
    assert not varying.choices(x=cut(0, 0, 1, 2))


def test_one_hot() -> None:
    feed = {"i": np.arange(12).reshape(3, 4), "depth": np.array(5), "values": np.array([0, 1], np.float32)}
    case = Case("OneHot", feed, ["depth", "values"], axis=1)
    assert outputs(case, i=cut(0, 0, 1, 3)) == [cut(0, 0, 1, 3)]
    assert outputs(case, i=cut(1, 0, 1, 4)) == [cut(2, 0, 1, 4)]
    assert outputs(Case("OneHot", feed, ["depth", "values"]), i=cut(1, 0, 1, 4)) == [cut(1, 0, 1, 4)]
    assert case.links() == [AxisLink(("out0", 0), ("i", 0)), AxisLink(("out0", 2), ("i", 1))]


def test_terms_move_along() -> None:
    for case in (
        Case("Expand", {"x": floats(4, 1), "shape": np.array([4, 3])}),
        Case("Tile", {"x": floats(4, 1), "repeats": np.array([2, 3])}),
    ):
        (choice,) = case.check(x=TERMS)
        assert set(choice.outputs) == {TERMS}
        assert not case.choices()
