"""The clock that timings use, on this workstation and on nodes."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median, quantiles
from typing import Final, NamedTuple

FINE_CLOCK: Final = 1e-5
"""Seconds; Windows tells a thread's own time in steps of 16 ms only."""


def compute_clock(threads: int) -> Callable[[], float]:
    """Seconds of work: a thread's own time where one does all of it and its clock is fine enough, else the wall's.

    A thread's own time stands still while other programs hold the processor, so a busy workstation hardly shows in it.
    """
    fine = time.get_clock_info("thread_time").resolution <= FINE_CLOCK
    return time.thread_time if threads == 1 and fine else time.perf_counter


class Timed(NamedTuple):
    seconds: float
    """Median of a run, by the wall's clock."""
    quiet: float
    """What a run takes undisturbed: its first quartile in a thread's own time, or where that does not tell the least of
    all, since whatever disturbs a run makes it longer."""
    held: float
    """Part of the time in which the processor was there for the runs, 0..1: less where other programs, or a quota, kept
    them from it."""


def timed_runs(run: Callable[[], object], repeats: int, threads: int, seconds: float = 0.0) -> Timed:
    """``run`` again and again.

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
    least = quantiles(quiet, n=4, method="inclusive")[0] if len(quiet) > 1 else quiet[0]
    if clock is time.perf_counter:  # a few of the threads' best runs say what they can do, but hardly a mean
        return Timed(median(walls), min(walls), min(1.0, least * len(walls) / sum(walls)))
    return Timed(median(walls), least, min(1.0, sum(quiet) / sum(walls)))
