"""How much work a call does, told by the calls that it makes itself: the same on any machine, however busy that is."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any


def calls_of(act: Callable[[], object]) -> int:
    """Functions, Python's and C's, that ``act`` calls in this thread."""
    counted = 0

    def count(_frame: FrameType, event: str, _arg: Any) -> None:
        nonlocal counted
        if event in ("call", "c_call"):
            counted += 1

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        act()
    finally:
        sys.setprofile(before)
    return counted


class Asked(threading.Event):
    """A wish to cancel that nobody has; counts how often it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def is_set(self) -> bool:
        self.count += 1
        return super().is_set()
