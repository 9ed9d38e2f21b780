"""The clock that timings use, on this workstation and on nodes."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median, quantiles
from typing import Final

FINE_CLOCK: Final = 1e-5
"""Seconds; Windows tells a thread's own time in steps of 16 ms only."""


def compute_clock(threads: int) -> Callable[[], float]:
    """Seconds of work: a thread's own time where one does all of it and its clock is fine enough, else the wall's.

    A thread's own time stands still while other programs hold the processor, so a busy workstation hardly shows in it.
    """
    fine = time.get_clock_info("thread_time").resolution <= FINE_CLOCK
    return time.thread_time if threads == 1 and fine else time.perf_counter


def timed_runs(run: Callable[[], object], repeats: int, threads: int, seconds: float = 0.0) -> tuple[float, float]:
    """Median seconds of a run by the wall's clock, and what it takes undisturbed: its first quartile in a thread's own
    time, or where that does not tell the least of all, since whatever disturbs a run makes it longer.

    Two runs before are not counted: the runtime lays out its memory in the first and takes it in the second. Where
    ``seconds`` are not 0, no more runs begin after them, but for the second.
    """
    run()
    run()
    clock = compute_clock(threads)
    walls, quiet = [], []
    begun = time.perf_counter()
    for _ in range(repeats):
        wall, own = time.perf_counter(), clock()
        run()
        quiet.append(clock() - own)
        walls.append(time.perf_counter() - wall)
        if len(walls) > 1 and 0 < seconds <= time.perf_counter() - begun:
            break
    if clock is time.perf_counter or len(quiet) == 1:
        return median(walls), min(quiet)
    return median(walls), quantiles(quiet, n=4, method="inclusive")[0]
