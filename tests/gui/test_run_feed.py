"""The source that can go on for a time, and the thinning of results."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest

from core.run.source import Batch, Source
from gui import run_feed
from gui.run_feed import ALL_UP_TO, KEPT_BYTES, PatientSource, ResultFeed, as_pixels, results_of
from gui.work.running import Result


class Counting(Source):
    """Six items in micro-batches; counts how often it is read."""

    def __init__(self, width: int = 4) -> None:
        self.reads = 0
        self._width = width

    @property
    def items(self) -> int:
        return 6

    def batches(self, size: int) -> Iterator[Batch]:
        self.reads += 1
        for first in range(0, 6, size):
            rows = min(size, 6 - first)
            yield Batch({"x": np.full((rows, self._width), first, np.uint8)}, rows, first)


def test_small_sources_are_read_once_however_often_they_run() -> None:
    source = Counting()
    patient = PatientSource(source, 5, None, threading.Event())
    assert patient.items == 30
    batches = list(patient.batches(4))
    assert [b.rows for b in batches] == [4, 2] * 5
    assert source.reads == 1


def test_large_sources_are_read_again() -> None:
    source = Counting(width=KEPT_BYTES // 4)
    patient = PatientSource(source, 2, None, threading.Event())
    assert sum(b.rows for b in patient.batches(3)) == 12
    assert source.reads == 2


def test_a_source_goes_on_until_its_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = itertools.count(1000)  # every look at the clock takes one
    monkeypatch.setattr(run_feed, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    patient = PatientSource(Counting(), 1, 10, threading.Event())
    assert patient.items == 0
    assert [batch.rows for batch in patient.batches(4)] == [4, 2, 4, 2, 4, 2, 4, 2, 4]


def test_draining_ends_after_the_batch_at_hand() -> None:
    drain = threading.Event()
    batches = PatientSource(Counting(), 1000, None, drain).batches(4)
    next(batches)
    drain.set()
    assert list(batches) == []


def test_first_results_all_come_later_ones_are_thinned_and_the_last_is_there() -> None:
    lists: list[list[Result]] = []
    feed = ResultFeed(lists.append)
    total = ALL_UP_TO * 20
    for first in range(0, total, 8):
        batch = Batch({"x": np.zeros((8, 4), np.float32)}, 8, first % 64)
        feed.take(first, {"y": np.arange(first, first + 8)}, batch)
    feed.flush()
    shown = [result.index for results in lists for result in results]
    assert shown[:ALL_UP_TO] == list(range(ALL_UP_TO))
    assert shown == sorted(set(shown))
    assert shown[-1] == total - 1
    assert len(shown) < total / 2


def test_results_carry_pictures_names_and_their_own_rows() -> None:
    pixels = np.arange(2 * 8 * 8, dtype=np.uint8).reshape(2, 8, 8, 1)
    batch = Batch({"image": pixels}, 2, 0, ("one.png", "two.png"))
    first, second = results_of(10, {"top": np.array([[1, 2], [3, 4]])}, batch)
    assert (first.index, second.index) == (10, 11)
    assert (first.name, second.name) == ("one.png", "two.png")
    assert second.outputs["top"].tolist() == [3, 4]
    assert second.picture.shape == (8, 8)
    assert (second.picture == pixels[1, :, :, 0]).all()


def test_floating_pictures_in_channels_first_become_pixels() -> None:
    picture = as_pixels(np.linspace(-1, 1, 3 * 4 * 5, dtype=np.float32).reshape(3, 4, 5))
    assert picture.shape == (4, 5, 3)
    assert picture.dtype == np.uint8
    assert (picture.min(), picture.max()) == (0, 255)


def test_a_feed_that_is_one_item_gives_one_result() -> None:
    batch = Batch({"ids": np.zeros((1, 7), np.int64)}, 1, 0, (), whole=True)
    assert len(results_of(3, {"y": np.zeros((2, 7))}, batch)) == 1
