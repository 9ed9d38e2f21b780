"""SHA-256 of weights and of slices of them: computed once, side by side, and remembered for large files."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import msgspec
import onnx_ir as ir

from core.errors import ModelError
from core.paths import cache_dir
from core.plan.blobs import TensorBytes, raw, sha256_of
from core.plan.form import Sha256
from core.plan.weight_slices import Take, blocks, open_data, read_block, rows_axis, taken

REMEMBERED_FILE_BYTES: Final = 64 << 20
"""Hashes of weights in data files at least this large are remembered on disk."""
MOST_REMEMBERED: Final = 50_000
"""Of one file; the oldest are forgotten."""
_META_KEY: Final = "shardboard.sha256"


def hash_weights(weights: Iterable[TensorBytes]) -> list[Sha256]:
    """SHA-256 of each weight's raw bytes, in order.

    A hash is computed once for an open model, and once for a large data file as long as the file stays unchanged;
    several are computed side by side. ModelError when a data file cannot be read.
    """
    weights = list(weights)
    remembered = _RememberedHashes()
    unknown: dict[tuple[int, Take], TensorBytes] = {}
    for weight in weights:
        if weight.take not in (known := _known(weight.tensor)):
            found = remembered.find(weight)
            if found is None:
                unknown[id(weight.tensor), weight.take] = weight
            else:
                known[weight.take] = found
    if unknown:
        jobs = _jobs(unknown.values())
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="hash") as pool:
            for job, shas in zip(jobs, pool.map(_hash, jobs), strict=True):
                for weight, sha in zip(job, shas, strict=True):
                    _known(weight.tensor)[weight.take] = sha
                    remembered.add(weight, sha)
        remembered.save()
    return [_known(weight.tensor)[weight.take] for weight in weights]


def _known(tensor: ir.TensorProtocol) -> dict[Take, Sha256]:
    """Hashes of an open model's weight and of slices of it."""
    held: dict[Take, Sha256] = tensor.meta.setdefault(_META_KEY, {})
    return held


def _jobs(weights: Iterable[TensorBytes]) -> list[list[TensorBytes]]:
    """Slices for which the same bytes are read belong together."""
    jobs: dict[tuple[object, ...], list[TensorBytes]] = {}
    for weight in weights:
        rows = rows_axis(weight.tensor, weight.take) if weight.in_file and weight.take else None
        key = (id(weight.tensor), rows) if rows is not None else (id(weight.tensor), weight.take)
        jobs.setdefault(key, []).append(weight)
    return list(jobs.values())


def _hash(job: Sequence[TensorBytes]) -> list[Sha256]:
    first = job[0]
    try:
        if not first.in_file:
            return [sha256_of(weight.view()) for weight in job]
        if len(job) > 1:
            return _hash_together(job)
        digest = hashlib.sha256()
        for piece in first.pieces(0, first.nbytes):
            digest.update(piece)
        return [Sha256(digest.hexdigest())]
    except (OSError, ValueError) as error:
        raise ModelError(
            f"The weight {first.tensor.name!r} cannot be read: {error}.", hint="Is the model's data file complete?"
        ) from error


def _hash_together(job: Sequence[TensorBytes]) -> list[Sha256]:
    """Slices of one weight that all need the same rows: each row is read once."""
    tensor = job[0].tensor
    assert isinstance(tensor, ir.ExternalTensor)
    digests = [hashlib.sha256() for _ in job]
    with open_data(tensor) as file:
        for several in zip(*(blocks(tensor, weight.take) for weight in job), strict=True):
            rows = read_block(file, tensor, several[0])
            for digest, block in zip(digests, several, strict=True):
                digest.update(raw(taken(rows, block.take)))
    return [Sha256(digest.hexdigest()) for digest in digests]


class _FileHashes(msgspec.Struct):
    mtime_ns: int
    size: int
    hashes: dict[str, Sha256]


class _RememberedHashes:
    """Hashes of weights in large data files, kept in the cache folder under the file's path, time and size."""

    def __init__(self) -> None:
        self._files: dict[str, _FileHashes | None] = {}
        self._changed: set[str] = set()

    def find(self, weight: TensorBytes) -> Sha256 | None:
        entry = self._entry(weight.tensor)
        return entry.hashes.get(_place(weight)) if entry else None

    def add(self, weight: TensorBytes, sha: Sha256) -> None:
        if isinstance(weight.tensor, ir.ExternalTensor) and (entry := self._entry(weight.tensor)):
            entry.hashes[_place(weight)] = sha
            self._changed.add(str(weight.tensor.path))

    def save(self) -> None:
        for path in self._changed:
            entry = self._files[path]
            assert entry is not None
            for place in list(entry.hashes)[: max(0, len(entry.hashes) - MOST_REMEMBERED)]:
                del entry.hashes[place]
            target = _remembered_at(Path(path))
            partial = target.with_suffix(f".{os.getpid()}.{threading.get_ident()}")
            partial.write_bytes(msgspec.json.encode(entry))
            partial.replace(target)

    def _entry(self, tensor: ir.TensorProtocol) -> _FileHashes | None:
        if not isinstance(tensor, ir.ExternalTensor):
            return None
        path = str(tensor.path)
        if path not in self._files:
            self._files[path] = _load_remembered(Path(path))
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


def _place(weight: TensorBytes) -> str:
    """Which bytes of its data file a weight is; for a slice also which part of them, and of what shape."""
    tensor: Any = weight.tensor
    place = f"{tensor.offset or 0}+{tensor.nbytes}"
    if not weight.take:
        return place
    shape = "x".join(str(size) for size in tensor.shape.numpy())
    parts = (f"{axis}:{','.join(f'{start}-{stop}' for start, stop in ranges)}" for axis, ranges in weight.take)
    return f"{place} {shape} {' '.join(parts)}"
