"""Dynamic dimensions: which axis counts the items, what the others are called, and what sizes to try them at."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Mapping, Sequence
from operator import add, floordiv, mod, mul, sub
from typing import Final

from msgspec import Struct

from core.model.types import TensorInfo

_OPERATORS: Final[dict[type[ast.operator], Callable[[int, int], int]]] = {
    ast.Add: add,
    ast.Sub: sub,
    ast.Mult: mul,
    ast.FloorDiv: floordiv,
    ast.Div: floordiv,
    ast.Mod: mod,
}
_NOT_ITEMS: Final = re.compile(r"seq|time|step|len|token|height|width", re.IGNORECASE)
"""Names of an axis 0 that does not count items."""


def symbols(dim: str) -> frozenset[str]:
    """The names in a dimension: {"s18", "s46"} of "s18 + s46"; a text that is no expression is one name."""
    tree = _parse(dim)
    if tree is None:
        return frozenset({dim})
    return frozenset(node.id for node in ast.walk(tree) if isinstance(node, ast.Name))


def evaluate(dim: int | str | None, sizes: Mapping[str, int]) -> int | None:
    """The dimension's size, or None where a name in it has none."""
    if dim is None or isinstance(dim, int):
        return dim
    if dim in sizes:
        return sizes[dim]
    tree = _parse(dim)
    return None if tree is None else _value(tree, sizes)


def _parse(dim: str) -> ast.expr | None:
    try:
        tree = ast.parse(dim, mode="eval").body
    except (SyntaxError, ValueError):
        return None
    allowed = (ast.BinOp, ast.Name, ast.Constant, ast.operator, ast.expr_context)
    return tree if all(isinstance(node, allowed) for node in ast.walk(tree)) else None


def _value(node: ast.expr, sizes: Mapping[str, int]) -> int | None:
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, int) else None
    if isinstance(node, ast.Name):
        return sizes.get(node.id)
    if not isinstance(node, ast.BinOp) or type(node.op) not in _OPERATORS:
        return None
    left, right = _value(node.left, sizes), _value(node.right, sizes)
    if left is None or right is None or (right == 0 and not isinstance(node.op, ast.Add | ast.Sub | ast.Mult)):
        return None
    return _OPERATORS[type(node.op)](left, right)


def shared_batch(inputs: Sequence[TensorInfo]) -> bool:
    """Whether axis 0 of every input may be one item axis: all dynamic, or all of one fixed size."""
    if not inputs or any(not info.dims for info in inputs):
        return False
    firsts = [info.dims[0] for info in inputs]
    if all(isinstance(first, int) for first in firsts):
        return len(set(firsts)) == 1
    if any(isinstance(first, int) or first is None for first in firsts):
        return False
    names = [str(first) for first in firsts]
    if any(_NOT_ITEMS.search(name) and not _mentions_batch(name) for name in names):
        return False
    batch = set(names)
    return not any(dim in batch for info in inputs for dim in info.dims[1:])


def _mentions_batch(name: str) -> bool:
    return "batch" in name.lower()


def _default_sizes(inputs: Sequence[TensorInfo], batch: frozenset[str]) -> dict[str, int]:
    """A size to try each dynamic dimension at that is not the batch."""
    sizes: dict[str, int] = {}
    for info in inputs:
        for axis, dim in enumerate(info.dims):
            for name in sorted(symbols(dim)) if isinstance(dim, str) else ():
                if name not in batch and dim not in batch:
                    sizes.setdefault(name, _default_size(name, axis, info))
    sizes |= dict.fromkeys(_total_names(inputs) & sizes.keys(), _PAST + _TOKENS)
    return sizes


def _total_names(inputs: Sequence[TensorInfo]) -> set[str]:
    """Names of what a decoder's mask covers: the tokens it keeps and the new ones."""
    if not any(_keeps_past(info) for info in inputs):
        return set()
    elsewhere = {dim for info in inputs if "mask" not in info.name.lower() for dim in info.dims}
    masks = (info.dims[-1] for info in inputs if "mask" in info.name.lower() and len(info.dims) > 1)
    return {dim for dim in masks if isinstance(dim, str) and dim not in elsewhere and symbols(dim) == {dim}}


def _keeps_past(info: TensorInfo) -> bool:
    return len(info.dims) >= 3 and ("past" in info.name.lower() or "cache" in info.name.lower())


DECLARED_SIZES: Final = "shardboard.default_dims"
"""Key in a model's metadata: a JSON object, the usual size of dynamic dimensions by name."""


def declared_sizes(metadata: Mapping[str, str]) -> dict[str, int]:
    """The usual sizes that the model's author noted; empty where there are none that make sense."""
    try:
        noted = json.loads(metadata.get(DECLARED_SIZES, "{}"))
    except ValueError:
        return {}
    pairs = noted.items() if isinstance(noted, dict) else ()
    return {name: size for name, size in pairs if isinstance(size, int) and size > 0}


_TOKENS: Final = 16
_PAST: Final = 8
_PIXELS: Final = 64


def _default_size(name: str, axis: int, info: TensorInfo) -> int:
    lowered = name.lower()
    if "past" in lowered:
        return _PAST
    if "batch" in lowered:
        return 1
    if _keeps_past(info):
        return _PAST
    floating_image = len(info.dims) == 4 and axis >= 2 and info.dtype.startswith(("float", "uint8"))
    return _PIXELS if floating_image or "height" in lowered or "width" in lowered else _TOKENS


class Axes(Struct, frozen=True):
    """The inputs' dimensions and which of them count the items."""

    inputs: tuple[TensorInfo, ...]
    batched: bool
    fixed_batch: int | None
    batch_names: frozenset[str]
    defaults: dict[str, int]

    def shapes(self, batch: int, sizes: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
        """Concrete shapes of all inputs; a dimension that no name explains is 1."""
        known = {**sizes, **dict.fromkeys(self.batch_names, batch)}
        found = {}
        for info in self.inputs:
            shape = [evaluate(dim, known) for dim in info.dims]
            if self.batched:
                shape[0] = batch
            found[info.name] = tuple(1 if size is None else size for size in shape)
        return found

    def sizes_in(self, shapes: Mapping[str, Sequence[int]]) -> dict[str, int]:
        """The sizes by name that inputs of these shapes have; defaults for names that none of them shows."""
        found = dict(self.defaults)
        for info in self.inputs:
            for dim, size in zip(info.dims, shapes.get(info.name, ()), strict=False):
                if isinstance(dim, str) and dim in found:
                    found[dim] = size
        return found

    def name_at(self, batch: int, one: int, other: int) -> int | str | None:
        """What a dimension is called that is ``one`` at ``batch`` and the defaults and ``other`` at twice these."""
        if one == other:
            return one
        if self.batch_names and (one, other) == (batch, 2 * batch):
            return min(self.batch_names)
        names = [name for name, size in self.defaults.items() if (size, 2 * size) == (one, other)]
        return names[0] if len(names) == 1 else None

    def sizes(self, given: Mapping[str, int] | None) -> dict[str, int]:
        """The defaults with what is given in their place; names the model does not have are left out."""
        return self.defaults if not given else {name: given.get(name, size) for name, size in self.defaults.items()}


def find_axes(inputs: Sequence[TensorInfo], *, batched: bool, declared: Mapping[str, int] | None = None) -> Axes:
    """``batched``: axis 0 of every input counts the items; ``declared``: default sizes known from elsewhere."""
    firsts = [info.dims[0] for info in inputs] if batched else []
    names = frozenset(first for first in firsts if isinstance(first, str))
    fixed = firsts[0] if firsts and isinstance(firsts[0], int) else None
    infos = tuple(TensorInfo(info.name, info.dtype, info.dims, batched) for info in inputs)
    sizes = _default_sizes(inputs, names)
    sizes |= {name: size for name, size in (declared or {}).items() if name in sizes}
    return Axes(infos, batched, fixed, names, sizes)
