"""A link that is slower than the real one: says when bytes would have crossed it, and never waits itself.

The pacer keeps one number, the moment at which a link of the given speed would have finished all it was given. A
message is due at that moment, less a short burst that spares small messages a timer:

    finish = max(finish, now) + nbytes / rate          due = max(now, finish - BURST_SECONDS)

So over any window of w seconds at most ``rate * w + max(burst, largest message)`` bytes become due, and what is due
together never exceeds the link's speed by more than the burst. Ethernet is full duplex: count each direction with a
pacer of its own; a shared medium (Wi-Fi) is one pacer for both.
"""

from __future__ import annotations

import threading

from agent.limits import Limits
from core.wire.pacing import BURST_SECONDS


class LinkPacer:
    """Dues for one direction of one node's link. Thread-safe; the clock is the caller's (seconds, monotonic)."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._rate = 0.0
        """Bytes per second that ``_finish`` was worked out with; 0: unlimited."""
        self._finish = 0.0

    def delay(self, nbytes: int, now: float) -> float:
        """When ``nbytes`` handed over at ``now`` have crossed the link: ``now`` where nothing limits it.

        Dues never run backwards while the limit stays as it is. A new limit applies to the backlog too, so messages
        whose order matters are asked about one after the other, each when it is the next to go.
        """
        with self._lock:
            self._adopt(self._limits.link_bits_per_s / 8, now)
            if self._rate == 0:
                return now
            self._finish = max(self._finish, now) + nbytes / self._rate
            return max(now, self._finish - BURST_SECONDS)

    def backlog(self, now: float) -> float:
        """Seconds until the link would be free."""
        with self._lock:
            return max(0.0, self._finish - now) if self._limits.link_bits_per_s else 0.0

    def _adopt(self, rate: float, now: float) -> None:
        """Keep the bytes still on their way, at the new speed."""
        if rate == self._rate:
            return
        waiting = max(0.0, self._finish - now) * self._rate
        self._rate = rate
        self._finish = now + (waiting / rate if rate else 0.0)
