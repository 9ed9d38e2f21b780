"""Weights and graphs as blobs named by the SHA-256 of their bytes.

Nothing is copied until it is read: a weight stays where the model's file put it and is hashed once. The same weight
has the same name whichever shard needs it, so a node that holds it never gets it again.
"""

from __future__ import annotations

import hashlib
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Final, Protocol

import numpy as np
import onnx_ir as ir

from core.errors import ModelError
from core.plan.form import Sha256
from core.plan.program import Constant
from core.plan.weight_slices import Take, blocks, open_data, read_block, read_pieces, taken

BLOB_DTYPES: Final = frozenset(
    {"bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64"}
)
"""Types that travel as raw bytes, as weights and as tensors; the others are only possible inside a shard."""
RECENT_BYTES: Final = 256 << 20
"""Decoded weights kept while they are being read, in bytes."""


class Bytes(Protocol):
    """Where a blob's bytes come from."""

    nbytes: int

    def view(self) -> memoryview: ...


class GraphBytes:
    """A blob that was made here."""

    def __init__(self, data: bytes) -> None:
        self.nbytes = len(data)
        self._data = data

    def view(self) -> memoryview:
        return memoryview(self._data)


class TensorBytes:
    """A weight of an open model, or the slice of one, as raw little-endian bytes in row-major order."""

    def __init__(self, tensor: ir.TensorProtocol, take: Take = ()) -> None:
        self._constant = Constant(tensor, take)
        self.nbytes = self._constant.nbytes

    @property
    def tensor(self) -> ir.TensorProtocol:
        return self._constant.tensor

    @property
    def take(self) -> Take:
        """As in ``Constant``."""
        return self._constant.take

    def view(self) -> memoryview:
        """All bytes; mapped where the model keeps the weight, whole, in a data file, else a copy."""
        return raw(self._constant.numpy())

    @property
    def in_file(self) -> bool:
        return isinstance(self.tensor, ir.ExternalTensor)

    def pieces(self, offset: int, size: int) -> Iterator[memoryview]:
        """``size`` bytes from ``offset`` on, read from the data file. OSError when it cannot be read."""
        assert isinstance(self.tensor, ir.ExternalTensor)
        with open_data(self.tensor) as file:
            if not self.take:
                for data in read_pieces(file, (self.tensor.offset or 0) + offset, size):
                    yield data.data
                return
            for block in blocks(self.tensor, self.take):
                if size <= 0:
                    return
                if offset < block.kept:
                    piece = raw(taken(read_block(file, self.tensor, block), block.take))[offset : offset + size]
                    size -= len(piece)
                    yield piece
                offset = max(0, offset - block.kept)


class BlobSource:
    """All blobs of a compiled plan, read piece by piece. Safe to use from several threads."""

    def __init__(self, blobs: Mapping[Sha256, Bytes]) -> None:
        self._blobs = dict(blobs)
        self._recent: OrderedDict[Sha256, memoryview] = OrderedDict()
        self._lock = threading.Lock()

    def __contains__(self, sha: object) -> bool:
        return sha in self._blobs

    def __len__(self) -> int:
        return len(self._blobs)

    def __iter__(self) -> Iterator[Sha256]:
        return iter(self._blobs)

    def shas(self) -> tuple[Sha256, ...]:
        return tuple(self._blobs)

    def nbytes(self, sha: Sha256) -> int:
        """Size of the whole blob; KeyError when the plan has no such blob."""
        return self._blobs[sha].nbytes

    def read(self, sha: Sha256, offset: int = 0, size: int | None = None) -> memoryview:
        """At most ``size`` bytes from ``offset`` on (all that follow when None).

        KeyError when the plan has no such blob; ValueError when ``offset`` lies outside it; ModelError when the model's
        data file cannot be read any more.
        """
        blob = self._blobs[sha]
        if not 0 <= offset <= blob.nbytes:
            raise ValueError(f"offset {offset} lies outside a blob of {blob.nbytes} bytes")
        end = blob.nbytes if size is None else min(blob.nbytes, offset + size)
        if not (isinstance(blob, TensorBytes) and blob.in_file):
            return self._view(sha, blob)[offset:end]
        try:
            found = list(blob.pieces(offset, end - offset))
        except OSError as error:
            raise ModelError(f"A weight of the model cannot be read: {error}.", hint="Open the model again.") from error
        return found[0] if len(found) == 1 else memoryview(b"".join(found))

    def _view(self, sha: Sha256, blob: Bytes) -> memoryview:
        with self._lock:
            if (held := self._recent.get(sha)) is not None:
                self._recent.move_to_end(sha)
                return held
        view = blob.view()
        if isinstance(blob, TensorBytes):
            with self._lock:
                self._recent[sha] = view
                while len(self._recent) > 1 and sum(v.nbytes for v in self._recent.values()) > RECENT_BYTES:
                    self._recent.popitem(last=False)
        return view


def sha256_of(data: bytes | memoryview) -> Sha256:
    return Sha256(hashlib.sha256(data).hexdigest())


def raw(array: np.ndarray) -> memoryview:
    """An array's elements as little-endian bytes in row-major order."""
    array = np.ascontiguousarray(array)
    if array.dtype.itemsize > 1 and sys.byteorder == "big":
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return array.reshape(-1).view(np.uint8).data
