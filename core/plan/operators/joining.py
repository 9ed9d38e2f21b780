"""Concat, Split and Slice: parts of an axis put together, taken apart, cut out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from types import MappingProxyType
from typing import Final

import numpy as np

from core.plan.layouts import REPLICATED, Partial, Range, Ranges, Split, clipped, shifted, split_by, tidy
from core.plan.operators.base import AxisLink, Choice, Have, LinkRule, Local, OpView, Rule
from core.plan.operators.following import (
    FLOATS,
    MOST_FOLLOWED,
    constant_numbers,
    follow_first,
    normal_axis,
    others_replicated,
    same_axis_links,
    shares_of,
    shares_of_terms,
    splits,
    terms_through,
    varies,
)

_SIZES_AS_INPUT_OPSET: Final = 13
"""Of Split; before it they are an attribute."""


# Concat


def _concat(view: OpView, have: Have) -> Iterator[Choice]:
    axis = normal_axis(view.number("axis", 1), len(view.out_shape()))
    held = splits(have)
    seen: list[Split] = []
    for _, layout in held:
        if layout.axis == axis or layout in seen or len(seen) == MOST_FOLLOWED:
            continue
        seen.append(layout)
        if not any(varies(view, index, layout.axis) for index in range(len(have))):
            shares = shares_of(layout, view.out_shape()[layout.axis])
            yield Choice((layout,) * len(have), (layout,), shares)
    along = {index: layout for index, layout in held if layout.axis == axis}
    if along and not any(varies(view, index, axis) for index in range(len(have))):
        yield from _concat_along(view, axis, along)
    first = have[0]
    if isinstance(first, Partial) and all(layout == first for layout in have) and view.outputs[0].dtype in FLOATS:
        yield Choice((first,) * len(have), (first,), shares_of_terms(first, view))


def _concat_along(view: OpView, axis: int, along: Mapping[int, Split]) -> Iterator[Choice]:
    """Every rank joins what it has. What is not split like that goes to the first or last rank, or is shared out."""
    ranks = next(iter(along.values())).ranks
    kept = {index: layout for index, layout in along.items() if layout.ranks == ranks}
    whole = [index for index in range(len(view.op.inputs)) if index not in kept]
    first = min(kept)
    owners = {index: ranks[0] if index < first else ranks[-1] for index in whole}
    yield _joined(view, axis, kept, owners)
    if not whole:
        return
    shared = {index: split_by(view.segments(view.op.inputs[index], axis), axis, view.group) for index in whole}
    if all(layout.ranks == ranks for layout in shared.values()):
        yield _joined(view, axis, {**kept, **shared}, {})


def _joined(view: OpView, axis: int, split: Mapping[int, Split], owners: Mapping[int, int]) -> Choice:
    parts: list[list[Range]] = [[] for _ in view.ranks]
    count = len(view.op.inputs)
    offset = 0
    for index in range(count):
        size = view.shape(index)[axis]
        if index in split:
            for rank, ranges in enumerate(split[index].parts):
                parts[rank] += shifted(ranges, offset)
        else:
            parts[owners[index]].append((offset, offset + size))
        offset += size
    out = Split(axis, tuple(tidy(ranges) for ranges in parts))

    def emit(local: Local) -> None:
        names = [name for index, name in enumerate(local.inputs) if owners.get(index, local.rank) == local.rank]
        local.same(inputs=names)

    inputs = tuple([split.get(index, REPLICATED) for index in range(count)])
    return Choice(inputs, (out,), shares_of(out, offset), emit=emit)


def _concat_links(view: OpView) -> Iterator[AxisLink]:
    out = view.op.outputs[0]
    rank = len(view.out_shape())
    along = normal_axis(view.number("axis", 1), rank)
    offset = 0
    steady = not any(varies(view, index, along) for index in range(len(view.op.inputs)))
    for index, name in enumerate(view.op.inputs):
        shape = view.shape(index)
        if not view.constant[index]:
            for axis in range(rank):
                if axis == along and steady:
                    yield AxisLink((name, axis), (out, axis), offset=offset)
                elif axis != along and shape[axis] > 1 and not varies(view, index, axis):
                    yield AxisLink((out, axis), (name, axis))
        offset += shape[along]


# Split


def _split(view: OpView, have: Have) -> Iterable[Choice]:
    held = have[0]
    if not isinstance(held, Split):
        return terms_through(view, held)
    axis = normal_axis(view.number("axis", 0), len(view.shape(0)))
    if held.axis != axis:
        return (follow_first(view, held, (held.axis,) * len(view.outputs)),)
    if not all(view.op.outputs):
        return ()
    stops = list(accumulate(view.out_shape(index)[axis] for index in range(len(view.outputs))))
    if stops[-1] != view.shape(0)[axis]:
        return ()
    found = [_stretches(ranges, stops) for ranges in held.parts]
    if any(stretches is None for stretches in found):
        return ()
    outputs = tuple(
        Split(axis, tuple(stretches[index] if stretches is not None else () for stretches in found))
        for index in range(len(stops))
    )
    emit = _write_split(view, [output.sizes for output in outputs])
    return (Choice(others_replicated(view, held), outputs, shares_of(held, stops[-1]), emit=emit),)


def _stretches(ranges: Ranges, stops: Sequence[int]) -> list[Ranges] | None:
    """What a rank has of each output, in its own terms; None where only some are empty, or the order is wrong."""
    if not ranges:
        return [()] * len(stops)
    found: list[Ranges] = []
    joined: list[Range] = []
    start = 0
    for stop in stops:
        kept = clipped(ranges, start, stop)
        if not kept:
            return None
        found.append(shifted(kept, -start))
        joined += kept
        start = stop
    return found if tidy(joined) == tidy(ranges) else None


def _write_split(view: OpView, sizes: Sequence[Sequence[int]]) -> Callable[[Local], None]:
    """With the sizes of a rank's parts, ``sizes[output][rank]``, in the form that the operator set has."""
    attribute = "split" in view.op.attributes or view.opset < _SIZES_AS_INPUT_OPSET

    def emit(local: Local) -> None:
        own = [one[local.rank] for one in sizes]
        if attribute:
            local.same(split=own)
        else:
            local.same(inputs=(local.inputs[0], local.constant(np.asarray(own, np.int64))), num_outputs=None)

    return emit


def _split_links(view: OpView) -> Iterator[AxisLink]:
    rank = len(view.shape(0))
    along = normal_axis(view.number("axis", 0), rank)
    count = len(view.outputs)
    yield from same_axis_links(view, [(axis, axis) for axis in range(rank) if axis != along], range(count))
    if view.constant[0] or varies(view, 0, along) or not all(view.op.outputs):
        return
    offset = 0
    for index, name in enumerate(view.op.outputs):
        yield AxisLink((name, along), (view.op.inputs[0], along), offset=offset)
        offset += view.out_shape(index)[along]


# Slice


def _sliced_axes(view: OpView) -> tuple[int, ...] | None:
    rank = len(view.shape(0))
    axes = constant_numbers(view, "axes", 3)
    if axes is None:
        if view.has(3):
            return None
        starts = view.numbers("starts")
        axes = tuple(range(len(starts) if starts is not None else view.shape(1)[0]))
    return tuple([normal_axis(axis, rank) for axis in axes])


def _stretch(view: OpView, place: int, size: int) -> tuple[int, int, int] | None:
    """First index, end and step of the sliced axis at ``place`` in their list; None if computed, empty or backwards."""
    starts, ends = constant_numbers(view, "starts", 1), constant_numbers(view, "ends", 2)
    steps = constant_numbers(view, "steps", 4)
    if starts is None or ends is None or (steps is None and view.has(4)):
        return None
    step = steps[place] if steps is not None else 1
    if step < 1:
        return None
    first, stop, _ = slice(starts[place], ends[place]).indices(size)
    return (first, stop, step) if first < stop else None


def _kept(ranges: Ranges, first: int, stop: int, step: int) -> tuple[Range, Ranges] | None:
    """Where every ``step``-th of [first, stop) lies in a local tensor of ``ranges``, and what that is of the output.

    Nowhere: (0, 0). None where not in one run with this step.
    """
    at = 0
    bounds = (0, 0)
    made: list[Range] = []
    for start, end in ranges:
        low = max(0, -((first - start) // step))
        high = -((first - min(end, stop)) // step)
        if low < high:
            here = at + first + low * step - start
            if made and here != bounds[1] - 1 + step:
                return None
            bounds = (bounds[0] if made else here, here + (high - low - 1) * step + 1)
            made.append((low, high))
        at += end - start
    return bounds, tidy(made)


def _slice(view: OpView, have: Have) -> Iterable[Choice]:
    held = have[0]
    if not isinstance(held, Split):
        return terms_through(view, held)
    axes = _sliced_axes(view)
    if axes is None:
        return ()
    if held.axis not in axes:
        return (follow_first(view, held, (held.axis,)),)
    place = axes.index(held.axis)
    size = view.shape(0)[held.axis]
    stretch = _stretch(view, place, size)
    if stretch is None:
        return ()
    first, stop, step = stretch
    if stretch == (0, size, 1):
        return (follow_first(view, held, (held.axis,)),)
    found = [_kept(ranges, first, stop, step) for ranges in held.parts]
    kept = [here for here in found if here is not None]
    if len(kept) < len(found):
        return ()
    out = Split(held.axis, tuple([made for _, made in kept]))

    def emit(local: Local) -> None:
        bounds, _ = kept[local.rank]
        if "starts" in view.op.attributes:
            starts, ends = list(view.numbers("starts") or ()), list(view.numbers("ends") or ())
            starts[place], ends[place] = bounds
            local.same(starts=starts, ends=ends)
            return
        arrays = []
        for index, bound in zip((1, 2), bounds, strict=True):
            value = view.value(index)
            assert value is not None
            array = np.array(value)
            array[place] = bound
            arrays.append(local.constant(array))
        local.same(inputs=(local.inputs[0], *arrays, *local.inputs[3:]))

    return (Choice(others_replicated(view, held), (out,), shares_of(out, view.out_shape()[held.axis]), emit=emit),)


def _slice_links(view: OpView) -> Iterator[AxisLink]:
    axes = _sliced_axes(view)
    if axes is None or view.constant[0]:
        return
    shape = view.shape(0)
    yield from same_axis_links(view, [(axis, axis) for axis in range(len(shape)) if axis not in axes])
    for place, axis in enumerate(axes):
        stretch = _stretch(view, place, shape[axis])
        if stretch is None or varies(view, 0, axis):
            continue
        first, _, step = stretch
        child, parent = (view.op.outputs[0], axis), (view.op.inputs[0], axis)
        if step == 1:
            yield AxisLink(child, parent, offset=first)
        elif view.out_shape()[axis] * step == shape[axis]:
            yield AxisLink(child, parent, inner=step)


RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        "Concat": _concat,
        "Slice": _slice,
        "Split": _split,
    }
)
LINKS: Final[Mapping[str, LinkRule]] = MappingProxyType(
    {
        "Concat": _concat_links,
        "Slice": _slice_links,
        "Split": _split_links,
    }
)
