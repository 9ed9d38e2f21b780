"""Who uses this node: connections and when they were last heard, telemetry subscriptions, and the one reservation.

Pure state with the caller's clock (seconds, monotonic). A connection that is silent for SILENCE loses its subscription.
A reservation may be taken by another once no connection of the program that made it is heard. Programs of one
workstation share its key: one that lives keeps nothing for one that is gone.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from core.wire.sockets import program_of

SILENCE: Final = 10.0
SHORTEST_INTERVAL: Final = 0.05
LONGEST_INTERVAL: Final = 10.0


class Reservation(Struct, frozen=True):
    deployment: str
    user: str
    """Key of the workstation that made it."""
    sender: bytes
    """Its control connection."""
    name: str
    memory_bytes: int


class _Subscription(Struct):
    interval: float
    due: float


class Leases:
    """Belongs to the control thread; ``reservation`` is an immutable value that others may read."""

    def __init__(self) -> None:
        self.reservation: Reservation | None = None
        self._heard: dict[bytes, tuple[str, float]] = {}
        self._subscriptions: dict[bytes, _Subscription] = {}

    @property
    def senders(self) -> tuple[bytes, ...]:
        """Connections heard of lately."""
        return tuple(self._heard)

    @property
    def watched(self) -> bool:
        """Whether anyone subscribes to telemetry."""
        return bool(self._subscriptions)

    def heard(self, sender: bytes, user: str, now: float) -> None:
        self._heard[sender] = (user, now)

    def forget(self, sender: bytes) -> None:
        """The connection is known to be gone."""
        self._heard.pop(sender, None)
        self._subscriptions.pop(sender, None)

    def expire(self, now: float) -> None:
        """Forget connections that have been silent too long."""
        for sender in [s for s, (_, at) in self._heard.items() if now - at >= SILENCE]:
            self.forget(sender)

    def alive(self) -> Reservation | None:
        """The reservation, while its program is heard: from the connection that made it or a later one."""
        return self.reservation if self.holders() else None

    def holders(self) -> tuple[bytes, ...]:
        """Connections, heard of lately, of the program that made the reservation."""
        held = self.reservation
        if held is None:
            return ()
        program = program_of(held.sender)
        return tuple(s for s, (user, _) in self._heard.items() if user == held.user and program_of(s) == program)

    def conflict(self, sender: bytes, user: str, deployment: str) -> Reservation | None:
        """The reservation that keeps ``sender`` from reserving for ``deployment``, or None.

        A program may replace its own, also on a new connection; the same workstation may take up its own deployment; a
        second program on the same workstation may not take what the first, still connected, holds.
        """
        held = self.alive()
        if held is None or held.user != user:
            return held
        return None if held.deployment == deployment or program_of(held.sender) == program_of(sender) else held

    def reserve(self, reservation: Reservation) -> None:
        self.reservation = reservation

    def owns(self, user: str, deployment: str) -> bool:
        held = self.reservation
        return held is not None and (held.user, held.deployment) == (user, deployment)

    def release(self) -> None:
        self.reservation = None

    # ------------------------------------------------------------ telemetry

    def subscribe(self, sender: bytes, interval: float, now: float) -> None:
        """``interval`` in seconds, kept within 0.05 and 10."""
        interval = min(interval, LONGEST_INTERVAL) if interval > SHORTEST_INTERVAL else SHORTEST_INTERVAL  # NaN too
        self._subscriptions[sender] = _Subscription(interval, now + interval)

    def next_due(self) -> float | None:
        """When the next telemetry is due."""
        return min((s.due for s in self._subscriptions.values()), default=None)

    def due(self, now: float) -> list[bytes]:
        """Those who get telemetry now; their next one is due an interval later."""
        ready = []
        for sender, subscription in self._subscriptions.items():
            if subscription.due <= now:
                ready.append(sender)
                subscription.due = max(subscription.due + subscription.interval, now)
        return ready
