"""Operators that move elements about and compute nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from math import prod
from types import MappingProxyType
from typing import Final

import numpy as np

from core.plan.layouts import (
    REPLICATED,
    Layout,
    Partial,
    Range,
    Ranges,
    Split,
    clipped,
    shifted,
    split_by,
    tidy,
)
from core.plan.operators.base import AxisLink, Choice, Have, LinkRule, Local, OpView, Rule, emit_same
from core.plan.operators.following import (
    FLOATS,
    MOST_FOLLOWED,
    MOST_RANGES,
    constant_numbers,
    follow_first,
    mapped,
    normal_axis,
    others_replicated,
    same_axis_links,
    shares_of,
    shares_of_terms,
    splits,
    terms_through,
    varies,
)
from core.plan.operators.regrouping import axis_groups, carried
from core.plan.operators.shapes import Target, reshape_target, write_target

MOST_REPEATS: Final = 16
STACKED: Final = 3
"""A leading axis of at most this size in front of others is a stack of things that are shared out alike (queries, keys,
values), not what is shared out."""


def _through(view: OpView, held: Layout | None) -> tuple[Choice, ...]:
    """Terms of a sum, moved about."""
    choice = terms_through(view, held) if isinstance(held, Partial) else None
    return (choice,) if choice is not None else ()


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
        return _through(view, held)
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
    if emit is None:
        return ()
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


def _write_split(view: OpView, sizes: Sequence[Sequence[int]]) -> Callable[[Local], None] | None:
    """With the sizes of a rank's parts, ``sizes[output][rank]``, in the form that the operator itself has."""
    attribute = "split" in view.op.attributes
    if not attribute and not view.has(1) and "num_outputs" not in view.op.attributes:
        # equal parts, as an attribute or as an input: which one depends on the opset
        return emit_same if all(one == sizes[0] for one in sizes) else None

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
        return _through(view, held)
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


# Reshape, Flatten


def _groups(view: OpView) -> list[tuple[list[int], list[int]]] | None:
    before, after = view.inputs[0], view.outputs[0]
    if before is None or before.shape is None or before.varying is None or after.shape is None or after.varying is None:
        return None
    return axis_groups(before.shape, before.varying, after.shape, after.varying)


def _moved(view: OpView, held: Split) -> Split | None:
    """What the parts of the input become in an output of another shape."""
    varying = view.outputs[0].varying
    groups = _groups(view)
    if groups is None or varying is None:
        return None
    before, after = view.shape(0), view.out_shape()
    for sources, targets in groups:
        if held.axis not in sources:
            continue
        if any(varying[axis] for axis in targets):
            return None
        inner = prod([before[axis] for axis in sources if axis > held.axis])
        new_inner = prod([after[axis] for axis in targets])
        for axis in targets:
            new_period = new_inner
            new_inner //= after[axis]
            parts = []
            for ranges in held.parts:
                found = carried(ranges, inner, before[held.axis] * inner, new_inner, new_period, MOST_RANGES)
                if found is None:
                    break
                parts.append(found)
            else:
                return Split(axis, tuple(parts))
    return None


def _reshape(view: OpView, have: Have) -> Iterable[Choice]:
    held = have[0]
    if not isinstance(held, Split):
        return _through(view, held)
    out = _moved(view, held)
    if out is None or not view.has(1):
        return ()
    emit = _write_reshape(view, out)
    return (Choice(others_replicated(view, held), (out,), shares_of(out, view.out_shape()[out.axis]), emit=emit),)


def _write_reshape(view: OpView, out: Split) -> Callable[[Local], None]:
    def emit(local: Local) -> None:
        target = list(_local_target(view, out, local.rank))
        own = local.inputs[1] if len(local.inputs) > 1 else ""
        name = write_target(local, target, own)
        if view.op.type == "Reshape":
            local.same(inputs=(local.inputs[0], name))
        else:
            local.add("Reshape", (local.inputs[0], name), local.outputs)

    return emit


def _local_target(view: OpView, out: Split, rank: int) -> Target:
    varying = view.outputs[0].varying
    assert varying is not None
    value = view.value(1) if view.op.type == "Reshape" else None
    own = [int(number) for number in value.tolist()] if value is not None else None
    target = list(reshape_target(view.out_shape(), varying, own))
    target[out.axis] = out.sizes[rank]
    return target


def _flatten(view: OpView, have: Have) -> Iterable[Choice]:
    held = have[0]
    if not isinstance(held, Split):
        return _through(view, held)
    out = _moved(view, held)
    if out is None:
        return ()
    return (Choice((held,), (out,), shares_of(out, view.out_shape()[out.axis])),)


def _reshape_links(view: OpView) -> Iterator[AxisLink]:
    groups = _groups(view)
    varying = view.outputs[0].varying
    if groups is None or varying is None or view.constant[0]:
        return
    before, after = view.shape(0), view.out_shape()
    name, out = view.op.inputs[0], view.op.outputs[0]
    for sources, targets in groups:
        if any(varying[axis] for axis in targets) or any(varies(view, 0, axis) for axis in sources):
            continue
        if len(sources) == 1 and len(targets) == 1:
            yield AxisLink((out, targets[0]), (name, sources[0]))
        elif len(sources) == 1:
            place, outer, inner = _shared_axis([after[axis] for axis in targets])
            yield AxisLink((out, targets[place]), (name, sources[0]), outer, inner)
        elif len(targets) == 1:
            place, outer, inner = _shared_axis([before[axis] for axis in sources])
            yield AxisLink((name, sources[place]), (out, targets[0]), outer, inner)
        elif before[sources[0]] % after[targets[0]] == 0:
            # channels x pixels to groups x the rest
            yield AxisLink((out, targets[0]), (name, sources[0]), inner=before[sources[0]] // after[targets[0]])
        elif after[targets[0]] % before[sources[0]] == 0:
            yield AxisLink((name, sources[0]), (out, targets[0]), inner=after[targets[0]] // before[sources[0]])


def _shared_axis(sizes: Sequence[int]) -> tuple[int, int, int]:
    """Which of several axes that make up one is best shared out, and the sizes outside and inside of it.

    Of (12, 64) the 12 heads, and likewise of (3, 12, 64).
    """
    place = 1 if len(sizes) > 2 and sizes[0] <= STACKED else 0
    return place, prod(sizes[:place]), prod(sizes[place + 1 :])


# Squeeze, Unsqueeze, Transpose


def _squeezed(view: OpView) -> list[int | None] | None:
    shape = view.shape(0)
    axes = constant_numbers(view, "axes", 1)
    if axes is None:
        if view.has(1):
            return None
        gone = {axis for axis, size in enumerate(shape) if size == 1}
    else:
        gone = {normal_axis(axis, len(shape)) for axis in axes}
    places = iter(range(len(shape)))
    return [None if axis in gone else next(places) for axis in range(len(shape))]


def _squeeze(view: OpView, have: Have) -> Iterable[Choice]:
    held = have[0]
    implicit = not view.has(1) and "axes" not in view.op.attributes
    if isinstance(held, Split) and implicit and 1 in held.sizes:
        # a part of size 1 would go too, so its shape is written down
        after = (_squeezed(view) or ())[held.axis]
        if after is None or sum(view.outputs[0].varying or ()) > 1:
            return ()
        out = Split(after, held.parts)
        return (follow_first(view, held, (after,), _write_reshape(view, out)),)
    return _squeeze_known(view, have)


def _unsqueezed(view: OpView) -> list[int | None] | None:
    rank = len(view.out_shape())
    axes = constant_numbers(view, "axes", 1)
    if axes is None:
        return None
    added = {normal_axis(axis, rank) for axis in axes}
    return [axis for axis in range(rank) if axis not in added]


def _transposed(view: OpView) -> list[int | None]:
    rank = len(view.shape(0))
    order = view.numbers("perm") or tuple(range(rank - 1, -1, -1))
    found: list[int | None] = [None] * rank
    for after, before in enumerate(order):
        found[before] = after
    return found


# Expand, Tile, OneHot


def _expand(view: OpView, have: Have) -> Iterable[Choice]:
    held = have[0]
    if not isinstance(held, Split):
        return _through(view, held)
    before, after = view.inputs[0], view.outputs[0]
    if before is None or before.shape is None or after.shape is None or before.varying is None or after.varying is None:
        return ()
    added = len(after.shape) - len(before.shape)
    axis = held.axis + added
    if before.shape[held.axis] != after.shape[axis]:
        return ()
    target: list[int | None] = []
    for place, size in enumerate(after.shape):
        if (
            place >= added
            and before.shape[place - added] == size
            and (before.varying[place - added] == after.varying[place])
        ):
            target.append(1)  # as it is
        else:
            target.append(None if after.varying[place] else size)

    def emit(local: Local) -> None:
        local.same(inputs=(local.inputs[0], write_target(local, target, local.inputs[1])))

    return (follow_first(view, held, (axis,), emit),)


def _expand_links(view: OpView) -> Iterable[AxisLink]:
    before, after = view.shape(0), view.out_shape()
    added = len(after) - len(before)
    return same_axis_links(
        view, [(axis, axis + added) for axis, size in enumerate(before) if after[axis + added] == size]
    )


def _tile(view: OpView, have: Have) -> Iterable[Choice]:
    held = have[0]
    if not isinstance(held, Split):
        return _through(view, held)
    before, after = view.shape(0)[held.axis], view.out_shape()[held.axis]
    if before < 1 or after % before or after // before > MOST_REPEATS or len(view.op.inputs) != 2:
        return ()
    varying = view.outputs[0].varying
    if varying is None or varying[held.axis]:
        return ()
    repeats = range(after // before)
    parts = [tidy(one for turn in repeats for one in shifted(ranges, turn * before)) for ranges in held.parts]
    out = Split(held.axis, tuple(parts))
    return (Choice(others_replicated(view, held), (out,), shares_of(out, after)),)


def _tile_links(view: OpView) -> Iterator[AxisLink]:
    before, after = view.shape(0), view.out_shape()
    if view.constant[0]:
        return
    name, out = view.op.inputs[0], view.op.outputs[0]
    for axis, size in enumerate(before):
        if size > 1 and after[axis] % size == 0 and not varies(view, 0, axis):
            yield AxisLink((name, axis), (out, axis), outer=after[axis] // size)


def _one_hot(view: OpView) -> list[int | None]:
    rank = len(view.out_shape())
    added = normal_axis(view.number("axis", -1), rank)
    return [axis for axis in range(rank) if axis != added]


_squeeze_known, _squeeze_links = mapped(_squeezed, linear=True)
_unsqueeze, _unsqueeze_links = mapped(_unsqueezed, linear=True)
_transpose, _transpose_links = mapped(_transposed, linear=True)
_one_hot_rule, _one_hot_links = mapped(_one_hot)

RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        "Concat": _concat,
        "Expand": _expand,
        "Flatten": _flatten,
        "OneHot": _one_hot_rule,
        "Reshape": _reshape,
        "Slice": _slice,
        "Split": _split,
        "Squeeze": _squeeze,
        "Tile": _tile,
        "Transpose": _transpose,
        "Unsqueeze": _unsqueeze,
    }
)
LINKS: Final[Mapping[str, LinkRule]] = MappingProxyType(
    {
        "Concat": _concat_links,
        "Expand": _expand_links,
        "Flatten": _reshape_links,
        "OneHot": _one_hot_links,
        "Reshape": _reshape_links,
        "Slice": _slice_links,
        "Split": _split_links,
        "Squeeze": _squeeze_links,
        "Tile": _tile_links,
        "Transpose": _transpose_links,
        "Unsqueeze": _unsqueeze_links,
    }
)
