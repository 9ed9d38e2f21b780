"""Resize, Upsample, DepthToSpace, SpaceToDepth, Pad."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from functools import partial
from math import ceil, floor
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np
from msgspec import Struct

from core.plan.layouts import Range, Ranges, Split, scaled, shifted, tidy
from core.plan.operators.base import AxisLink, Choice, Have, LinkRule, Local, OpView, Rule
from core.plan.operators.following import others_replicated, shares_of, steps_of
from core.plan.operators.windows import Sliding, Window, divided

# Resize and Upsample

_COORDINATES_OPSET: Final = 11
"""Since it Resize says how coordinates are transformed."""


class Enlarged(Struct, frozen=True):
    """One axis that becomes ``factor`` times as long; output row o lies at input (o + shift) / factor - shift."""

    size: int
    made: int
    factor: int
    shift: Fraction = Fraction(0)
    nearest: bool = True
    """Each output row copies the input row o // factor; otherwise it is interpolated between the two that it lies
    between."""

    def needs(self, rows: Range) -> Range | None:
        if self.nearest:
            return rows[0] // self.factor, -(-rows[1] // self.factor)
        first, last = floor(self._place(rows[0])), ceil(self._place(rows[1] - 1)) + 1
        return max(0, first), min(self.size, last)

    def reach(self, rows: Range) -> Range:
        if self.nearest:
            return rows[0] * self.factor, rows[1] * self.factor
        first = 0 if rows[0] <= 0 else ceil((rows[0] + self.shift) * self.factor - self.shift)
        last = floor((rows[1] - 1 + self.shift) * self.factor - self.shift) + 1
        return first, self.made if rows[1] >= self.size else last

    def boundary(self, at: int) -> int:
        return at * self.factor

    def margin(self, extra: int) -> int:
        return -(-extra // self.factor) + (0 if self.nearest else 1)

    def _place(self, row: int) -> Fraction:
        return (row + self.shift) / self.factor - self.shift


class _Target(NamedTuple):
    """Where a Resize or Upsample says how large its output is: an input, or (Upsample 7) an attribute."""

    scales: int = -1
    sizes: int = -1
    position: Mapping[int, int] = {}
    """Axis of the tensor -> index in scales or sizes."""


def _target(view: OpView) -> _Target | None:
    rank = len(view.shape(0))
    axes = view.numbers("axes") or tuple(range(rank))
    position = {axis % rank: index for index, axis in enumerate(axes)}
    if _early(view):
        return _Target(scales=1, position=position)
    if view.has(3) and view.text("keep_aspect_ratio_policy", "stretch") == "stretch":
        return _Target(sizes=3, position=position)
    return _Target(scales=2, position=position) if view.has(2) and not view.has(3) else None


def _early(view: OpView) -> bool:
    """Upsample, and Resize before opset 11: an input of scales, no other, and coordinates are multiplied."""
    return view.opset < _COORDINATES_OPSET


def _coordinates(view: OpView) -> str:
    return "asymmetric" if _early(view) else view.text("coordinate_transformation_mode", "half_pixel")


def enlarged(view: OpView, axis: int) -> Enlarged | None:
    """A spatial axis that becomes a whole number of times as long, in a way that parts by themselves can repeat."""
    size, made = view.shape(0)[axis], view.out_shape()[axis]
    target = _target(view)
    if target is None or not size or made % size or made == size or view.number("antialias", 0):
        return None
    factor = made // size
    scales = _scales(view, target)
    if target.scales >= 0 and (scales is None or scales[target.position.get(axis, 0)] != factor):
        return None
    coordinates, mode = _coordinates(view), view.text("mode", "nearest")
    if coordinates not in {"asymmetric", "half_pixel", "pytorch_half_pixel", "half_pixel_symmetric"}:
        return None
    shift = Fraction(0) if coordinates == "asymmetric" else Fraction(1, 2)
    if mode in {"linear", "bilinear"}:  # the latter in early models
        return Enlarged(size, made, factor, shift, nearest=False)
    rounding = "floor" if _early(view) else view.text("nearest_mode", "round_prefer_floor")
    places = [(row + shift) / factor - shift for row in range(factor)]
    if mode == "nearest" and all(_nearest(place, rounding) == 0 for place in places):
        return Enlarged(size, made, factor, shift)
    return None


def _nearest(place: Fraction, rounding: str) -> int:
    half = Fraction(1, 2)
    return {
        "round_prefer_floor": ceil(place - half),
        "round_prefer_ceil": floor(place + half),
        "floor": floor(place),
        "ceil": ceil(place),
    }.get(rounding, -1)


def _scales(view: OpView, target: _Target) -> Sequence[float] | None:
    if target.scales < 0:
        return None
    given = view.value(target.scales) if len(view.op.inputs) > 1 else None
    if given is not None and given.ndim == 1 and len(given) == len(target.position):
        return [float(scale) for scale in given]
    attribute = view.op.attributes.get("scales")
    return list(attribute.as_floats()) if attribute is not None else None


class _Piece(NamedTuple):
    """What one rank makes of its input rows."""

    length: int = 0
    """Along the axis, before rows at the ends are cut off."""
    kept: Range = (0, 0)


def _whole_sizes(view: OpView, target: _Target) -> np.ndarray | None:
    return view.value(target.sizes) if target.sizes >= 0 else None


def _resize(view: OpView, have: Have) -> Iterator[Choice]:
    held, target = have[0], _target(view)
    if not isinstance(held, Split) or target is None or len(held.ranks) < 2 or len(view.op.outputs) > 1:
        return
    axis = held.axis
    if _unscaled(view, target, axis):
        pieces = [_Piece(size, (0, size)) for size in held.sizes]
        emit = partial(_emit_resized, target, axis, _whole_sizes(view, target), pieces)
        yield Choice(others_replicated(view, held), (held,), shares_of(held, view.shape(0)[axis]), emit=emit)
        return
    window = enlarged(view, axis) if axis >= 2 else None
    if window is None:
        return
    for x, made in divided(view, held, window, view.op.outputs[0]):
        pieces = [_Piece()] * len(held.parts)
        for rank in made.ranks:
            ((first, last),), (rows,) = x.parts[rank], made.parts[rank]
            start = first * window.factor
            pieces[rank] = _Piece((last - first) * window.factor, (rows[0] - start, rows[1] - start))
        emit = partial(_emit_resized, target, axis, _whole_sizes(view, target), pieces)
        yield Choice(others_replicated(view, x), (made,), shares_of(made, window.made), emit=emit)


def _unscaled(view: OpView, target: _Target, axis: int) -> bool:
    """Whether every row of the axis stays what it is."""
    if view.shape(0)[axis] != view.out_shape()[axis] or _coordinates(view).startswith("tf_"):
        return False
    if target.sizes >= 0 or axis not in target.position:
        return True
    scales = _scales(view, target)
    return scales is not None and scales[target.position[axis]] == 1


def _emit_resized(target: _Target, axis: int, sizes: np.ndarray | None, pieces: Sequence[_Piece], local: Local) -> None:
    inputs, piece, at = list(local.inputs), pieces[local.rank], target.position.get(axis, -1)
    if target.sizes >= 0 and at >= 0:
        mine = np.array([piece.length], np.int64)
        if sizes is not None:
            inputs[target.sizes] = local.constant(np.concatenate([sizes[:at], mine, sizes[at + 1 :]]))
        else:  # computed for the whole: only this one entry is the rank's own
            whole = inputs[target.sizes]
            before = local.add("Slice", [whole, local.constant(np.array([0])), local.constant(np.array([at]))])
            ends = [local.constant(np.array([bound])) for bound in (at + 1, len(target.position))]
            after = local.add("Slice", [whole, *ends])
            inputs[target.sizes] = local.add("Concat", [before, local.constant(mine), after], axis=0)
    if piece.kept == (0, piece.length):
        local.same(inputs)
        return
    full = f"{local.outputs[0]}/full"
    local.same(inputs, [full])
    bounds = [local.constant(np.array([bound])) for bound in (*piece.kept, axis)]
    local.add("Slice", [full, *bounds], local.outputs)


def _resize_links(view: OpView) -> Iterator[AxisLink]:
    target = _target(view)
    for axis in range(len(view.shape(0))):
        if target is not None and _unscaled(view, target, axis):
            yield AxisLink((view.op.inputs[0], axis), (view.op.outputs[0], axis))


# DepthToSpace and SpaceToDepth


def _block(view: OpView) -> int:
    return view.number("blocksize", 0) if len(view.shape(0)) == 4 else 0


def _same_items(view: OpView, held: Split) -> Choice:
    return Choice((held,), (held,), shares_of(held, view.shape(0)[held.axis]))


def _depth_to_space(view: OpView, have: Have) -> Iterator[Choice]:
    held, block = have[0], _block(view)
    if not isinstance(held, Split) or len(held.ranks) < 2 or not block:
        return
    shares = shares_of(held, view.shape(0)[held.axis])
    if held.axis == 0:
        yield _same_items(view, held)
    elif held.axis > 1:
        made = Split(held.axis, tuple(scaled(ranges, block) for ranges in held.parts))
        yield Choice((held,), (made,), shares)
    else:
        parts = _whole_blocks(view, held, block * block)
        if parts is not None:
            yield Choice((held,), (Split(1, parts),), shares)


def _whole_blocks(view: OpView, held: Split, block: int) -> tuple[Ranges, ...] | None:
    """Output channels that DepthToSpace makes of each rank's input channels; None if some of theirs are elsewhere."""
    channels = view.out_shape()[1]
    if view.text("mode", "DCR") == "CRD":
        return steps_of(held.parts, block)
    # What lies side by side in the image lies ``channels`` apart.
    parts = []
    for ranges in held.parts:
        first: list[Range] = []
        left = sum(stop - start for start, stop in ranges) // block
        for start, stop in ranges:
            taken = (start, min(stop, start + left))
            left -= taken[1] - taken[0]
            first.append(taken)
        if tidy(one for k in range(block) for one in shifted(first, k * channels)) != tidy(ranges):
            return None
        parts.append(tidy(first))
    return tuple(parts)


def _space_to_depth(view: OpView, have: Have) -> Iterator[Choice]:
    held, block = have[0], _block(view)
    if not isinstance(held, Split) or len(held.ranks) < 2 or not block:
        return
    if held.axis == 0:
        yield _same_items(view, held)
    elif held.axis == 1:
        channels = view.shape(0)[1]
        blocks = range(block * block)
        parts = [tidy(one for k in blocks for one in shifted(ranges, k * channels)) for ranges in held.parts]
        yield Choice((held,), (Split(1, tuple(parts)),), shares_of(held, channels))
    else:
        window = Sliding(view.shape(0)[held.axis], view.out_shape()[held.axis], block, block)
        for x, made in divided(view, held, window, view.op.outputs[0]):
            yield Choice((x,), (made,), shares_of(made, window.made))


def _depth_to_space_links(view: OpView) -> Iterator[AxisLink]:
    yield from _block_links(view, view.op.outputs[0], view.op.inputs[0], view.text("mode", "DCR") == "CRD")


def _space_to_depth_links(view: OpView) -> Iterator[AxisLink]:
    yield from _block_links(view, view.op.inputs[0], view.op.outputs[0], False)


def _block_links(view: OpView, image: str, deep: str, side_by_side: bool) -> Iterator[AxisLink]:
    block = _block(view)
    if block:
        yield AxisLink((image, 0), (deep, 0))
        outer, inner = (1, block * block) if side_by_side else (block * block, 1)
        yield AxisLink((image, 1), (deep, 1), outer, inner)


# Pad


class Padded(Struct, frozen=True):
    """One axis with rows added before and after."""

    size: int
    made: int
    before: int
    after: int
    mode: str = "constant"

    def needs(self, rows: Range) -> Range | None:
        found = max(0, rows[0] - self.before), min(self.size, rows[1] - self.before)
        if found[0] >= found[1]:
            return None
        inner = found[1] - found[0] - 1  # rows that can be mirrored
        return None if self.mode == "reflect" and max(self.pads(rows)) > inner else found

    def reach(self, rows: Range) -> Range:
        first = 0 if rows[0] <= 0 else rows[0] + self.before
        return first, self.made if rows[1] >= self.size else rows[1] + self.before

    def boundary(self, at: int) -> int:
        return at + self.before

    def margin(self, extra: int) -> int:
        return extra

    def pads(self, rows: Range) -> tuple[int, int]:
        return max(0, self.before - rows[0]), max(0, rows[1] - self.before - self.size)


def padded(view: OpView, axis: int) -> Padded | None:
    """An axis of a Pad; None where it is not known, or rows are taken away."""
    found = _pads(view)
    mode = view.text("mode", "constant")
    if found is None or mode not in {"constant", "edge", "reflect"}:
        return None
    pads, position = found
    if axis not in position:
        before = after = 0
    else:
        before, after = pads[position[axis]], pads[position[axis] + len(position)]
    if min(before, after) < 0:
        return None
    return Padded(view.shape(0)[axis], view.out_shape()[axis], before, after, mode)


def _pads(view: OpView) -> tuple[tuple[int, ...], Mapping[int, int]] | None:
    """Begin and end of each axis as they are given, and where each axis is among them."""
    rank = len(view.shape(0))
    axes = tuple(range(rank))
    if view.has(3):
        named = view.value(3)
        if named is None:
            return None
        axes = tuple(int(axis) % rank for axis in named.ravel())
    given = view.value(1)
    pads = tuple(int(pad) for pad in given.ravel()) if given is not None else view.numbers("pads")
    if pads is None or len(pads) != 2 * len(axes):
        return None
    return pads, {axis: index for index, axis in enumerate(axes)}


def _pad(view: OpView, have: Have) -> Iterator[Choice]:
    held = have[0]
    if not isinstance(held, Split) or len(held.ranks) < 2:
        return
    axis, found = held.axis, _pads(view)
    if found is None:
        return
    pads, position = found
    at = position.get(axis)
    if at is None or pads[at] == pads[at + len(position)] == 0:
        yield Choice(others_replicated(view, held), (held,), shares_of(held, view.shape(0)[axis]))
        return
    window = padded(view, axis)
    if window is None:
        return
    for x, made in divided(view, held, window, view.op.outputs[0]):
        local_pads = []
        for ranges in made.parts:
            before, after = window.pads(ranges[0]) if ranges else (0, 0)
            mine = list(pads)
            mine[at], mine[at + len(position)] = before, after
            local_pads.append(mine)
        emit = partial(_emit_padded, local_pads)
        yield Choice(others_replicated(view, x), (made,), shares_of(made, window.made), emit=emit)


def _emit_padded(pads: Sequence[Sequence[int]], local: Local) -> None:
    mine = list(pads[local.rank])
    if len(local.inputs) > 1:
        local.same([local.inputs[0], local.constant(np.array(mine, np.int64)), *local.inputs[2:]])
    else:
        local.same(pads=mine)


def _pad_links(view: OpView) -> Iterator[AxisLink]:
    found = _pads(view)
    if found is not None:
        pads, position = found
        for axis in range(len(view.shape(0))):
            at = position.get(axis)
            if at is None or pads[at] == pads[at + len(position)] == 0:
                yield AxisLink((view.op.inputs[0], axis), (view.op.outputs[0], axis))


def window_of(view: OpView, axis: int) -> Window | None:
    """How a spatial axis of one of these operators follows from its input's; None where it does not."""
    if view.op.type == "Pad":
        return padded(view, axis)
    block = _block(view) if view.op.type in {"DepthToSpace", "SpaceToDepth"} else 0
    size, made = view.shape(0)[axis], view.out_shape()[axis]
    if block:
        down = view.op.type == "SpaceToDepth"
        return Sliding(size, made, block, block) if down else Enlarged(size, made, block)
    if view.op.type in {"Resize", "Upsample"}:
        target = _target(view)
        if target is not None and _unscaled(view, target, axis):
            return Sliding(size, made, 1)
        return enlarged(view, axis)
    return None


RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        "Resize": _resize,
        "Upsample": _resize,
        "DepthToSpace": _depth_to_space,
        "SpaceToDepth": _space_to_depth,
        "Pad": _pad,
    }
)
LINKS: Final[Mapping[str, LinkRule]] = MappingProxyType(
    {
        "Resize": _resize_links,
        "Upsample": _resize_links,
        "DepthToSpace": _depth_to_space_links,
        "SpaceToDepth": _space_to_depth_links,
        "Pad": _pad_links,
    }
)
