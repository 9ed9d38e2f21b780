"""Operators that a partition adds, as older ONNX operator sets write them.

They are made in the form of set 18; a model keeps its own set, which may be as old as 7. What differs is where a
constant goes: in older sets it is an attribute instead of an input.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec
import onnx_ir as ir

from core.plan.program import Constant, Op

_INPUTS: Final[Mapping[str, tuple[int, tuple[str, ...]]]] = MappingProxyType(
    {
        "Slice": (10, ("starts", "ends", "axes")),
        "Pad": (11, ("pads", "value")),
        "Clip": (11, ("min", "max")),
        "Split": (13, ("split",)),
        "Squeeze": (13, ("axes",)),
        "Unsqueeze": (13, ("axes",)),
        "ReduceSum": (13, ("axes",)),
        **{f"Reduce{kind}": (18, ("axes",)) for kind in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min")},
        **{f"Reduce{kind}": (18, ("axes",)) for kind in ("Prod", "SumSquare")},
    }
)
"""Operator -> the set that made inputs of attributes, and which, from the second input on."""
_NUMBERS: Final = frozenset({"value", "min", "max"})
"""Attributes that are one float; the others are lists of integers."""


def in_opset(op: Op, opset: int, constants: Mapping[str, Constant]) -> Op:
    """``op`` as ``opset`` writes it; as it is where that set knows the form, or has none for it."""
    if op.type == "Split" and opset < 18 and "num_outputs" in op.attributes:
        op = msgspec.structs.replace(op, attributes={k: v for k, v in op.attributes.items() if k != "num_outputs"})
    since, names = _INPUTS.get(op.type, (0, ()))
    given = [(name, value) for name, value in zip(names, op.inputs[1:], strict=False) if value]
    more = [constants.get(value) for value in op.inputs[1 + len(names) :]]
    if opset >= since or any(value not in constants for _, value in given) or not all(map(_is_one, more)):
        return op
    held = {name: _attribute(name, constants[value]) for name, value in given}
    attributes = {name: attribute for name, attribute in op.attributes.items() if name != "noop_with_empty_axes"}
    return msgspec.structs.replace(op, inputs=op.inputs[:1], attributes=attributes | held)


def _is_one(steps: Constant | None) -> bool:
    return steps is not None and bool((steps.numpy() == 1).all())


def _attribute(name: str, constant: Constant) -> ir.Attr:
    array = constant.numpy()
    if name in _NUMBERS:
        return ir.AttrFloat32(name, float(array.item()))
    return ir.AttrInt64s(name, [int(number) for number in array.reshape(-1)])
