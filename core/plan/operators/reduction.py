"""Reductions along some axes: the others are followed; what adds up leaves a term of a sum on each rank."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Final

import numpy as np

from core.plan.layouts import Partial, Split
from core.plan.operators.base import AxisLink, Choice, Have, LinkRule, Local, OpView, Rule, emit_same
from core.plan.operators.following import (
    FLOATS,
    constant_numbers,
    follow_first,
    mapped,
    normal_axis,
    others_replicated,
    same_axis_links,
    shares_of,
    terms_through,
)

_ADDS_UP = ("ReduceSum", "ReduceMean", "ReduceL1", "ReduceSumSquare")
_LINEAR = ("ReduceSum", "ReduceMean")
_OTHER = ("ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMin", "ReduceProd")


def _reduced(view: OpView) -> frozenset[int] | None:
    """The axes that go; None where they are computed."""
    rank = len(view.shape(0))
    axes = constant_numbers(view, "axes", 1)
    if axes is None and view.has(1):
        return None
    if not axes:
        return frozenset() if view.number("noop_with_empty_axes", 0) else frozenset(range(rank))
    return frozenset([normal_axis(axis, rank) for axis in axes])


def _left(view: OpView, reduced: frozenset[int]) -> list[int | None]:
    """For every axis of the input where it is in the output."""
    rank = len(view.shape(0))
    if view.number("keepdims", 1):
        return [None if axis in reduced else axis for axis in range(rank)]
    places = iter(range(rank))
    return [None if axis in reduced else next(places) for axis in range(rank)]


def _reduce(view: OpView, have: Have) -> Iterable[Choice]:
    held = have[0]
    if isinstance(held, Partial):
        return terms_through(view, held) if view.op.type in _LINEAR else ()
    if not isinstance(held, Split):
        return ()
    reduced = _reduced(view)
    if reduced is None:
        return ()
    if held.axis not in reduced:
        after = _left(view, reduced)[held.axis]
        return (follow_first(view, held, (after,)),) if after is not None else ()
    first = view.inputs[0]
    dtype = first.dtype if first is not None else ""
    sums = view.op.type in _ADDS_UP and (dtype in FLOATS or (dtype == "int32" and view.op.type == "ReduceSum"))
    if not sums or not held.exact:
        return ()
    emit = _mean_of_part(held, view.shape(0)[held.axis], dtype) if view.op.type == "ReduceMean" else emit_same
    shares = shares_of(held, view.shape(0)[held.axis])
    return (Choice(others_replicated(view, held), (Partial(held.ranks),), shares, emit=emit),)


def _mean_of_part(held: Split, size: int, dtype: str) -> Callable[[Local], None]:
    """The mean of a part counts for as much as the part is of the whole."""
    sizes = held.sizes

    def emit(local: Local) -> None:
        mean = f"{local.outputs[0]}/mean"
        local.same(outputs=(mean,))
        factor = local.constant(np.asarray(sizes[local.rank] / size, dtype=dtype))
        local.add("Mul", (mean, factor), local.outputs)

    return emit


def _reduce_links(view: OpView) -> Iterable[AxisLink]:
    reduced = _reduced(view)
    if reduced is None:
        return ()
    pairs = [(before, after) for before, after in enumerate(_left(view, reduced)) if after is not None]
    return same_axis_links(view, pairs)


def _arg(view: OpView) -> list[int | None]:
    return _left(view, frozenset([normal_axis(view.number("axis", 0), len(view.shape(0)))]))


def _top_k(view: OpView) -> list[int | None]:
    rank = len(view.shape(0))
    along = normal_axis(view.number("axis", -1), rank)
    return [axis if axis != along else None for axis in range(rank)]


def _running(view: OpView) -> list[int | None] | None:
    rank = len(view.shape(0))
    value = view.value(1)
    if value is None or value.size != 1:
        return None
    along = normal_axis(int(value.reshape(-1)[0]), rank)
    return [axis if axis != along else None for axis in range(rank)]


_arg_rule, _arg_links = mapped(_arg)
_top_k_rule, _top_k_links = mapped(_top_k)
_sum_rule, _sum_links = mapped(_running, linear=True)
_product_rule, _product_links = mapped(_running)

RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        **dict.fromkeys((*_ADDS_UP, *_OTHER), _reduce),
        **dict.fromkeys(("ArgMax", "ArgMin"), _arg_rule),
        "TopK": _top_k_rule,
        "CumSum": _sum_rule,
        "CumProd": _product_rule,
    }
)
LINKS: Final[Mapping[str, LinkRule]] = MappingProxyType(
    {
        **dict.fromkeys((*_ADDS_UP, *_OTHER), _reduce_links),
        **dict.fromkeys(("ArgMax", "ArgMin"), _arg_links),
        "TopK": _top_k_links,
        "CumSum": _sum_links,
        "CumProd": _product_links,
    }
)
