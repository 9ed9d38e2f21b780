"""Throughput and latency of a job, from the times at which micro-batches left and came back."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from core.run.report import Latency

RECENT_SECONDS = 2.0
RECENT_LATENCIES = 256


def latency_of(seconds: Sequence[float]) -> Latency:
    """Percentiles of latencies given in seconds, as milliseconds; all zero when there is none."""
    if not len(seconds):
        return Latency(p50=0.0, p95=0.0, p99=0.0)
    p50, p95, p99 = np.percentile(np.asarray(seconds, dtype=np.float64) * 1e3, (50, 95, 99))
    return Latency(p50=float(p50), p95=float(p95), p99=float(p99))


def steady_throughput(completions: Sequence[tuple[float, int]], started: float) -> float:
    """Items per second without the filling of the pipeline: from the first completion to the last.

    Args:
        completions: (time in seconds, items) of each finished micro-batch, in order of time.
        started: time at which the first micro-batch was sent; used when there are too few completions to leave any out.
    """
    if not completions:
        return 0.0
    first, last = completions[0][0], completions[-1][0]
    if len(completions) >= 4 and last > first:
        return sum(items for _, items in completions[1:]) / (last - first)
    whole = last - started
    return sum(items for _, items in completions) / whole if whole > 0 else 0.0


def per_second(completions: Sequence[tuple[float, int]], started: float) -> tuple[float, ...]:
    """Items finished in each whole second after ``started``."""
    if not completions:
        return ()
    series = np.zeros(int(completions[-1][0] - started) + 1)
    for when, items in completions:
        series[max(0, int(when - started))] += items
    return tuple(float(v) for v in series)


class RunMetrics:
    """Collects while a job runs. Times are seconds of one monotonic clock, passed in."""

    def __init__(self, started: float) -> None:
        self.started = started
        self.items_done = 0
        self.completions: list[tuple[float, int]] = []
        self.latencies: list[float] = []
        self._recent: deque[tuple[float, int]] = deque()
        self._recent_items = 0

    def completed(self, when: float, items: int, latency: float) -> None:
        self.items_done += items
        self.completions.append((when, items))
        self.latencies.append(latency)
        self._recent.append((when, items))
        self._recent_items += items

    def recent_throughput(self, now: float) -> float:
        """Items per second over the last ``RECENT_SECONDS`` (or since the start, when that is shorter)."""
        while self._recent and self._recent[0][0] < now - RECENT_SECONDS:
            self._recent_items -= self._recent.popleft()[1]
        window = min(RECENT_SECONDS, now - self.started)
        return self._recent_items / window if window > 0 else 0.0

    def recent_latency(self) -> Latency:
        return latency_of(self.latencies[-RECENT_LATENCIES:])
