"""SHA-256 of model files, remembered by (path, modification time, size) so that reopening costs nothing."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from core.paths import cache_dir
from core.plan.form import Sha256


class _Remembered(msgspec.Struct, frozen=True):
    mtime_ns: int
    size: int
    sha256: str


def model_sha256(path: Path, data_files: Sequence[tuple[str, Path]]) -> Sha256:
    """The hash of a model file; with external data, of the file's hash and each (location, hash) in order."""
    own = file_sha256(path)
    if not data_files:
        return own
    digest = hashlib.sha256(own.encode())
    for location, data_path in sorted(data_files):
        digest.update(f"\n{location}\n{file_sha256(data_path)}".encode())
    return Sha256(digest.hexdigest())


def file_sha256(path: Path) -> Sha256:
    """Lower-case hexadecimal; read from the cache if the file has not changed since."""
    resolved = path.resolve()
    stat = resolved.stat()
    entry = _entry_path(resolved)
    remembered = _recall(entry)
    if remembered is not None and (remembered.mtime_ns, remembered.size) == (stat.st_mtime_ns, stat.st_size):
        return Sha256(remembered.sha256)
    with resolved.open("rb") as file:
        sha = hashlib.file_digest(file, "sha256").hexdigest()
    _remember(entry, _Remembered(stat.st_mtime_ns, stat.st_size, sha))
    return Sha256(sha)


def _entry_path(path: Path) -> Path:
    return cache_dir() / "hashes" / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:32]}.json"


def _recall(entry: Path) -> _Remembered | None:
    try:
        return msgspec.json.decode(entry.read_bytes(), type=_Remembered)
    except (OSError, msgspec.DecodeError):
        return None  # never hashed, or a damaged entry: hash again


def _remember(entry: Path, remembered: _Remembered) -> None:
    entry.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=entry.parent, prefix=entry.stem)
    with os.fdopen(handle, "wb") as file:
        file.write(msgspec.json.encode(remembered))
    Path(temporary).replace(entry)
