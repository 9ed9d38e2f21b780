"""Content-addressed blobs on disk: what is named by its SHA-256 is sent to a node once, ever.

    <root>/<first two hex>/<sha>          whole, hash checked when it came
    <root>/<first two hex>/<sha>.part     on its way; a transfer goes on where it stopped, also after a restart

Rules:

* A blob becomes whole only by an atomic rename after its hash was found right.
* A whole blob that was already there when the agent started is hashed once more before its first use: a power cut or
  a failing disk is noticed, and the blob is then removed so that the next deployment sends it again.
* ``limit`` bounds everything under the root, transfers counted at their full size. The least recently used make room
  (last use is the file's mtime, so it survives a restart); what a deployment has pinned never does.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import threading
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agent.failures import AgentFailureError
from core.plan.form import Sha256
from core.units import format_bytes
from core.wire.messages import ChunkAck

if TYPE_CHECKING:
    from hashlib import _Hash
    from typing import TypeAlias

Data: TypeAlias = "bytes | bytearray | memoryview"

WHOLE: Final = -1

_SHA: Final = re.compile(r"[0-9a-f]{64}")
_READ: Final = 1 << 20
_OPEN_TRANSFERS: Final = 256
"""More than this many interleaved transfers still work, but each change to a forgotten one hashes its part again."""
_BUSY_SECONDS: Final = 30.0
"""A transfer that got a chunk so lately does not make room: two of them would push each other out for ever."""
_FULL: Final = frozenset({errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)})


class _Entry:
    """A file of the store. ``reserved`` is what it counts against the limit: its size, or its whole size to come."""

    __slots__ = ("reserved", "used", "verified", "whole")

    def __init__(self, reserved: int, used: float, *, whole: bool, verified: bool) -> None:
        self.reserved = reserved
        self.used = used
        self.whole = whole
        self.verified = verified


class _Transfer:
    """What is known of a .part beyond its bytes; ``lock`` is held while it is written."""

    def __init__(self, nbytes: int) -> None:
        self.lock = threading.Lock()
        self.nbytes = nbytes
        self.hasher: _Hash | None = None
        """None until the prefix on disk has been hashed."""
        self.received = 0


class BlobStore:
    """The blobs of one agent. Every method may be called from any thread.

    One process owns a root at a time. Raises OSError when the root cannot be made or read.
    """

    def __init__(
        self,
        root: Path,
        limit: int,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._root = root
        self._limit = limit
        self._clock = clock
        self._lock = threading.Lock()
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._entries: dict[Sha256, _Entry] = dict(_scan(root))
        self._transfers: OrderedDict[Sha256, _Transfer] = OrderedDict()
        self._pins: defaultdict[str, set[Sha256]] = defaultdict(set)
        self._used = sum(entry.reserved for entry in self._entries.values())

    @property
    def root(self) -> Path:
        return self._root

    @property
    def limit(self) -> int:
        return self._limit

    @property
    def bytes_used(self) -> int:
        """Bytes counted against the limit."""
        return self._used

    def held(self, sha: Sha256) -> int:
        """-1: whole; else how many bytes of it have come. Raises AgentFailureError("field") for an unsafe name."""
        _check_name(sha)
        with self._lock:
            entry = self._entries.get(sha)
            if entry is None:
                return 0
            if entry.whole:
                return WHOLE
            transfer = self._transfers.get(sha)
            if transfer is not None and transfer.hasher is not None:
                return transfer.received
        return _size(self._part(sha))

    def append(self, sha: Sha256, nbytes: int, offset: int, data: Data) -> ChunkAck:
        """Add ``data`` at ``offset`` of a blob of ``nbytes``. Never raises: what went wrong is in the answer.

        An offset other than what is held changes nothing and is answered with what is held. After an error nothing
        of the blob is kept, except where the store is full: then nothing was begun.
        """
        try:
            _check_chunk(sha, nbytes, offset, len(data))
            transfer = self._begin(sha, nbytes)
            if transfer is None:
                return ChunkAck(sha, WHOLE, "")
            with transfer.lock:
                received = self._write(sha, transfer, offset, data)
            return ChunkAck(sha, received, "")
        except AgentFailureError as failure:
            return ChunkAck(sha, 0, failure.message)
        except OSError as error:
            self._drop(sha)
            return ChunkAck(sha, 0, self._disk_problem(sha, error))

    def path(self, sha: Sha256) -> Path:
        """The file of a whole blob, its hash checked in this process. Raises AgentFailureError("blob")."""
        _check_name(sha)
        with self._lock:
            entry = self._entries.get(sha)
            if entry is None or not entry.whole:
                raise AgentFailureError("blob", f"Blob {sha[:12]} is not on this node; deploy again to send it.")
        if not entry.verified or not self._file(sha).is_file():
            self._verify(sha, entry)
        self._touch(sha, entry)
        return self._file(sha)

    def pin(self, deployment: str, shas: Iterable[Sha256]) -> None:
        """Keep these for ``deployment``, added to what it already pins; also blobs that are still to come."""
        names = set(shas)
        for sha in names:
            _check_name(sha)
        with self._lock:
            self._pins[deployment] |= names

    def unpin(self, deployment: str) -> None:
        with self._lock:
            self._pins.pop(deployment, None)

    # ------------------------------------------------------------ transfers

    def _begin(self, sha: Sha256, nbytes: int) -> _Transfer | None:
        """The transfer of ``sha``, its space reserved; None when the blob is already whole."""
        with self._lock:
            entry = self._entries.get(sha)
            if entry is not None and entry.whole:
                return None
            transfer = self._transfers.get(sha)
            if transfer is None or transfer.nbytes != nbytes:
                self._reserve(sha, nbytes)
                transfer = self._transfers[sha] = _Transfer(nbytes)
                if len(self._transfers) > _OPEN_TRANSFERS:
                    self._transfers.popitem(last=False)
            self._transfers.move_to_end(sha)
            self._entries[sha].used = self._clock()
            return transfer

    def _reserve(self, sha: Sha256, nbytes: int) -> None:
        """Count ``nbytes`` for ``sha``, making room for it. Raises AgentFailureError("blob")."""
        if nbytes > self._limit:
            raise AgentFailureError(
                "blob",
                f"A blob of {format_bytes(nbytes)} is larger than this node's store of {format_bytes(self._limit)}; "
                "start the agent with a larger --blob-limit.",
            )
        entry = self._entries.get(sha)
        already = 0 if entry is None else entry.reserved
        self._make_room(sha, nbytes - already)
        missing = nbytes - (_size(self._part(sha)) if entry is not None else 0)
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        free = shutil.disk_usage(self._root).free
        if missing > free:
            raise AgentFailureError(
                "blob",
                f"The disk of this node is full: {format_bytes(missing)} more are needed under {self._root}, "
                f"{format_bytes(free)} are free.",
            )
        self._entries[sha] = _Entry(nbytes, self._clock(), whole=False, verified=True)
        self._used += nbytes - already

    def _write(self, sha: Sha256, transfer: _Transfer, offset: int, data: Data) -> int:
        """What is held afterwards; -1 when that completed the blob."""
        part = self._part(sha)
        if transfer.hasher is None:
            _resume(transfer, part)
        if offset != transfer.received:
            return transfer.received
        assert transfer.hasher is not None
        part.parent.mkdir(mode=0o700, exist_ok=True)
        with part.open("ab") as file:
            file.write(data)
        transfer.hasher.update(data)
        transfer.received += len(data)
        if transfer.received < transfer.nbytes:
            return transfer.received
        self._complete(sha, transfer.hasher.hexdigest())
        return WHOLE

    def _complete(self, sha: Sha256, found: str) -> None:
        if found != sha:
            self._drop(sha)
            raise AgentFailureError(
                "blob", f"Blob {sha[:12]} arrived damaged (its hash is {found[:12]}) and was dropped; send it again."
            )
        self._part(sha).replace(self._file(sha))
        with self._lock:
            self._transfers.pop(sha, None)
            entry = self._entries[sha]
            entry.whole = entry.verified = True

    def _disk_problem(self, sha: Sha256, error: OSError) -> str:
        if error.errno in _FULL:
            return f"The disk of this node is full (under {self._root}); blob {sha[:12]} was dropped. Free some space."
        return f"Blob {sha[:12]} cannot be written on this node: {error.strerror or error}."

    # ------------------------------------------------------------ room

    def _make_room(self, sha: Sha256, nbytes: int) -> None:
        """Evict until ``nbytes`` more fit; the lock is held. Raises AgentFailureError("blob")."""
        excess = self._used + nbytes - self._limit
        if excess <= 0:
            return
        pinned = set().union(*self._pins.values())
        busy = self._clock() - _BUSY_SECONDS
        candidates = sorted(
            (entry.used, name, entry)
            for name, entry in self._entries.items()
            if name != sha and name not in pinned and (entry.whole or entry.used < busy)
        )
        if sum(entry.reserved for _, _, entry in candidates) < excess:
            raise AgentFailureError(
                "blob",
                f"The store of this node is full: {format_bytes(nbytes)} more are needed, its limit is "
                f"{format_bytes(self._limit)}, and {format_bytes(self._used)} of it are in use. "
                "Start the agent with a larger --blob-limit.",
            )
        for _, name, entry in candidates:
            if excess <= 0:
                return
            if self._remove(name):
                excess -= entry.reserved
        if excess > 0:
            raise AgentFailureError("blob", "The store of this node is full of blobs that are still in use.")

    def _remove(self, sha: Sha256) -> bool:
        """Forget ``sha`` and delete its file; the lock is held. False where the system does not let go of it."""
        try:
            (self._file(sha) if self._entries[sha].whole else self._part(sha)).unlink(missing_ok=True)
        except OSError:
            # Windows keeps a file that is mapped into memory
            return False
        self._used -= self._entries.pop(sha).reserved
        self._transfers.pop(sha, None)
        return True

    def _drop(self, sha: Sha256) -> None:
        with self._lock:
            self._transfers.pop(sha, None)
            if sha in self._entries:
                self._remove(sha)

    # ------------------------------------------------------------ use

    def _verify(self, sha: Sha256, entry: _Entry) -> None:
        try:
            found = _hash_file(self._file(sha)).hexdigest()
        except OSError as error:
            found = f"unreadable: {error.strerror or error}"
        if found != sha:
            self._drop(sha)
            raise AgentFailureError(
                "blob",
                f"Blob {sha[:12]} was damaged on this node's disk and has been removed; deploy again to send it.",
            )
        entry.verified = True

    def _touch(self, sha: Sha256, entry: _Entry) -> None:
        entry.used = self._clock()
        # Only the order of eviction after a restart depends on it.
        with contextlib.suppress(OSError):
            os.utime(self._file(sha), (entry.used, entry.used))

    def _file(self, sha: Sha256) -> Path:
        return self._root / sha[:2] / sha

    def _part(self, sha: Sha256) -> Path:
        return self._root / sha[:2] / f"{sha}.part"


def _check_name(sha: str) -> None:
    # The name becomes a path: nothing but a hash may.
    if not _SHA.fullmatch(sha):
        raise AgentFailureError("field", f"{sha[:80]!r} is not a SHA-256 (64 lower-case hexadecimal digits).")


def _check_chunk(sha: str, nbytes: int, offset: int, length: int) -> None:
    _check_name(sha)
    if nbytes < 0 or offset < 0 or offset + length > nbytes:
        raise AgentFailureError(
            "field", f"A chunk of {length} bytes at {offset} does not lie in a blob of {nbytes} bytes."
        )


def _resume(transfer: _Transfer, part: Path) -> None:
    """Hash what an earlier connection or process left; start over where that cannot be part of this blob."""
    if _size(part) > transfer.nbytes:
        part.unlink()
    transfer.hasher = _hash_file(part) if part.exists() else hashlib.sha256()
    transfer.received = _size(part)


def _hash_file(path: Path) -> _Hash:
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(_READ):
            hasher.update(data)
    return hasher


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _scan(root: Path) -> Iterable[tuple[Sha256, _Entry]]:
    """What earlier runs left; files with other names are not ours and stay untouched."""
    for folder in root.iterdir():
        if len(folder.name) != 2 or not folder.is_dir():
            continue
        for file in folder.iterdir():
            name, whole = file.name.removesuffix(".part"), not file.name.endswith(".part")
            if _SHA.fullmatch(name) and name.startswith(folder.name):
                if not whole:
                    _give_back_a_byte(file)
                stat = file.stat()
                yield Sha256(name), _Entry(stat.st_size, stat.st_mtime, whole=whole, verified=False)


def _give_back_a_byte(part: Path) -> None:
    """So that a part always lacks something: one that lost its process between the last byte and the rename would
    otherwise be reported as fully held, nobody would send more, and nothing would complete it."""
    size = part.stat().st_size
    if size:
        os.truncate(part, size - 1)
