"""What each kind of level divides, and what is said where it cannot."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from core.errors import PlanError
from core.plan.aims import HEAVY, aim_of, spatial_axis_of, takes_images
from core.plan.layouts import Group, Split
from core.plan.operators.base import KINDS
from core.plan.program import Program
from core.plan.strategy_text import REPLICATE, SPATIAL, TENSOR
from tests.plan.partition.joined import Array
from tests.plan.partition.programs import floats, node, program

PAIR = Group((0.5, 0.5))


def reads(feed: dict[str, Array], *more: onnx.NodeProto) -> Program:
    """Every input is read, and perhaps convolved."""
    nodes = [node("Identity", name, f"{name}/read") for name in feed]
    weights = {"w2": floats(2, 3, 3, 3), "w1": floats(2, 3, 3)}
    made = " ".join([*(f"{name}/read" for name in feed), *(one.output[0] for one in more)])
    return program([*nodes, *more], feed, made, weights)


IMAGE = {"x": floats(2, 3, 8, 10)}
CONV = node("Conv", "x w2", "c")


def test_tensor_divides_by_any_weights() -> None:
    aim = aim_of(TENSOR, reads(IMAGE, CONV), PAIR, {})
    assert aim.weights
    assert aim.kinds == frozenset(KINDS)
    assert not aim.inputs


def test_forced_axes() -> None:
    columns = aim_of(TENSOR, reads(IMAGE, CONV), PAIR, {}, tensor_axis="columns")
    rows = aim_of(TENSOR, reads(IMAGE, CONV), PAIR, {}, tensor_axis="rows")
    assert "rows" not in columns.kinds
    assert "columns" not in rows.kinds
    assert columns.kinds & rows.kinds == {"groups", "heads", "directions"}


def test_rows_and_columns_of_images() -> None:
    rows = aim_of(SPATIAL, reads(IMAGE, CONV), PAIR, {})
    assert rows.inputs == {"x": (Split(2, (((0, 4),), ((4, 8),))),)}
    assert rows.word == "image rows"
    assert rows.heavy == HEAVY
    columns = aim_of(SPATIAL, reads(IMAGE, CONV), Group((0.6, 0.4)), {}, spatial_axis="columns")
    assert columns.inputs == {"x": (Split(3, (((0, 6),), ((6, 10),))),)}
    assert columns.word == "image columns"


def test_parts_that_overlap_are_offered_as_alternatives() -> None:
    found = aim_of(SPATIAL, reads(IMAGE, CONV), PAIR, {("x", 2): (0, 1, 3)}).inputs["x"]
    assert [split.parts for split in found] == [
        (((0, 4),), ((4, 8),)),
        (((0, 5),), ((3, 8),)),
        (((0, 7),), ((1, 8),)),
    ]


@pytest.mark.parametrize(
    ("feed", "more", "axis"),
    [
        ({"x": floats(1, 3, 8, 10)}, [CONV], 2),
        ({"x": floats(1, 8, 10, 3)}, [node("Transpose", "x", "t", perm=[0, 3, 1, 2]), node("Conv", "t w2", "c")], 1),
        ({"x": floats(1, 3, 4, 8, 10)}, [], 2),
        ({"x": np.ones((1, 9), np.int64)}, [], 1),
        ({"x": floats(1, 9, 16)}, [], 1),
        ({"x": floats(1, 3, 40)}, [node("Conv", "x w1", "c")], 2),
        ({"x": floats(1, 9)}, [], None),
        ({"x": floats(9)}, [], None),
    ],
)
def test_where_rows_or_positions_lie(feed: dict[str, Array], more: list[onnx.NodeProto], axis: int | None) -> None:
    assert spatial_axis_of(reads(feed, *more), "x", "rows") == axis


def test_caches_of_past_positions_are_no_images() -> None:
    """[items, heads, positions, features] beside ids."""
    whole = reads({"ids": np.ones((1, 9), np.int64), "past": floats(1, 4, 9, 16)})
    assert not takes_images(whole)
    aim = aim_of(SPATIAL, whole, PAIR, {})
    assert list(aim.inputs) == ["ids"]
    assert aim.word == "positions"


def test_patches_that_are_cut_by_shape_alone_stay_whole() -> None:
    """As PixelUnshuffle is exported: two rows and two columns of the image become channels."""
    whole = program([node("Reshape", "x to", "y")], IMAGE, "y", {"to": np.array([2, 3, 4, 2, 5, 2])})
    assert aim_of(SPATIAL, whole, Group((0.6, 0.4)), {}).inputs == {"x": (Split(2, (((0, 4),), ((4, 8),))),)}


def test_items_are_shared_by_inputs_that_have_them() -> None:
    feed = {"x": floats(6, 4), "y": floats(6), "table": floats(3, 4)}
    aim = aim_of(REPLICATE, reads(feed), Group((2 / 3, 1 / 3)), {})
    parts = (((0, 4),), ((4, 6),))
    assert aim.inputs == {"x": (Split(0, parts),), "y": (Split(0, parts),)}
    assert aim.word == "items"


@pytest.mark.parametrize(
    ("kind", "feed", "ranks", "words", "hint"),
    [
        (SPATIAL, {"x": floats(1, 9)}, 2, "No input has rows of an image or positions of a sequence", "tensor"),
        (SPATIAL, {"x": floats(1, 3, 3, 8)}, 4, "'x' has 3 rows, which 4 nodes cannot share", "fewer nodes"),
        (SPATIAL, {"x[1:0-3]/from1": floats(1, 3, 1, 8)}, 2, "'x' has 1 row, which 2 nodes", "fewer nodes"),
        (REPLICATE, {"x": floats(1, 9)}, 2, "A micro-batch of 1 item cannot be shared by 2 nodes", "--batch"),
        (REPLICATE, {"x": floats(3, 9)}, 4, "A micro-batch of 3 items cannot be shared by 4 nodes", "--batch"),
    ],
)
def test_what_cannot_be_divided_is_said(kind: str, feed: dict[str, Array], ranks: int, words: str, hint: str) -> None:
    group = Group(tuple(1 / ranks for _ in range(ranks)))
    with pytest.raises(PlanError, match=words) as error:
        aim_of(kind, reads(feed), group, {})
    assert hint in (error.value.hint or "")


def test_columns_of_a_sequence() -> None:
    with pytest.raises(PlanError, match=r"No input has columns of an image to divide \(x \[1, 9, 16\]\)"):
        aim_of(SPATIAL, reads({"x": floats(1, 9, 16)}), PAIR, {}, spatial_axis="columns")
