"""What the property-based tests of rules draw: shares of ranks, and parts of an axis."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from core.plan.layouts import Ranges, Split

SHARES = st.sampled_from([(0.5, 0.5), (0.7, 0.3), (0.2, 0.5, 0.3), (0.25, 0.25, 0.25, 0.25), (0.4, 0.1, 0.2, 0.2, 0.1)])


def examples(count: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Settings of a test that plays rules: the same examples on every run."""
    return settings(
        max_examples=count,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],  # shrinking a failure would outlast a test's time limit
        suppress_health_check=list(HealthCheck),
    )


def floats(*shape: int) -> npt.NDArray[np.float32]:
    """Always the same for a shape."""
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


@st.composite
def stretches(draw: st.DrawFn, size: int, ranks: int, *, overlap: bool = True) -> tuple[Ranges, ...]:
    """An axis in one stretch for each rank, in order, some perhaps empty; sometimes overlapping by a few."""
    bounds = [0, *sorted(draw(st.integers(0, size)) for _ in range(ranks - 1)), size]
    extra = draw(st.sampled_from([0, 0, 1, 2, 3])) if overlap else 0
    return tuple(
        ((max(0, start - extra), min(size, stop + extra)),) if start < stop else () for start, stop in pairwise(bounds)
    )


def even(size: int, axis: int, ranks: int) -> Split:
    """An axis in one stretch for each rank, all alike or nearly so."""
    return Split(axis, tuple(((size * rank // ranks, size * (rank + 1) // ranks),) for rank in range(ranks)))
