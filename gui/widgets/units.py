"""Figures as people read them. Pure functions; the words around them are translated by the caller."""

from __future__ import annotations

from typing import Final

DASH: Final = "–"


def quantity(value: float | None, digits: int = 3) -> str:
    """A number with ``digits`` significant digits and thin groups: 1 234, 56.7, 0.0123."""
    if value is None:
        return DASH
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}".replace(",", "\u202f")
    if size >= 10:
        return f"{value:.{max(0, digits - 2)}f}"
    if size >= 1:
        return f"{value:.{max(0, digits - 1)}f}"
    return f"{value:.{digits}g}"


def nbytes(value: float | None) -> str:
    """Bytes with a binary unit: 812 B, 4.2 MiB."""
    if value is None:
        return DASH
    size = float(value)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" or abs(size) >= 100 else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.2f} TiB"


def bits_per_s(bytes_per_s: float | None) -> str:
    """A rate given in bytes/s, as networks count it: 940 Mbit/s."""
    if bytes_per_s is None:
        return DASH
    rate = float(bytes_per_s) * 8
    for unit in ("bit/s", "kbit/s", "Mbit/s"):
        if abs(rate) < 1000:
            return f"{rate:.0f} {unit}" if unit == "bit/s" or abs(rate) >= 100 else f"{rate:.1f} {unit}"
        rate /= 1000
    return f"{rate:.2f} Gbit/s"


def seconds(value: float | None) -> str:
    """A span of time with a fitting unit: 85 µs, 12.4 ms, 3.2 s, 2 min 5 s."""
    if value is None:
        return DASH
    size = abs(value)
    if size < 1e-3:
        return f"{value * 1e6:.0f} µs"
    if size < 1:
        return f"{value * 1e3:.{0 if size >= 0.1 else 1 if size >= 0.01 else 2}f} ms"
    if size < 120:
        return f"{value:.1f} s"
    return f"{int(value // 60)} min {int(value % 60)} s"


def percent(share: float | None, digits: int = 0) -> str:
    """A share as a percentage: 0.123 -> 12 %."""
    return DASH if share is None else f"{share * 100:.{digits}f} %"


def signed_percent(share: float | None, digits: int = 0) -> str:
    """A difference as a percentage with its sign: +12 %, −3 %."""
    if share is None:
        return DASH
    text = f"{abs(share) * 100:.{digits}f} %"
    return f"{'−' if share < 0 else '+'}{text}"


def short_quantity(value: float, digits: int = 3) -> str:
    """Some significant digits in as few letters as can be: 56.7, 1.23k, 45.6k."""
    return quantity(value, digits) if abs(value) < 1000 else compact(float(f"{value:.{digits}g}"))


def compact(value: float) -> str:
    """A number for an axis: 0, 0.5, 20, 1.5k, 20k, 3M."""
    size = abs(value)
    for factor, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= factor:
            return f"{value / factor:g}{suffix}"
    return f"{value:g}"
