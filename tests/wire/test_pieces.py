"""Cutting a tensor up and putting it together again gives the tensor; whatever does not fit is refused."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import ProtocolError
from core.plan.form import CLIENT, Route, ShardId, Slice
from core.wire.pieces import join, name_at_consumer, problem_of, slicer


@st.composite
def divisions(draw: st.DrawFn) -> tuple[tuple[int, ...], list[tuple[Slice, ...]]]:
    """A shape, and a grid over some of its axes."""
    shape = tuple(draw(st.lists(st.integers(1, 6), min_size=1, max_size=4)))
    places: list[tuple[Slice, ...]] = [()]
    for axis, size in enumerate(shape):
        if draw(st.booleans()):
            bounds = [0, *sorted(draw(st.sets(st.integers(1, size), max_size=3)) - {size}), size]
            ranges = list(pairwise(bounds))
            places = [(*place, Slice(axis, *one)) for place in places for one in ranges]
    return shape, draw(st.permutations(places))


@settings(derandomize=True, deadline=None)
@given(divisions())
def test_the_pieces_of_a_tensor_make_the_tensor(division: tuple[tuple[int, ...], list[tuple[Slice, ...]]]) -> None:
    shape, places = division
    whole = np.arange(np.prod(shape)).reshape(shape)
    pieces = []
    for place in places:
        assert problem_of(place, shape) is None
        cut = slicer(place)
        pieces.append((place, whole if cut is None else cut(whole)))
    if len(places) > 1:
        assert all(np.shares_memory(piece, whole) for _, piece in pieces)
    np.testing.assert_array_equal(join(pieces), whole)
    names = {name_at_consumer(Route(ShardId(0), "t", CLIENT, "y", at=place)) for place in places}
    assert len(names) == len(places)


def test_a_whole_output_keeps_its_name_and_is_not_copied() -> None:
    whole = np.ones((2, 3))
    assert name_at_consumer(Route(ShardId(0), "t", CLIENT, "y")) == "y"
    assert name_at_consumer(Route(ShardId(0), "t", CLIENT, "y", at=(Slice(1, 0, 384),))) == "y[1=0:384]"
    assert name_at_consumer(Route(ShardId(0), "t", CLIENT, "y", at=(Slice(1, 0, 384),), term=2)) == "y[1=0:384]+2"
    assert join([((), whole)]) is whole
    assert slicer(()) is None


@pytest.mark.parametrize(
    ("slices", "shape", "words"),
    [
        ((Slice(2, 0, 1),), (None, 4), "names axis 2 of a tensor with 2 axes"),
        ((Slice(-1, 0, 1),), (None, 4), "names axis -1"),
        ((Slice(-1, 0, 1),), None, "names axis -1"),
        ((Slice(1, 0, 2), Slice(0, 0, 1)), (None, 4), "names axis 0 after axis 1"),
        ((Slice(1, 0, 2), Slice(1, 2, 4)), (None, 4), "names axis 1 after axis 1"),
        ((Slice(1, 3, 3),), (None, 4), "goes from 3 to 3 on axis 1"),
        ((Slice(1, -2, 3),), None, "goes from -2 to 3 on axis 1"),
        ((Slice(1, 2, 5),), (None, 4), "goes to 5 on axis 1, which has 4"),
        ((Slice(0, 2, 5), Slice(1, 0, 4)), (None, 4), None),
        ((Slice(7, 2, 5),), None, None),
    ],
)
def test_slices_that_no_tensor_of_the_shape_has(
    slices: tuple[Slice, ...], shape: tuple[int | None, ...] | None, words: str | None
) -> None:
    assert problem_of(slices, shape) == words


def test_a_tensor_that_is_too_small_is_told() -> None:
    cut = slicer((Slice(1, 2, 5),))
    assert cut is not None
    assert cut(np.ones((3, 5))).shape == (3, 3)
    for shape in ((3, 4), (3,)):
        with pytest.raises(ProtocolError, match="has no part 2 to 5 of axis 1"):
            cut(np.ones(shape))


@pytest.mark.parametrize(
    ("pieces", "words"),
    [
        ([((Slice(0, 0, 2),), np.ones((2, 3))), ((Slice(0, 2, 4),), np.ones((1, 3)))], "do not make up"),
        ([((Slice(0, 0, 2),), np.ones((2, 3))), ((Slice(0, 2, 4),), np.ones((2, 2)))], "do not make up"),
        ([((Slice(0, 0, 1),), np.ones((2, 3))), ((Slice(0, 1, 4),), np.ones((2, 3)))], r"\(2, 3\), which does not fit"),
        ([((Slice(0, 0, 2),), np.ones((2, 3))), ((Slice(0, 3, 5),), np.ones((2, 3)))], "do not make up"),
        ([((Slice(0, 0, 2),), np.ones((2, 3))), ((Slice(0, 2, 4),), np.ones((2, 3), int))], "int64"),
        (
            [
                ((Slice(0, 0, 2),), np.ones((2, 3))),
                ((Slice(0, 2, 3),), np.ones((1, 1))),
                ((Slice(0, 3, 4),), np.ones((1, 5))),
            ],
            "1, 1",
        ),
        ([((Slice(2, 0, 2),), np.ones((2, 3))), ((Slice(2, 2, 4),), np.ones((2, 3)))], "axis 2"),
    ],
)
def test_pieces_that_do_not_fit(pieces: list[tuple[tuple[Slice, ...], np.ndarray]], words: str) -> None:
    with pytest.raises(ProtocolError, match=words):
        join(pieces)
