"""How slow this node has been told to be. Changed while it runs, by any thread, for demonstrations."""

from __future__ import annotations

import math
import threading
from typing import Final

from agent.failures import AgentFailureError

LOWEST_CPU: Final = 0.01
"""A run of one second is then followed by 99 s of rest; less would only look like a dead node."""
LOWEST_LINK: Final = 1_000
"""Bits per second."""


class Limits:
    """The share of time spent computing and the speed of the link; safe to read and set from every thread.

    ``cpu`` is in [0.01, 1], ``link_bits_per_s`` is 0 (unlimited) or at least 1000.
    """

    def __init__(self, cpu: float = 1.0, link_bits_per_s: int = 0) -> None:
        self._lock = threading.Lock()
        self._cpu = _checked_cpu(cpu)
        self._link = _checked_link(link_bits_per_s)

    @property
    def cpu(self) -> float:
        return self._cpu

    @property
    def link_bits_per_s(self) -> int:
        return self._link

    def set(self, *, cpu: float | None = None, link_bits_per_s: int | None = None) -> None:
        """None leaves a limit as it is. Raises AgentFailureError("field") and then changes neither."""
        new_cpu = None if cpu is None else _checked_cpu(cpu)
        new_link = None if link_bits_per_s is None else _checked_link(link_bits_per_s)
        with self._lock:
            self._cpu = self._cpu if new_cpu is None else new_cpu
            self._link = self._link if new_link is None else new_link

    def rest_after(self, seconds: float) -> float:
        """Seconds to stay idle after a run of ``seconds``, so that running is ``cpu`` of the whole."""
        return max(0.0, seconds) * (1.0 / self._cpu - 1.0)


def _checked_cpu(cpu: float) -> float:
    if not (math.isfinite(cpu) and LOWEST_CPU <= cpu <= 1.0):
        raise AgentFailureError("field", f"cpu_limit is {cpu}; it must be from {LOWEST_CPU} to 1.")
    return float(cpu)


def _checked_link(bits_per_s: int) -> int:
    if bits_per_s != 0 and bits_per_s < LOWEST_LINK:
        raise AgentFailureError(
            "field", f"link_limit is {bits_per_s} bit/s; it must be 0 (unlimited) or at least {LOWEST_LINK}."
        )
    return int(bits_per_s)
