"""More figures as people read them, beside :mod:`gui.widgets.units`."""

from __future__ import annotations

from math import floor, log10

from gui.widgets.units import quantity


def count(value: float) -> str:
    """A count with an SI prefix: ``312``, ``4.10 G``."""
    for unit in ("", " k", " M", " G", " T"):
        if abs(value) < 999.5:
            return f"{value:.0f}" if not unit and float(value).is_integer() else f"{quantity(value)}{unit}"
        value /= 1000
    return f"{quantity(value)} P"


def grouped(number: int) -> str:
    """A whole number in groups of three: ``21 688``."""
    return f"{number:,}".replace(",", "\u202f")


def tick(seconds: float, step: float) -> str:
    """A tick of a time axis whose ticks are ``step`` seconds apart: ``2.5 ms``."""
    factor, unit = next(((f, u) for f, u in ((1.0, "s"), (1e-3, "ms")) if step >= f), (1e-6, "µs"))
    if factor == 1e-6 and seconds >= 1e-3:
        factor, unit = 1e-3, "ms"
    if factor == 1e-3 and seconds >= 1.0:
        factor, unit = 1.0, "s"
    digits = max(0, -floor(log10(step / factor) + 1e-9))
    return f"{seconds / factor:.{digits}f} {unit}"
