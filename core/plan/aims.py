"""What each kind of level is to divide: parameters, the rows or columns of the input, or the items of a micro-batch."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Final

from core.errors import PlanError
from core.plan.layouts import Group, Range, Split, split_by
from core.plan.op_options import Aim
from core.plan.operators import LINKS
from core.plan.operators.base import KINDS, OpView
from core.plan.program import Op, Program, TensorType
from core.plan.strategy_text import REPLICATE, SPATIAL, TENSOR

ROWS: Final = "rows"
COLUMNS: Final = "columns"
_FORCED: Final[Mapping[str, frozenset[str]]] = {
    COLUMNS: frozenset(KINDS) - {"rows", "vocabulary"},
    ROWS: frozenset(KINDS) - {"columns"},
}
HEAVY: Final = frozenset(
    {
        "Conv",
        "ConvTranspose",
        "ConvInteger",
        "QLinearConv",
        "FusedConv",
        "MatMul",
        "FusedMatMul",
        "MatMulInteger",
        "Gemm",
    }
)
"""Run on every rank they would make dividing pointless."""
_MARKS: Final = re.compile(r"(\[\d+:[^\]]*\]|/from\d+)+$")
_IMAGE_RANKS: Final = (4, 5)
_SEQUENCE_RANK: Final = 3
_IDS_RANK: Final = 2
_CONVOLUTIONS: Final = frozenset({"Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "MaxPool", "AveragePool"})
_FIRST_SPATIAL_AXIS: Final = 2
_MOST_CHANNELS: Final = 4
"""An image whose last axis is this short has its channels there."""


def aim_of(
    kind: str,
    program: Program,
    group: Group,
    overlaps: Mapping[tuple[str, int], tuple[int, ...]],
    *,
    tensor_axis: str | None = None,
    spatial_axis: str | None = None,
) -> Aim:
    """The aim of one level. PlanError in words when the program cannot be divided like that."""
    if kind == TENSOR:
        return Aim(True, _FORCED.get(tensor_axis or "", frozenset(KINDS)))
    if kind == SPATIAL:
        along = spatial_axis or ROWS
        word = f"image {along}" if takes_images(program) else "positions"
        return Aim(False, frozenset(), _spatial_inputs(program, group, overlaps, along), HEAVY, word)
    assert kind == REPLICATE
    return Aim(False, frozenset(), _item_inputs(program, group), HEAVY, "items")


def _spatial_inputs(
    program: Program, group: Group, overlaps: Mapping[tuple[str, int], tuple[int, ...]], along: str
) -> dict[str, tuple[Split, ...]]:
    axes = {name: axis for name in program.inputs if (axis := spatial_axis_of(program, name, along)) is not None}
    if not axes:
        what = "rows of an image or positions of a sequence" if along == ROWS else "columns of an image"
        shapes = "; ".join(f"{_plain(name)} {_shown(program.types[name])}" for name in program.inputs)
        raise PlanError(
            f"No input has {what} to divide ({shapes}).", hint="Use tensor, pipeline or replicate for this model."
        )
    sizes = {name: (program.types[name].shape or ())[axis] for name, axis in axes.items()}
    if all(size < len(group.shares) for size in sizes.values()):
        name = max(sizes, key=sizes.__getitem__)
        count = f"{sizes[name]} {along if sizes[name] != 1 else along.removesuffix('s')}"
        raise PlanError(
            f"Input {_plain(name)!r} has {count}, which {len(group.shares)} nodes cannot share.",
            hint="Use fewer nodes, or another strategy.",
        )
    found = {}
    for name, axis in axes.items():
        size = sizes[name]
        if size < len(group.shares):
            continue
        patch = _patch(program, name, axis)
        granule = patch if size % patch == 0 and size // patch >= len(group.shares) else 1
        exact = split_by(((size, granule),), axis, group)
        found[name] = tuple(_extended(exact, extra, size) for extra in overlaps.get((name, axis), (0,)))
    return found


def _patch(program: Program, name: str, axis: int) -> int:
    """Rows that stay together: those of a patch, where the input is cut into patches by a convolution or by its shape
    alone."""
    reader = next((op for op in program.ops if op.type in ("Conv", "Reshape") and op.inputs[0] == name), None)
    if reader is None:
        return 1
    if reader.type == "Reshape":
        return _folded(program, reader, axis)
    if axis < _FIRST_SPATIAL_AXIS:
        return 1
    strides, kernel = reader.attributes.get("strides"), program.types[reader.inputs[1]].shape
    stride = strides.as_ints()[axis - _FIRST_SPATIAL_AXIS] if strides is not None else 1
    return int(stride) if kernel is not None and kernel[axis] == stride else 1


def _folded(program: Program, reshape: Op, axis: int) -> int:
    """How many indices of an axis make one of the axis that takes its place."""
    view = OpView(reshape, program.types, program.constants, program.fixed, Group((1.0,)), {}, {}, 0)
    links = LINKS[reshape.key](view) if view.known else ()
    return next((link.inner for link in links if link.parent == (reshape.inputs[0], axis)), 1)


def _item_inputs(program: Program, group: Group) -> dict[str, tuple[Split, ...]]:
    """Inputs whose axis 0 has as many items as most of them."""
    sizes = {name: shape[0] for name in program.inputs if (shape := program.types[name].shape)}
    counts = Counter(sizes.values())
    items = max(counts, key=counts.__getitem__, default=0)
    if items < len(group.shares):
        raise PlanError(
            f"A micro-batch of {items} item{'s' if items != 1 else ''} cannot be shared by {len(group.shares)} nodes.",
            hint="Choose a larger micro-batch (--batch), or put replicate outermost.",
        )
    return {name: (split_by(((items, 1),), 0, group),) for name, size in sizes.items() if size == items}


def spatial_axis_of(program: Program, name: str, along: str) -> int | None:
    """The axis of an input along which its rows, or columns, lie; None where it has none.

    Images are [N, C, H, W] or, where the last axis is that of the channels, [N, H, W, C]; sequences are ids [N, S],
    features [N, S, F], or channels [N, C, L] where a convolution reads them. Their positions count as rows.
    """
    held = program.types[name]
    rank = len(held.shape or ())
    if takes_images(program):
        if rank not in _IMAGE_RANKS:
            return None
        assert held.shape is not None
        last = held.shape[-1] <= _MOST_CHANNELS < held.shape[1]
        first = 1 if last else 2
        return first if along == ROWS else first + rank - 3
    if along != ROWS:
        return None
    if rank == _SEQUENCE_RANK:
        convolved = any(name in op.inputs[:1] and op.type in _CONVOLUTIONS for op in program.ops)
        return 2 if convolved else 1
    return 1 if rank == _IDS_RANK and held.dtype in ("int32", "int64") else None


def takes_images(program: Program) -> bool:
    """Whether the program's inputs are images rather than sequences: some have rows and columns, and are convolved, or
    nothing about them looks like a sequence."""
    ranks = [len(program.types[name].shape or ()) for name in program.inputs]
    if not any(rank in _IMAGE_RANKS for rank in ranks):
        return False
    return any(op.type in _CONVOLUTIONS for op in program.ops) or not any(
        rank in (_IDS_RANK, _SEQUENCE_RANK) for rank in ranks
    )


def _extended(split: Split, extra: int, size: int) -> Split:
    """Every part with ``extra`` more on either side."""

    def wider(one: Range) -> Range:
        return max(0, one[0] - extra), min(size, one[1] + extra)

    return Split(split.axis, tuple(tuple(wider(one) for one in ranges) for ranges in split.parts)) if extra else split


def _plain(name: str) -> str:
    """The value's own name, without the marks of the part of it that a rank holds or was sent."""
    return _MARKS.sub("", name)


def _shown(held: TensorType) -> str:
    return "of unknown shape" if held.shape is None else f"[{', '.join(map(str, held.shape))}]"
