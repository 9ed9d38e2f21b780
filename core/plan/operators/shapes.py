"""Shapes as values: a computation always sees the shape of the whole tensor.

And the other way round: the shape that an operator is told to make, in the size of a rank's part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import numpy as np

from core.plan.layouts import REPLICATED, Layout, Partial, Split
from core.plan.operators.base import Choice, Have, LinkRule, Local, OpView, Rule, emit_same

Entry = int | None
"""Of a target shape: a number, or None where the operator's own target says it."""
Target = Sequence[Entry]


def _everywhere(view: OpView, held: Layout, emit: Callable[[Local], None]) -> Choice:
    return Choice((held,), (REPLICATED,), (1.0,) * len(view.ranks), emit=emit)


def _shape(view: OpView, have: Have) -> Iterable[Choice]:
    held = have[0]
    if isinstance(held, Partial) and len(held.ranks) == len(view.ranks):
        return (_everywhere(view, held, emit_same),)
    if not isinstance(held, Split) or len(held.ranks) < len(view.ranks):
        return ()
    first, stop = _bounds(view)
    if not first <= held.axis < stop:
        return (_everywhere(view, held, emit_same),)
    size = view.shape(0)[held.axis]
    sizes = held.sizes

    def emit(local: Local) -> None:
        missing = np.zeros(stop - first, np.int64)
        missing[held.axis - first] = size - sizes[local.rank]
        part = f"{local.outputs[0]}/part"
        local.same(outputs=(part,))
        local.add("Add", (part, local.constant(missing)), local.outputs)

    return (_everywhere(view, held, emit),)


def _bounds(view: OpView) -> tuple[int, int]:
    """First axis that is told, and the one after the last."""
    rank = len(view.shape(0))
    first, stop, _ = slice(view.number("start", 0), view.number("end", rank)).indices(rank)
    return first, max(first, stop)


def _size(view: OpView, have: Have) -> Iterable[Choice]:
    held = have[0]
    if isinstance(held, Partial) and len(held.ranks) == len(view.ranks):
        return (_everywhere(view, held, emit_same),)
    if not isinstance(held, Split) or len(held.ranks) < len(view.ranks):
        return ()
    size = view.shape(0)[held.axis]
    sizes = held.sizes

    def emit(local: Local) -> None:
        part = f"{local.outputs[0]}/part"
        local.same(outputs=(part,))
        row = local.add("Div", (part, local.constant(np.asarray(sizes[local.rank], np.int64))))
        local.add("Mul", (row, local.constant(np.asarray(size, np.int64))), local.outputs)

    return (_everywhere(view, held, emit),)


def write_target(local: Local, target: Target, own: str) -> str:
    """The name of a target shape (int64) with these entries; where None, those of the operator's own, ``own``."""
    if None not in target:
        return local.constant(np.asarray(target, np.int64))
    asked = np.asarray([entry is None for entry in target], np.int64)
    told = np.asarray([0 if entry is None else entry for entry in target], np.int64)
    return local.add("Add", (local.add("Mul", (own, local.constant(asked))), local.constant(told)))


def reshape_target(shape: Sequence[int], varying: Sequence[bool], own: Sequence[int] | None) -> Target:
    """Of the whole output of a Reshape, from its sizes; ``own`` is its own target where that is constant.

    An axis that varies is -1 where it is the only one; otherwise it is as the operator itself has it.
    """
    if sum(varying) <= 1:
        return [-1 if varies else size for size, varies in zip(shape, varying, strict=True)]
    if own is None:
        return [None if varies else size for size, varies in zip(shape, varying, strict=True)]
    return [entry if varies else size for size, varies, entry in zip(shape, varying, own, strict=True)]


RULES: Final[Mapping[str, Rule]] = MappingProxyType({"Shape": _shape, "Size": _size})
LINKS: Final[Mapping[str, LinkRule]] = MappingProxyType({})
