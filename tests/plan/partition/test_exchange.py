"""Redistribution: whatever layout a group holds, every rank gets its part of any other, and sums are repeatable."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.cost.exchange import LinkCost
from core.plan.exchange import Exchange, Names
from core.plan.layouts import REPLICATED, Layout, Partial, Ranges, Replicated, Split
from core.plan.program import TensorType
from core.plan.rank_program import RankProgram, local_name, local_type
from tests.plan.partition.drawing import even, examples
from tests.plan.partition.joined import Array, part_of, run_joined, ways_of

OPSETS = {"": 17}
DIRECT = LinkCost()
SCATTER = LinkCost(message_s=0.0, hop_s=0.0)
RING = LinkCost(trunk_byte_s=1.0)


class Held:
    """A tensor ``x`` held by a group, and what becomes of it."""

    def __init__(self, array: Array, layout: Layout, ranks: int, link: LinkCost = DIRECT) -> None:
        self.array = array
        self.whole = TensorType(array.dtype.name, array.shape, (False,) * array.ndim)
        self.programs = [RankProgram(rank, frozenset({"x"})) for rank in range(ranks)]
        self.exchange = Exchange(self.programs, {"x": self.whole}, link)
        self.feed: dict[tuple[int, str], Array] = {}
        names: list[str | None] = []
        for rank, program in enumerate(self.programs):
            if not isinstance(layout, Replicated) and rank not in layout.ranks:
                names.append(None)
                continue
            name = local_name("x", layout, program)
            program.types[name] = local_type(self.whole, layout, rank)
            self.feed[rank, name] = self.term(rank, layout) if isinstance(layout, Partial) else self.part(layout, rank)
            names.append(name)
        self.forms: dict[Layout, Names] = {layout: tuple(names)}
        self.held = layout

    def part(self, layout: Layout, rank: int) -> Array:
        return part_of(self.array, layout, rank)

    def term(self, rank: int, layout: Partial) -> Array:
        """Random but for the last one's."""
        others = [self._noise(r) for r in layout.ranks[:-1]]
        return self._noise(rank) if rank != layout.ranks[-1] else (self.array - sum(others)).astype(self.array.dtype)

    def _noise(self, rank: int) -> Array:
        drawn = np.random.default_rng(rank + 100).standard_normal(self.array.shape)
        return np.asarray(drawn * 3).astype(self.array.dtype)

    def convert(self, *wanted: Layout) -> list[Names]:
        return [self.exchange.convert("x", self.forms, want, 0) for want in wanted]

    def values(self, several: Sequence[Names]) -> list[list[Array | None]]:
        places = [(rank, name) for names in several for rank, name in enumerate(names) if name is not None]
        programs = [program.finished() for program in self.programs]
        found = run_joined(programs, ways_of(self.exchange.hops), self.feed, places, OPSETS)
        for place in places:
            told = self.programs[place[0]].types[place[1]]
            assert told.shape == found[place].shape
            assert told.dtype == found[place].dtype.name
        return [[found[rank, name] if name is not None else None for rank, name in enumerate(n)] for n in several]

    def check(self, *wanted: Layout) -> None:
        """Every rank's part of every layout is right, one after the other asked for."""
        tolerance = 1e-5 * max(1.0, float(np.abs(self.array).max(initial=0))) if isinstance(self.held, Partial) else 0
        for want, arrays in zip(wanted, self.values(self.convert(*wanted)), strict=True):
            for rank, got in enumerate(arrays):
                if isinstance(want, Partial):
                    continue
                if isinstance(want, Split) and not want.parts[rank]:
                    assert got is None
                    continue
                assert got is not None
                np.testing.assert_allclose(got, self.part(want, rank), rtol=0, atol=tolerance * len(self.programs))
            if isinstance(want, Partial):
                np.testing.assert_allclose(
                    sum(got for got in arrays if got is not None), self.array, rtol=0, atol=tolerance
                )

    @property
    def kinds(self) -> Counter[str]:
        return Counter(hop.kind for hop in self.exchange.hops)


def array(*shape: int, dtype: str = "float32") -> Array:
    drawn = np.random.default_rng(sum(shape)).standard_normal(shape)
    return (drawn * 10).astype(dtype)


def dealt(size: int, axis: int, ranks: int, stretch: int) -> Split:
    """Stretches given to the ranks in turn."""
    parts: list[list[tuple[int, int]]] = [[] for _ in range(ranks)]
    for number, start in enumerate(range(0, size, stretch)):
        parts[number % ranks].append((start, min(size, start + stretch)))
    return Split(axis, tuple(map(tuple, parts)))


# ---------------------------------------------------------------- all-gather, all-to-all, halo


@pytest.mark.parametrize(("size", "stretch"), [(12, 12), (12, 4), (40, 3), (41, 1)])
def test_all_gather(size: int, stretch: int) -> None:
    held = Held(array(3, size), dealt(size, 1, 3, stretch), 3)
    held.check(REPLICATED)
    senders = {hop.source for hop in held.exchange.hops}
    assert held.kinds == {"all-gather": 2 * len(senders)}
    if stretch == 1:  # more pieces than a Slice each is worth
        assert all([op.type for op in program.ops] == ["Concat", "Gather"] for program in held.programs)


def test_all_to_all_of_several_ranges() -> None:
    held = Held(array(6, 24), dealt(24, 1, 3, 4), 3)
    held.check(even(6, 0, 3))
    assert held.kinds == {"all-to-all": 6}
    other = Held(array(6, 24), even(6, 0, 3), 3)
    other.check(dealt(24, 1, 3, 4))
    assert other.kinds == {"all-to-all": 6}


def test_parts_in_any_order() -> None:
    turned = Split(1, (((8, 12), (0, 2)), ((6, 8), (2, 6))))
    Held(array(4, 12), even(4, 0, 2), 2).check(turned)
    Held(array(4, 12), turned, 2).check(REPLICATED, even(4, 0, 2))
    Held(array(4, 12), Partial((0, 1)), 2).check(turned)
    Held(array(4, 12), REPLICATED, 2).check(turned)


def test_halo_rows_come_from_neighbours_and_are_not_fetched_twice() -> None:
    exact = even(12, 2, 3)
    wide = Split(2, (((0, 6),), ((2, 10),), ((6, 12),)))
    held = Held(array(1, 2, 12, 3), exact, 3)
    held.check(wide, exact)
    assert held.kinds == {"halo": 4}
    assert all(hop.slices[0].stop - hop.slices[0].start == 2 for hop in held.exchange.hops)
    again = Held(array(1, 2, 12, 3), wide, 3)
    again.check(exact)
    assert not again.exchange.hops  # each cuts its part out of what it has


def test_uneven_and_empty_parts() -> None:
    held = Held(array(9, 4), Split(0, (((0, 7),), (), ((7, 9),))), 3)
    held.check(REPLICATED, even(9, 0, 3), Split(1, ((), ((0, 4),), ())))


def test_a_value_in_several_layouts_is_gathered_once() -> None:
    held = Held(array(8, 8), even(8, 0, 2), 2)
    held.check(REPLICATED, even(8, 1, 2), dealt(8, 0, 2, 2), Partial((0, 1)))
    assert held.kinds == {"all-gather": 2}


# ---------------------------------------------------------------- sums


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
@pytest.mark.parametrize(("ranks", "link"), [(2, DIRECT), (3, SCATTER), (4, SCATTER), (4, RING), (5, RING)])
def test_all_reduce(ranks: int, link: LinkCost, dtype: str) -> None:
    held = Held(array(3, 40, dtype=dtype), Partial(tuple(range(ranks))), ranks, link)
    held.check(REPLICATED)
    hops = Counter((hop.source, hop.target) for hop in held.exchange.hops)
    if link is RING:  # each to the next, twice around but for one step
        assert hops == {(r, (r + 1) % ranks): 2 * (ranks - 1) for r in range(ranks)}
    else:
        rounds = 1 if link is DIRECT else 2
        assert hops == {(a, b): rounds for a in range(ranks) for b in range(ranks) if a != b}


@pytest.mark.parametrize(("ranks", "link"), [(2, DIRECT), (3, DIRECT), (4, SCATTER), (4, RING)])
def test_sums_are_the_same_on_every_rank_bit_for_bit(ranks: int, link: LinkCost) -> None:
    whole = array(64, 33)
    first = Held(whole, Partial(tuple(range(ranks))), ranks, link)
    [sums] = first.values(first.convert(REPLICATED))
    second = Held(whole, Partial(tuple(range(ranks))), ranks, link)
    [again] = second.values(second.convert(REPLICATED))
    assert sums[0] is not None
    for one in (*sums, *again):
        assert one is not None
        assert one.tobytes() == sums[0].tobytes()


def test_terms_are_added_in_the_order_of_their_ranks() -> None:
    held = Held(array(16, 16), Partial((0, 1, 2)), 3)
    [sums] = held.values(held.convert(REPLICATED))
    terms = [held.feed[rank, "x/partial"] for rank in range(3)]
    assert sums[2] is not None
    assert sums[2].tobytes() == ((terms[0] + terms[1]) + terms[2]).tobytes()
    assert sums[2].tobytes() != ((terms[1] + terms[2]) + terms[0]).tobytes()


def test_a_ring_adds_each_chunk_along_its_way() -> None:
    held = Held(array(8, 50), Partial((0, 1, 2, 3)), 4, RING)
    [sums] = held.values(held.convert(REPLICATED))
    terms = [held.feed[rank, "x/partial"] for rank in range(4)]
    assert sums[0] is not None
    for chunk in range(4):
        one, two, three, four = (terms[(chunk + 1 + step) % 4][2 * chunk : 2 * chunk + 2] for step in range(4))
        assert sums[0][2 * chunk : 2 * chunk + 2].tobytes() == (((one + two) + three) + four).tobytes()


def test_reduce_scatter_of_several_ranges() -> None:
    held = Held(array(5, 24), Partial((0, 1, 2)), 3)
    held.check(dealt(24, 1, 3, 4))
    assert held.kinds == {"reduce-scatter": 6}


def test_only_some_ranks_hold_terms() -> None:
    Held(array(6, 6), Partial((1, 3)), 4, DIRECT).check(REPLICATED, even(6, 0, 4))
    Held(array(6, 6), Partial((1, 3)), 4, RING).check(REPLICATED)
    Held(array(6, 6), Partial((2,)), 3).check(REPLICATED)


def test_one_number_is_added_up_in_one_step() -> None:
    Held(array(), Partial((0, 1, 2)), 3, SCATTER).check(REPLICATED)
    Held(array(1, 1), Partial((0, 1, 2, 3)), 4, RING).check(REPLICATED)


# ---------------------------------------------------------------- any layout to any other


@st.composite
def splits(draw: st.DrawFn, shape: tuple[int, ...], ranks: int) -> Split:
    """Any number of ranges for each rank, in any order, some ranks empty, some indices held by several."""
    axis = draw(st.integers(0, len(shape) - 1))
    size = shape[axis]
    bounds = sorted({0, size, *draw(st.lists(st.integers(0, size), max_size=24))})
    stretches = draw(st.permutations(list(pairwise(bounds))))
    parts: list[list[tuple[int, int]]] = [[] for _ in range(ranks)]
    for one in stretches:
        owner = draw(st.integers(0, ranks - 1))
        parts[owner].append(one)
        other = draw(st.integers(0, 3 * ranks))
        if other < ranks and other != owner:
            parts[other].append(one)
    return Split(axis, tuple(tidied(ranges) for ranges in parts))


def tidied(ranges: list[tuple[int, int]]) -> Ranges:
    found: list[tuple[int, int]] = []
    for start, stop in ranges:
        if found and found[-1][1] == start:
            found[-1] = (found[-1][0], stop)
        else:
            found.append((start, stop))
    return tuple(found)


@st.composite
def layouts(draw: st.DrawFn, shape: tuple[int, ...], ranks: int) -> Layout:
    kind = draw(st.sampled_from(["split", "split", "split", "partial", "replicated"]))
    if kind == "split":
        return draw(splits(shape, ranks))
    if kind == "partial":
        return Partial(tuple(sorted(draw(st.sets(st.integers(0, ranks - 1), min_size=1)))))
    return REPLICATED


@given(st.data())
@examples(80)
def test_any_layout_becomes_any_other(data: st.DataObject) -> None:
    ranks = data.draw(st.integers(2, 5))
    shape = tuple(data.draw(st.lists(st.integers(1, 30), min_size=1, max_size=3)))
    link = data.draw(st.sampled_from([DIRECT, SCATTER, RING]))
    held = Held(array(*shape), data.draw(layouts(shape, ranks)), ranks, link)
    held.check(*data.draw(st.lists(layouts(shape, ranks), min_size=1, max_size=3)))
    for hop in held.exchange.hops:
        assert hop.source != hop.target
        sent = held.programs[hop.source].types[hop.value]
        assert sent.shape is not None
        assert all(0 <= one.start < one.stop <= sent.shape[one.axis] for one in hop.slices)
