"""How axes are shared out: sizes in proportion, stretches and granules respected, indices neither lost nor doubled."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.plan.layouts import (
    REPLICATED,
    Group,
    Partial,
    Ranges,
    Segments,
    Split,
    all_segments_joined,
    apportion,
    clipped,
    holds,
    joined_segments,
    length,
    located,
    merged,
    scaled,
    shifted,
    split_by,
    tidy,
    within,
)
from tests.plan.partition.drawing import examples

SHARES = st.lists(st.floats(0.01, 1), min_size=1, max_size=7)
RANGES = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=6).map(tuple)


@st.composite
def segments(draw: st.DrawFn, size: int | None = None) -> Segments:
    found = []
    left = size if size is not None else draw(st.integers(1, 60))
    while left:
        stretch = draw(st.integers(1, left))
        granule = draw(st.sampled_from([g for g in (1, 2, 3, 4, 8) if stretch % g == 0]))
        found.append((stretch, granule))
        left -= stretch
    return tuple(found)


def indices(ranges: Ranges) -> list[int]:
    return [index for start, stop in ranges for index in range(start, stop)]


@given(st.integers(0, 200), SHARES)
@examples(200)
def test_units_are_apportioned_in_proportion(units: int, shares: list[float]) -> None:
    counts = apportion(units, shares)
    assert sum(counts) == units
    assert min(counts) >= (1 if units >= len(shares) else 0)
    fair = [units * share / sum(shares) for share in shares]
    if min(fair) >= 1:
        assert all(abs(count - exact) < 1 + 1e-6 for count, exact in zip(counts, fair, strict=True))
    for one, mine in zip(counts, shares, strict=True):
        assert all(one + 1 >= other for other, theirs in zip(counts, shares, strict=True) if theirs <= mine)


def test_known_apportionments() -> None:
    assert apportion(12, (0.5, 0.5)) == (6, 6)
    assert apportion(12, (2, 1)) == (8, 4)
    assert apportion(7, (0.5, 0.5)) == (4, 3)
    assert apportion(3, (0.98, 0.01, 0.01)) == (1, 1, 1)
    assert apportion(2, (0.2, 0.5, 0.3)) == (0, 1, 1)
    assert apportion(0, (0.5, 0.5)) == (0, 0)


@given(st.data())
@examples(150)
def test_an_axis_is_split_by_its_segments(data: st.DataObject) -> None:
    stretches = data.draw(segments())
    group = Group(tuple(data.draw(SHARES)))
    split = split_by(stretches, 2, group)
    size = sum(length_ for length_, _ in stretches)
    assert split.axis == 2
    assert sorted(i for ranges in split.parts for i in indices(ranges)) == list(range(size))
    assert split.exact
    assert sum(split.sizes) == size
    assert split.ranks == tuple(r for r in group.ranks if split.sizes[r])
    starts = [0, *accumulate(length_ for length_, _ in stretches)]
    for ranges in split.parts:
        assert list(ranges) == sorted(ranges)
        for start, (stretch, granule) in zip(starts, stretches, strict=False):
            mine = clipped(ranges, start, start + stretch)
            assert len(mine) <= 1
            assert all((a - start) % granule == 0 and (b - start) % granule == 0 for a, b in mine)


def test_heads_of_queries_keys_and_values_stay_together() -> None:
    split = split_by(((12, 4),) * 3, 1, Group((2 / 3, 1 / 3)))
    assert split.parts == (((0, 8), (12, 20), (24, 32)), ((8, 12), (20, 24), (32, 36)))


@given(st.data())
@examples(200)
def test_joined_segments_respect_both(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 60))
    one, other = data.draw(segments(size)), data.draw(segments(size))
    joined = joined_segments(one, other)
    assert sum(stretch for stretch, _ in joined) == size
    stops = list(accumulate(stretch for stretch, _ in joined))
    assert {*accumulate(n for n, _ in one), *accumulate(n for n, _ in other)} <= set(stops)
    assert all(stretch % granule == 0 for stretch, granule in joined)
    starts = [0, *stops]
    for start, (stretch, granule) in zip(starts, joined, strict=False):
        for given_ in (one, other):
            first = 0
            for length_, theirs in given_:
                if first <= start < first + length_:
                    assert granule % theirs == 0 or granule == stretch
                first += length_
    assert joined_segments(one, one) == one


def test_segments_of_several_readers() -> None:
    assert all_segments_joined([((768, 1),), ((768, 64),), ((768, 96),)]) == ((768, 192),)
    assert joined_segments(((8, 1),), ((4, 2), (4, 1))) == ((4, 2), (4, 1))


@given(RANGES)
@examples(200)
def test_ranges_keep_their_indices(ranges: Ranges) -> None:
    assert indices(tidy(ranges)) == indices(ranges)
    assert indices(merged(ranges)) == sorted(set(indices(ranges)))
    assert all(a[1] < b[0] for a, b in zip(merged(ranges), merged(ranges)[1:], strict=False))
    assert all(a[1] != b[0] for a, b in zip(tidy(ranges), tidy(ranges)[1:], strict=False))
    assert all(start < stop for start, stop in (*tidy(ranges), *merged(ranges)))
    assert length(tidy(ranges)) == len(indices(ranges))
    assert indices(shifted(ranges, 3)) == [i + 3 for i in indices(ranges)]
    assert indices(scaled(tidy(ranges), 4)) == [i * 4 + j for i in indices(ranges) for j in range(4)]


@given(RANGES, st.integers(0, 20), st.integers(0, 20))
@examples(200)
def test_clipping_and_finding(ranges: Ranges, first: int, last: int) -> None:
    assert indices(clipped(ranges, first, last)) == [i for i in indices(ranges) if first <= i < last]
    inside = set(range(first, last)) <= set(indices(ranges))
    assert within(((first, last),), ranges) == inside
    if first < last:
        held = tidy(ranges)
        found = located((first, last), held)
        local = indices(held)
        runs = [at for at in range(len(local)) if local[at : at + last - first] == list(range(first, last))]
        if found is None:
            assert not any(a <= first and last <= b for a, b in held)
        else:
            assert found[0] in runs
            assert found[1] - found[0] == last - first


def test_overlapping_parts_are_not_exact() -> None:
    assert Split(0, (((0, 4),), ((4, 8),))).exact
    assert Split(0, (((0, 2), (4, 6)), ((2, 4), (6, 8)))).exact
    assert not Split(0, (((0, 5),), ((4, 8),))).exact
    assert not Split(0, (((0, 8),), ((2, 3),), ((8, 9),))).exact


def test_who_holds_what() -> None:
    assert [holds(REPLICATED, rank) for rank in range(3)] == [True, True, True]
    assert [holds(Split(0, (((0, 4),), (), ((4, 6),))), rank) for rank in range(3)] == [True, False, True]
    assert [holds(Partial((1, 2)), rank) for rank in range(3)] == [False, True, True]


def test_an_index_outside_is_an_error() -> None:
    with pytest.raises(ValueError, match="outside"):
        joined_segments(((4, 1),), ((6, 1),))
