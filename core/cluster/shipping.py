"""Sends blobs to many nodes side by side, a window of pieces in flight to each, resuming where a node has a part.

``Transfer`` is one node's side of it without sockets: which piece to send next and what an acknowledgement means.
``core.cluster.delivery`` drives the transfers over data channels. Acknowledgements come in the order of the pieces;
one that does not say what the piece should have given means that the node holds something else (it was restarted, or
dropped a damaged blob): sending pauses until all pieces in flight are answered, and goes on from what it says it holds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from core.errors import JobError, ProtocolError
from core.plan.form import Sha256
from core.wire.messages import Chunk, ChunkAck

CHUNK_BYTES: Final = 1 << 20
WINDOW: Final = 8
"""Pieces in flight to a node."""
_WHOLE: Final = -1
_MOST_TRIES: Final = 2
"""A blob that arrives damaged is sent once more."""


class Need(Struct, frozen=True):
    """A blob that a node needs."""

    sha: Sha256
    nbytes: int


class Transfer:
    """Everything one node needs. ``resume`` after each (re)connection, then ``next_chunk`` and ``acknowledged``."""

    def __init__(self, node_name: str, needs: Sequence[Need]) -> None:
        self._name = node_name
        self._needs = tuple(needs)
        self._held = dict.fromkeys((need.sha for need in needs), 0)
        self._queue: deque[Need] = deque()
        self._offset = 0
        self._in_flight: deque[tuple[Sha256, int]] = deque()
        self._rewind = False
        self._tries: dict[Sha256, int] = {}
        self.total_bytes = 0
        """Of the blobs that the node did not hold whole when first asked."""
        self._first = True

    @property
    def blobs(self) -> tuple[Sha256, ...]:
        return tuple(need.sha for need in self._needs)

    @property
    def done(self) -> bool:
        return all(held == _WHOLE for held in self._held.values())

    @property
    def waiting(self) -> int:
        """Pieces sent and not yet acknowledged."""
        return len(self._in_flight)

    @property
    def sent_bytes(self) -> int:
        """Of ``total_bytes``, what the node holds now."""
        missing = sum(n.nbytes - self._held[n.sha] for n in self._needs if self._held[n.sha] != _WHOLE)
        return max(0, self.total_bytes - missing)

    def resume(self, offsets: Sequence[int]) -> None:
        """The node answered what it holds of ``blobs``, in order; nothing is in flight.

        Raises ProtocolError when the answer makes no sense.
        """
        if len(offsets) != len(self._needs):
            raise ProtocolError(f"{self._name} answered for {len(offsets)} blobs instead of {len(self._needs)}.")
        for need, offset in zip(self._needs, offsets, strict=True):
            if not _WHOLE <= offset <= need.nbytes:
                raise ProtocolError(f"{self._name} says it holds {offset} bytes of a blob of {need.nbytes}.")
            self._held[need.sha] = offset
        self._in_flight.clear()
        self._requeue()
        if self._first:
            self._first = False
            self.total_bytes = sum(n.nbytes for n in self._needs if self._held[n.sha] != _WHOLE)

    def next_chunk(self) -> tuple[Chunk, int] | None:
        """The header of the next piece and its size in bytes; None when the window is full or all is sent."""
        if self._rewind or len(self._in_flight) >= WINDOW or not self._queue:
            return None
        need = self._queue[0]
        size = min(CHUNK_BYTES, need.nbytes - self._offset)
        chunk = Chunk(need.sha, need.nbytes, self._offset)
        self._offset += size
        self._in_flight.append((need.sha, self._offset))
        if self._offset >= need.nbytes:
            self._queue.popleft()
            self._offset = max(0, self._held[self._queue[0].sha]) if self._queue else 0
        return chunk, size

    def acknowledged(self, ack: ChunkAck) -> None:
        """Raises JobError when a blob arrived damaged twice or was refused, ProtocolError for an unexpected answer."""
        if not self._in_flight or self._in_flight[0][0] != ack.blob:
            raise ProtocolError(f"{self._name} acknowledged a piece that was not sent.")
        sha, end = self._in_flight.popleft()
        need = next(n for n in self._needs if n.sha == sha)
        if not _WHOLE <= ack.received <= need.nbytes:
            raise ProtocolError(f"{self._name} says it holds {ack.received} bytes of a blob of {need.nbytes}.")
        if self._held[sha] != _WHOLE:
            self._held[sha] = ack.received
        if ack.error:
            self._damaged(sha, ack.error)
        expected = ack.received == end if end < need.nbytes else ack.received == _WHOLE
        self._rewind = self._rewind or bool(ack.error) or not (expected or ack.received == _WHOLE)
        if self._rewind and not self._in_flight:
            self._requeue()

    def _damaged(self, sha: Sha256, error: str) -> None:
        self._tries[sha] = self._tries.get(sha, 1) + (0 if self._rewind else 1)
        if self._tries[sha] > _MOST_TRIES:
            raise JobError(f"{self._name} did not take the weights: {error}")

    def _requeue(self) -> None:
        self._rewind = False
        self._queue = deque(need for need in self._needs if self._held[need.sha] != _WHOLE)
        self._offset = max(0, self._held[self._queue[0].sha]) if self._queue else 0
