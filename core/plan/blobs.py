"""Weights and graphs as blobs named by the SHA-256 of their bytes.

Nothing is copied until it is read: a weight stays where the model's file put it and is hashed once. The same weight
has the same name whichever shard needs it, so a node that holds it never gets it again.
"""

from __future__ import annotations

import hashlib
import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
import numpy as np
import onnx_ir as ir

from core.errors import ModelError
from core.paths import cache_dir
from core.plan.form import Sha256

BLOB_DTYPES: Final = frozenset(
    {"bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64"}
)
"""Types that travel as raw bytes, as weights and as tensors; the others are only possible inside a shard."""
RECENT_BYTES: Final = 256 << 20
"""Decoded weights kept while they are being read, in bytes."""
PIECE_BYTES: Final = 8 << 20
"""Read from a data file at once."""
REMEMBERED_FILE_BYTES: Final = 64 << 20
"""Hashes of weights in data files at least this large are remembered on disk."""
_META_KEY: Final = "shardboard.sha256"


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
    """A weight of an open model, as raw little-endian bytes in row-major order."""

    def __init__(self, tensor: ir.TensorProtocol) -> None:
        self.nbytes = tensor.nbytes
        self._tensor = tensor

    def view(self) -> memoryview:
        """All bytes; mapped where the model keeps its weights in data files, else a copy."""
        array = np.ascontiguousarray(self._tensor.numpy())
        if array.dtype.itemsize > 1 and sys.byteorder == "big":
            array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        return array.reshape(-1).view(np.uint8).data

    @property
    def in_file(self) -> bool:
        return isinstance(self._tensor, ir.ExternalTensor)

    def pieces(self, offset: int, size: int) -> Iterator[memoryview]:
        """The bytes from ``offset`` on, read from the data file: mapped pages would count as this program's memory."""
        assert isinstance(self._tensor, ir.ExternalTensor)
        with Path(self._tensor.path).open("rb") as file:
            file.seek((self._tensor.offset or 0) + offset)
            while size > 0:
                data = file.read(min(size, PIECE_BYTES))
                if not data:
                    raise OSError(f"{self._tensor.path} ends too early")
                size -= len(data)
                yield memoryview(data)


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


def hash_tensors(tensors: Iterable[ir.TensorProtocol]) -> list[Sha256]:
    """SHA-256 of each tensor's raw bytes, in order.

    A hash is computed once for an open model, and once for a large data file as long as the file stays unchanged;
    several are computed side by side. ModelError when a data file cannot be read.
    """
    tensors = list(tensors)
    remembered = _RememberedHashes()
    unknown: dict[int, ir.TensorProtocol] = {}
    for tensor in tensors:
        if _META_KEY not in tensor.meta:
            known = remembered.find(tensor)
            if known is None:
                unknown[id(tensor)] = tensor
            else:
                tensor.meta[_META_KEY] = known
    if unknown:
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="hash") as pool:
            for tensor, sha in zip(unknown.values(), pool.map(_hash, unknown.values()), strict=True):
                tensor.meta[_META_KEY] = sha
                remembered.add(tensor, sha)
        remembered.save()
    return [tensor.meta[_META_KEY] for tensor in tensors]


def _hash(tensor: ir.TensorProtocol) -> Sha256:
    source = TensorBytes(tensor)
    try:
        if not source.in_file:
            return sha256_of(source.view())
        digest = hashlib.sha256()
        for piece in source.pieces(0, source.nbytes):
            digest.update(piece)
        return Sha256(digest.hexdigest())
    except (OSError, ValueError) as error:
        raise ModelError(
            f"The weight {tensor.name!r} cannot be read: {error}.", hint="Is the model's data file complete?"
        ) from error


class _FileHashes(msgspec.Struct):
    mtime_ns: int
    size: int
    hashes: dict[str, Sha256]


class _RememberedHashes:
    """Hashes of weights in large data files, kept in the cache folder under the file's path, time and size."""

    def __init__(self) -> None:
        self._files: dict[Path, _FileHashes | None] = {}
        self._changed: set[Path] = set()

    def find(self, tensor: ir.TensorProtocol) -> Sha256 | None:
        entry = self._entry(tensor)
        return entry.hashes.get(_place(tensor)) if entry else None

    def add(self, tensor: ir.TensorProtocol, sha: Sha256) -> None:
        if isinstance(tensor, ir.ExternalTensor) and (entry := self._entry(tensor)):
            entry.hashes[_place(tensor)] = sha
            self._changed.add(Path(tensor.path))

    def save(self) -> None:
        for path in self._changed:
            target = _remembered_at(path)
            partial = target.with_suffix(f".{os.getpid()}.{threading.get_ident()}")
            partial.write_bytes(msgspec.json.encode(self._files[path]))
            partial.replace(target)

    def _entry(self, tensor: ir.TensorProtocol) -> _FileHashes | None:
        if not isinstance(tensor, ir.ExternalTensor):
            return None
        path = Path(tensor.path)
        if path not in self._files:
            self._files[path] = _load_remembered(path)
        return self._files[path]


def _load_remembered(path: Path) -> _FileHashes | None:
    """What is remembered of a data file, empty when it changed since; None for files too small to be worth it."""
    try:
        stat = path.stat()
    except OSError:
        return None
    if stat.st_size < REMEMBERED_FILE_BYTES:
        return None
    fresh = _FileHashes(stat.st_mtime_ns, stat.st_size, {})
    try:
        held = msgspec.json.decode(_remembered_at(path).read_bytes(), type=_FileHashes)
    except (OSError, msgspec.DecodeError):
        return fresh
    return held if (held.mtime_ns, held.size) == (fresh.mtime_ns, fresh.size) else fresh


def _remembered_at(path: Path) -> Path:
    folder = cache_dir() / "hashes"
    folder.mkdir(exist_ok=True)
    return folder / f"{sha256_of(str(path.resolve()).encode())}.json"


def _place(tensor: Any) -> str:
    return f"{tensor.offset or 0}+{tensor.nbytes}"
