"""The part of a node's telemetry in which it surely was at work, told from the time before and after."""

from __future__ import annotations

from core.wire.messages import Telemetry


class ActiveTime:
    """From the end of the first interval in which the node computed to the beginning of the last one: those two may
    have begun before the work, or ended after it. What lies between counts, idle or not. Fed in order."""

    def __init__(self) -> None:
        self.seconds = 0.0
        """By the node's clock."""
        self.busy = 0.0
        """Seconds of these in which it computed."""
        self.cores = 0.0
        """CPU seconds that its agent took in them."""
        self._pending = (0.0, 0.0, 0.0)
        """The same three, since the beginning of what may be the last interval."""
        self._last: Telemetry | None = None
        self._began = False

    def take(self, sample: Telemetry) -> None:
        """The next telemetry."""
        before, self._last = self._last, sample
        active = any(load.busy > 0 for load in sample.shards)
        if before is None or not self._began:
            self._began = active
            return
        seconds = max(0.0, sample.time - before.time)
        busy = min(1.0, sum(load.busy for load in sample.shards))
        now = (seconds, seconds * busy, seconds * sample.process_cpu)
        if active:
            self.seconds += self._pending[0]
            self.busy += self._pending[1]
            self.cores += self._pending[2]
            self._pending = now
        else:
            self._pending = (self._pending[0] + now[0], self._pending[1] + now[1], self._pending[2] + now[2])

    @property
    def share(self) -> float | None:
        """Of this time in which it computed, 0..1; None: it was too short to tell."""
        return self.busy / self.seconds if self.seconds > 0 else None
