"""Operators that a partition adds to a rank's program: to cut, to join and to add up local tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from core.plan.layouts import Ranges, shifted, span
from core.plan.rank_program import RankProgram

MOST_PIECES: Final = 16
"""A tensor of more pieces is put together by one Gather instead of a Slice for each."""


def cut(program: RankProgram, name: str, target: str, axis: int, ranges: Ranges, bundle: int) -> str:
    """Write the ranges of one axis of a local tensor, joined in that order, as ``target``; returns ``target``."""
    if len(ranges) > MOST_PIECES:
        index = np.concatenate([np.arange(*one, dtype=np.int64) for one in ranges])
        return gathered(program, name, target, axis, index, bundle)
    pieces = []
    for start, stop in ranges:
        made = target if len(ranges) == 1 else program.fresh(target)
        bounds = [program.small(np.array([number], np.int64), target) for number in (start, stop, axis)]
        pieces.append(program.add("Slice", [name, *bounds], [made], bundle))
    return target if len(pieces) == 1 else joined(program, pieces, target, axis, bundle)


def cut_from_span(program: RankProgram, name: str, target: str, axis: int, ranges: Ranges, bundle: int) -> str:
    """``cut`` where the local tensor begins with the first index of ``ranges``: it is their span."""
    return cut(program, name, target, axis, shifted(ranges, -span(ranges)[0]), bundle)


def gathered(program: RankProgram, name: str, target: str, axis: int, index: np.ndarray, bundle: int) -> str:
    """Write the entries ``index`` (int64) of one axis of a local tensor as ``target``; returns ``target``."""
    return program.add("Gather", [name, program.small(index, target)], [target], bundle, axis=axis)


def joined(program: RankProgram, parts: Sequence[str], target: str, axis: int, bundle: int) -> str:
    """Write local tensors one after the other along an axis as ``target``; returns ``target``."""
    if len(parts) == 1:
        return program.add("Identity", parts, [target], bundle)
    return program.add("Concat", parts, [target], bundle, axis=axis)


def add_up(program: RankProgram, terms: Sequence[str], target: str, dtype: str, bundle: int) -> str:
    """Write the sum of the terms, added in their order, as ``target``; returns ``target``."""
    if len(terms) == 1:
        return program.add("Identity", terms, [target], bundle)
    if dtype.startswith("float"):
        return program.add("Sum", terms, [target], bundle)
    total = terms[0]
    for term in terms[1:-1]:
        total = program.add("Add", [total, term], [program.fresh(target)], bundle)
    return program.add("Add", [total, terms[-1]], [target], bundle)  # ONNX's Sum knows floats only
