"""One output element for each input element, with broadcasting."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

from core.plan.layouts import REPLICATED, Layout, Partial, Replicated, Split
from core.plan.operators.base import AxisLink, Choice, Have, LinkRule, Local, OpView, Rule, emit_same
from core.plan.operators.following import (
    FLOATS,
    broadcast,
    broadcast_links,
    follow_first,
    mapped,
    same_axis_links,
    shares_of_terms,
    terms_through,
)

_UNARY = (
    *("Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "BitwiseNot", "Cast", "Ceil", "Celu", "Clip", "Cos"),
    *("Cosh", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "IsInf", "IsNaN", "LeakyRelu", "Log"),
    *("Mish", "Not", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus"),
    *("Softsign", "Sqrt", "Swish", "Tan", "Tanh", "ThresholdedRelu", "com.microsoft.Gelu", "com.microsoft.QuickGelu"),
)
_LINEAR_UNARY = ("Neg", "Identity")
_BROADCAST = (
    *("And", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Equal", "Greater", "GreaterOrEqual", "Less"),
    *("LessOrEqual", "Max", "Mean", "Min", "Mod", "Or", "Pow", "PRelu", "Where", "Xor"),
    *("com.microsoft.BiasGelu", "com.microsoft.FastGelu"),
)


def _all_axes(view: OpView) -> tuple[int, ...]:
    return tuple(range(len(view.shape(0))))


def _all_but_the_last_two(view: OpView) -> tuple[int | None, ...]:
    rank = len(view.shape(0))
    return tuple([axis if axis < rank - 2 else None for axis in range(rank)])


def _distinct_partials(have: Have) -> list[Partial]:
    return list(dict.fromkeys(layout for layout in have if isinstance(layout, Partial)))[:2]


def _sum(view: OpView, have: Have) -> Iterator[Choice]:
    """Add, Sub, Sum: also of terms of sums; what is not a term is added by the first holder alone."""
    yield from broadcast(view, have)
    out = view.outputs[0]
    if out.dtype not in FLOATS and not (out.dtype == "int32" and view.op.type != "Sum"):
        return
    for partial in _distinct_partials(have):
        terms = [index for index, layout in enumerate(have) if layout == partial]
        emit: Callable[[Local], None] = emit_same
        if len(terms) < len(have):
            whole = [view.inputs[index] for index in terms]
            # what the others write is not broadcast any more, so a term must have the output's shape already
            if not any(t is not None and t.shape == out.shape and t.varying == out.varying for t in whole):
                continue
            emit = _only_terms(view.op.type, terms, partial.ranks[0])
        inputs = tuple([partial if index in terms else REPLICATED for index in range(len(have))])
        yield Choice(inputs, (partial,), shares_of_terms(partial, view), emit=emit)


def _only_terms(op_type: str, terms: list[int], first: int) -> Callable[[Local], None]:
    def emit(local: Local) -> None:
        held = [local.inputs[index] for index in terms]
        if local.rank == first:
            local.same()
        elif op_type == "Sum":
            local.same(inputs=held)
        else:
            local.add("Neg" if op_type == "Sub" and terms == [1] else "Identity", held, local.outputs)

    return emit


def _product(view: OpView, have: Have) -> Iterator[Choice]:
    """Mul and Div: also a term of a sum by something whole."""
    yield from broadcast(view, have)
    if view.outputs[0].dtype not in FLOATS:
        return
    for index, layout in enumerate(have):
        if isinstance(layout, Partial) and (index == 0 or view.op.type == "Mul"):
            inputs = tuple([layout if i == index else REPLICATED for i in range(len(have))])
            yield Choice(inputs, (layout,), shares_of_terms(layout, view))


def _cast_like(view: OpView, have: Have) -> Iterable[Choice]:
    """Of the second input only the type matters: any layout will do that gives every rank something of it."""
    held, like = have[0], have[1]
    if not isinstance(held, Split):
        return ()
    keeps = isinstance(like, Split | Partial) and set(held.ranks) <= set(like.ranks)
    choice = follow_first(view, held, (held.axis,))
    wanted: Layout | None = like if keeps else REPLICATED
    return (Choice((held, wanted), choice.outputs, choice.shares),)


def _dropout(view: OpView, have: Have) -> Iterable[Choice]:
    """Only where it does nothing, as always but in training."""
    held = have[0]
    if held is None or type(held) is Replicated:
        return ()
    training = view.value(2)
    if view.has(2) and (training is None or bool(training.any())):
        return ()
    if isinstance(held, Partial):
        return terms_through(view, held) if len(view.outputs) == 1 else ()
    assert isinstance(held, Split)
    return (follow_first(view, held, (held.axis,) * len(view.outputs)),)


def _dropout_links(view: OpView) -> Iterable[AxisLink]:
    return same_axis_links(view, [(axis, axis) for axis in _all_axes(view)])


_follow, _follow_links = mapped(_all_axes)
_linear, _linear_links = mapped(_all_axes, linear=True)
_trilu, _trilu_links = mapped(_all_but_the_last_two)

RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        **dict.fromkeys(_UNARY, _follow),
        **dict.fromkeys(_LINEAR_UNARY, _linear),
        **dict.fromkeys(_BROADCAST, broadcast),
        "Add": _sum,
        "Sub": _sum,
        "Sum": _sum,
        "Mul": _product,
        "Div": _product,
        "CastLike": _cast_like,
        "Dropout": _dropout,
        "Trilu": _trilu,
        "com.microsoft.Trilu": _trilu,
    }
)
LINKS: Final[Mapping[str, LinkRule]] = MappingProxyType(
    {
        **dict.fromkeys((*_UNARY, *_LINEAR_UNARY, "CastLike"), _follow_links),
        **dict.fromkeys((*_BROADCAST, "Add", "Sub", "Sum", "Mul", "Div"), broadcast_links),
        "Dropout": _dropout_links,
        "Trilu": _trilu_links,
        "com.microsoft.Trilu": _trilu_links,
    }
)
