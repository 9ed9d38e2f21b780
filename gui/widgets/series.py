"""Ring buffers of samples for live plots."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


class Ring:
    """The last ``size`` samples as one contiguous view, without moving any.

    The buffer is twice as long as it need be and each sample is written at i and i + size, so that the newest ``size``
    samples always lie side by side. Samples never given are NaN.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._data = np.full(2 * size, np.nan)
        self._next = 0

    def add(self, value: float) -> None:
        self._data[self._next] = value
        self._data[self._next + self._size] = value
        self._next = (self._next + 1) % self._size

    def view(self) -> npt.NDArray[np.float64]:
        """Oldest first; valid until the next ``add``."""
        return self._data[self._next : self._next + self._size]

    def clear(self) -> None:
        self._data.fill(np.nan)


def nice_ceiling(value: float) -> float:
    """The next 1, 2 or 5 times a power of ten at or above ``value``: the top of a plot's axis."""
    if not np.isfinite(value) or value <= 0:
        return 1.0
    power = 10.0 ** np.floor(np.log10(value))
    return float(next(step * power for step in (1.0, 2.0, 5.0, 10.0) if step * power >= value * 0.999999))


def binary_ceiling(value: float) -> float:
    """The next power of two at or above ``value``, for axes of bytes."""
    if not np.isfinite(value) or value <= 1:
        return 1.0
    return float(2.0 ** np.ceil(np.log2(value)))


def bit_ceiling(value: float) -> float:
    """For axes of bytes per second that are read as bits per second."""
    return nice_ceiling(value * 8) / 8
