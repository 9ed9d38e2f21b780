"""How far a plan's output may be from the whole model's without anything being wrong."""

from __future__ import annotations

from typing import Final

from core.model.graph import Model

FULL_PRECISION: Final = 1e-4
HALF_PRECISION: Final = 1e-2
"""The runtime keeps more digits inside a fused operator than between two; a cut moves where digits are dropped."""
QUANTISED: Final = 5e-2
"""A cut may end a fusion of integer operators: some values then fall to the next step of their scale."""

_HALF: Final = frozenset({"float16", "bfloat16"})
_QUANTISED_WORDS: Final = (
    "quantize",
    "qlinear",
    "qattention",
    "integer",
    "nbits",
    "qgemm",
    "qmoe",
    "bnb4",
    "fp4",
    "fp8",
)
"""Parts of operators' names, in small letters."""


def tolerance(model: Model) -> float:
    """The ``rtol`` of ``verify_outputs`` that suits the model's number formats."""
    operators = {node.op_type.lower() for node in model.ir.graph}
    if any(word in operator for operator in operators for word in _QUANTISED_WORDS):
        return QUANTISED
    if any(dtype in _HALF for _, dtype in model.shapes(2).values()):
        return HALF_PRECISION
    return FULL_PRECISION
