"""Inputs, layouts and questions that the tests of operator rules share."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from core.plan.layouts import Split, tidy
from core.plan.operators.base import Choice
from tests.plan.partition.rule_check import Array

EXAMPLES = settings(max_examples=40, deadline=None, derandomize=True, database=None)
SHARES = st.sampled_from([(0.5, 0.5), (0.7, 0.3), (0.5, 0.3, 0.2), (0.4, 0.1, 0.2, 0.2, 0.1)])


def floats(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def bytes_of(dtype: str, *shape: int, seed: int = 0) -> Array:
    low, high = (0, 256) if dtype == "uint8" else (-128, 128)
    return np.random.default_rng([seed, *shape]).integers(low, high, shape).astype(dtype)


def kinds(found: list[Choice]) -> list[str]:
    return sorted(choice.kind for choice in found)


def wanted(found: list[Choice], kind: str) -> Choice:
    return next(choice for choice in found if choice.kind == kind)


@st.composite
def some_parts(draw: st.DrawFn, size: int, ranks: int, axis: int, unit: int = 1) -> Split:
    """Any division of an axis in multiples of ``unit``: several ranges, in any order, and empty parts."""
    chance = random.Random(draw(st.binary(min_size=4, max_size=4)))
    steps = size // unit
    inner = chance.sample(range(1, steps), chance.randint(0, min(steps - 1, 2 * ranks))) if steps > 1 else []
    parts: list[list[tuple[int, int]]] = [[] for _ in range(ranks)]
    for start, stop in pairwise(sorted({0, steps, *inner})):
        parts[chance.randrange(ranks)].append((start * unit, stop * unit))
    if chance.random() < 0.2:
        for ranges in parts:
            chance.shuffle(ranges)
    return Split(axis, tuple(tidy(ranges) for ranges in parts))
