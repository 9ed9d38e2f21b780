"""Parts of tensors on the wire: what a route cuts out, what a piece of a model output is called, and how the pieces are
put together again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from core.errors import ProtocolError
from core.plan.form import Route, Slice

Array = npt.NDArray[Any]


class Slicer(NamedTuple):
    """The slices of a route, ready to be applied to one tensor after another."""

    ranges: tuple[slice, ...]
    sizes: tuple[tuple[int, int], ...]
    """(axis, size) of what is cut out."""

    def __call__(self, array: Array) -> Array:
        """A view of the part. Raises ProtocolError where the tensor does not reach so far."""
        try:
            part: Array = array[self.ranges]
        except IndexError:
            raise ProtocolError(self._words(array)) from None
        shape = part.shape
        for axis, size in self.sizes:
            if shape[axis] != size:
                raise ProtocolError(self._words(array))
        return part

    def _words(self, array: Array) -> str:
        ranges = ", ".join(
            f"{self.ranges[axis].start} to {self.ranges[axis].stop} of axis {axis}" for axis, _ in self.sizes
        )
        return f"A tensor of the shape {array.shape} has no part {ranges}."


def slicer(slices: Sequence[Slice]) -> Slicer | None:
    """None where the whole tensor is meant."""
    if not slices:
        return None
    by_axis = {s.axis: slice(s.start, s.stop) for s in slices}
    ranges = tuple(by_axis.get(axis, slice(None)) for axis in range(max(by_axis) + 1))
    return Slicer(ranges, tuple((s.axis, s.stop - s.start) for s in slices))


def problem_of(slices: Sequence[Slice], shape: Sequence[int | None] | None) -> str | None:
    """What is wrong with ``slices`` of a tensor of ``shape`` (None: unknown), to be read after a field's name."""
    before = -1
    for part in slices:
        if part.axis <= before:
            return f"names axis {part.axis} after axis {before}" if before >= 0 else f"names axis {part.axis}"
        before = part.axis
        if not 0 <= part.start < part.stop:
            return f"goes from {part.start} to {part.stop} on axis {part.axis}"
        if shape is None:
            continue
        if part.axis >= len(shape):
            return f"names axis {part.axis} of a tensor with {len(shape)} axes"
        size = shape[part.axis]
        if size is not None and part.stop > size:
            return f"goes to {part.stop} on axis {part.axis}, which has {size}"
    return None


def name_at_consumer(route: Route) -> str:
    """What a route's tensor is called on the wire: the consumer's name; of a piece with its place, as "y[1=0:384]"; of
    a term of a sum with its number, as "y+1"."""
    place = f"[{','.join(f'{s.axis}={s.start}:{s.stop}' for s in route.at)}]" if route.at else ""
    term = f"+{route.term}" if route.term is not None else ""
    return f"{route.target}{place}{term}"


def join(pieces: Sequence[tuple[Sequence[Slice], Array]]) -> Array:
    """The whole of which these are the pieces, each with its place; every element is in exactly one of them.

    The result is read-only, and the one piece itself where that is all. Raises ProtocolError where a piece does not
    have the size of its place, or the pieces differ in other ways.
    """
    (places, first), *_ = pieces
    if len(pieces) == 1 and not places:
        return first
    shape = list(first.shape)
    for places, array in pieces:
        for place in places:
            if place.axis >= array.ndim or array.ndim != first.ndim:
                raise _misfit(places, array)
            shape[place.axis] = max(shape[place.axis], place.stop)
    if sum(array.size for _, array in pieces) != math.prod(shape):
        raise ProtocolError(f"The pieces of an output do not make up a tensor of the shape {tuple(shape)}.")
    whole = np.empty(shape, first.dtype)
    for places, array in pieces:
        cut = slicer(places)
        space = whole if cut is None else cut(whole)
        if space.shape != array.shape or space.dtype != array.dtype:
            raise _misfit(places, array)
        space[...] = array
    whole.flags.writeable = False
    return whole


def _misfit(places: Sequence[Slice], array: Array) -> ProtocolError:
    where = ", ".join(f"{place.start} to {place.stop} of axis {place.axis}" for place in places)
    return ProtocolError(f"A piece of an output is {array.dtype} {array.shape}, which does not fit its place {where}.")
