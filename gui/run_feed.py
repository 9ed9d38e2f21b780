"""What stands between a run and the panel: a source that can go on for a time, and results thinned out for the eye."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np

from core.run.sink import Array
from core.run.source import Batch, Source
from gui.work.running import Result

KEPT_BYTES: Final = 64 * 2**20
"""A source smaller than this is read once and kept, however often it is gone through."""
EMIT_SECONDS: Final = 0.25
"""The eye follows no faster, and what the window takes for it is taken from the run."""
ALL_UP_TO: Final = 512
"""So many items at the beginning are all shown; after that, the newest ones."""
SHOWN_AT_ONCE: Final = 24


class PatientSource(Source):
    """Goes through another source ``repeat`` times, or for ``seconds``; ``drain`` ends it after the batch it is at."""

    def __init__(self, source: Source, repeat: int, seconds: float | None, drain: threading.Event) -> None:
        self._source, self._repeat, self._seconds, self._drain = source, repeat, seconds, drain

    @property
    def items(self) -> int:
        """0 when only time ends it."""
        return 0 if self._seconds is not None else self._source.items * self._repeat

    def batches(self, size: int) -> Iterator[Batch]:
        deadline = time.monotonic() + self._seconds if self._seconds is not None else None
        passes = 0
        kept: list[Batch] | None = None
        again: list[Batch] = []
        while passes < self._repeat or deadline is not None:
            read = kept if kept is not None else _keep(self._source.batches(size), again)
            for batch in read:
                if self._drain.is_set() or (deadline is not None and time.monotonic() >= deadline):
                    return
                yield batch
            if kept is None and again:
                kept = again
            passes += 1


def _keep(batches: Iterator[Batch], kept: list[Batch]) -> Iterator[Batch]:
    """The same batches, each also put into ``kept``, which is emptied for good when they are too many to keep."""
    nbytes, room = 0, True
    for batch in batches:
        nbytes += sum(array.nbytes for array in batch.feed.values())
        room = room and nbytes <= KEPT_BYTES
        if room:
            kept.append(batch)
        else:
            kept.clear()
        yield batch


class ResultFeed:
    """Takes every batch on the run's thread, hands on at most four lists of results a second."""

    def __init__(self, emit: Callable[[list[Result]], None]) -> None:
        self._emit = emit
        self._waiting: list[Result] = []
        self._emitted_at = 0.0
        self._last: tuple[int, dict[str, Array], Batch] | None = None

    def take(self, first: int, outputs: dict[str, Array], batch: Batch) -> None:
        now = time.monotonic()
        due = now - self._emitted_at >= EMIT_SECONDS
        if first < ALL_UP_TO:
            self._waiting += results_of(first, outputs, batch)
        elif due:
            self._waiting += results_of(first, outputs, batch)[-SHOWN_AT_ONCE:]
        else:
            self._last = (first, outputs, batch)
            return
        self._last = None
        if due:
            self._send(now)

    def flush(self) -> None:
        """Hand on what waits, and the very last batch."""
        if self._last is not None:
            self._waiting += results_of(*self._last)[-SHOWN_AT_ONCE:]
        self._send(time.monotonic())

    def _send(self, now: float) -> None:
        self._emitted_at = now
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            self._emit(waiting)


def results_of(first: int, outputs: dict[str, Array], batch: Batch) -> list[Result]:
    """One :class:`Result` for each real item of a batch."""
    if batch.whole:
        return [Result(first, dict(outputs), None, batch.names[0] if batch.names else "")]
    picture = next((array for array in batch.feed.values() if _is_picture(array)), None)
    return [
        Result(
            first + row,
            {name: array[row] if array.ndim else array for name, array in outputs.items()},
            as_pixels(picture[row]) if picture is not None else None,
            batch.names[row] if row < len(batch.names) else "",
        )
        for row in range(batch.rows)
    ]


def _is_picture(array: Array) -> bool:
    return array.ndim == 4 and (array.shape[3] in {1, 3, 4} or array.shape[1] in {1, 3, 4})


def as_pixels(item: Array) -> Any:
    """uint8 (height, width) or (height, width, channels) of one picture in either layout, of bytes or of floats."""
    pixels = np.asarray(item)
    if pixels.shape[2] not in {1, 3, 4}:
        pixels = pixels.transpose(1, 2, 0)
    if pixels.dtype != np.uint8:
        low, high = float(pixels.min()), float(pixels.max())
        pixels = ((pixels - low) * (255.0 / (high - low) if high > low else 0.0)).astype(np.uint8)
    return np.ascontiguousarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
