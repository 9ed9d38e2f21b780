"""QuantizeLinear, DequantizeLinear and what works on quantised tensors element by element."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from core.plan.operators.base import OpView
from core.plan.operators.following import normal_axis
from core.plan.operators.labels import NO_AXES, Axis, Pattern, axes_of, broadcast_axes, in_units, single, tables


def _own(view: OpView, index: int = 0, but: Sequence[int] = ()) -> dict[int, Axis]:
    """A label for each axis of the first output; inputs are labelled as they are broadcast to it."""
    return {axis: Axis(f"axis{axis}") for axis in range(len(view.out_shape(index))) if axis not in but}


def _linear(view: OpView) -> Pattern | None:
    """Input, scale and zero point: one for all, one for each index of an axis, or one for each block along it."""
    shape = view.shape(0)
    own: dict[int, Axis] = _own(view)
    if single(view, 1, 2):
        return Pattern(axes_of(view, {0: own}), (own,), linear=_terms(view))
    axis = normal_axis(view.number("axis", 1), len(shape))
    if not 0 <= axis < len(shape):
        return None
    if len(view.shape(1)) == 1:
        if view.shape(1) != (shape[axis],):
            return None
        scale: Mapping[int, Axis] = {0: own[axis]}
    else:
        block = view.number("block_size", 0)
        if block < 1 or view.shape(1) != (*shape[:axis], -(-shape[axis] // block), *shape[axis + 1 :]):
            return None
        scale = {i: label for i, label in own.items() if i != axis}
        if shape[axis] % block == 0:
            scale = dict(scale) | {axis: Axis(f"axis{axis}")}
            own[axis] = in_units(f"axis{axis}", block)
        else:
            del own[axis]
    return Pattern(axes_of(view, {0: own, 1: scale, 2: scale}), (own,), linear=_terms(view))


def _terms(view: OpView) -> tuple[int, ...]:
    """Sums of integer products come in terms, and without a zero point, scaling them is linear."""
    found = view.inputs[0]
    wide = view.op.type == "DequantizeLinear" and found is not None and found.dtype == "int32"
    return (0,) if wide and not view.has(2) else ()


def _binary(view: OpView) -> Pattern | None:
    """A and B, each followed by its scale and zero point, and those of the result."""
    if not single(view, 1, 2, 4, 5, 6, 7):
        return None
    own = _own(view)
    return Pattern(axes_of(view, {i: broadcast_axes(view, i, own, view.out_shape()) for i in (0, 3)}), (own,))


def _unary(view: OpView) -> Pattern | None:
    """X with scale and zero point, and those of the result."""
    if not single(view, 1, 2, 3, 4):
        return None
    own = _own(view)
    return Pattern(axes_of(view, {0: own}), (own,))


def _softmax(view: OpView) -> Pattern | None:
    """As ``_unary``, but not along the axes that are normalised."""
    if not single(view, 1, 2, 3, 4):
        return None
    rank = len(view.shape(0))
    axis = normal_axis(view.number("axis", -1), rank)
    own = _own(view, but=range(axis, rank) if view.number("opset", 13) < 13 else (axis,))
    return Pattern(axes_of(view, {0: own}), (own,))


def _global_average(view: OpView) -> Pattern | None:
    """Items and channels; the image is averaged."""
    if not single(view, 1, 2, 3, 4) or len(view.shape(0)) < 3:
        return None
    channels = len(view.shape(0)) - 1 if view.number("channels_last", 0) else 1
    kept = {0: Axis("item"), channels: Axis("channel")}
    return Pattern(axes_of(view, {0: kept}), (kept,))


def _concat(view: OpView) -> Pattern | None:
    """Scale and zero point of the result, then every input with its own; not along the axis of joining."""
    rank = len(view.out_shape())
    own = _own(view, but=(normal_axis(view.number("axis", 0), rank),))
    inputs = {i: own if i >= 2 and i % 3 == 2 else NO_AXES for i in range(len(view.op.inputs))}
    return Pattern(axes_of(view, inputs), (own,))


RULES, LINKS = tables(
    {
        "QuantizeLinear": _linear,
        "DequantizeLinear": _linear,
        "com.microsoft.QuantizeLinear": _linear,
        "com.microsoft.DequantizeLinear": _linear,
        "com.microsoft.QLinearAdd": _binary,
        "com.microsoft.QLinearMul": _binary,
        "com.microsoft.QLinearSigmoid": _unary,
        "com.microsoft.QLinearLeakyRelu": _unary,
        "com.microsoft.QLinearSoftmax": _softmax,
        "com.microsoft.QLinearGlobalAveragePool": _global_average,
        "com.microsoft.QLinearConcat": _concat,
    }
)
