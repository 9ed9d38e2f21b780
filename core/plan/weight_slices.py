"""The bytes of weights and of slices of them, read from data files in blocks.

A weight of gigabytes is never in memory as a whole. Mapping it would not help: mapped pages count as this program's
memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from core.plan.layouts import Ranges, length

Take = tuple[tuple[int, Ranges], ...]
"""As in ``program.Constant``: (axis, ranges) that are kept, axes increasing. Empty: all."""
Raw = npt.NDArray[np.uint8]

PIECE_BYTES: Final = 8 << 20
"""Read from a data file at once."""
BLOCK_BYTES: Final = 1 << 20
"""The same where what is read is cut then: a block and its slices stay in the processor's cache."""
LONG_RUN_BYTES: Final = 64 << 10
"""Consecutive bytes of a data file that are worth a read of their own."""


class Block(NamedTuple):
    """Consecutive bytes of a weight, and what is kept of them."""

    position: int
    """In the weight's bytes."""
    shape: tuple[int, ...]
    """Of the block as elements; axis 0 counts rows."""
    take: Take
    kept: int
    """Bytes."""


def rows_axis(tensor: ir.TensorProtocol, take: Take) -> int | None:
    """For slices so fine that whole rows are read: the axis that divides a row; all slices along it read the same."""
    (first, ranges), *_ = take
    inner = _inner_bytes(tensor, first)
    shortest = min((stop - start for start, stop in ranges), default=0) * inner
    return None if shortest >= LONG_RUN_BYTES or int(tensor.shape.numpy()[first]) * inner > PIECE_BYTES else first


def blocks(tensor: ir.TensorProtocol, take: Take) -> Iterator[Block]:
    """What to read for a slice, in order: few bytes more than are kept, and never much at once.

    Along the first axis that is cut, long ranges are read by themselves; where they are short (columns of a matrix),
    whole rows are read, to be cut.
    """
    shape = tuple(int(size) for size in tensor.shape.numpy())
    (first, ranges), *later = take
    inner = _inner_bytes(tensor, first)
    row = shape[first] * inner
    outer = prod(shape[:first])
    if rows_axis(tensor, take) is not None:
        cuts = tuple((axis - first + 1, found) for axis, found in take)
        yield from _stretch(0, outer, row, shape[first:], cuts)
        return
    cuts = tuple((axis - first, found) for axis, found in later)
    for index in range(outer):
        for start, stop in ranges:
            yield from _stretch(index * row + start * inner, stop - start, inner, shape[first + 1 :], cuts)


def _inner_bytes(tensor: ir.TensorProtocol, axis: int) -> int:
    """Bytes from one index of an axis to the next."""
    sizes = [int(size) for size in tensor.shape.numpy()[axis + 1 :]]
    return prod(sizes) * tensor.nbytes // max(1, tensor.size)


def _stretch(position: int, rows: int, row_bytes: int, row_shape: tuple[int, ...], take: Take) -> Iterator[Block]:
    at_once = max(1, (BLOCK_BYTES if take else PIECE_BYTES) // max(1, row_bytes))
    for first in range(0, rows, at_once):
        count = min(at_once, rows - first)
        kept = count * row_bytes
        for axis, ranges in take:
            kept = kept * length(ranges) // max(1, row_shape[axis - 1])
        yield Block(position + first * row_bytes, (count, *row_shape), take, kept)


def read_block(file: BinaryIO, tensor: ir.ExternalTensor, block: Block) -> np.ndarray:
    """The elements of a block. OSError when the file ends too early."""
    dtype = tensor.dtype.numpy()
    data = read(file, (tensor.offset or 0) + block.position, prod(block.shape) * dtype.itemsize)
    return data.view(dtype).reshape(block.shape)


def read(file: BinaryIO, position: int, size: int) -> Raw:
    """``size`` bytes of a file from ``position`` on. OSError when it ends too early."""
    data = np.empty(size, np.uint8)
    file.seek(position)
    done = 0
    while done < size:
        count = file.readinto(data[done:].data)  # type: ignore[attr-defined]
        if not count:
            raise OSError(f"{file.name} ends too early")
        done += count
    return data


def read_pieces(file: BinaryIO, position: int, size: int) -> Iterator[Raw]:
    """The same in pieces of ``PIECE_BYTES``."""
    for start in range(position, position + size, PIECE_BYTES):
        yield read(file, start, min(PIECE_BYTES, position + size - start))


def open_data(tensor: ir.ExternalTensor) -> BinaryIO:
    """The data file of a weight, to be read."""
    return Path(tensor.path).open("rb", buffering=0)


def taken(array: np.ndarray, take: Take) -> np.ndarray:
    """The ranges of ``take``, joined along their axes."""
    for axis, ranges in take:
        pieces = [array[(slice(None),) * axis + (slice(start, stop),)] for start, stop in ranges]
        array = pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=axis)
    return array
