"""Products of matrices: MatMul, Gemm, Einsum and their quantised forms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from core.plan.layouts import length
from core.plan.operators.base import Local, OpView
from core.plan.operators.labels import (
    NO_AXES,
    Axes,
    Axis,
    Division,
    Pattern,
    Write,
    added_once,
    axes_of,
    broadcast_axes,
    in_units,
    single,
    tables,
    without,
)

SUMMED: Final = frozenset({"k"})
_OPTIONAL_C_OPSET: Final = 11
"""Before it Gemm must be given something to add."""


def _product(
    a: Sequence[int], b: Sequence[int], turn_a: bool = False, turn_b: bool = False
) -> tuple[dict[int, Axis], dict[int, Axis], dict[int, Axis]]:
    """Labels of both matrices and of their product: rows m, columns n, summed k, and batch axes counted from the right.

    ``turn``: the last two axes are exchanged first.
    """
    batch_a, batch_b = a[:-2], b[:-2]
    rank = max(len(batch_a), len(batch_b))
    axes_a: dict[int, Axis] = {}
    axes_b: dict[int, Axis] = {}
    axes_out: dict[int, Axis] = {}
    for place in range(rank):
        from_right = rank - place
        sizes = [batch[-from_right] if from_right <= len(batch) else 1 for batch in (batch_a, batch_b)]
        axis = Axis(f"batch{from_right}")
        axes_out[place] = axis
        for batch, axes, size in zip((batch_a, batch_b), (axes_a, axes_b), sizes, strict=True):
            if from_right <= len(batch) and size == max(sizes):
                axes[len(batch) - from_right] = axis
    last = rank
    if len(a) > 1:
        axes_a[len(a) - 1 if turn_a else len(a) - 2] = Axis("m")
        axes_out[last] = Axis("m")
        last += 1
    axes_a[len(a) - 2 if turn_a and len(a) > 1 else len(a) - 1] = Axis("k")
    if len(b) > 1:
        axes_b[len(b) - 2 if turn_b else len(b) - 1] = Axis("n")
        axes_out[last] = Axis("n")
    axes_b[len(b) - 1 if turn_b or len(b) == 1 else len(b) - 2] = Axis("k")
    return axes_a, axes_b, axes_out


def _kinds(view: OpView, a: int, b: int, axes_a: Axes, axes_b: Axes, summed: bool = True) -> Mapping[str, str]:
    """How the weight, if exactly one of the matrices is one, can be divided. An outer product has no weight."""
    inner = next(index for index, axis in axes_a.items() if axis.label == "k")
    if view.constant[a] == view.constant[b] or view.shape(a)[inner] == 1:
        return {}
    weight, other = (axes_a, axes_b) if view.constant[a] else (axes_b, axes_a)
    others = {axis.label for axis in other.values()}
    kinds = {axis.label: "columns" for axis in weight.values() if axis.label not in others}
    if summed:
        kinds["k"] = "rows"
    return kinds | {axis.label: "groups" for axis in weight.values() if axis.label in others and axis.label != "k"}


def _per_column(view: OpView, index: int, columns: int) -> Axes:
    """Of a scale, a zero point or a bias: its last axis, if it has one entry for each column."""
    if not view.has(index) or not view.shape(index) or view.shape(index)[-1] != columns:
        return NO_AXES
    return {len(view.shape(index)) - 1: Axis("n")}


def _matmul(view: OpView) -> Pattern | None:
    if not view.shape(0) or not view.shape(1):
        return None
    turns = [view.number(name, 0) for name in ("transA", "transB", "transBatchA", "transBatchB")]
    if turns[2] or turns[3]:
        return None
    a, b, out = _product(view.shape(0), view.shape(1), bool(turns[0]), bool(turns[1]))
    return Pattern((a, b), (out,), SUMMED, (0, 1), _kinds(view, 0, 1, a, b))


def _gemm(view: OpView) -> Pattern | None:
    if len(view.shape(0)) != 2 or len(view.shape(1)) != 2:
        return None
    a, b, out = _product(view.shape(0), view.shape(1), bool(view.number("transA", 0)), bool(view.number("transB", 0)))
    inputs = axes_of(view, {0: a, 1: b, 2: broadcast_axes(view, 2, out, view.out_shape())})
    if view.op.type == "FusedGemm":  # its activation is not that of terms
        return Pattern(inputs, (out,), kinds=_kinds(view, 0, 1, a, b, summed=False))
    required = view.outputs[0].dtype if view.opset < _OPTIONAL_C_OPSET else ""
    return Pattern(inputs, (out,), SUMMED, (0, 1), _kinds(view, 0, 1, a, b), added_once(2, required))


def _einsum(view: OpView) -> Pattern | None:
    equation = view.text("equation", "").replace(" ", "")
    if not equation or "." in equation:
        return None
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    if not arrow:
        right = "".join(sorted(letter for letter in {*left} - {","} if left.count(letter) == 1))
    if len(terms) != len(view.op.inputs) or any(len(t) != len(view.shape(i)) for i, t in enumerate(terms)):
        return None
    sizes: dict[str, int] = {}
    for index, term in enumerate(terms):
        for letter, size in zip(term, view.shape(index), strict=True):
            sizes[letter] = max(size, sizes.get(letter, 0))
    diagonal = {letter for term in (*terms, right) for letter in term if term.count(letter) > 1}
    inputs: list[dict[int, Axis]] = []
    for index, term in enumerate(terms):
        sized = list(zip(term, view.shape(index), strict=True))
        inputs.append({i: Axis(x) for i, (x, size) in enumerate(sized) if x not in diagonal and size == sizes[x]})
    out = {i: Axis(letter) for i, letter in enumerate(right) if letter not in diagonal}
    summed = frozenset(sizes) - {*right} - diagonal
    return Pattern(tuple(inputs), (out,), summed, tuple(range(len(terms))), _einsum_kinds(view, terms, summed, sizes))


def _einsum_kinds(view: OpView, terms: list[str], summed: frozenset[str], sizes: Mapping[str, int]) -> dict[str, str]:
    weights = [term for index, term in enumerate(terms) if view.constant[index]]
    if len(weights) != 1 or len(terms) == 1:
        return {}
    others = {letter for index, term in enumerate(terms) if not view.constant[index] for letter in term}
    kinds = {x: "rows" if x in summed else "groups" if x in others else "columns" for x in weights[0] if sizes[x] > 1}
    return {x: kind for wanted in ("columns", "rows", "groups") for x, kind in kinds.items() if kind == wanted}


def _matmul_integer(view: OpView) -> Pattern | None:
    """A, B, zero points of A (one, or one for each row) and of B (one, or one for each column)."""
    if not view.shape(0) or not view.shape(1):
        return None
    a, b, out = _product(view.shape(0), view.shape(1))
    zeros_a, columns = NO_AXES, view.shape(1)[-1]
    if not single(view, 2):
        if len(view.shape(0)) < 2 or view.shape(2) != (view.shape(0)[-2],):
            return None
        zeros_a = {0: Axis("m")}
    if not single(view, 3) and view.shape(3) != (columns,):
        return None
    inputs = axes_of(view, {0: a, 1: b, 2: zeros_a, 3: _per_column(view, 3, columns) if len(view.shape(1)) > 1 else {}})
    return Pattern(inputs, (out,), SUMMED, (), _kinds(view, 0, 1, a, b))


def _qlinear_matmul(view: OpView) -> Pattern | None:
    """A and B with their scales and zero points, and those of the product, to which every element is rounded."""
    if not view.shape(0) or not view.shape(3) or not single(view, 1, 2, 6, 7):
        return None
    a, b, out = _product(view.shape(0), view.shape(3))
    columns = view.shape(3)[-1]
    if any(not single(view, i) and view.shape(i) != (columns,) for i in (4, 5)):
        return None
    each = {i: _per_column(view, i, columns) if len(view.shape(3)) > 1 else NO_AXES for i in (4, 5)}
    return Pattern(axes_of(view, {0: a, 3: b, **each}), (out,), kinds=_kinds(view, 0, 3, a, b, summed=False))


def _qgemm(view: OpView) -> Pattern | None:
    """A, B, each with scales and zero points, C (int32), and, if the product is rounded, its scale and zero point."""
    if len(view.shape(0)) != 2 or len(view.shape(3)) != 2 or not single(view, 1, 2, 7, 8):
        return None
    a, b, out = _product(view.shape(0), view.shape(3), bool(view.number("transA", 0)), bool(view.number("transB", 0)))
    columns = view.out_shape()[1]
    if any(not single(view, i) and view.shape(i) != (columns,) for i in (4, 5)):
        return None
    each = {i: _per_column(view, i, columns) for i in (4, 5)}
    inputs = axes_of(view, {0: a, 3: b, 6: broadcast_axes(view, 6, out, view.out_shape()), **each})
    return Pattern(inputs, (out,), kinds=_kinds(view, 0, 3, a, b, summed=False))


def _dynamic_quantize_matmul(view: OpView) -> Pattern | None:
    """The scale of A comes from all of it, so A stays whole."""
    if len(view.shape(1)) < 2 or not view.constant[1]:
        return None
    _, b, out = _product(view.shape(0), view.shape(1))
    columns = view.shape(1)[-1]
    if any(not single(view, i) and view.shape(i) != (columns,) for i in (2, 3, 4)):
        return None
    each = {i: _per_column(view, i, columns) for i in (2, 3, 4)}
    only = {i: axis for i, axis in b.items() if axis.label == "n"}
    result = {i: axis for i, axis in out.items() if axis.label == "n"}
    return Pattern(axes_of(view, {1: only, **each}), (result,), kinds={"n": "columns"})


def _matmul_integer_to_float(view: OpView) -> Pattern | None:
    """A, B, scale of A, scales of B, zero points of A and B, bias."""
    if len(view.shape(0)) < 2 or len(view.shape(1)) < 2 or not single(view, 2, 4):
        return None
    a, b, out = _product(view.shape(0), view.shape(1))
    columns = view.shape(1)[-1]
    if any(not single(view, i) and view.shape(i) != (columns,) for i in (3, 5, 6)):
        return None
    each = {i: _per_column(view, i, columns) for i in (3, 5, 6)}
    return Pattern(axes_of(view, {0: a, 1: b, **each}), (out,), SUMMED, (), _kinds(view, 0, 1, a, b), added_once(6))


def _matmul_bits(view: OpView) -> Pattern | None:
    """A [.., K], B [N, blocks, bytes], scales and zero points for each block, group indices, bias [N]."""
    columns, block, bits = view.number("N", 0), view.number("block_size", 0), view.number("bits", 4)
    if not view.constant[1] or len(view.shape(1)) != 3 or view.shape(1)[0] != columns:
        return None
    if view.has(4) or view.number("weight_prepacked", 0) or not block:
        return None
    blocks = view.shape(1)[1]
    rank = len(view.shape(0))
    a = {i: Axis(f"row{i}") for i in range(rank - 1)}
    out = a | {rank - 1: Axis("n")}
    step = _blocks_together(view, blocks, bits) if view.number("K", 0) == block * blocks else 0
    each: dict[int, Axes] = {1: {0: Axis("n")}, 5: _per_column(view, 5, columns)}
    for index in (2, 3):
        if view.has(index):
            size = view.shape(index)[0]
            each[index] = {0: in_units("n", size // columns)}
    kinds = {"n": "columns"}
    if step:
        a[rank - 1] = in_units("k", step * block)
        each[1] = {0: Axis("n"), 1: in_units("k", step)}
        for index in (2, 3):
            if view.has(index):
                whole = view.shape(index)[1]
                each[index] = {0: Axis("n"), 1: in_units("k", whole * step // blocks)}
        kinds["k"] = "rows"
    return Pattern(axes_of(view, {0: a, **each}), (out,), SUMMED, kinds=kinds, write=_bits_written(step * block))


def _blocks_together(view: OpView, blocks: int, bits: int) -> int:
    """How many blocks must stay together so that scales and zero points can be cut between them; 0: they cannot."""
    if len(view.shape(2)) != 2:
        return 0
    if not view.has(3):
        return 1
    shape = view.shape(3)
    if len(shape) != 2:
        return 0
    together = 1 if shape[1] == blocks else 8 // bits
    return together if blocks % together == 0 and shape[1] * together == blocks else 0


def _bits_written(block: int) -> Write:
    """``block``: length of a step along the summed axis."""

    def write(division: Division) -> Callable[[Local], None]:
        def emit(local: Local) -> None:
            once = not division.terms or local.rank == division.ranks[0]
            inputs = local.inputs if once else without(local.inputs, 5)
            if division.label == "n":
                local.same(inputs, N=length(division.parts[local.rank]))
            elif division.label == "k":
                local.same(inputs, K=block * length(division.parts[local.rank]))
            else:
                local.same(inputs)

        return emit

    return write


RULES, LINKS = tables(
    {
        "MatMul": _matmul,
        "com.microsoft.FusedMatMul": _matmul,
        "Gemm": _gemm,
        "com.microsoft.FusedGemm": _gemm,
        "Einsum": _einsum,
        "MatMulInteger": _matmul_integer,
        "QLinearMatMul": _qlinear_matmul,
        "com.microsoft.QGemm": _qgemm,
        "com.microsoft.DynamicQuantizeMatMul": _dynamic_quantize_matmul,
        "com.microsoft.MatMulIntegerToFloat": _matmul_integer_to_float,
        "com.microsoft.MatMulNBits": _matmul_bits,
    }
)
