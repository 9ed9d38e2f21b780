"""Who goes first: while a hand drags something, a job runs, or something is measured, work in the background waits.

Python runs one thread at a time. A search that goes on while a cut follows the mouse is in the way of every step that
the window takes, and it takes from what is measured; so it waits wherever it looks whether it was cancelled.
"""

from __future__ import annotations

import threading
import time
from typing import Final

REST_SECONDS: Final = 1.0
"""The hand rests when it has not moved for so long: a person who drags stops to read, and goes on."""
LOOK_SECONDS: Final = 0.1


class RightOfWay:
    """Any thread."""

    def __init__(self) -> None:
        self._until = 0.0
        self._taken: frozenset[str] = frozenset()
        self._ended = False

    def hand_moves(self) -> None:
        """Something followed it just now."""
        self._until = time.monotonic() + REST_SECONDS

    def take(self, who: str) -> None:
        """Nothing in the background goes on until ``give`` is called for ``who``."""
        self._taken |= {who}

    def give(self, who: str) -> None:
        self._taken -= {who}

    def end(self) -> None:
        """Nobody waits any more: what is under way is to come to its end."""
        self._ended = True

    @property
    def free_in(self) -> float:
        """Seconds until it is worth to look again; 0 or less: go on."""
        if self._ended:
            return 0.0
        return LOOK_SECONDS if self._taken else self.hand_rests_in

    @property
    def hand_rests_in(self) -> float:
        """Seconds until the hand has rested, if it does not move again; 0 or less: it rests."""
        return 0.0 if self._ended else self._until - time.monotonic()


class Cancel(threading.Event):
    """Set to cancel work in the background. Whoever looks at it gives way."""

    def __init__(self, way: RightOfWay) -> None:
        super().__init__()
        self._way = way

    def is_set(self) -> bool:
        while not super().is_set() and (seconds := self._way.free_in) > 0:
            self.wait(seconds)
        return super().is_set()
