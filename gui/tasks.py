"""How slow work leaves the GUI thread and how its results come back.

``Tasks.start`` runs a function on a worker thread; exactly one of ``done`` and ``failed`` is then called on the GUI
thread. ``Tasks.post`` brings any call from any thread to the GUI thread, in order. After ``close`` nothing is
delivered any more, so a result that comes late cannot touch a window that is gone.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Final, TypeVar

from PySide6.QtCore import QObject, Qt, Signal, Slot
from shiboken6 import isValid

from core.errors import ShardboardError
from gui.right_of_way import Cancel, RightOfWay

T = TypeVar("T")
log = logging.getLogger(__name__)
MAX_WORKERS: Final = 8


class Tasks(QObject):
    """Worker threads of the panel. Made on the GUI thread."""

    _posted = Signal(object)

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._pool = ThreadPoolExecutor(MAX_WORKERS, thread_name_prefix="panel")
        self._open = True
        self.way = RightOfWay()
        """What work in the background gives way to."""
        self._lock = threading.Lock()
        self._posted.connect(self._deliver, Qt.ConnectionType.QueuedConnection)

    def start(
        self,
        work: Callable[[], T],
        done: Callable[[T], object] | None = None,
        failed: Callable[[ShardboardError], object] | None = None,
    ) -> None:
        """GUI thread. Run ``work`` on a worker; errors that are not for people arrive as a ShardboardError too."""
        if self._open:
            self._pool.submit(self._work, work, done, failed)

    def cancel(self) -> Cancel:
        """For work in the background that can wait."""
        return Cancel(self.way)

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Run ``work`` on a worker and say nothing; for the last steps of closing."""
        return self._pool.submit(work)

    def post(self, call: Callable[[], object]) -> None:
        """Any thread. Have ``call`` made on the GUI thread soon."""
        with self._lock:
            if self._open:
                self._posted.emit(call)

    def post_to(self, receiver: QObject, call: Callable[..., object], *arguments: object) -> None:
        """Any thread. As ``post``, but only while ``receiver`` still exists."""

        def deliver() -> None:
            if isValid(receiver):
                call(*arguments)

        self.post(deliver)

    def close(self) -> None:
        """GUI thread. Deliver nothing more; workers that still run are left to finish."""
        with self._lock:
            self._open = False
        self.way.end()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _work(
        self,
        work: Callable[[], T],
        done: Callable[[T], object] | None,
        failed: Callable[[ShardboardError], object] | None,
    ) -> None:
        try:
            result = work()
        except ShardboardError as error:
            self._report(error, failed)
        except Exception as error:
            log.exception("a task of the panel failed")
            self._report(ShardboardError(f"{type(error).__name__}: {error}"), failed)
        else:
            if done is not None:
                self.post(partial(done, result))

    def _report(self, error: ShardboardError, failed: Callable[[ShardboardError], object] | None) -> None:
        if failed is not None:
            self.post(partial(failed, error))
        else:
            log.warning("%s", error)

    @Slot(object)
    def _deliver(self, call: Callable[[], object]) -> None:
        if self._open:
            call()
