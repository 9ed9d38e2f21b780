"""Folders of pictures and of arrays, read one batch at a time: they may be larger than memory."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from core.errors import SourceError
from core.model.graph import Model
from core.model.pictures import PictureInput, picture_input
from core.run.source import RowSource, Source, load_npy

Array = npt.NDArray[Any]

PICTURE_SUFFIXES: Final = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm"})
_MODES: Final = {1: "L", 3: "RGB", 4: "RGBA"}
_UNREADABLE: Final = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
"""What Pillow raises for files that are damaged, no pictures, or far too large."""


def natural_key(path: Path) -> list[tuple[int, int | str]]:
    """Sorts 2 before 10, and upper with lower case."""
    parts = re.split(r"([0-9]+)", path.name.lower())
    return [(0, int(part)) if part.isdigit() else (1, part) for part in parts if part]


def picture_files(folder: Path) -> list[Path]:
    """The pictures right inside the folder, in order; hidden files do not count."""
    return _files(folder, PICTURE_SUFFIXES)


def _files(folder: Path, suffixes: frozenset[str]) -> list[Path]:
    try:
        found = [p for p in folder.iterdir() if p.suffix.lower() in suffixes and not p.name.startswith(".")]
        return sorted((path for path in found if path.is_file()), key=natural_key)
    except OSError as error:
        raise SourceError(f"{folder} cannot be read: {error.strerror or error}.") from error


def open_folder(folder: Path, model: Model) -> Source:
    pictures, arrays = picture_files(folder), _files(folder, frozenset({".npy"}))
    if pictures and arrays:
        raise SourceError(
            f"{folder} holds both pictures ({pictures[0].name}) and arrays ({arrays[0].name}).",
            hint="Put them into folders of their own.",
        )
    if pictures:
        return PictureSource(model, pictures)
    if arrays:
        return ArrayFolderSource(model, arrays)
    kinds = ", ".join(sorted(suffix.lstrip(".") for suffix in PICTURE_SUFFIXES))
    raise SourceError(f"{folder} holds no pictures and no arrays.", hint=f"Put files there that end in npy, {kinds}.")


def open_picture(path: Path, model: Model) -> Source:
    """One picture. Raises SourceError for every other kind of file."""
    if path.suffix.lower() not in PICTURE_SUFFIXES:
        raise SourceError(
            f"{path} is none of the files that can be read.",
            hint="Give a .npz, a .npy, a picture, a folder of pictures or arrays, or random:N.",
        )
    return PictureSource(model, [path])


class PictureSource(RowSource):
    """One item a picture, turned into what the model's input takes: grey or colour, its size, its layout.

    A picture of another shape fills the wanted size and loses what sticks out, evenly on both sides. Models that take
    bytes get 0 ... 255, others 0.0 ... 1.0. Where the model takes any size, the first picture's is used for all.
    """

    def __init__(self, model: Model, files: Sequence[Path]) -> None:
        """Looks at the start of every file. Raises SourceError that names the first that is no picture."""
        super().__init__(model)
        self._files = tuple(files)
        self._input = _picture_input(model)
        sizes = [_size(file) for file in self._files]
        self._height = self._input.height or sizes[0][0]
        self._width = self._input.width or sizes[0][1]

    @property
    def items(self) -> int:
        return len(self._files)

    def _names(self, start: int, stop: int) -> tuple[str, ...]:
        return tuple(file.name for file in self._files[start:stop])

    def _read(self, start: int, stop: int) -> dict[str, Array]:
        pixels = np.stack([self._pixels(file) for file in self._files[start:stop]])
        if self._input.layout == "NCHW":
            pixels = pixels.transpose(0, 3, 1, 2)
        if self._input.dtype != "uint8":
            pixels = (pixels.astype(np.float32) / np.float32(255)).astype(self._input.dtype)
        return {self._input.name: pixels}

    def _pixels(self, file: Path) -> Array:
        """uint8 (height, width, channels)."""
        try:
            with Image.open(file) as opened:
                image = _eight_bit(ImageOps.exif_transpose(opened)).convert(_MODES[self._input.channels])
        except _UNREADABLE as error:
            raise _unreadable(file, error) from error
        if image.size != (self._width, self._height):
            image = ImageOps.fit(image, (self._width, self._height), Image.Resampling.BILINEAR)
        return np.asarray(image).reshape(self._height, self._width, self._input.channels)


def _picture_input(model: Model) -> PictureInput:
    first = picture_input(model.inputs[0]) if model.inputs else None
    if len(model.inputs) != 1 or first is None:
        takes = "; ".join(f"'{info.name}' {info.dtype} {list(info.dims)}" for info in model.inputs)
        raise SourceError(
            f"{model.name} does not take pictures. Its inputs: {takes}.",
            hint="Give arrays as .npz under these names, or random:N.",
        )
    return first


def _size(file: Path) -> tuple[int, int]:
    """Height and width as the file's head tells, turned as the camera was held."""
    try:
        with Image.open(file) as image:
            turned = image.getexif().get(0x0112, 1) >= 5
            return (image.width, image.height) if turned else (image.height, image.width)
    except _UNREADABLE as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: BaseException) -> SourceError:
    if isinstance(error, OSError) and error.strerror:
        reason = error.strerror
    elif isinstance(error, UnidentifiedImageError):
        reason = "it is no picture that Pillow knows"
    else:
        reason = str(error).rstrip(".") or type(error).__name__
    return SourceError(f"The picture {file} cannot be read: {reason}.", hint="Mend it or take it out of the folder.")


def _eight_bit(image: Image.Image) -> Image.Image:
    """Pillow cuts 16-bit grey off at 255; keep its upper eight bits instead."""
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray(np.clip(np.asarray(image, np.int64) >> 8, 0, 255).astype(np.uint8))


class ArrayFolderSource(RowSource):
    """The items of .npy files, for a model with one input: one a file, or the rows where there is an axis for them."""

    def __init__(self, model: Model, files: Sequence[Path]) -> None:
        """Looks at the head of every file. Raises SourceError naming the first that does not fit."""
        super().__init__(model)
        if len(model.inputs) != 1:
            raise SourceError(
                f"A folder of .npy files feeds one input; {model.name} has {len(model.inputs)}.",
                hint="Save all inputs together as one .npz.",
            )
        self._input = model.inputs[0]
        self._files = tuple(files)
        counts, first = [], None
        for file in self._files:
            array = self._open(file)
            try:
                counts.append(model.check_feed({self._input.name: array}))
            except SourceError as error:
                raise SourceError(f"{file.name}: {error.message}", hint=error.hint) from error
            first = array.shape[1:] if first is None else first
            if not self._whole and array.shape[1:] != first:
                raise SourceError(
                    f"{file.name} has items of shape {array.shape[1:]}, {self._files[0].name} of {first}.",
                    hint="Items of one run must have one shape.",
                )
        self._bounds = (0, *accumulate(counts))

    @property
    def items(self) -> int:
        return self._bounds[-1]

    def _open(self, file: Path) -> Array:
        array = load_npy(file)
        return array[None] if self._input.batched and array.ndim == len(self._input.dims) - 1 else array

    def _names(self, start: int, stop: int) -> tuple[str, ...]:
        return tuple(file.name for file, rows in self._parts(start, stop) for _ in range(*rows))

    def _parts(self, start: int, stop: int) -> list[tuple[Path, tuple[int, int]]]:
        """The files that hold items ``start`` to ``stop``, and which of their rows."""
        first = int(np.searchsorted(self._bounds, start, side="right")) - 1
        found = []
        for file, (begin, end) in zip(self._files[first:], pairwise(self._bounds[first:]), strict=True):
            if begin >= stop:
                break
            found.append((file, (max(start, begin) - begin, min(stop, end) - begin)))
        return found

    def _read(self, start: int, stop: int) -> dict[str, Array]:
        parts = self._parts(start, stop)
        if self._whole:
            return {self._input.name: self._open(parts[0][0])}
        return {self._input.name: np.concatenate([self._open(file)[begin:end] for file, (begin, end) in parts])}
