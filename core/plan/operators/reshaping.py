"""Reshape, Flatten, Squeeze, Unsqueeze and Transpose: the same elements under other axes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import prod
from types import MappingProxyType
from typing import Final

from core.plan.layouts import Split
from core.plan.operators.base import AxisLink, Choice, Have, LinkRule, Local, OpView, Rule
from core.plan.operators.following import (
    MOST_RANGES,
    constant_numbers,
    follow_first,
    mapped,
    normal_axis,
    others_replicated,
    shares_of,
    terms_through,
    varies,
)
from core.plan.operators.regrouping import axis_groups, carried
from core.plan.operators.shapes import Target, reshape_target, write_target

STACKED: Final = 3
"""A leading axis of at most this size in front of others is a stack of things that are shared out alike (queries, keys,
values), not what is shared out."""
WIDER_THAN_A_HEAD: Final = 128
"""Features: what has so many or more and is stacked is no head."""


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
        return terms_through(view, held)
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
        return terms_through(view, held)
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
            place, outer, inner = _shared_axis([after[axis] for axis in targets], targets[0])
            yield AxisLink((out, targets[place]), (name, sources[0]), outer, inner)
        elif len(targets) == 1:
            place, outer, inner = _shared_axis([before[axis] for axis in sources], sources[0])
            yield AxisLink((name, sources[place]), (out, targets[0]), outer, inner)
        elif heads := _merged_heads([before[axis] for axis in sources], [after[axis] for axis in targets]):
            items, width = heads
            child = (f"{out}/heads", 0)
            yield AxisLink(child, (name, sources[1]), inner=width)
            yield AxisLink(child, (out, targets[0]), outer=items)
        elif before[sources[0]] % after[targets[0]] == 0:
            # channels x pixels to groups x the rest
            yield AxisLink((out, targets[0]), (name, sources[0]), inner=before[sources[0]] // after[targets[0]])
        elif after[targets[0]] % before[sources[0]] == 0:
            yield AxisLink((name, sources[0]), (out, targets[0]), inner=after[targets[0]] // before[sources[0]])


def _merged_heads(before: Sequence[int], after: Sequence[int]) -> tuple[int, int] | None:
    """Items and features of a head, where (items, heads x features) becomes (items x heads, features)."""
    if len(before) != 2 or len(after) != 2 or after[0] % before[0] or before[1] <= after[1]:
        return None
    return before[0], after[1]


def _shared_axis(sizes: Sequence[int], first: int) -> tuple[int, int, int]:
    """Which of several axes that make up one, the first of them axis ``first`` of its tensor, is best shared out, and
    the sizes outside and inside of it.

    Of (12, 64) the 12 heads, and likewise of (3, 12, 64); of (3, 768) the 768 features. Not axis 0: that is the items'.
    """
    stacked = sizes[0] <= STACKED and (len(sizes) > 2 or sizes[1] >= WIDER_THAN_A_HEAD)
    place = 1 if first == 0 or stacked else 0
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


_squeeze_known, _squeeze_links = mapped(_squeezed, linear=True)
_unsqueeze, _unsqueeze_links = mapped(_unsqueezed, linear=True)
_transpose, _transpose_links = mapped(_transposed, linear=True)

RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        "Flatten": _flatten,
        "Reshape": _reshape,
        "Squeeze": _squeeze,
        "Transpose": _transpose,
        "Unsqueeze": _unsqueeze,
    }
)
LINKS: Final[Mapping[str, LinkRule]] = MappingProxyType(
    {
        "Flatten": _reshape_links,
        "Reshape": _reshape_links,
        "Squeeze": _squeeze_links,
        "Transpose": _transpose_links,
        "Unsqueeze": _unsqueeze_links,
    }
)
