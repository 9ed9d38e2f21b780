"""One thread for what takes long (loading shards, measuring), so that the control thread always answers at once."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Final

_JOIN_SECONDS: Final = 2.0
_MOST_WAITING: Final = 64


class Worker:
    """Runs tasks one after another. A task reports its own outcome and does not raise."""

    def __init__(self) -> None:
        self._tasks: queue.Queue[Callable[[], None] | None] = queue.Queue(_MOST_WAITING)
        self._thread = threading.Thread(target=self._work, name="worker", daemon=True)
        self._thread.start()

    def submit(self, task: Callable[[], None]) -> bool:
        """False: too many tasks wait already."""
        try:
            self._tasks.put_nowait(task)
        except queue.Full:
            return False
        return True

    def close(self) -> bool:
        """Drop what waits and stop. False: the present task takes longer than two seconds."""
        while True:
            try:
                self._tasks.get_nowait()
            except queue.Empty:
                break
        self._tasks.put(None)
        self._thread.join(_JOIN_SECONDS)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            task()
