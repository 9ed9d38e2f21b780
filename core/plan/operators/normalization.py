"""Normalization along some axes: the others can be shared out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from core.plan.layouts import REPLICATED, Layout, Ranges, Split
from core.plan.operators.base import AxisLink, Choice, Have, LinkRule, Local, OpView, Rule
from core.plan.operators.following import (
    aligned,
    follow_first,
    mapped,
    normal_axis,
    same_axis_links,
    shares_of,
    steps_of,
)

_ONE_AXIS_OPSET: Final = 13
"""Before it softmax and its like work over all axes from the given one on."""


def _channels_with(view: OpView, split: Split, parameters: Sequence[int]) -> Choice:
    """Every axis can be shared out; the channels with the parameters, one for each channel."""
    along = Split(0, split.parts)
    channels = split.axis == 1
    inputs: list[Layout | None] = [split]
    for index in range(1, len(view.op.inputs)):
        wanted = along if channels and index in parameters else REPLICATED
        inputs.append(wanted if view.has(index) else None)
    shares = shares_of(split, view.shape(0)[split.axis])
    return Choice(tuple(inputs), (split,) * len(view.outputs), shares)


def _batch_normalization(view: OpView, have: Have) -> Iterable[Choice]:
    held = have[0]
    trained = view.number("training_mode", 0) != 0 or view.number("spatial", 1) != 1 or any(view.op.outputs[1:])
    if not isinstance(held, Split) or trained or len(view.shape(0)) < 2:
        return ()
    return (_channels_with(view, held, (1, 2, 3, 4)),)


def _instance_normalization(view: OpView, have: Have) -> Iterable[Choice]:
    held = have[0]
    return (_channels_with(view, held, (1, 2)),) if isinstance(held, Split) and held.axis < 2 else ()


def _batch_normalization_links(view: OpView) -> Iterable[AxisLink]:
    return same_axis_links(view, [(axis, axis) for axis in range(len(view.shape(0)))])


def _group_normalization(view: OpView, have: Have) -> Iterable[Choice]:
    """Items, or channels as long as the groups stay whole."""
    held = have[0]
    groups = view.number("num_groups", 0)
    channels = view.shape(0)[1]
    if not isinstance(held, Split) or held.axis > 1 or groups < 1 or channels % groups:
        return ()
    if held.axis == 0:
        return (follow_first(view, held, (0,)),)
    width = channels // groups
    by_group = steps_of(held.parts, width)
    if by_group is None:
        return ()
    by_size: dict[int, tuple[Ranges, ...]] = {groups: by_group, channels: held.parts}
    # one parameter for each group until opset 20, one for each channel since
    parameters = [by_size.get(view.shape(index)[0]) for index in (1, 2)]
    counts = [size // width for size in held.sizes]

    def emit(local: Local) -> None:
        local.same(num_groups=counts[local.rank])

    inputs = (held, *[Split(0, parts) for parts in parameters if parts is not None])
    return (Choice(inputs, (held,), shares_of(held, channels), emit=emit),) if len(inputs) == 3 else ()


def _group_normalization_links(view: OpView) -> Iterator[AxisLink]:
    yield from same_axis_links(view, [(0, 0)])
    groups = view.number("num_groups", 0)
    channels = view.shape(0)[1]
    if groups > 1 and channels % groups == 0 and not view.constant[0]:
        # whole groups: until opset 20 the scale has one value for each of them
        parameter = view.op.inputs[1]
        inner = channels // groups
        each = parameter if view.shape(1)[0] == groups else f"{view.op.outputs[0]}/groups"
        if inner > 1:
            yield AxisLink((each, 0), (view.op.inputs[0], 1), inner=inner)
        yield from same_axis_links(view, [(1, 1)])


def _layer_normalization(view: OpView, have: Have) -> Iterable[Choice]:
    """Axes before the normalized ones; parameters may be broadcast over the whole input."""
    return _rows(view, have[0], normal_axis(view.number("axis", -1), len(view.shape(0))))


def _skip_layer_normalization(view: OpView, have: Have) -> Iterable[Choice]:
    if any(view.op.outputs[1:3]):
        return ()
    last = len(view.shape(0)) - 1
    skip = have[1]
    found = _rows(view, have[0], last)
    if isinstance(skip, Split) and len(view.shape(1)) == last + 1 and skip != have[0]:
        found += _rows(view, skip, last)
    return found


def _rows(view: OpView, held: Layout | None, first: int) -> tuple[Choice, ...]:
    """Follow ``held`` on axes before ``first``."""
    if not isinstance(held, Split) or held.axis >= first:
        return ()
    shape = view.shape(0)
    size = shape[held.axis]
    given = [index for index, name in enumerate(view.op.inputs) if name]
    wanted = aligned(view, held, len(shape), size, given)
    if wanted is None or wanted[0] != held:
        return ()
    inputs = tuple([wanted.get(index) for index in range(len(view.op.inputs))])
    return (Choice(inputs, (held,) * len(view.outputs), shares_of(held, size)),)


def _row_links(view: OpView) -> Iterable[AxisLink]:
    rank = len(view.shape(0))
    first = normal_axis(view.number("axis", -1), rank)
    kept = [index for index, found in enumerate(view.outputs) if found.shape is not None and len(found.shape) == rank]
    return same_axis_links(view, [(axis, axis) for axis in range(first)], kept)


def _skip_links(view: OpView) -> Iterator[AxisLink]:
    last = len(view.shape(0)) - 1
    yield from same_axis_links(view, [(axis, axis) for axis in range(last)], [0])
    if len(view.outputs) > 3:
        yield from same_axis_links(view, [(axis, axis) for axis in range(last + 1)], [3])
    if not view.constant[1] and view.shape(1) == view.shape(0):
        shape = view.shape(0)
        for axis in range(last):
            varying = view.inputs[1] is None or view.inputs[1].varying is None or view.inputs[1].varying[axis]
            if shape[axis] > 1 and not varying:
                yield AxisLink((view.op.outputs[0], axis), (view.op.inputs[1], axis))


def _not_the_axis(view: OpView) -> tuple[int | None, ...]:
    rank = len(view.shape(0))
    along = normal_axis(view.number("axis", -1), rank)
    return tuple([axis if axis != along else None for axis in range(rank)])


def _not_channels(view: OpView) -> tuple[int | None, ...]:
    return tuple([axis if axis != 1 else None for axis in range(len(view.shape(0)))])


def _not_averaged(view: OpView) -> tuple[int | None, ...]:
    rank = len(view.shape(0))
    averaged = {normal_axis(axis, rank) for axis in view.numbers("axes") or (0, 2, 3)}
    return tuple([axis if axis not in averaged else None for axis in range(rank)])


def _off_the_axis(view: OpView) -> tuple[int | None, ...]:
    """Softmax and its like: along one axis since opset 13, over all axes from it on before that."""
    rank = len(view.shape(0))
    if view.opset >= _ONE_AXIS_OPSET:
        along = normal_axis(view.number("axis", -1), rank)
        return tuple([axis if axis != along else None for axis in range(rank)])
    along = normal_axis(view.number("axis", 1), rank)
    return tuple([axis if axis < along else None for axis in range(rank)])


_lp, _lp_links = mapped(_not_the_axis)
_lrn, _lrn_links = mapped(_not_channels)
_mean_variance, _mean_variance_links = mapped(_not_averaged)
_softmax, _softmax_links = mapped(_off_the_axis)

_LAYER = (
    "LayerNormalization",
    "RMSNormalization",
    "SimplifiedLayerNormalization",
    "com.microsoft.SimplifiedLayerNormalization",
)
_SKIP = tuple(
    f"{domain}{name}"
    for domain in ("", "com.microsoft.")
    for name in ("SkipLayerNormalization", "SkipSimplifiedLayerNormalization")
)
_SOFTMAX = ("Softmax", "LogSoftmax", "Hardmax")

RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        "BatchNormalization": _batch_normalization,
        "InstanceNormalization": _instance_normalization,
        "GroupNormalization": _group_normalization,
        **dict.fromkeys(_LAYER, _layer_normalization),
        **dict.fromkeys(_SKIP, _skip_layer_normalization),
        "LpNormalization": _lp,
        "LRN": _lrn,
        "MeanVarianceNormalization": _mean_variance,
        **dict.fromkeys(_SOFTMAX, _softmax),
    }
)
LINKS: Final[Mapping[str, LinkRule]] = MappingProxyType(
    {
        "BatchNormalization": _batch_normalization_links,
        "InstanceNormalization": _batch_normalization_links,
        "GroupNormalization": _group_normalization_links,
        **dict.fromkeys(_LAYER, _row_links),
        **dict.fromkeys(_SKIP, _skip_links),
        "LpNormalization": _lp_links,
        "LRN": _lrn_links,
        "MeanVarianceNormalization": _mean_variance_links,
        **dict.fromkeys(_SOFTMAX, _softmax_links),
    }
)
