"""Whether axis 0 really keeps the items apart, as far as shapes can tell."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from core.model.shapes import Dims, Known

_RECURRENT = frozenset({"RNN", "LSTM", "GRU"})
_UNKNOWN: tuple[Dims, str] = (None, "")


def keeps_items_apart(model: ir.Model, inferred: Callable[[int], Known], fixed: int | None) -> bool:
    """Every output has one row per item, and no recurrence runs along the items.

    ``inferred`` gives the shapes at a number of items; ``fixed`` is the only number the model takes, if there is one.
    """
    counts = (fixed,) if fixed else (2, 3)
    found = [inferred(count) for count in counts]
    for known, count in zip(found, counts, strict=True):
        for value in model.graph.outputs:
            dims = known.get(value.name or "", _UNKNOWN)[0]
            if dims is not None and (not dims or (isinstance(dims[0], int) and dims[0] != count)):
                return False
    return fixed is not None or not _recurs_over_items(model, *found)


def _recurs_over_items(model: ir.Model, one: Known, other: Known) -> bool:
    for node in model.graph:
        if node.op_type not in _RECURRENT or node.domain or not node.inputs or node.inputs[0] is None:
            continue
        layout = node.attributes.get("layout")
        time_axis = 1 if layout is not None and layout.as_int() == 1 else 0
        name = node.inputs[0].name or ""
        first, second = one.get(name, _UNKNOWN)[0], other.get(name, _UNKNOWN)[0]
        if first and second and len(first) == len(second) and first[time_axis] != second[time_axis]:
            return True
    return False
