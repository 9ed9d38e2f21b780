"""Tensors on their way out, kept back as long as a slower link would have needed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from agent.link_limit import LinkPacer

_MOST_WAITING: Final = 64


class Outbox:
    """First in, first out. Nothing waits while the link has no limit. Belongs to the data thread."""

    def __init__(self, pacer: LinkPacer) -> None:
        self._pacer = pacer
        self._waiting: deque[tuple[Callable[[], object], int]] = deque()
        self.due: float | None = None
        """When the first message that waits may go; None: nothing waits."""

    def put(self, send: Callable[[], object], nbytes: int, now: float) -> None:
        """Call ``send`` when ``nbytes`` have crossed the link."""
        if self.due is None:
            due = self._pacer.delay(nbytes, now)
            if due <= now:
                send()
                return
            self.due = due
        self._waiting.append((send, nbytes))

    def flush(self, now: float) -> None:
        """Send what is due."""
        while self.due is not None and self.due <= now:
            send, _ = self._waiting.popleft()
            send()
            self.due = self._pacer.delay(self._waiting[0][1], now) if self._waiting else None

    @property
    def full(self) -> bool:
        """So much waits that no more work should be taken in."""
        return len(self._waiting) >= _MOST_WAITING

    def hurry(self, now: float) -> None:
        """Let the first message go now, and the others at what is now the link's speed."""
        if self.due is not None:
            self.due = min(self.due, now)

    def clear(self) -> None:
        self._waiting.clear()
        self.due = None
