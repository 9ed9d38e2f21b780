"""Expand, Tile and OneHot: elements made more than once, or spread along a new axis."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

from core.plan.layouts import Split, shifted, tidy
from core.plan.operators.base import AxisLink, Choice, Have, LinkRule, Local, OpView, Rule
from core.plan.operators.following import (
    follow_first,
    mapped,
    normal_axis,
    others_replicated,
    same_axis_links,
    shares_of,
    terms_through,
    varies,
)
from core.plan.operators.shapes import write_target

MOST_REPEATS: Final = 16


# Expand, Tile, OneHot


def _expand(view: OpView, have: Have) -> Iterable[Choice]:
    held = have[0]
    if not isinstance(held, Split):
        return terms_through(view, held)
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
        return terms_through(view, held)
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


_one_hot_rule, _one_hot_links = mapped(_one_hot)

RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        "Expand": _expand,
        "OneHot": _one_hot_rule,
        "Tile": _tile,
    }
)
LINKS: Final[Mapping[str, LinkRule]] = MappingProxyType(
    {
        "Expand": _expand_links,
        "OneHot": _one_hot_links,
        "Tile": _tile_links,
    }
)
