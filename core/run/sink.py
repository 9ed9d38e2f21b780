"""Where the results of a run go, in the order of the items. Files appear under their name only when they are whole."""

from __future__ import annotations

import contextlib
import csv
import os
import shutil
import uuid
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt

from core.errors import SinkError
from core.run.source import Batch

Array = npt.NDArray[Any]
Outputs = Mapping[str, Array]
_COPY_BYTES: Final = 4 * 2**20
_BEST_OF_RAW: Final = 3


class Sink(ABC):
    """Takes results batch by batch; ``close`` when all are there, ``abandon`` when the run ends early.

    ``abandon`` after ``close`` does nothing. All three raise SinkError when the disk refuses.
    """

    @abstractmethod
    def write(self, outputs: dict[str, Array], batch: Batch) -> None:
        """Results of one batch by output name, with the rows that only filled the batch up still in them."""

    @abstractmethod
    def close(self) -> None:
        """Finish."""

    @abstractmethod
    def abandon(self) -> None:
        """Drop what was written so far."""


def open_sink(path: str | Path, labels: Sequence[str] = ()) -> Sink:
    """The sink for a file by its ending: .npz or .csv. Raises SinkError where it cannot be written; call it before the
    run begins."""
    path = Path(path).expanduser()
    match path.suffix.lower():
        case ".npz":
            return NpzSink(path)
        case ".csv":
            return TopKCsvSink(path, labels)
    raise SinkError(f"Results cannot be written as {path.name}.", hint="Choose a name that ends in .npz or .csv.")


def check_writable(path: str | Path) -> Path:
    """Make sure that a file of this name can be made now. Raises SinkError that says why not."""
    path = Path(path).expanduser()
    if path.is_dir():
        raise SinkError(f"{path} is a folder.", hint="Give the name of a file in it.")
    folder = path.resolve().parent
    if not folder.is_dir():
        raise SinkError(f"There is no folder {folder} to write {path.name} in.", hint="Make it, or choose another.")
    if path.exists() and not os.access(path, os.W_OK):
        raise SinkError(f"{path} is write-protected.", hint="Choose another name.")
    with _words(path):
        probe = _temporary(path, "probe")
        probe.touch()
        probe.unlink()
    return path


@contextlib.contextmanager
def _words(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        hint = "Choose a folder that you may write to, on a disk with room."
        raise SinkError(f"{path} cannot be written: {error.strerror or error}.", hint=hint) from error


def _temporary(path: Path, what: str) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.{what}.part")


def real_rows(outputs: Outputs, batch: Batch) -> dict[str, Array]:
    """Without the rows that only filled the batch up; all of it where the batch is one item as a whole."""
    if batch.whole:
        return dict(outputs)
    return {name: array[: batch.rows] if array.ndim else array for name, array in outputs.items()}


class NpzSink(Sink):
    """All outputs by name in one .npz, items along axis 0. Results wait on disk, not in memory.

    A model without an item axis gives its outputs as they are; several items of it are stacked along a new axis 0.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = check_writable(path)
        self._columns: dict[str, _Column] = {}
        self._whole = False

    def write(self, outputs: dict[str, Array], batch: Batch) -> None:
        self._whole = batch.whole
        with _words(self._path):
            for name, array in real_rows(outputs, batch).items():
                rows = array[None] if batch.whole or not array.ndim else array
                if name not in self._columns:
                    self._columns[name] = _Column(name, _temporary(self._path, f"{len(self._columns)}"), rows)
                self._columns[name].append(rows)

    def close(self) -> None:
        part = _temporary(self._path, "npz")
        try:
            with _words(self._path):
                with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
                    for column in self._columns.values():
                        with archive.open(f"{column.name}.npy", "w", force_zip64=True) as entry:
                            column.copy_to(entry, alone=self._whole)
                part.replace(self._path)
        finally:
            part.unlink(missing_ok=True)
            self.abandon()

    def abandon(self) -> None:
        columns, self._columns = self._columns, {}
        for column in columns.values():
            column.remove()


class _Column:
    """One output's rows, raw in a temporary file until their number is known."""

    def __init__(self, name: str, file: Path, first: Array) -> None:
        self.name = name
        self._dtype, self._shape = first.dtype, first.shape[1:]
        self._rows = 0
        self._path = file
        self._file = file.open("w+b")

    def append(self, rows: Array) -> None:
        if rows.shape[1:] != self._shape or rows.dtype != self._dtype:
            raise SinkError(
                f"Output '{self.name}' changes from items of {self._shape} {self._dtype} to {rows.shape[1:]} "
                f"{rows.dtype}; one array cannot hold both.",
                hint="Run inputs of one shape at a time.",
            )
        self._file.write(np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data)
        self._rows += len(rows)

    def copy_to(self, target: IO[bytes], *, alone: bool) -> None:
        shape = self._shape if alone and self._rows == 1 else (self._rows, *self._shape)
        header = {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_2_0(target, header)
        self._file.seek(0)
        shutil.copyfileobj(self._file, target, _COPY_BYTES)

    def remove(self) -> None:
        with contextlib.suppress(OSError):  # a full disk refuses what was still to be written; it is dropped anyway
            self._file.close()
        self._path.unlink(missing_ok=True)


class TopKCsvSink(Sink):
    """One line an item: its number, its name, and its best classes with their values, best first."""

    def __init__(self, path: str | Path, labels: Sequence[str] = ()) -> None:
        self._path = check_writable(path)
        self._labels = tuple(labels)
        self._part = _temporary(self._path, "csv")
        self._file: IO[str] | None = None
        self._items = 0

    def write(self, outputs: dict[str, Array], batch: Batch) -> None:
        values, indices = best_classes(real_rows(outputs, batch))
        with _words(self._path):
            if self._file is None:
                self._file = self._part.open("w", newline="", encoding="utf-8")
                pairs = (f"{kind}{rank}" for rank in range(1, values.shape[1] + 1) for kind in ("class", "value"))
                csv.writer(self._file).writerow(["item", "name", *pairs])
            csv.writer(self._file).writerows(self._lines(values, indices, batch))
        self._items += len(values)

    def _lines(self, values: Array, indices: Array, batch: Batch) -> Iterator[list[str]]:
        for row, (numbers, classes) in enumerate(zip(values, indices, strict=True)):
            name = batch.names[row] if row < len(batch.names) else ""
            pairs = zip(classes, numbers, strict=True)
            cells = (text for index, value in pairs for text in (self._label(int(index)), f"{value:.6g}"))
            yield [str(self._items + row), name, *cells]

    def _label(self, index: int) -> str:
        return self._labels[index] if 0 <= index < len(self._labels) else str(index)

    def close(self) -> None:
        if self._file is None:
            return
        with _words(self._path):
            self._file.close()
            self._part.replace(self._path)
        self._file = None

    def abandon(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):  # as in _Column.remove
                self._file.close()
            self._file = None
        self._part.unlink(missing_ok=True)


def best_classes(outputs: Outputs) -> tuple[Array, Array]:
    """Values and class indices (items, k), best first: from outputs that top-k made, else of the first raw scores.

    Raises SinkError where no output holds classes.
    """
    for name, values in outputs.items():
        if name.endswith("/top_values") and values.ndim == 2:
            return values, outputs[f"{name.removesuffix('values')}indices"]
    for values in outputs.values():
        if values.ndim == 2 and values.dtype.kind == "f":
            order = np.argsort(-values, axis=1, kind="stable")[:, :_BEST_OF_RAW]
            return np.take_along_axis(values, order, axis=1), order
    shapes = ", ".join(f"'{name}' {list(array.shape)}" for name, array in outputs.items())
    raise SinkError(f"No output holds classes for a table: {shapes}.", hint="Write a .npz instead.")


class MemorySink(Sink):
    """Keeps the results; ``outputs`` joins them."""

    def __init__(self) -> None:
        self._batches: list[dict[str, Array]] = []
        self._whole = False

    def write(self, outputs: dict[str, Array], batch: Batch) -> None:
        self._whole = batch.whole
        self._batches.append(real_rows(outputs, batch))

    def close(self) -> None:
        """Nothing to finish."""

    def abandon(self) -> None:
        """What came so far stays readable."""

    @property
    def outputs(self) -> dict[str, Array]:
        """By output name, items along axis 0; of a model without an item axis as in NpzSink."""
        if not self._batches:
            return {}
        names = self._batches[0]
        if self._whole and len(self._batches) == 1:
            return dict(names)
        join = np.stack if self._whole else np.concatenate
        return {name: join([batch[name] for batch in self._batches]) for name in names}


class CallbackSink(Sink):
    """Hands every batch's real rows on, with the number of its first item within the run, on the run's thread."""

    def __init__(self, callback: Callable[[int, dict[str, Array], Batch], None]) -> None:
        self._callback = callback
        self._items = 0

    def write(self, outputs: dict[str, Array], batch: Batch) -> None:
        first, self._items = self._items, self._items + batch.rows
        self._callback(first, real_rows(outputs, batch), batch)

    def close(self) -> None:
        """Nothing to finish."""

    def abandon(self) -> None:
        """Nothing to drop."""


class TeeSink(Sink):
    """Several sinks at once: a table in the panel and a file."""

    def __init__(self, *sinks: Sink) -> None:
        self._sinks = sinks

    def write(self, outputs: dict[str, Array], batch: Batch) -> None:
        for sink in self._sinks:
            sink.write(outputs, batch)

    def close(self) -> None:
        for sink in self._sinks:
            sink.close()

    def abandon(self) -> None:
        for sink in self._sinks:
            sink.abandon()
