"""Conv and ConvTranspose: output channels, input channels, groups; image rows and columns with halo."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import Final, NamedTuple

from core.plan.layouts import REPLICATED, Layout, Partial, Ranges, Split, joined_segments, scaled, split_by, tidy
from core.plan.operators.base import AxisLink, Choice, Have, LinkRule, Local, OpView, Rule
from core.plan.operators.following import shares_of, steps_of
from core.plan.operators.windows import (
    Kernel,
    Spreading,
    attributes_of,
    auto_pads,
    divided,
    emit_rows,
    sliding,
)


class Form(NamedTuple):
    """Where an operator has its inputs; -1 where it has no such input."""

    w: int = 1
    bias: int = 2
    per_channel: tuple[int, ...] = ()
    """Scales and zero points of the weights: scalars, or one for each output channel."""
    residual: int = -1
    """Added to the output before the activation."""
    transposed: bool = False
    sums: bool = True
    """Whether the results for parts of the input channels can be added up."""

    @property
    def w_out(self) -> int:
        """Axis of the weights: output channels (of one group, if transposed)."""
        return 1 if self.transposed else 0

    @property
    def w_in(self) -> int:
        """Axis of the weights: input channels (of one group, unless transposed)."""
        return 0 if self.transposed else 1


FORMS: Final = MappingProxyType(
    {
        "Conv": Form(),
        "ConvTranspose": Form(transposed=True),
        "ConvInteger": Form(bias=-1, per_channel=(3,)),
        "QLinearConv": Form(w=3, bias=8, per_channel=(4, 5), sums=False),
        "com.microsoft.FusedConv": Form(residual=3, sums=False),
    }
)


class _Sizes(NamedTuple):
    channels: int
    features: int
    """Output channels."""
    groups: int

    @property
    def channels_each(self) -> int:
        return self.channels // self.groups

    @property
    def features_each(self) -> int:
        return self.features // self.groups


def _sizes(form: Form, view: OpView) -> _Sizes | None:
    x, w, made, groups = view.shape(0), view.shape(form.w), view.out_shape(), view.number("group", 1)
    if len(x) < 3 or len(w) != len(x) or len(made) != len(x) or groups < 1:
        return None
    found = _Sizes(x[1], made[1], groups)
    fits = (w[form.w_in], w[form.w_out]) == (
        (x[1], found.features_each) if form.transposed else (found.channels_each, made[1])
    )
    return found if fits and x[1] % groups == 0 and made[1] % groups == 0 else None


def _choices(form: Form, view: OpView, have: Have) -> Iterator[Choice]:
    sizes = view.once(_sizes, lambda: _sizes(form, view))
    if sizes is None:
        return
    held = have[0]
    followed: tuple[Choice, ...] = ()
    if isinstance(held, Split) and held.axis == 1 and held.exact and len(held.ranks) > 1:
        followed = tuple(_followed(form, view, sizes, held))
        yield from followed
    for seed in view.once(_seeds, lambda: tuple(_seeds(form, view, sizes))):
        if all(seed.inputs[0] != choice.inputs[0] for choice in followed):
            yield seed
    if isinstance(held, Split) and held.axis == 0 and len(held.ranks) > 1:
        shares = shares_of(held, view.shape(0)[0])
        yield Choice(_wanted(form, view, x=held, residual=held), (held,), shares)
    elif isinstance(held, Split) and held.axis > 1:
        yield from _spatial(form, view, held)


def _wanted(
    form: Form,
    view: OpView,
    *,
    x: Layout = REPLICATED,
    w: Layout = REPLICATED,
    features: tuple[Ranges, ...] | None = None,
    residual: Layout = REPLICATED,
) -> tuple[Layout | None, ...]:
    """Layouts of all inputs; ``features``: each rank's output channels, if these are shared out."""
    found: list[Layout | None] = [REPLICATED if name else None for name in view.op.inputs]
    found[0], found[form.w] = x, w
    for index in (form.bias, *form.per_channel):
        if features is not None and index >= 0 and view.has(index) and view.shape(index) == (view.out_shape()[1],):
            found[index] = Split(0, features)
    if form.residual >= 0 and view.has(form.residual):
        found[form.residual] = residual
    return tuple(found)


def _columns(form: Form, view: OpView, sizes: _Sizes) -> Iterator[Choice]:
    """Output channels; of several groups, the same ones of each, where there are too few groups to share out."""
    segments = view.segments(view.op.outputs[0], 1)
    if sizes.groups > 1:
        if sizes.groups >= len(view.ranks):
            return
        segments = ((sizes.features_each, 1),) * sizes.groups
    made = split_by(segments, 1, view.group)
    if len(made.ranks) < 2:
        return
    w = made.parts
    if form.transposed and sizes.groups > 1:
        w = split_by(segments[:1], 1, view.group).parts
    inputs = _wanted(form, view, w=Split(form.w_out, w), features=made.parts, residual=made)
    yield Choice(inputs, (made,), shares_of(made, sizes.features), "columns")


def _seeds(form: Form, view: OpView, sizes: _Sizes) -> Iterator[Choice]:
    yield from _columns(form, view, sizes)
    if sizes.groups > 1:
        yield from _groups(form, view, sizes, _seed_of_groups(view, sizes))
    elif form.sums:
        yield from _rows(form, view, sizes, split_by(view.segments(view.op.inputs[0], 1), 1, view.group))


def _followed(form: Form, view: OpView, sizes: _Sizes, held: Split) -> Iterator[Choice]:
    if sizes.groups > 1:
        units = steps_of(held.parts, sizes.channels_each)
        if units is not None:
            yield from _groups(form, view, sizes, units)
    elif form.sums:
        yield from _rows(form, view, sizes, held)


def _rows(form: Form, view: OpView, sizes: _Sizes, x: Split) -> Iterator[Choice]:
    """Input channels: each rank's result is a term of the sum."""
    if len(x.ranks) > 1:
        inputs = _wanted(form, view, x=x, w=Split(form.w_in, x.parts))
        emit = partial(_emit_term, form.bias, x.ranks[0])
        yield Choice(inputs, (Partial(x.ranks),), shares_of(x, sizes.channels), "rows", emit)


def _emit_term(bias: int, first: int, local: Local) -> None:
    """The bias counts once."""
    if bias < 0 or local.rank == first:
        local.same()
    else:
        local.same([name for index, name in enumerate(local.inputs) if index != bias])


def _seed_of_groups(view: OpView, sizes: _Sizes) -> tuple[Ranges, ...]:
    each = sizes.features_each
    segments = joined_segments(view.segments(view.op.outputs[0], 1), ((sizes.features, each),))
    found = steps_of(split_by(segments, 1, view.group).parts, each)
    if found is None or sum(map(bool, found)) < 2:
        return split_by(((sizes.groups, 1),), 1, view.group).parts
    return found


def _groups(form: Form, view: OpView, sizes: _Sizes, units: tuple[Ranges, ...]) -> Iterator[Choice]:
    """Whole groups: each has its own input and output channels."""
    each = sizes.features_each
    x, made = _stretched(units, sizes.channels_each), _stretched(units, each)
    if len(made.ranks) > 1:
        w = x if form.transposed else made
        inputs = _wanted(form, view, x=x, w=Split(0, w.parts), features=made.parts, residual=made)
        emit = partial(_emit_groups, tuple(size // each for size in made.sizes))
        yield Choice(inputs, (made,), shares_of(made, sizes.features), "groups", emit)


def _emit_groups(groups: tuple[int, ...], local: Local) -> None:
    local.same(group=groups[local.rank])


def _stretched(units: tuple[Ranges, ...], size: int) -> Split:
    return Split(1, tuple(tidy(scaled(ranges, size)) for ranges in units))


def _spatial(form: Form, view: OpView, held: Split) -> Iterator[Choice]:
    """Rows or columns of the image, with the halo that the kernel asks for."""
    kernels = view.once(kernels_of, lambda: kernels_of(view))
    if kernels is None:
        return
    at = held.axis - 2
    for x, made in divided(view, held, kernels[at], view.op.outputs[0]):
        inputs = _wanted(form, view, x=x, residual=made)
        emit = partial(emit_rows, kernels, at, made.parts)
        yield Choice(inputs, (made,), shares_of(made, kernels[at].made), emit=emit)


def kernels_of(view: OpView) -> tuple[Kernel, ...] | None:
    """One for each spatial axis of a convolution; None if its attributes and shapes disagree."""
    form = FORMS[view.op.key]
    if _sizes(form, view) is None:
        return None
    kernel = view.shape(form.w)[2:]
    return _spreading(view, kernel) if form.transposed else sliding(view, kernel)


def _spreading(view: OpView, kernel: tuple[int, ...]) -> tuple[Spreading, ...] | None:
    sizes, made = view.shape(0)[2:], view.out_shape()[2:]
    strides, dilations, pads, mode = attributes_of(view, len(sizes))
    behind = view.numbers("output_padding") or (0,) * len(sizes)
    if not len(sizes) == len(strides) == len(dilations) == len(pads) // 2 == len(behind):
        return None
    found = []
    for axis, (size, out) in enumerate(zip(sizes, made, strict=True)):
        full = (size - 1) * strides[axis] + (kernel[axis] - 1) * dilations[axis] + 1 + behind[axis]
        before, after = pads[axis], pads[axis + len(sizes)]
        if view.numbers("output_shape") or mode in {"SAME_UPPER", "SAME_LOWER"}:
            before, after = auto_pads(mode, full - out)
        if min(before, after) < 0 or full - before - after != out:
            return None
        found.append(Spreading(size, out, kernel[axis], strides[axis], dilations[axis], before, after, behind[axis]))
    return tuple(found)


def _links(form: Form, view: OpView) -> Iterator[AxisLink]:
    """Items; output channels and the weights' own; in groups: channels on both sides, by whole groups."""
    sizes = _sizes(form, view)
    if sizes is None:
        return
    x, made = view.op.inputs[0], view.op.outputs[0]
    yield AxisLink((x, 0), (made, 0))
    if sizes.groups == 1:
        yield AxisLink((view.op.inputs[form.w], form.w_out), (made, 1))
    else:
        yield AxisLink((f"{made}/groups", 0), (made, 1), inner=sizes.features_each)
        yield AxisLink((f"{made}/groups", 0), (x, 1), inner=sizes.channels_each)
    if form.residual >= 0 and view.has(form.residual):
        yield AxisLink((view.op.inputs[form.residual], 1), (made, 1))


RULES: Final[Mapping[str, Rule]] = MappingProxyType({key: partial(_choices, form) for key, form in FORMS.items()})
LINKS: Final[Mapping[str, LinkRule]] = MappingProxyType({key: partial(_links, form) for key, form in FORMS.items()})
