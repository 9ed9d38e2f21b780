"""Weights that an operator makes of constants (dequantised, cast, turned): each rank makes its own part, of its own
part of the constants, so that none of them ever holds the whole weight."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from core.plan.layouts import REPLICATED, Group, Partial, Split
from core.plan.operators import RULES
from core.plan.operators.base import Choice, Local, OpView
from core.plan.program import Op, Program

_FILLED: Final = "ConstantOfShape"


def dividing_choice(program: Program, op: Op, want: Split, group: Group, opset: int) -> Choice | None:
    """The choice that gives ``op``'s only output as ``want``, each rank's part of parts; None where there is none.

    ``op`` hangs on constants only. Its rule is asked what follows if an input is split like that along some axis.
    """
    view = OpView(op, program.types, program.constants, program.fixed, group, {}, {}, opset)
    if len(op.outputs) != 1 or op.captures or not view.known:
        return None
    if op.key == _FILLED:
        shares = tuple(float(bool(ranges)) for ranges in want.parts)
        return Choice((REPLICATED,), (want,), shares, emit=_filled(view.out_shape(), want))
    rule = RULES.get(op.key)
    if rule is None:
        return None
    size = view.out_shape()[want.axis]
    for index, name in enumerate(op.inputs):
        for axis, held in enumerate(view.shape(index) if name else ()):
            if held != size:
                continue
            have = [REPLICATED if one else None for one in op.inputs]
            offered = rule(view, [*have[:index], Split(axis, want.parts), *have[index + 1 :]])
            for choice in offered:
                if choice.outputs == (want,) and not any(isinstance(one, Partial) for one in choice.inputs):
                    return choice
    return None


def _filled(shape: tuple[int, ...], want: Split) -> Callable[[Local], None]:
    """A constant of one number has the same form in every size."""

    def emit(local: Local) -> None:
        own = (*shape[: want.axis], want.sizes[local.rank], *shape[want.axis + 1 :])
        local.same((local.constant(np.asarray(own, np.int64)),))

    return emit
