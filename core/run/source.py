"""Where the items of a run come from. Every source knows their number beforehand and reads them only when asked.

| spec | items |
| --- | --- |
| X.npz | rows of its arrays, which are named as the model's inputs |
| X.npy | rows of the array; for models with one input |
| a folder of pictures, or one picture | one item a picture, sorted as people count: 2 before 10 |
| a folder of .npy | one item a file, or its rows where the file has an axis for them |
| random:N | N items made up to fit the model; the same each time |
"""

from __future__ import annotations

import re
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from core.errors import SourceError
from core.model.graph import Model

Array = npt.NDArray[Any]
Feed = Mapping[str, Array]

_FORMS: Final = "Give a .npz, a .npy, a folder of pictures or arrays, or random:N."
_RANDOM_ITEMS: Final = 64
_RANDOM_BYTES: Final = 64 * 2**20
"""Random items repeat after this many, or this much, so that making them up never slows a run."""


class Batch(Struct, frozen=True):
    """One micro-batch, ready to send."""

    feed: Feed
    """C-contiguous arrays in the machine's byte order, by input name; axis 0 counts the items unless ``whole``."""
    rows: int
    """Items that are real; the rest, at the end, fills up a model of fixed batch."""
    first: int = 0
    """Number of the first item within the source."""
    names: tuple[str, ...] = ()
    """What people call the real items, such as file names; empty where they have no names."""
    whole: bool = False
    """The feed is one item altogether: neither inputs nor outputs have an item axis."""


class Source(ABC):
    """Items for a run, read in order, as often as asked."""

    @property
    @abstractmethod
    def items(self) -> int:
        """How many there are; at least one."""

    @abstractmethod
    def batches(self, size: int) -> Iterator[Batch]:
        """All items from the first, ``size`` together; the last batch is short, or filled up where the model's batch is
        fixed. Raises SourceError that names what cannot be read."""


def open_source(spec: str, model: Model) -> Source:
    """Open what a person typed. Raises SourceError that says what does not fit, and what would."""
    from core.run.source_files import open_folder, open_picture  # noqa: PLC0415 - they build on this module

    text = str(spec).strip()
    if not text:
        raise SourceError("No input was given.", hint=_FORMS)
    if re.match(r"random(:|$)", text, re.IGNORECASE):
        return RandomSource(model, _random_items(text))
    path = Path(text).expanduser()
    if not path.exists():
        raise SourceError(f"There is no file or folder {path}.", hint=_FORMS)
    if path.is_dir():
        return open_folder(path, model)
    match path.suffix.lower():
        case ".npz":
            return FeedSource(model, _load_npz(path))
        case ".npy":
            return FeedSource(model, {_only_input(model, path): load_npy(path)})
    return open_picture(path, model)


def is_pictures(spec: str) -> bool:
    """Whether the spec names a picture or a folder of pictures: then the model's processing for pictures applies."""
    from core.run.source_files import PICTURE_SUFFIXES, picture_files  # noqa: PLC0415 - they build on this module

    path = Path(spec).expanduser()
    return bool(picture_files(path)) if path.is_dir() else path.suffix.lower() in PICTURE_SUFFIXES and path.is_file()


class RowSource(Source):
    """A source whose items are numbered: the part that cuts them into batches and fills up the last one."""

    def __init__(self, model: Model) -> None:
        self._whole = not model.batchable
        self._fixed = model.fixed_batch

    @abstractmethod
    def _read(self, start: int, stop: int) -> dict[str, Array]:
        """The inputs of items ``start`` to ``stop``; of one item, without an item axis, where the feed is whole."""

    def _names(self, start: int, stop: int) -> tuple[str, ...]:  # noqa: ARG002 - for those with names
        return ()

    def batches(self, size: int) -> Iterator[Batch]:
        if size < 1:
            raise SourceError(f"A micro-batch of {size} items is not possible.", hint="Choose 1 or more.")
        size = 1 if self._whole else self._fixed or size
        for start in range(0, self.items, size):
            stop = min(start + size, self.items)
            feed = {name: _sendable(array) for name, array in self._read(start, stop).items()}
            if self._fixed and stop - start < size:
                feed = {name: filled_up(array, size) for name, array in feed.items()}
            yield Batch(feed, stop - start, start, self._names(start, stop), self._whole)


class FeedSource(RowSource):
    """The rows of arrays that are there already, in memory or mapped from a file."""

    def __init__(self, model: Model, feed: Feed) -> None:
        """Raises SourceError where the arrays do not fit the model's inputs."""
        super().__init__(model)
        self._items = model.check_feed(feed)
        self._feed = dict(feed)

    @property
    def items(self) -> int:
        return self._items

    def _read(self, start: int, stop: int) -> dict[str, Array]:
        if self._whole:
            return dict(self._feed)
        return {name: array[start:stop] for name, array in self._feed.items()}


class RandomSource(RowSource):
    """Items made up to fit the model; item i is the same in every run and for every batch size."""

    def __init__(self, model: Model, items: int) -> None:
        super().__init__(model)
        self._items = items
        first = self._made_up(model, 0)
        nbytes = max(1, sum(array.nbytes for array in first.values()))
        count = min(items, max(1, min(_RANDOM_ITEMS, _RANDOM_BYTES // nbytes)))
        pool = [first, *(self._made_up(model, seed) for seed in range(1, count))]
        self._pool_items = count
        self._pool_feeds = pool if self._whole else []
        self._pool = {} if self._whole else {name: np.concatenate([item[name] for item in pool]) for name in first}

    def _made_up(self, model: Model, seed: int) -> dict[str, Array]:
        feed = model.random_feed(1, seed=seed)
        return dict(feed) if self._whole else {name: array[:1] for name, array in feed.items()}

    @property
    def items(self) -> int:
        return self._items

    def _read(self, start: int, stop: int) -> dict[str, Array]:
        if self._whole:
            return self._pool_feeds[start % self._pool_items]
        first = start % self._pool_items
        if first + stop - start <= self._pool_items:
            return {name: array[first : first + stop - start] for name, array in self._pool.items()}
        rows = np.arange(start, stop) % self._pool_items
        return {name: array[rows] for name, array in self._pool.items()}


def load_npy(path: Path) -> Array:
    """The array in a file, mapped, not read. Raises SourceError that names the file."""
    try:
        with path.open("rb") as file:
            if file.read(len(_NPY_MAGIC)) != _NPY_MAGIC:
                raise ValueError("it does not begin as one")
        return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]
    except (OSError, ValueError, EOFError) as error:
        raise SourceError(f"{path} is not a readable .npy file: {_reason(error)}", hint=_NO_PICKLE) from error


_NPY_MAGIC: Final = b"\x93NUMPY"
_NO_PICKLE: Final = "Save it again with numpy.save or numpy.savez, as an array of numbers."


def _load_npz(path: Path) -> dict[str, Array]:
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("it is no zip archive, or cut short")
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, KeyError, NotImplementedError) as error:
        raise SourceError(f"{path} is not a readable .npz file: {_reason(error)}", hint=_NO_PICKLE) from error


def _reason(error: BaseException) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"{text.splitlines()[0].rstrip('.') if text else type(error).__name__}."


def _only_input(model: Model, path: Path) -> str:
    if len(model.inputs) != 1:
        names = ", ".join(f"'{info.name}'" for info in model.inputs)
        raise SourceError(
            f"{path} holds one array; {model.name} has {len(model.inputs)} inputs: {names}.",
            hint="Save them together as .npz under these names.",
        )
    return model.inputs[0].name


def _random_items(text: str) -> int:
    number = text.partition(":")[2].strip().replace("_", "")
    if not re.fullmatch(r"[0-9]{1,12}", number) or int(number) < 1:
        raise SourceError(
            f"'{text}' does not say how many random items.",
            hint="Write random:N with a whole number of 1 or more, such as random:100.",
        )
    return int(number)


def _sendable(array: Array) -> Array:
    """C-contiguous, in memory (not mapped), in the machine's byte order; not copied where it is so already."""
    native = array.dtype.newbyteorder("=")
    if isinstance(array, np.memmap):
        return np.array(array, native, order="C", subok=False)
    return np.asarray(array, native, order="C")


def filled_up(array: Array, size: int) -> Array:
    """The last row again until there are ``size``."""
    return np.concatenate([array, np.repeat(array[-1:], size - len(array), axis=0)])
