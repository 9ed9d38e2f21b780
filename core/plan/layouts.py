"""How a group of ranks holds a tensor, and how an axis is shared out between ranks of unequal speed.

A layout speaks of one tensor and one group (the nodes that run one part of a model together, rank 0 first):

* ``Replicated``: every rank holds all of it.
* ``Split``: rank r holds the ranges ``parts[r]`` of one axis, joined in that order. Parts may be of any sizes and may
  be empty; they cover the axis. Usually they do not overlap; under a spatial split they may (halo rows).
* ``Partial``: some ranks hold a term each, and the tensor is their sum.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from itertools import accumulate, pairwise
from math import lcm

from msgspec import Struct

Range = tuple[int, int]
"""First index and the one after the last, along one axis of the whole tensor."""
Ranges = tuple[Range, ...]
Segments = tuple[tuple[int, int], ...]
"""An axis as consecutive stretches (length, granule): each stretch is shared out between the ranks on its own, in
multiples of its granule. Heads of 64: ((768, 64),). Queries, keys and values side by side: ((768, 64),) * 3."""


class Replicated(Struct, frozen=True):
    pass


class Split(Struct, frozen=True):
    axis: int
    """Counted from the front."""
    parts: tuple[Ranges, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Length of each rank's part along the axis."""
        return tuple([length(ranges) for ranges in self.parts])

    @property
    def exact(self) -> bool:
        """No index is held twice."""
        ranges = sorted(one for ranges in self.parts for one in ranges)
        return all(before[1] <= after[0] for before, after in pairwise(ranges))

    @property
    def ranks(self) -> tuple[int, ...]:
        """Those that hold anything."""
        return tuple([rank for rank, ranges in enumerate(self.parts) if ranges])


class Partial(Struct, frozen=True):
    ranks: tuple[int, ...]
    """Those that hold a term, increasing."""


Layout = Replicated | Split | Partial
REPLICATED = Replicated()


class Group(Struct, frozen=True):
    shares: tuple[float, ...]
    """Of the work, one for each rank; they add up to 1."""

    @property
    def ranks(self) -> range:
        return range(len(self.shares))


def holds(layout: Layout, rank: int) -> bool:
    """Whether a rank holds something of a tensor."""
    if isinstance(layout, Split):
        return bool(layout.parts[rank])
    return isinstance(layout, Replicated) or rank in layout.ranks


def length(ranges: Iterable[Range]) -> int:
    total = 0
    for start, stop in ranges:
        total += stop - start
    return total


def span(ranges: Ranges) -> Range:
    """The shortest range in which all of them lie; there must be at least one."""
    return min(start for start, _ in ranges), max(stop for _, stop in ranges)


def merged(ranges: Iterable[Range]) -> Ranges:
    """The same indices in increasing order, with neighbours joined and empty ranges left out."""
    found: list[Range] = []
    for start, stop in sorted(ranges):
        if start >= stop:
            continue
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(stop, found[-1][1]))
        else:
            found.append((start, stop))
    return tuple(found)


def tidy(ranges: Iterable[Range]) -> Ranges:
    """The same indices in the same order, with adjacent ranges joined and empty ones left out."""
    found: list[Range] = []
    for start, stop in ranges:
        if start >= stop:
            continue
        if found and start == found[-1][1]:
            found[-1] = (found[-1][0], stop)
        else:
            found.append((start, stop))
    return tuple(found)


def shifted(ranges: Iterable[Range], offset: int) -> Ranges:
    return tuple((start + offset, stop + offset) for start, stop in ranges)


def scaled(ranges: Iterable[Range], factor: int) -> Ranges:
    return tuple((start * factor, stop * factor) for start, stop in ranges)


def clipped(ranges: Iterable[Range], first: int, last: int) -> Ranges:
    """The part of ``ranges`` within [first, last), in the same order."""
    return tidy((max(start, first), min(stop, last)) for start, stop in ranges)


def within(inner: Iterable[Range], outer: Ranges) -> bool:
    """Whether every index of ``inner`` is one of ``outer``."""
    if inner == outer:
        return True
    joined = merged(outer)
    return all(any(a <= start and stop <= b for a, b in joined) for start, stop in merged(inner))


def covers(split: Split, size: int) -> bool:
    """Whether every index of an axis of ``size`` is held: windows that leave rows out want a part of it only."""
    return merged(one for ranges in split.parts for one in ranges) == ((0, size),)


def located(wanted: Range, held: Ranges) -> Range | None:
    """Where the range ``wanted`` lies in a local tensor made of the ranges ``held``; None if not in one run."""
    at = 0
    for start, stop in tidy(held):
        if start <= wanted[0] and wanted[1] <= stop:
            return at + wanted[0] - start, at + wanted[1] - start
        at += stop - start
    return None


def selected(wanted: Iterable[Range], held: Ranges) -> Ranges:
    """Ranges of the whole axis that lie at ``wanted`` in a local tensor made of the ranges ``held``."""
    found: list[Range] = []
    for first, last in wanted:
        at = 0
        for start, stop in held:
            low, high = max(first, at), min(last, at + stop - start)
            if low < high:
                found.append((start + low - at, start + high - at))
            at += stop - start
    return tidy(found)


def apportion(units: int, shares: Sequence[float]) -> tuple[int, ...]:
    """Whole numbers in proportion to ``shares`` that add up to ``units``; none is 0 as long as the units suffice.

    The same number of units is always divided in the same way (largest remainder, lower ranks first).
    """
    total = sum(shares)
    exact = [units * share / total for share in shares]
    least = 1 if units >= len(shares) else 0
    counts = [max(least, int(value)) for value in exact]
    missing = units - sum(counts)
    for _ in range(-missing):
        most = max(range(len(counts)), key=lambda r: (counts[r] > least, counts[r] - exact[r], -r))
        counts[most] -= 1
    for _ in range(missing):
        least_served = max(range(len(counts)), key=lambda r: (round(exact[r] - counts[r], 9), shares[r], -r))
        counts[least_served] += 1
    return tuple(counts)


def split_by(segments: Segments, axis: int, group: Group) -> Split:
    """The axis shared out: every stretch in proportion to the ranks' shares."""
    parts: list[list[Range]] = [[] for _ in group.ranks]
    apportioned: dict[int, tuple[int, ...]] = {}  # concatenated pieces are often of one size
    start = 0
    for size, granule in segments:
        units = size // granule
        counts = apportioned.get(units) or apportioned.setdefault(units, apportion(units, group.shares))
        bounds = [start + granule * bound for bound in accumulate(counts, initial=0)]
        bounds[-1] = start + size
        for rank, (first, last) in enumerate(pairwise(bounds)):
            parts[rank].append((first, last))
        start += size
    return Split(axis, tuple(tidy(ranges) for ranges in parts))


def joined_segments(one: Segments, other: Segments) -> Segments:
    """Segments of an axis that respect both: every boundary of either, and multiples of both granules."""
    if one == other:
        return one
    bounds = sorted({0, *accumulate(size for size, _ in one), *accumulate(size for size, _ in other)})
    found = []
    for start, stop in pairwise(bounds):
        granule = lcm(_granule_at(one, start), _granule_at(other, start))
        found.append((stop - start, granule if (stop - start) % granule == 0 else stop - start))
    return tuple(found)


def _granule_at(segments: Segments, index: int) -> int:
    stop = 0
    for size, granule in segments:
        stop += size
        if index < stop:
            return granule
    raise ValueError(f"index {index} lies outside an axis of {stop}")


def all_segments_joined(several: Iterable[Segments]) -> Segments:
    return reduce(joined_segments, several)
