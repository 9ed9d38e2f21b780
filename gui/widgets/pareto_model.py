"""What a scatter of plans shows, without Qt: spots, which of them nothing beats, and scales for both axes."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor, hypot, log10
from typing import Final

from msgspec import Struct

from core.plan.form import PlanRequest
from gui.widgets.units import compact

WIDE: Final = 12.0
"""An axis whose largest value is more than so many times its smallest is logarithmic."""
MARGIN: Final = 0.08
"""Of an axis, left free at both ends."""
MOST_TICKS: Final = 5
NEAR: Final = 10.0
"""Pixels within which a spot is taken by the mouse."""


class Spot(Struct, frozen=True):
    """One plan."""

    request: PlanRequest
    throughput: float
    """Items per second."""
    latency_s: float
    fits: bool
    """Its nodes have the memory for it."""
    title: str = ""
    words: str = ""
    """What a person should know of it, a line each."""


class Scale(Struct, frozen=True):
    """From values to 0..1 along an axis."""

    low: float
    high: float
    log: bool = False

    def at(self, value: float) -> float:
        if self.log:
            return (log10(max(value, 1e-12)) - log10(self.low)) / (log10(self.high) - log10(self.low))
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> tuple[float, ...]:
        """Round values within the scale, a few."""
        found = _decades(self.low, self.high) if self.log else _steps(self.low, self.high)
        return found or (self.low, self.high)


def scale_for(values: Sequence[float]) -> Scale:
    """Room for all ``values``, which are above 0."""
    if not values:
        return Scale(0.0, 1.0)
    least, most = min(values), max(values)
    if most > least * WIDE > 0:
        room = (most / least) ** MARGIN
        return Scale(least / room, most * room, log=True)
    room = (most - least) * MARGIN / (1 - 2 * MARGIN) or most * 0.25 or 1.0
    return Scale(max(0.0, least - room), most + room)


def front(spots: Sequence[Spot]) -> tuple[int, ...]:
    """Those that fit and that none other beats in both, from low to high latency; of equal ones the first."""
    order = sorted(
        (index for index, spot in enumerate(spots) if spot.fits),
        key=lambda index: (spots[index].latency_s, -spots[index].throughput, index),
    )
    found, reached = [], 0.0
    for index in order:
        if spots[index].throughput > reached:
            found.append(index)
            reached = spots[index].throughput
    return tuple(found)


def nearest(points: Sequence[tuple[float, float]], x: float, y: float) -> int:
    """Index of the point next to (x, y), the first of equal ones; -1 where none is near."""
    distances = [hypot(px - x, py - y) for px, py in points]
    best = min(range(len(points)), key=distances.__getitem__, default=-1)
    return best if best >= 0 and distances[best] <= NEAR else -1


def stepped(values: Sequence[float], now: int, steps: int) -> int:
    """The index that lies ``steps`` further in the order of ``values``; from -1 to an end. -1 where there are none."""
    order = sorted(range(len(values)), key=lambda index: (values[index], index))
    if not order:
        return -1
    if now not in order:
        return order[0 if steps > 0 else -1]
    return order[min(max(order.index(now) + steps, 0), len(order) - 1)]


def unit_of(latencies: Sequence[float]) -> tuple[str, float]:
    """(unit, what one second is in it) that suits an axis."""
    most = max(latencies, default=0.0)
    return ("s", 1.0) if most >= 1.5 else ("ms", 1e3) if most >= 1.5e-3 else ("µs", 1e6)


def tick_text(value: float) -> str:
    return compact(float(f"{value:.3g}"))


def _steps(low: float, high: float) -> tuple[float, ...]:
    rough = (high - low) / MOST_TICKS
    power = 10 ** floor(log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first = ceil(low / step)
    return tuple(step * index for index in range(first, floor(high / step) + 1))


def _decades(low: float, high: float) -> tuple[float, ...]:
    powers = range(floor(log10(low)), ceil(log10(high)) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        found = [10.0**power * factor for power in powers for factor in factors]
        within = tuple(value for value in found if low <= value <= high)
        if len(within) <= MOST_TICKS + 1:
            return within
    return within[:: ceil(len(within) / MOST_TICKS)]
