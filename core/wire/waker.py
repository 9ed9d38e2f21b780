"""Wakes a thread that waits in a Poller, from any thread."""

from __future__ import annotations

import contextlib
import socket


class Waker:
    """A pair of connected OS sockets: any number of threads may ``wake``, one thread polls and drains.

    OS sockets rather than an inproc pair because ZeroMQ's sockets must not be shared by threads.
    """

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        self._theirs.setblocking(False)

    def wake(self) -> None:
        """Make the poller return; wakes that were not drained yet merge. Does nothing once closed."""
        with contextlib.suppress(BlockingIOError, OSError):  # full: a wake-up is under way already
            self._theirs.send(b"\0")

    def drain(self) -> None:
        """Forget all wakes so far; call before looking at what they were about."""
        with contextlib.suppress(BlockingIOError):
            while len(self._ours.recv(4096)) == 4096:
                pass

    def fileno(self) -> int:
        return self._ours.fileno()

    def close(self) -> None:
        self._ours.close()
        self._theirs.close()
