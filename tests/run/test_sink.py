"""Sinks: what is written, that it appears only when whole, and that what cannot be written is said before the run."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from core.errors import SinkError
from core.run.sink import CallbackSink, MemorySink, NpzSink, Sink, TeeSink, TopKCsvSink, check_writable, open_sink
from core.run.source import Batch

Outputs = dict[str, np.ndarray]


def batch(rows: int, names: tuple[str, ...] = (), *, whole: bool = False) -> Batch:
    return Batch({}, rows, names=names, whole=whole)


def fill(sink: Sink) -> Outputs:
    """Batches of 3, 3 and 2 real rows, the last filled up to 3; returns what should come out."""
    rng = np.random.default_rng(0)
    parts = [
        {"scores": rng.standard_normal((3, 5), dtype=np.float32), "a/b": rng.integers(0, 9, (3,))} for _ in range(3)
    ]
    for part, rows in zip(parts, (3, 3, 2), strict=True):
        sink.write(part, batch(rows))
    return {name: np.concatenate([part[name] for part in parts])[:8] for name in parts[0]}


def check(found: Outputs, expected: Outputs) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


def test_npz_appears_whole_and_alone(tmp_path: Path) -> None:
    path = tmp_path / "out.npz"
    sink = NpzSink(path)
    assert list(tmp_path.iterdir()) == []
    expected = fill(sink)
    assert not path.exists()
    sink.close()
    sink.abandon()
    assert list(tmp_path.iterdir()) == [path]
    with np.load(path) as archive:
        check(dict(archive), expected)


def test_an_abandoned_npz_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "out.npz"
    path.write_bytes(b"old")
    sink = NpzSink(path)
    fill(sink)
    sink.abandon()
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("dtype", [np.bool_, np.float16, np.int8, np.uint64])
def test_npz_of_other_types_and_shapes(tmp_path: Path, dtype: type) -> None:
    rows = np.ones((2, 3, 4), dtype).transpose(0, 2, 1)
    sink = NpzSink(tmp_path / "out.npz")
    sink.write({"x": rows}, batch(2))
    sink.write({"x": rows[:0]}, batch(0))
    sink.close()
    with np.load(tmp_path / "out.npz") as archive:
        check(dict(archive), {"x": rows})


def test_one_whole_item_is_written_as_it_is_and_several_are_stacked(tmp_path: Path) -> None:
    item = {"x": np.arange(6.0).reshape(2, 3), "total": np.array(3.5)}
    for count, axis in ((1, ()), (3, (3,))):
        sinks = NpzSink(tmp_path / "out.npz"), MemorySink()
        both = TeeSink(*sinks)
        for _ in range(count):
            both.write(item, batch(1, whole=True))
        both.close()
        expected = {name: np.broadcast_to(array, (*axis, *array.shape)) for name, array in item.items()}
        with np.load(tmp_path / "out.npz") as archive:
            check(dict(archive), expected)
        check(sinks[1].outputs, expected)


def test_items_of_two_shapes_are_refused(tmp_path: Path) -> None:
    sink = NpzSink(tmp_path / "out.npz")
    sink.write({"x": np.zeros((1, 4))}, batch(1))
    with pytest.raises(SinkError, match="one shape at a time"):
        sink.write({"x": np.zeros((1, 5))}, batch(1))
    sink.abandon()
    assert list(tmp_path.iterdir()) == []


def test_csv_of_the_best_with_labels_and_names(tmp_path: Path) -> None:
    path = tmp_path / "best.csv"
    sink = open_sink(path, labels=("cat", "dog", "owl"))
    outputs = {
        "y/top_values": np.array([[0.75, 0.25], [0.5, 0.25], [9, 9]], np.float32),
        "y/top_indices": np.array([[1, 0], [2, 7], [0, 0]]),
    }
    sink.write(outputs, batch(2, ("a.png", "b.png")))
    sink.write(outputs, batch(1))
    assert not path.exists()
    sink.close()
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["item", "name", "class1", "value1", "class2", "value2"],
        ["0", "a.png", "dog", "0.75", "cat", "0.25"],
        ["1", "b.png", "owl", "0.5", "7", "0.25"],
        ["2", "", "dog", "0.75", "cat", "0.25"],
    ]
    assert list(tmp_path.iterdir()) == [path]


def test_csv_of_raw_scores_and_of_no_classes(tmp_path: Path) -> None:
    sink = TopKCsvSink(tmp_path / "best.csv")
    sink.write({"logits": np.array([[0.0, 3.0, 1.0, 2.0]], np.float32)}, batch(1))
    sink.close()
    assert (tmp_path / "best.csv").read_text().splitlines()[1] == "0,,1,3,3,2,2,1"
    with pytest.raises(SinkError, match=r"No output holds classes.*\.npz"):
        TopKCsvSink(tmp_path / "best.csv").write({"x": np.zeros((1, 2, 3))}, batch(1))


def test_memory_and_callback() -> None:
    memory = MemorySink()
    seen: list[tuple[int, int]] = []
    callback = CallbackSink(lambda first, outputs, given: seen.append((first, len(outputs["scores"]))))
    expected = fill(memory)
    fill(callback)
    check(memory.outputs, expected)
    assert seen == [(0, 3), (3, 3), (6, 2)]
    assert MemorySink().outputs == {}


def test_unwritable_places_are_told_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path, words in {
        tmp_path / "none" / "out.npz": "no folder",
        tmp_path / "file" / "out.npz": "no folder",
        tmp_path: "is a folder",
        tmp_path / "out.json": "ends in .npz or .csv",
    }.items():
        with pytest.raises(SinkError, match=words):
            open_sink(path if path != tmp_path else _folder_named_npz(tmp_path))
    assert check_writable(tmp_path / "fine.npz") == tmp_path / "fine.npz"


def _folder_named_npz(parent: Path) -> Path:
    folder = parent / "folder.npz"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_protected_folder_is_told_before_the_run(tmp_path: Path) -> None:
    folder = tmp_path / "protected"
    folder.mkdir(mode=0o500)
    with pytest.raises(SinkError, match="cannot be written"):
        check_writable(folder / "out.npz")


@pytest.fixture
def small_disk() -> Iterator[None]:
    """No file may grow beyond 64 KiB, which is refused just as a full disk refuses."""
    resource = pytest.importorskip("resource", reason="file size limits are Unix's")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("name", ["out.npz", "out.csv"])
def test_a_full_disk_is_told_in_words_and_leaves_nothing(tmp_path: Path, small_disk: None, name: str) -> None:
    sink = open_sink(tmp_path / name)

    def run() -> None:
        for _ in range(100):
            sink.write({"x": np.ones((100, 8), np.float32)}, batch(100))
        sink.close()

    with pytest.raises(SinkError, match=r"out\.\w+ cannot be written"):
        run()
    sink.abandon()
    assert list(tmp_path.iterdir()) == []
