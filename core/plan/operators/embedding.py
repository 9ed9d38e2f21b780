"""Gather from a table: by vocabulary, by features. Gathering and scattering along axes that are not touched."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

import numpy as np

from core.plan.layouts import REPLICATED, Partial, Split, split_by
from core.plan.operators.base import Choice, Have, LinkRule, Local, OpView, Rule
from core.plan.operators.following import FLOATS, normal_axis, shares_of
from core.plan.operators.labels import Axis, Pattern, axes_of, choices, links_of, rule_of

_SUMMED: Final = FLOATS - {"bfloat16"}
"""What onnxruntime can look up with zeros in between."""
_WHERE_OPSET: Final = 9


def _axis(view: OpView) -> int:
    return normal_axis(view.number("axis", 0), len(view.shape(0)))


def _is_table(view: OpView) -> bool:
    """A weight of learnt features, not a mask or a list of sizes."""
    data = view.inputs[0]
    learnt = data is not None and data.dtype in _SUMMED | {"int8", "uint8"}
    return learnt and view.constant[0] and not view.constant[1] and len(view.shape(0)) > 1


def _gather(view: OpView) -> Pattern | None:
    """The output has the indices' axes in the place of the data's axis."""
    axis, rank, count = _axis(view), len(view.shape(0)), len(view.shape(1))
    data = {i: Axis(f"data{i}") for i in range(rank) if i != axis}
    indices = {i: Axis(f"index{i}") for i in range(count)}
    before = {i: label for i, label in data.items() if i < axis}
    middle = {axis + i: label for i, label in indices.items()}
    after = {i + count - 1: label for i, label in data.items() if i > axis}
    features = max(data, default=-1)
    kinds = {f"data{features}": "columns"} if _is_table(view) and view.shape(0)[features] > 1 else {}
    return Pattern((data, indices), (before | middle | after,), linear=(0,), kinds=kinds)


def _gather_rule(view: OpView, have: Have) -> Iterator[Choice]:
    pattern = view.once(_gather, lambda: _gather(view)) if view.known else None
    if pattern is None:
        return
    yield from choices(view, have, pattern)
    data = view.inputs[0]
    axis = _axis(view)
    if data is None or data.dtype not in _SUMMED:
        return
    if _is_table(view):
        parts = split_by(view.segments(view.op.inputs[0], axis), axis, view.group)
        if len(parts.ranks) > 1:
            yield from _by_entries(view, parts, "vocabulary")
    held = have[0]
    if isinstance(held, Split) and held.axis == axis and held.exact:
        yield from _by_entries(view, held, "vocabulary" if view.constant[0] else "")


def _by_entries(view: OpView, held: Split, kind: str) -> Iterator[Choice]:
    """Each rank looks up what lies in its part of the entries, and has zeros for the rest."""
    if any(len(ranges) > 1 for ranges in held.parts) or view.opset < _WHERE_OPSET:
        return
    shares = shares_of(held, view.shape(0)[held.axis])
    yield Choice((held, REPLICATED), (Partial(held.ranks),), shares, kind, _look_up(view, held))


def _look_up(view: OpView, held: Split) -> Callable[[Local], None]:
    data, indices = view.inputs[0], view.inputs[1]
    assert data is not None
    assert indices is not None
    whole, behind = view.shape(0)[held.axis], len(view.shape(0)) - held.axis - 1
    shape = np.array([0] * len(view.shape(1)) + [1] * behind, dtype=np.int64)

    def emit(local: Local) -> None:
        def number(value: int) -> str:
            return local.constant(np.array(value, dtype=indices.dtype))

        table, index = local.inputs
        start, stop = held.parts[local.rank][0]
        negative = local.add("Less", [index, number(0)])
        index = local.add("Where", [negative, local.add("Add", [index, number(whole)]), index])
        below = local.add("Less", [index, number(start)])
        reached = local.add("Less", [index, number(stop)])
        mine = local.add("And", [local.add("Not", [below]), reached])
        place = local.add("Where", [mine, local.add("Sub", [index, number(start)]), number(0)])
        found = local.add("Gather", [table, place], axis=held.axis)
        if behind:  # a 0 keeps the size of an axis, whatever the batch
            mine = local.add("Reshape", [mine, local.constant(shape)])
        local.add("Where", [mine, found, local.constant(np.zeros((), data.dtype))], local.outputs)

    return emit


def _gather_elements(view: OpView) -> Pattern | None:
    axis = _axis(view)
    data, indices = view.shape(0), view.shape(1)
    shared = {i: Axis(f"axis{i}") for i in range(len(data)) if i != axis and data[i] == indices[i]}
    own = shared | {axis: Axis("index")}
    return Pattern((shared, own), (own,))


def _gather_nd(view: OpView) -> Pattern | None:
    batch = view.number("batch_dims", 0)
    data, indices = view.shape(0), view.shape(1)
    taken = batch + indices[-1]
    shared = {i: Axis(f"batch{i}") for i in range(batch)}
    places = {i: Axis(f"index{i}") for i in range(batch, len(indices) - 1)}
    kept = {i: Axis(f"data{i}") for i in range(taken, len(data))}
    behind = {i - taken + len(indices) - 1: label for i, label in kept.items()}
    return Pattern((shared | kept, shared | places), (shared | places | behind,))


def _scatter_elements(view: OpView) -> Pattern | None:
    axis = _axis(view)
    shapes = [view.shape(i) for i in range(3)]
    own = {i: Axis(f"axis{i}") for i in range(len(shapes[0])) if i != axis and len({s[i] for s in shapes}) == 1}
    return Pattern((own, own, own), (own,))


def _scatter_nd(view: OpView) -> Pattern | None:
    data, indices, updates = (view.shape(i) for i in range(3))
    taken = indices[-1]
    own = {i: Axis(f"data{i}") for i in range(taken, len(data))}
    shift = len(updates) - len(data)
    return Pattern(axes_of(view, {0: own, 2: {i + shift: label for i, label in own.items()}}), (own,))


_BUILDS: Final = MappingProxyType(
    {
        "GatherElements": _gather_elements,
        "GatherND": _gather_nd,
        "ScatterElements": _scatter_elements,
        "ScatterND": _scatter_nd,
    }
)
RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {"Gather": _gather_rule} | {key: rule_of(build) for key, build in _BUILDS.items()}
)
LINKS: Final[Mapping[str, LinkRule]] = MappingProxyType(
    {"Gather": links_of(_gather)} | {key: links_of(build) for key, build in _BUILDS.items()}
)
