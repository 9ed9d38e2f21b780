"""Bring tensors from the layout in which a group holds them into the one that is wanted.

Everything a rank does not hold is fetched from a rank that does, in one transfer from each; joining and adding up are
operators of the receiver's program. The terms of a sum are added in an order that the plan fixes: that of their ranks,
in a ring for each chunk that of the ranks on its way. So a run repeats bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise

import numpy as np
from msgspec import Struct

from core.cost.exchange import AllReduce, LinkCost, cheapest_all_reduce
from core.plan.form import Slice
from core.plan.layouts import (
    REPLICATED,
    Group,
    Layout,
    Partial,
    Range,
    Ranges,
    Replicated,
    Split,
    apportion,
    covers,
    located,
    span,
    within,
)
from core.plan.merging import MOST_PIECES, add_up, cut, cut_from_span, gathered, joined
from core.plan.program import TensorType
from core.plan.rank_program import RankProgram, local_name, local_type

Names = tuple[str | None, ...]
"""What each rank calls its part; None where it holds nothing."""


class Hop(Struct, frozen=True):
    """A transfer between two ranks of a group."""

    source: int
    value: str
    """Local name there."""
    target: int
    name: str
    """Input of the target's program."""
    slices: tuple[Slice, ...]
    """What is cut out of ``value``, in its own indices."""
    kind: str
    """As in ``division.Exchange``."""
    tensor: str
    """The divided program's value that it is a part of."""
    layer: int
    """That it is for."""


class Exchange:
    """Writes redistributions into the programs of a group's ranks."""

    def __init__(self, programs: Sequence[RankProgram], types: Mapping[str, TensorType], link: LinkCost) -> None:
        """``types``: of the divided program's values, whole."""
        self.programs = list(programs)
        self.group = Group(tuple(1 / len(programs) for _ in programs))
        self.hops: list[Hop] = []
        self._types = types
        self._link = link

    # ------------------------------------------------------------ what can be asked for

    def convert(self, value: str, forms: dict[Layout, Names], want: Layout, layer: int) -> Names:
        """The names of ``value`` in layout ``want``, made from one of the forms in which the group holds it."""
        if want in forms:
            return forms[want]
        source = self._best_source(value, forms, want)
        names = self._converted(value, forms, source, want, layer)
        forms[want] = names
        return names

    def handed_out(self, value: str, layer: int) -> Names:
        """The names of ``value``, which the first rank has made, at every rank."""
        for rank in self.group.ranks[1:]:
            program, target = self.programs[rank], self._declared(value, REPLICATED, rank)
            bundle = program.new_bundle()
            came = self._fetch(value, 0, value, rank, (), target.name, bundle, "all-gather", layer)
            program.add("Identity", [came], [target.name], bundle)
        return (value,) * len(self.programs)

    def _best_source(self, value: str, forms: Mapping[Layout, Names], want: Layout) -> Layout:
        if REPLICATED in forms:
            return REPLICATED
        splits = [layout for layout in forms if isinstance(layout, Split)]
        if isinstance(want, Split):
            same = [split for split in splits if split.axis == want.axis]
            for split in same:
                if all(within(wanted, held) for wanted, held in zip(want.parts, split.parts, strict=True)):
                    return split
            splits = same + splits
        held = self._types[value]
        whole = (split for split in splits if covers(split, _axis_size(held, split.axis)))
        return next(whole, None) or next(layout for layout in forms if isinstance(layout, Partial))

    def _converted(self, value: str, forms: dict[Layout, Names], source: Layout, want: Layout, layer: int) -> Names:
        names = forms[source]
        if isinstance(source, Replicated):
            return self._from_whole(value, names, want)
        if isinstance(want, Partial):
            whole = self.convert(value, forms, REPLICATED, layer)
            return self._from_whole(value, whole, want)
        if isinstance(source, Partial):
            return self._reduced(value, forms, source, want, layer)
        kind = _kind(source, want)
        return tuple(
            self._assembled(value, source, names, want, rank, layer, kind) if _wants(want, rank) else None
            for rank in self.group.ranks
        )

    def _from_whole(self, value: str, names: Names, want: Layout) -> Names:
        """Every rank cuts out its own part."""
        if isinstance(want, Partial):
            return tuple(name if rank == want.ranks[0] else None for rank, name in enumerate(names))
        assert isinstance(want, Split)
        made: list[str | None] = []
        for rank, name in enumerate(names):
            if not want.parts[rank] or name is None:
                made.append(None)
                continue
            target = self._declared(value, want, rank)
            if target.fresh:
                program = self.programs[rank]
                cut(program, name, target.name, want.axis, want.parts[rank], program.new_bundle())
            made.append(target.name)
        return tuple(made)

    # ------------------------------------------------------------ pieces of a split tensor

    def _assembled(
        self, value: str, source: Split, names: Names, want: Layout, rank: int, layer: int, kind: str
    ) -> str:
        target = self._declared(value, want, rank)
        if not target.fresh:
            return target.name
        program = self.programs[rank]
        bundle = program.new_bundle()
        across = isinstance(want, Split) and want.axis != source.axis
        whole: Range = (0, _axis_size(self._types[value], source.axis))
        wanted = want.parts[rank] if isinstance(want, Split) and not across else (whole,)
        pieces = _cover(source, wanted, rank)
        by_owner: dict[int, list[Range]] = {}
        for owner, piece in pieces:
            by_owner.setdefault(owner, []).append(piece)
        fetched: dict[int, tuple[str, int]] = {}
        """Owner -> name here of a stretch of its local tensor, and where the stretch begins in that tensor."""
        for owner, ranges in by_owner.items():
            first, last = _bounding(ranges, source.parts[owner])
            slices = () if (first, last) == (0, source.sizes[owner]) else (Slice(source.axis, first, last),)
            if isinstance(want, Split) and across:
                slices = tuple(sorted((*slices, Slice(want.axis, *span(want.parts[rank]))), key=lambda s: s.axis))
            name = names[owner]
            assert name is not None
            fetched[owner] = (self._fetch(value, owner, name, rank, slices, target.name, bundle, kind, layer), first)
        if isinstance(want, Split) and across and len(want.parts[rank]) > 1:
            stretch = program.fresh(target.name)
            self._join(program, source, pieces, fetched, stretch, bundle)
            return cut_from_span(program, stretch, target.name, want.axis, want.parts[rank], bundle)
        return self._join(program, source, pieces, fetched, target.name, bundle)

    def _join(
        self,
        program: RankProgram,
        source: Split,
        pieces: Sequence[tuple[int, Range]],
        fetched: Mapping[int, tuple[str, int]],
        target: str,
        bundle: int,
    ) -> str:
        """One tensor from pieces in order, as ``target``."""
        if len(pieces) > MOST_PIECES:
            owners = list(fetched)
            base: dict[int, int] = {}
            at = 0
            for owner in owners:
                base[owner] = at
                at += _fetched_size(source, pieces, owner)
            everything = program.fresh(target)
            joined(program, [fetched[owner][0] for owner in owners], everything, source.axis, bundle)
            index = np.concatenate(
                [
                    np.arange(*_local(source, owner, piece), dtype=np.int64) - fetched[owner][1] + base[owner]
                    for owner, piece in pieces
                ]
            )
            return gathered(program, everything, target, source.axis, index, bundle)
        parts = []
        for owner, piece in pieces:
            name, first = fetched[owner]
            low, high = _local(source, owner, piece)
            if (low - first, high - first) != (0, _fetched_size(source, pieces, owner)):
                name = cut(program, name, program.fresh(target), source.axis, ((low - first, high - first),), bundle)
            parts.append(name)
        return joined(program, parts, target, source.axis, bundle)

    def _fetch(
        self,
        value: str,
        owner: int,
        name: str,
        rank: int,
        slices: tuple[Slice, ...],
        stem: str,
        bundle: int,
        kind: str,
        layer: int,
    ) -> str:
        """The name at ``rank`` of what ``owner`` holds, cut."""
        program = self.programs[rank]
        if owner == rank:
            for one in slices:
                name = cut(program, name, program.fresh(stem), one.axis, ((one.start, one.stop),), bundle)
            return name
        received = program.own(f"{stem}/from{owner}")
        if received not in program.inputs:
            held = self.programs[owner].types[name]
            for one in slices:
                held = held.resized(one.axis, one.stop - one.start)
            program.types[received] = held
            program.inputs[received] = None
            self.programs[owner].outputs[name] = None
            self.hops.append(Hop(owner, name, rank, received, slices, kind, value, layer))
        return received

    # ------------------------------------------------------------ sums

    def _reduced(self, value: str, forms: dict[Layout, Names], source: Partial, want: Layout, layer: int) -> Names:
        names = forms[source]
        if isinstance(want, Replicated) and len(source.ranks) > 1:
            scattered = self.two_steps(value)
            if scattered is not None and self._way(value) == "ring" and len(source.ranks) == len(self.group.ranks):
                return self._ring(value, names, scattered, layer)
            if scattered is not None:
                self.convert(value, forms, scattered, layer)
                return self._converted(value, forms, scattered, want, layer)
        kind = "all-reduce" if isinstance(want, Replicated) else "reduce-scatter"
        return tuple(
            self._summed(value, source, names, want, rank, layer, kind) if _wants(want, rank) else None
            for rank in self.group.ranks
        )

    def two_steps(self, value: str) -> Split | None:
        """How sums of ``value`` are best shared out before everybody has them; None where they are not."""
        return self._scattered(value) if self._way(value) != "direct" else None

    def _way(self, value: str) -> AllReduce:
        return cheapest_all_reduce(self._types[value].nbytes, len(self.group.ranks), self._link)

    def _summed(self, value: str, source: Partial, names: Names, want: Layout, rank: int, layer: int, kind: str) -> str:
        target = self._declared(value, want, rank)
        if not target.fresh:
            return target.name
        program = self.programs[rank]
        bundle = program.new_bundle()
        bounds = (Slice(want.axis, *span(want.parts[rank])),) if isinstance(want, Split) else ()
        terms = []
        for owner in source.ranks:
            name = names[owner]
            assert name is not None
            terms.append(self._fetch(value, owner, name, rank, bounds, target.name, bundle, kind, layer))
        dtype = self._types[value].dtype
        if isinstance(want, Split) and len(want.parts[rank]) > 1:
            stretch = add_up(program, terms, program.fresh(target.name), dtype, bundle)
            return cut_from_span(program, stretch, target.name, want.axis, want.parts[rank], bundle)
        return add_up(program, terms, target.name, dtype, bundle)

    def _scattered(self, value: str) -> Split | None:
        """An even split along the first axis that allows it, for a sum in two steps."""
        held = self._types[value]
        if held.shape is None or held.varying is None:
            return None
        ranks = len(self.group.ranks)
        for axis, (size, varies) in enumerate(zip(held.shape, held.varying, strict=True)):
            if size >= ranks and not varies:
                bounds = accumulate(apportion(size, self.group.shares), initial=0)
                return Split(axis, tuple(((first, last),) for first, last in pairwise(bounds)))
        return None

    def _ring(self, value: str, names: Names, chunks: Split, layer: int) -> Names:
        """Each chunk travels once around, growing by one term at each rank, and once more around, finished."""
        ranks = len(self.group.ranks)
        finished: list[list[str]] = [[""] * ranks for _ in range(ranks)]
        for chunk in range(ranks):
            bounds = (Slice(chunks.axis, *chunks.parts[chunk][0]),)
            carried = ""
            for step in range(ranks):
                rank = (chunk + 1 + step) % ranks
                program = self.programs[rank]
                bundle = program.new_bundle()
                own_name = names[rank]
                assert own_name is not None
                own = self._fetch(
                    value, rank, own_name, rank, bounds, f"{value}/chunk{chunk}", bundle, "all-reduce", layer
                )
                made = program.own(f"{value}/chunk{chunk}/sum{step}")
                if step == 0:
                    program.add("Identity", [own], [made], bundle)
                else:
                    before = (rank - 1) % ranks
                    came = self._fetch(value, before, carried, rank, (), made, bundle, "all-reduce", layer)
                    add_up(program, [came, own], made, self._types[value].dtype, bundle)
                program.types[made] = self._types[value].resized(chunks.axis, chunks.sizes[chunk])
                carried = made
            holder = chunk
            finished[holder][chunk] = carried
            for step in range(1, ranks):
                rank = (chunk + step) % ranks
                program = self.programs[rank]
                bundle = program.new_bundle()
                made = program.own(f"{value}/chunk{chunk}/passed")
                came = self._fetch(value, holder, carried, rank, (), made, bundle, "all-reduce", layer)
                program.add("Identity", [came], [made], bundle)
                program.types[made] = self._types[value].resized(chunks.axis, chunks.sizes[chunk])
                finished[rank][chunk] = carried = made
                holder = rank
        wholes: list[str | None] = []
        for rank in self.group.ranks:
            target = self._declared(value, REPLICATED, rank)
            program = self.programs[rank]
            program.add("Concat", finished[rank], [target.name], program.new_bundle(), axis=chunks.axis)
            wholes.append(target.name)
        return tuple(wholes)

    # ------------------------------------------------------------ names

    def _declared(self, value: str, layout: Layout, rank: int) -> _Target:
        """The rank's name for its part; not fresh where it holds the very same part already."""
        program = self.programs[rank]
        name = local_name(value, layout, program)
        fresh = name not in program.types
        if fresh:
            program.types[name] = local_type(self._types[value], layout, rank)
        return _Target(name, fresh)


class _Target(Struct, frozen=True):
    name: str
    fresh: bool


def _wants(want: Layout, rank: int) -> bool:
    return isinstance(want, Replicated) or rank in want.ranks


def _kind(source: Split, want: Layout) -> str:
    if isinstance(want, Replicated):
        return "all-gather"
    assert isinstance(want, Split)
    return "halo" if want.axis == source.axis else "all-to-all"


def _axis_size(held: TensorType, axis: int) -> int:
    assert held.shape is not None
    return held.shape[axis]


def _cover(source: Split, wanted: Ranges, rank: int) -> list[tuple[int, Range]]:
    """Who gives which range, in the order wanted; what the rank holds itself comes from itself."""
    order = [rank, *(r for r in range(len(source.parts)) if r != rank)]
    pieces: list[tuple[int, Range]] = []
    for start, stop in wanted:
        at = start
        while at < stop:
            owner, end = next((o, e) for o in order for s, e in source.parts[o] if s <= at < e)
            if owner != rank:
                later = [s for s, e in source.parts[rank] if at < s < end]
                end = min([end, *later])
            pieces.append((owner, (at, min(end, stop))))
            at = min(end, stop)
    return pieces


def _local(source: Split, owner: int, piece: Range) -> Range:
    found = located(piece, source.parts[owner])
    assert found is not None
    return found


def _bounding(ranges: Sequence[Range], held: Ranges) -> Range:
    places = [place for one in ranges if (place := located(one, held)) is not None]
    return min(first for first, _ in places), max(last for _, last in places)


def _fetched_size(source: Split, pieces: Sequence[tuple[int, Range]], owner: int) -> int:
    first, last = _bounding([piece for who, piece in pieces if who == owner], source.parts[owner])
    return last - first
