"""Geometry of operators that make each output row from a few neighbouring input rows, along one axis.

A ``Window`` knows which input rows a range of output rows needs, and the other way round. ``divided`` turns the parts
in which an input is held into the ways in which its operator's output can be divided: parts that touch, whose halo rows
come from neighbours, or parts that overlap (fused tiles), whose halo rows are computed more than once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Protocol

from msgspec import Struct

from core.plan.layouts import Group, Range, Ranges, Split, merged, split_by
from core.plan.operators.base import Local, OpView

MOST_DIVISIONS = 5
"""Each is a choice for the search, and choices multiply along the graph."""

EVEN_ENOUGH = 0.05
"""Parts whose most loaded rank could have less of its work taken away than this are not shared out afresh."""


class Window(Protocol):
    """One axis of an operator. Rows are indices of that axis, of the whole tensors."""

    @property
    def size(self) -> int:
        """Of the input."""

    @property
    def made(self) -> int:
        """Of the output."""

    def needs(self, rows: Range) -> Range | None:
        """Input rows that output rows (not none) are made from; None where a rank could not make just these."""

    def reach(self, rows: Range) -> Range:
        """Output rows that can be made from input rows alone; first >= last where there are none."""

    def boundary(self, at: int) -> int:
        """Where a boundary between input rows comes to lie in the output; may lie outside it."""

    def margin(self, extra: int) -> int:
        """Input rows beyond a part, on either side, that suffice for ``extra`` output rows beyond what it makes."""


class Sliding(Struct, frozen=True):
    """Convolution, pooling: output row o is made from ``kernel`` rows, ``dilation`` apart, from o*stride - before."""

    size: int
    made: int
    kernel: int
    stride: int = 1
    dilation: int = 1
    before: int = 0
    after: int = 0
    """Padding."""

    @property
    def span(self) -> int:
        return (self.kernel - 1) * self.dilation + 1

    def needs(self, rows: Range) -> Range | None:
        first = rows[0] * self.stride - self.before
        last = (rows[1] - 1) * self.stride - self.before + self.span
        found = max(0, first), min(self.size, last)
        return found if found[0] < found[1] else None  # windows in nothing but padding

    def reach(self, rows: Range) -> Range:
        first = 0 if rows[0] <= 0 else -(-(rows[0] + self.before) // self.stride)
        last = self.made if rows[1] >= self.size else (rows[1] + self.before - self.span) // self.stride + 1
        return first, min(last, self.made)

    def boundary(self, at: int) -> int:
        return -(-(at - self._inset) // self.stride)

    def margin(self, extra: int) -> int:
        if self.span <= self.stride:  # windows do not overlap; a part that ends within one is put right by an exchange
            return extra * self.stride
        left = self.before + self._inset
        return extra * self.stride + max(left, self.span - 1 - left)

    def pads(self, rows: Range | None) -> tuple[int, int, int]:
        """Padding before and after the rows needed, which is only where the whole ends; None: of the whole. And 0."""
        if rows is None:
            return self.before, self.after, 0
        first = rows[0] * self.stride - self.before
        last = (rows[1] - 1) * self.stride - self.before + self.span
        return max(0, -first), min(self.after, max(0, last - self.size)), 0

    @property
    def _inset(self) -> int:
        """Rows at the beginning that are nobody's centre, so that halos are alike on both sides without padding."""
        return max(0, self.span - 1 - self.before - self.after) // 2


class Spreading(Struct, frozen=True):
    """Transposed convolution: input row i adds to ``kernel`` rows, ``dilation`` apart, from i*stride - before."""

    size: int
    made: int
    kernel: int
    stride: int = 1
    dilation: int = 1
    before: int = 0
    after: int = 0
    """Rows cut off."""
    behind: int = 0
    """Output padding."""

    @property
    def span(self) -> int:
        return (self.kernel - 1) * self.dilation + 1

    def needs(self, rows: Range) -> Range | None:
        start, stop = rows[0] + self.before, rows[1] + self.before
        # A row that nothing adds to (stride > span) still needs the input row before it, which it is counted from.
        first = min(-(-(start - self.span + 1) // self.stride), start // self.stride)
        first = min(max(0, first), self.size - 1)
        return first, max(min(self.size, (stop - 1) // self.stride + 1), first + 1)

    def reach(self, rows: Range) -> Range:
        start = max((rows[0] - 1) * self.stride + self.span, rows[0] * self.stride) - self.before
        first = 0 if rows[0] <= 0 else max(0, start)
        last = self.made if rows[1] >= self.size else min(self.made, rows[1] * self.stride - self.before)
        return first, last

    def boundary(self, at: int) -> int:
        surplus = self.made - self.size * self.stride  # on both sides, so that halos are alike
        return at * self.stride + (surplus // 2 if surplus > 0 else -(-surplus // 2))

    def margin(self, extra: int) -> int:
        start = self.boundary(0) + self.before
        left, right = (extra + self.span - 1 - start) // self.stride, (extra + start - 1) // self.stride + 1
        return max(0, left, right)

    def pads(self, rows: Range | None) -> tuple[int, int, int]:
        """Rows cut off before and after, and output padding, for just the rows needed; None: of the whole."""
        if rows is None:
            return self.before, self.after, self.behind
        needed = self.needs(rows)
        assert needed is not None
        cut = rows[0] + self.before - needed[0] * self.stride
        surplus = (needed[1] - needed[0] - 1) * self.stride + self.span - cut - (rows[1] - rows[0])
        return cut, max(0, surplus), max(0, -surplus)


Kernel = Sliding | Spreading


def auto_pads(mode: str, total: int) -> tuple[int, int]:
    """How padding under SAME_UPPER and SAME_LOWER is shared between before and after."""
    total = max(0, total)
    return (total // 2, total - total // 2) if mode == "SAME_UPPER" else (total - total // 2, total // 2)


def sliding(view: OpView, kernel: Sequence[int], *, ceil: bool = False) -> tuple[Sliding, ...] | None:
    """The windows of a convolution or pooling, one for each spatial axis; None where attributes and shapes disagree."""
    sizes, made = view.shape(0)[2:], view.out_shape()[2:]
    strides, dilations, pads, mode = attributes_of(view, len(sizes))
    if not len(sizes) == len(made) == len(kernel) == len(strides) == len(dilations) == len(pads) // 2:
        return None
    found = []
    for axis, (size, out) in enumerate(zip(sizes, made, strict=True)):
        stride, span = strides[axis], (kernel[axis] - 1) * dilations[axis] + 1
        before, after = pads[axis], pads[axis + len(sizes)]
        if mode in {"SAME_UPPER", "SAME_LOWER"}:
            before, after = auto_pads(mode, (-(-size // stride) - 1) * stride + span - size)
        room = size + before + after - span
        expected = {room // stride + 1}
        if ceil:  # a window that would begin in the padding behind is left out
            more = -(-room // stride) + 1
            expected = {more - 1 if (more - 1) * stride >= size + before else more}
        if min(before, after, room) < 0 or out not in expected:
            return None
        found.append(Sliding(size, out, kernel[axis], stride, dilations[axis], before, after))
    return tuple(found)


def attributes_of(view: OpView, rank: int) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], str]:
    """Strides, dilations, padding as written (zero unless auto_pad is NOTSET), and auto_pad."""
    mode = view.text("auto_pad", "NOTSET") or "NOTSET"
    pads = (view.numbers("pads") if mode == "NOTSET" else None) or (0,) * 2 * rank
    return view.numbers("strides") or (1,) * rank, view.numbers("dilations") or (1,) * rank, pads, mode


def divided(view: OpView, held: Split, window: Window, value: str) -> list[tuple[Split, Split]]:
    """Ways of dividing the output ``value`` when the input is held as ``held``: (input wanted, output), on one axis.

    First parts that touch, with boundaries where those of the input come to lie; then, where the parts held overlap,
    all that can be made of them without any exchange; then, where the size changes and boundaries have drifted away
    from the ranks' shares, the rows shared out afresh; then parts that overlap by as much as the windows that follow
    can use.
    """
    rows = _in_order(held)
    if rows is None:
        return []
    bounds = [0]
    for (_, (_, stop)), (_, (start, _)) in pairwise(rows):
        bounds.append(min(max(window.boundary((stop + start) // 2), bounds[-1]), window.made))
    bounds.append(window.made)
    parts = {rank: (first, last) for (rank, _), (first, last) in zip(rows, pairwise(bounds), strict=True)}
    candidates = [parts]
    if not held.exact:
        candidates.append({rank: window.reach(one) for rank, one in rows})
    afresh = view.once((_shared_out, held.axis), lambda: _shared_out(view.group, window.made))
    gain = _load(parts, view.group) - _load(afresh, view.group)
    if gain >= 0 and any(rank in afresh and first >= last for rank, (first, last) in parts.items()):
        candidates[0] = afresh  # boundaries that fell together left a rank nothing
    elif gain > EVEN_ENOUGH and not 2 / 3 < window.made / window.size < 3 / 2:
        candidates.append(afresh)
    for extra in view.overlaps(value, held.axis)[1:]:
        wider = {rank: (max(0, a - extra), min(window.made, b + extra)) for rank, (a, b) in parts.items() if a < b}
        candidates.append(wider)
    found: dict[Split, Split] = {}
    for candidate in candidates:
        pair = _wanted(held, window, candidate)
        if pair is not None:
            found.setdefault(pair[1], pair[0])
    return [(wanted, made) for made, wanted in found.items()][:MOST_DIVISIONS]


def _shared_out(group: Group, rows: int) -> dict[int, Range]:
    parts = split_by(((rows, 1),), 0, group).parts
    return {rank: ranges[0] for rank, ranges in enumerate(parts) if ranges}


def _load(parts: Mapping[int, Range], group: Group) -> float:
    """Rows of the most loaded rank, in terms of its share of all of them."""
    total = max(1, sum(last - first for first, last in parts.values()))
    return max((last - first) / (total * group.shares[rank]) for rank, (first, last) in parts.items())


def emit_rows(kernels: tuple[Kernel, ...], at: int, parts: tuple[Ranges, ...], local: Local) -> None:
    """The operator on just the input rows that the rank's rows need: padding only where the image ends.

    ``at``: which of the spatial axes is shared out; ``parts``: of the output.
    """
    found = [kernel.pads(parts[local.rank][0] if axis == at else None) for axis, kernel in enumerate(kernels)]
    pads = [before for before, _, _ in found] + [after for _, after, _ in found]
    if isinstance(kernels[at], Spreading):
        local.same(pads=pads, output_padding=[behind for _, _, behind in found], output_shape=None, auto_pad=None)
    else:
        local.same(pads=pads, auto_pad=None)


def covers(parts: Sequence[Ranges], size: int) -> bool:
    return merged(one for ranges in parts for one in ranges) == ((0, size),)


def _in_order(held: Split) -> list[tuple[int, Range]] | None:
    """Each rank's rows, from first to last; None if some rank's are not in one piece, or lie within another's."""
    if any(len(ranges) > 1 for ranges in held.parts):
        return None
    rows = sorted(((rank, ranges[0]) for rank, ranges in enumerate(held.parts) if ranges), key=lambda one: one[1])
    return rows if rows and all(one[1] <= other[1] for (_, one), (_, other) in pairwise(rows)) else None


def _wanted(held: Split, window: Window, made: dict[int, Range]) -> tuple[Split, Split] | None:
    inputs: list[Ranges] = [()] * len(held.parts)
    outputs: list[Ranges] = [()] * len(held.parts)
    for rank, rows in made.items():
        if rows[0] >= rows[1]:
            continue
        needed = window.needs(rows)
        if needed is None:
            return None
        inputs[rank], outputs[rank] = (needed,), (rows,)
    if sum(map(bool, outputs)) < 2 or not covers(outputs, window.made):
        return None
    return Split(held.axis, tuple(inputs)), Split(held.axis, tuple(outputs))
