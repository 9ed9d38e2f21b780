"""Inputs for a model: sensible random ones, and a check of those a person gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import onnx_ir as ir

from core.errors import SourceError
from core.model import dims
from core.model.types import TensorInfo

_PASSED_ON: Final = frozenset(
    {
        "Cast", "Clip", "Concat", "Expand", "Flatten", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Tile",
        "Transpose", "Unsqueeze", "Where",
    }
)  # fmt: skip
_ANY_INTEGER: Final = 10
"""Bound of integers that index nothing we can see."""


def random_feed(
    model: ir.Model, inputs: Sequence[TensorInfo], shapes: Mapping[str, tuple[int, ...]], seed: int
) -> dict[str, np.ndarray]:
    """One array per input, of the given shapes; the same for the same seed."""
    generator = np.random.default_rng(seed)
    values = {value.name: value for value in model.graph.inputs}
    return {info.name: _random(info, shapes[info.name], values[info.name], generator) for info in inputs}


def _random(info: TensorInfo, shape: tuple[int, ...], value: ir.Value, generator: np.random.Generator) -> np.ndarray:
    dtype = ir.DataType[_ENUM.get(info.dtype, "FLOAT")].numpy()
    name = info.name.lower()
    if "mask" in name:
        return np.ones(shape, dtype)
    if info.dtype == "bool":
        return np.ones(shape, np.bool_)
    if not info.dtype.startswith(("int", "uint")):
        return np.asarray(generator.standard_normal(shape), dtype=np.float32).astype(dtype)
    bound = index_bound(value)
    if "position" in name or name in ("pos", "cache_position"):
        line = np.arange(shape[-1] if shape else 1)
        return np.broadcast_to(np.minimum(line, (bound or line.size) - 1), shape).astype(dtype)
    if bound is None:
        bound = int(np.iinfo(dtype).max) + 1 if np.dtype(dtype).itemsize == 1 else _ANY_INTEGER
    return generator.integers(0, max(1, bound), shape).astype(dtype)


_ENUM: Final = {str(kind.numpy().name): kind.name for kind in ir.DataType if kind.name not in ("UNDEFINED", "STRING")}


def index_bound(value: ir.Value) -> int | None:
    """The length of the smallest table that this value, reshaped or cast, picks rows from; None if it picks none."""
    bounds: list[int] = []
    pending, seen = [value], {value}
    while pending:
        current = pending.pop()
        for node, position in current.uses():
            found = _table_length(node, position)
            if found is not None:
                bounds.append(found)
            elif node.op_type in _PASSED_ON:
                fresh = [output for output in node.outputs if output not in seen]
                seen.update(fresh)
                pending.extend(fresh)
    return min(bounds, default=None)


_EMBED_TABLES: Final = {0: 2, 1: 4}
"""Of onnxruntime's EmbedLayerNormalization: input_ids -> word table, segment_ids -> segment table."""


def _table_length(node: ir.Node, position: int) -> int | None:
    if node.op_type in ("Gather", "GatherElements") and position == 1:
        axis = node.attributes.get("axis")
        return _length(node.inputs[0], axis.as_int() if axis is not None else 0)
    if node.op_type == "EmbedLayerNormalization" and position in _EMBED_TABLES:
        table = _EMBED_TABLES[position]
        return _length(node.inputs[table], 0) if table < len(node.inputs) else None
    if node.op_type == "OneHot" and position == 0 and node.inputs[1] is not None:
        depth = node.inputs[1].const_value
        return int(depth.numpy().reshape(-1)[0]) if depth is not None else None
    return None


def _length(table: ir.Value | None, axis: int) -> int | None:
    if table is None or table.shape is None or axis >= len(table.shape):
        return None
    length = table.shape[axis]
    return length if isinstance(length, int) else None


def check_feed(inputs: Sequence[TensorInfo], feed: Mapping[str, np.ndarray], *, batchable: bool) -> int:
    """The number of items in the feed: axis 0 of batched inputs, else 1.

    Raises SourceError that names the input, what the model wants and what the feed has.
    """
    names = [info.name for info in inputs]
    listed = ", ".join(f"'{name}'" for name in names)
    unknown = [name for name in feed if name not in names]
    missing = [name for name in names if name not in feed]
    if missing:
        given = ", ".join(f"'{name}'" for name in feed) or "nothing"
        raise SourceError(f"The input data lacks '{missing[0]}': the model wants {listed}, the data has {given}.")
    if unknown:
        raise SourceError(f"The model has no input '{unknown[0]}': it wants {listed}.")
    items: int | None = None
    sizes: dict[str, tuple[int, str]] = {}
    for info in inputs:
        array = feed[info.name]
        _check_array(info, array, sizes)
        if info.batched:
            items = _check_items(info, array, items, names[0])
    return items if items is not None and batchable else 1


def _check_array(info: TensorInfo, array: np.ndarray, sizes: dict[str, tuple[int, str]]) -> None:
    wanted = describe(info)
    if array.dtype.name != info.dtype:
        raise SourceError(
            f"Input '{info.name}' must be {info.dtype}; the data is {array.dtype.name}.",
            hint=f"Convert it with .astype('{info.dtype}').",
        )
    given = "x".join(str(size) for size in array.shape) or "a single number"
    if array.ndim != len(info.dims):
        hint = "Add an axis for the items in front." if info.batched and array.ndim == len(info.dims) - 1 else ""
        raise SourceError(
            f"Input '{info.name}' must have {len(info.dims)} dimensions ({wanted}); "
            f"the data has {array.ndim} ({given}).",
            hint=hint,
        )
    for axis, (dim, size) in enumerate(zip(info.dims, array.shape, strict=True)):
        if axis == 0 and info.batched:
            continue
        known = {name: length for name, (length, _) in sizes.items()}
        expected = dims.evaluate(dim, known)
        if expected is not None and expected != size:
            source = sizes[dim][1] if isinstance(dim, str) and dim in sizes else ""
            because = f" as in '{source}'" if source and source != info.name else ""
            raise SourceError(
                f"Input '{info.name}' must be {wanted}; the data is {given}: axis {axis} is {size}, "
                f"should be {expected}{because}."
            )
        if isinstance(dim, str) and expected is None:
            sizes[dim] = (size, info.name)


def _check_items(info: TensorInfo, array: np.ndarray, items: int | None, first: str) -> int:
    count = int(array.shape[0])
    if count == 0:
        raise SourceError(f"Input '{info.name}' holds no items.")
    if items is not None and count != items:
        raise SourceError(
            f"Input '{info.name}' holds {count} items, '{first}' holds {items}.",
            hint="Axis 0 of every input counts the same items.",
        )
    return count


def describe(info: TensorInfo) -> str:
    """The dims for people: "items x 3 x 224 x 224"."""
    shown = ["items" if axis == 0 and info.batched else str(dim or "?") for axis, dim in enumerate(info.dims)]
    return " x ".join(shown) or "a single number"
