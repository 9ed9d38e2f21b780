"""Calls timed one by one."""

from __future__ import annotations

import time
from collections.abc import Callable

WARM_UP = 5


def call_times(call: Callable[[], object], seconds: float) -> list[float]:
    """Microseconds of each call made in ``seconds``, at least one, after WARM_UP that do not count."""
    for _ in range(WARM_UP):
        call()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1e6)
    return times
