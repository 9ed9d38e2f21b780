"""The thread that runs shards, so that receiving, computing and sending overlap."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import numpy.typing as npt

from agent.backlog import Backlog
from agent.dataflow import Key, Run, ShardRaised, ShardRan
from agent.executor import LoadedShard
from agent.failures import AgentFailureError
from agent.limits import Limits
from agent.telemetry import Meter

Array = npt.NDArray[Any]
_JOIN_SECONDS: Final = 2.0


class Compute:
    """Runs one task after another, the oldest micro-batch first.

    ``ready`` is called on its thread whenever a result was added to ``results``. After each run it rests as long as the
    CPU limit wants; a rest ends early when the limit changes or the thread is closed.
    """

    def __init__(self, meter: Meter, limits: Limits, ready: Callable[[], None]) -> None:
        self.results: deque[tuple[LoadedShard, ShardRan | ShardRaised]] = deque()
        self._meter = meter
        self._limits = limits
        self._ready = ready
        self._tasks: Backlog[tuple[LoadedShard, Run]] = Backlog()
        self._changed = threading.Condition()
        self._closing = False
        self._resting_until = 0.0
        self._busy = False
        self._thread = threading.Thread(target=self._work, name="compute", daemon=True)
        self._thread.start()

    @property
    def idle(self) -> bool:
        """Nothing runs, waits or rests: a short run elsewhere would overtake nobody."""
        return not self._busy and not self._tasks

    def submit(self, shard: LoadedShard, run: Run) -> None:
        with self._changed:
            self._tasks.put(run, (shard, run))
            self._changed.notify()

    def drop(self, keys: frozenset[Key]) -> None:
        """Forget tasks that have not begun."""
        with self._changed:
            self._tasks.drop(keys)

    def limits_changed(self) -> None:
        """End the present rest."""
        with self._changed:
            self._resting_until = 0.0
            self._changed.notify()

    def close(self) -> bool:
        """Stop after the present run. False: that run takes longer than two seconds."""
        with self._changed:
            self._closing = True
            self._tasks.clear()
            self._changed.notify()
        self._thread.join(_JOIN_SECONDS)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while (task := self._next()) is not None:
            outcome = execute(*task, self._meter)
            self.results.append((task[0], outcome))
            self._ready()
            seconds = outcome.seconds
            del task, outcome  # a rest must not keep tensors alive
            self._rest(seconds)

    def _next(self) -> tuple[LoadedShard, Run] | None:
        with self._changed:
            self._busy = False
            while not self._tasks and not self._closing:
                self._changed.wait()
            if self._closing:
                return None
            self._busy = True
            return self._tasks.take()

    def _rest(self, ran: float) -> None:
        rest = self._limits.rest_after(ran)
        if rest <= 0:
            return
        with self._changed:
            self._resting_until = time.perf_counter() + rest
            while not self._closing and (left := self._resting_until - time.perf_counter()) > 0:
                self._changed.wait(left)


def execute(shard: LoadedShard, run: Run, meter: Meter) -> ShardRan | ShardRaised:
    """Run a shard on one micro-batch and record it. Never raises for what the input or the model does."""
    label = shard.shard.label
    start = time.time()
    began = time.perf_counter()
    meter.begin(run.shard, label)
    try:
        outputs = shard.run(run.feed)
    except AgentFailureError as failure:
        seconds = time.perf_counter() - began
        outcome: ShardRan | ShardRaised = ShardRaised(run, failure.code, failure.message, seconds)
    else:
        seconds = time.perf_counter() - began
        outcome = ShardRan(run, outputs, seconds)
    meter.record(run.shard, label, run.seq, _items(run), start, seconds)
    return outcome


def _items(run: Run) -> int:
    for array in run.feed.values():
        return int(array.shape[0]) if array.ndim else 1
    return 0
