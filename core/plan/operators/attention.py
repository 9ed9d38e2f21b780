"""Attention written as one operator: heads shared out.

A step of the label "heads" is a key head with all the query heads that read it. Where there is but one key head, which
all query heads read, it stays whole and a step is a query head.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from core.plan.layouts import length
from core.plan.operators.base import Local, OpView
from core.plan.operators.labels import (
    NO_AXES,
    Axes,
    Axis,
    Division,
    Pattern,
    Write,
    axes_of,
    in_units,
    outputs_of,
    tables,
)

ITEM: Final = Axis("item")
HEADS: Final = Axis("heads")
POSITION: Final = Axis("position")
"""Of the queries."""


class _Heads(NamedTuple):
    """How many heads of each sort a step has; ``keys`` is 0 where the only key head stays whole."""

    queries: int
    keys: int

    def of_keys(self, axis: int, unit: int = 1) -> dict[int, Axis]:
        return {axis: in_units("heads", unit)} if self.keys else {}

    def of_queries(self, axis: int, unit: int = 1) -> dict[int, Axis]:
        return {axis: in_units("heads", unit * self.queries)}


def _heads(queries: int, keys: int) -> _Heads | None:
    if queries < 1 or keys < 1 or queries % keys:
        return None
    return _Heads(1, 0) if keys == 1 and queries > 1 else _Heads(queries // keys, 1)


def _with_heads(step: _Heads, queries: str, keys: str = "") -> Write:
    """Writes the operator with as many heads as the rank has; the names are those of the attributes."""

    def write(division: Division) -> Callable[[Local], None]:
        def emit(local: Local) -> None:
            changed: dict[str, Any] = {}
            if division.label == "heads":
                own = length(division.parts[local.rank])
                changed = {queries: own * step.queries} if queries else {}
                if keys:
                    changed[keys] = own if step.keys else 1
            local.same(**changed)

        return emit

    return write


def _bias(view: OpView, index: int, scores: Mapping[int, Axis], sizes: tuple[int, int, int]) -> Axes | None:
    """A mask or bias that is broadcast to the scores: items, query heads, positions, keys. None: of another form."""
    if not view.has(index):
        return NO_AXES
    shape = view.shape(index)
    if len(shape) > 4:
        return None
    found: dict[int, Axis] = {}
    for axis, size in enumerate(shape[:-1]):
        at = axis + 4 - len(shape)
        if size not in (1, sizes[at]):
            return None
        if at in scores and size == sizes[at]:
            found[axis] = scores[at]
    return found


def _attention(view: OpView) -> Pattern | None:
    """Q, K, V as [item, position, head x feature] or [item, head, position, feature]; mask, past keys and values."""
    shapes = [view.shape(index) for index in range(3)]
    rank = len(shapes[0])
    if rank not in (3, 4) or any(len(shape) != rank for shape in shapes):
        return None
    flat = rank == 3
    counts = (view.number("q_num_heads", 0), view.number("kv_num_heads", 0)) if flat else (shapes[0][1], shapes[1][1])
    step = _heads(*counts)
    if step is None or (not step.keys and _stated(view)):
        return None
    at = 2 if flat else 1
    units = [shapes[0][2] // counts[0], shapes[1][2] // counts[1], shapes[2][2] // counts[1]] if flat else [1, 1, 1]
    positions = {1 if flat else 2: POSITION} if not (view.number("is_causal", 0) or _stated(view)) else {}
    scores = {0: ITEM} | step.of_queries(1) | ({2: POSITION} if positions else {})
    mask = _bias(view, 3, scores, (shapes[0][0], counts[0], shapes[0][1 if flat else 2]))
    if mask is None:
        return None
    state = {0: ITEM} | step.of_keys(1)
    inputs = {
        0: {0: ITEM} | step.of_queries(at, units[0]) | positions,
        1: {0: ITEM} | step.of_keys(at, units[1]),
        2: {0: ITEM} | step.of_keys(at, units[2]),
        3: mask,
        4: state,
        5: state,
        6: {0: ITEM},
    }
    outputs = {0: {0: ITEM} | step.of_queries(at, units[2]) | positions, 1: state, 2: state, 3: scores}
    named = flat or "q_num_heads" in view.op.attributes
    write = _with_heads(step, "q_num_heads" if named else "", "kv_num_heads" if named else "")
    return Pattern(axes_of(view, inputs), outputs_of(view, outputs), write=write)


def _stated(view: OpView) -> bool:
    """Whether the keys and values go out as well."""
    return any(view.op.outputs[1:3])


def _multi_head(view: OpView) -> Pattern | None:
    """onnxruntime's MultiHeadAttention: query, key, value, bias [q + k + v], key mask, score bias, past."""
    heads = view.number("num_heads", 0)
    shapes = [view.shape(index) if view.has(index) else () for index in range(3)]
    if heads < 1 or view.has(8) or view.has(9) or len(shapes[0]) != 3 or not all(len(s) in (3, 4) for s in shapes):
        return None  # onnxruntime's CPU provider runs no packed inputs
    step = _Heads(1, 1)
    sizes = (shapes[0][0], heads, shapes[0][1])
    free = not view.number("unidirectional", 0) and not _stated(view)
    positions = {1: POSITION} if free else {}
    scores = {0: ITEM, 1: HEADS} | ({2: POSITION} if free else {})
    added, padding = _bias(view, 5, scores, sizes), _key_mask(view, 4, sizes)
    if added is None or padding is None:
        return None
    each = [_features(shape, heads) for shape in shapes]
    units = [shape[2] // heads if len(shape) == 3 else shape[3] for shape in shapes]
    state: Axes = {0: ITEM, 1: HEADS}
    inputs = {
        0: each[0] | positions,
        1: each[1],
        2: each[2],
        3: _side_by_side(0, heads, units),
        4: {i: axis for i, axis in padding.items() if axis in scores.values()},
        5: added,
        6: state,
        7: state,
    }
    outputs = {0: {0: ITEM} | step.of_queries(2, units[2]) | positions, 1: state, 2: state, 3: scores}
    without_items = view.has(4) and 0 not in padding
    pattern = Pattern(axes_of(view, inputs), outputs_of(view, outputs), write=_with_heads(step, "num_heads"))
    return _never(pattern, "item") if without_items else pattern


def _features(shape: tuple[int, ...], heads: int) -> dict[int, Axis]:
    """[item, position, head x feature] or [item, head, position, feature]."""
    return {0: ITEM, 2: in_units("heads", shape[2] // heads)} if len(shape) == 3 else {0: ITEM, 1: HEADS}


def _side_by_side(axis: int, heads: int, units: list[int]) -> dict[int, Axis]:
    """An axis of queries, keys and values, each of them heads of so many features."""
    first, second, _ = (heads * unit for unit in units)
    return {axis: Axis("heads", ((0, units[0]), (first, units[1]), (first + second, units[2])))}


def _key_mask(view: OpView, index: int, sizes: tuple[int, int, int]) -> Axes | None:
    """[item], [item, key] or [item, position, key]; other forms cannot be cut by items."""
    if not view.has(index):
        return NO_AXES
    shape = view.shape(index)
    if not shape or shape[0] != sizes[0] or len(shape) > 3:
        return NO_AXES
    if len(shape) < 3:
        return {0: ITEM}
    return {0: ITEM, 1: POSITION} if shape[1] == sizes[2] else None


def _never(pattern: Pattern, label: str) -> Pattern:
    """The same, but never divided along a label."""

    def left(several: tuple[Axes, ...]) -> tuple[Axes, ...]:
        return tuple({i: axis for i, axis in axes.items() if axis.label != label} for axes in several)

    return Pattern(left(pattern.inputs), left(pattern.outputs), kinds=pattern.kinds, write=pattern.write)


def _fused(view: OpView) -> Pattern | None:
    """onnxruntime's Attention: input, weights [features, q + k + v], bias, mask, past, score bias."""
    heads = view.number("num_heads", 0)
    if heads < 1 or view.has(6) or view.number("do_rotary", 0) or view.number("past_present_share_buffer", 0):
        return None
    weights, shape = view.shape(1), view.shape(0)
    given = view.numbers("qkv_hidden_sizes")
    widths = list(given) if given and any(given) else [weights[1] // 3] * 3
    if len(shape) != 3 or len(widths) != 3 or sum(widths) != weights[1] or any(width % heads for width in widths):
        return None
    units = [width // heads for width in widths]
    sizes = (shape[0], heads, shape[1])
    added, mask = _bias(view, 5, {0: ITEM, 1: HEADS}, sizes), _key_mask(view, 3, sizes)
    if added is None or mask is None:
        return None
    state: Axes = {1: ITEM, 2: HEADS}
    inputs = {
        0: {0: ITEM},
        1: _side_by_side(1, heads, units),
        2: _side_by_side(0, heads, units),
        3: {i: axis for i, axis in mask.items() if axis == ITEM},
        4: state,
        5: added,
    }
    outputs = {0: {0: ITEM, 2: in_units("heads", units[2])}, 1: state}
    pattern = Pattern(
        axes_of(view, inputs),
        outputs_of(view, outputs),
        kinds={"heads": "heads"} if view.constant[1] else {},
        write=_with_widths(units),
    )
    return _never(pattern, "item") if view.has(3) and not mask else pattern


def _with_widths(units: list[int]) -> Write:
    def write(division: Division) -> Callable[[Local], None]:
        def emit(local: Local) -> None:
            changed: dict[str, Any] = {}
            if division.label == "heads":
                own = length(division.parts[local.rank])
                changed = {"num_heads": own, "qkv_hidden_sizes": [own * unit for unit in units]}
            local.same(**changed)

        return emit

    return write


def _grouped(view: OpView) -> Pattern | None:
    """onnxruntime's GroupQueryAttention, with queries, keys and values apart or side by side in the first input."""
    queries, keys = view.number("num_heads", 0), view.number("kv_num_heads", 0)
    quantised = any(view.text(name, "NONE") != "NONE" for name in ("k_quant_type", "v_quant_type"))
    if queries < 1 or keys < 1 or queries % keys or quantised or len(view.shape(0)) != 3:
        return None
    step = _Heads(queries // keys, 1)
    batch, positions, width = view.shape(0)
    packed = not view.has(1)
    feature = width // (queries + 2 * keys) if packed else width // queries
    added = _bias(view, 10, {0: ITEM} | step.of_queries(1), (batch, queries, positions))
    if added is None:
        return None
    split = ((0, step.queries * feature), (queries * feature, feature), ((queries + keys) * feature, feature))
    state = {0: ITEM} | step.of_keys(1)
    row = {0: ITEM} | step.of_keys(2, feature)
    inputs = {
        0: {0: ITEM, 2: Axis("heads", split)} if packed else {0: ITEM} | step.of_queries(2, feature),
        1: row,
        2: row,
        3: state,
        4: state,
        5: {0: ITEM},
        9: {0: ITEM} if view.has(9) and view.shape(9)[0] == batch else NO_AXES,
        10: added,
        11: step.of_queries(0),
    }
    outputs = {0: {0: ITEM} | step.of_queries(2, feature), 1: state, 2: state, 3: {0: ITEM} | step.of_queries(1)}
    return Pattern(
        axes_of(view, inputs), outputs_of(view, outputs), write=_with_heads(step, "num_heads", "kv_num_heads")
    )


def _rotary(view: OpView) -> Pattern | None:
    """ONNX: X, cosines and sines [place, feature / 2] with places, or [item, position, feature / 2] without."""
    shape = view.shape(0)
    table = {0: ITEM, 1: POSITION} if len(view.shape(1)) == 3 else {}
    return _turned(view, {1: table, 2: table, 3: {0: ITEM, 1: POSITION}}, view.number("num_heads", 0), len(shape))


def _rotary_contrib(view: OpView) -> Pattern | None:
    """onnxruntime's own: X, places [item, position] or one first place, cosines, sines."""
    if view.number("is_packed_batching", 0):
        return None
    shape = view.shape(0)
    heads = view.number("num_heads", 0) or (shape[2] // (2 * view.shape(2)[1]) if len(shape) == 3 else 0)
    places = {0: ITEM, 1: POSITION} if len(view.shape(1)) == 2 else {}
    pattern = _turned(view, {1: places}, heads, len(shape))
    return pattern if places or pattern is None else _never(pattern, "position")


def _turned(view: OpView, others: Mapping[int, Mapping[int, Axis]], heads: int, rank: int) -> Pattern | None:
    shape = view.shape(0)
    if rank == 4:
        own = {0: ITEM, 1: HEADS, 2: POSITION}
    elif rank == 3 and heads > 0 and shape[2] % heads == 0:
        own = {0: ITEM, 1: POSITION, 2: in_units("heads", shape[2] // heads)}
    else:
        return None
    sizes = {"item": shape[0], "position": shape[2 if rank == 4 else 1]}
    agreeing = {
        index: {i: axis for i, axis in axes.items() if view.shape(index)[i] == sizes[axis.label]}
        for index, axes in others.items()
        if view.has(index)
    }
    stated = view.number("num_heads", 0) > 0
    write = _with_heads(_Heads(1, 1), "num_heads" if stated else "")
    return Pattern(axes_of(view, {0: own, **agreeing}), (own,), write=write)


RULES, LINKS = tables(
    {
        "Attention": _attention,
        "RotaryEmbedding": _rotary,
        "com.microsoft.Attention": _fused,
        "com.microsoft.MultiHeadAttention": _multi_head,
        "com.microsoft.GroupQueryAttention": _grouped,
        "com.microsoft.RotaryEmbedding": _rotary_contrib,
    }
)
