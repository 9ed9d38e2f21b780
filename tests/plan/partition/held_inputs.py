"""What the tests of following rules share: parts of every sort, inputs, and sizes that vary."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from hypothesis import strategies as st

from core.plan.layouts import Range, Ranges, Split, tidy
from core.plan.operators.base import Choice
from tests.plan.partition.rule_check import Case


@st.composite
def scattered(draw: st.DrawFn, size: int, ranks: int, granule: int = 1) -> tuple[Ranges, ...]:
    """Every index with one rank: any number of ranges each, in any order, perhaps none."""
    units = size // granule
    bounds = sorted({0, units, *draw(st.lists(st.integers(0, units), max_size=4))})
    pieces = draw(st.permutations([(start * granule, stop * granule) for start, stop in pairwise(bounds)]))
    parts: list[list[Range]] = [[] for _ in range(ranks)]
    for piece in pieces:
        parts[draw(st.integers(0, ranks - 1))].append(piece)
    return tuple(tidy(ranges) for ranges in parts)


def cut(axis: int, *bounds: int) -> Split:
    """Rank r has [bounds[r], bounds[r + 1])."""
    return Split(axis, tuple(tidy([one]) for one in pairwise(bounds)))


def split_outputs(choices: Iterable[Choice]) -> list[Split]:
    """First outputs that stay split."""
    return [choice.outputs[0] for choice in choices if isinstance(choice.outputs[0], Split)]


def vary(case: Case, axes: Mapping[str, Sequence[int]]) -> Case:
    """Declare axes of values whose sizes may change between micro-batches."""

    case.vary(axes)
    return case
