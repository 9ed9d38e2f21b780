"""The clock that timings on this workstation use."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

FINE_CLOCK: Final = 1e-5
"""Seconds; Windows tells a thread's own time in steps of 16 ms only."""


def compute_clock(threads: int) -> Callable[[], float]:
    """Seconds of work: a thread's own time where one does all of it and its clock is fine enough, else the wall's.

    A thread's own time stands still while other programs hold the processor, so a busy workstation hardly shows in it.
    """
    fine = time.get_clock_info("thread_time").resolution <= FINE_CLOCK
    return time.thread_time if threads == 1 and fine else time.perf_counter
