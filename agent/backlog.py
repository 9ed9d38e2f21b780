"""Runs that wait for their turn: the oldest micro-batch first, so that it is not held up by those behind it."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from itertools import count
from typing import Generic, TypeVar

from agent.dataflow import Key, Run

T = TypeVar("T")


class Backlog(Generic[T]):
    """Gives back the run of the lowest (job, seq), of one micro-batch the lowest shard: what others wait for comes
    before what they do not. Each run has something of type T with it. Not thread-safe."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, int, int, Key, T]] = []
        self._numbers = count()

    def __len__(self) -> int:
        return len(self._heap)

    def put(self, run: Run, item: T) -> None:
        shard, job, seq = run[:3]
        # The number keeps the order of arrival, and keeps items from being compared.
        heappush(self._heap, (job, seq, shard, next(self._numbers), run[:3], item))

    def take(self) -> T:
        """IndexError when there is none."""
        return heappop(self._heap)[-1]

    def drop(self, keys: frozenset[Key]) -> None:
        self._heap = [entry for entry in self._heap if entry[4] not in keys]
        heapify(self._heap)

    def clear(self) -> None:
        self._heap.clear()
