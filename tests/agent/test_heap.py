"""Memory that was freed goes back to the system."""

from __future__ import annotations

import subprocess
import sys

import pytest

from agent import heap

FREED_MB = 100
_PROGRAM = f"""
import psutil
from agent import heap
blocks = [bytes(100_000) for _ in range({10 * FREED_MB + 100})]
kept = blocks[::20]
del blocks
full = psutil.Process().memory_info().rss
heap.give_back()
print(full - psutil.Process().memory_info().rss, len(kept))
"""


@pytest.mark.skipif(heap._trim() is None, reason="this C library keeps nothing that could be given back")
def test_blocks_between_others_are_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, check=True, text=True)
    given, _ = map(int, done.stdout.split())
    assert given > 0.3 * FREED_MB * 1e6


def test_it_does_no_harm_where_there_is_nothing() -> None:
    heap.give_back()
    heap.give_back()
