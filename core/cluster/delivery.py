"""Drives the transfers of ``core.cluster.shipping`` over data channels, to all nodes side by side, in one thread.

A lane is one node's delivery. When its connection breaks the lane waits for the node to come back (perhaps restarted,
perhaps at another port), reserves it again, asks what it holds, and goes on; the other lanes never wait for it.
"""

from __future__ import annotations

import enum
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Final

from core.cluster.client import Cluster
from core.cluster.node import CONNECTED
from core.cluster.shipping import Transfer
from core.errors import Cancelled, NodeLostError, ProtocolError, RemoteError, UnreachableError
from core.plan.blobs import BlobSource
from core.plan.form import NodeId
from core.wire.frames import decode_header, encode_header
from core.wire.messages import BlobOffsets, ChunkAck, QueryBlobs, Reply, Request, Reserve
from core.wire.sockets import Channel, Poller
from core.wire.waker import Waker

RETURN_SECONDS: Final = 20.0
"""How long a node may be away while weights are sent to it."""
_RETRY_SECONDS: Final = 0.3
_TICK_SECONDS: Final = 0.1
_SILENCE_SECONDS: Final = 60.0
"""A node that is alive but acknowledges nothing for so long is connected to anew."""
_ASK_SECONDS: Final = 30.0


class Parcel:
    """What goes to one node: the blobs, and the reservation to make again should the node be restarted."""

    def __init__(self, node: NodeId, name: str, transfer: Transfer, reserve: Reserve) -> None:
        self.node = node
        self.name = name
        self.transfer = transfer
        self.reserve = reserve


class _Step(enum.Enum):
    ASK = enum.auto()
    SEND = enum.auto()
    AWAY = enum.auto()
    RESERVE = enum.auto()
    DONE = enum.auto()


class _Lane:
    def __init__(self, cluster: Cluster, parcel: Parcel, blobs: BlobSource, poller: Poller, waker: Waker) -> None:
        self.parcel = parcel
        self.transfer = parcel.transfer
        self.step = _Step.ASK
        self._cluster = cluster
        self._blobs = blobs
        self._poller = poller
        self._waker = waker
        self._channel: Channel | None = None
        self._answer: Future[Reply] | None = None
        self._away_until = 0.0
        self._retry_at = 0.0
        self._heard_at = 0.0
        self._ask(QueryBlobs(self.transfer.blobs))

    def advance(self, now: float) -> None:
        """One round. Raises what ends the whole delivery."""
        match self.step:
            case _Step.RESERVE | _Step.ASK if self._answer is not None and self._answer.done():
                self._answered(self._answer, now)
            case _Step.SEND:
                self._send(now)
            case _Step.AWAY if now >= self._away_until:
                raise NodeLostError(
                    f"{self.parcel.name} went away while weights were sent to it and did not come back within "
                    f"{RETURN_SECONDS:.0f} s.",
                    hint="What it has got is kept: deploy again when it is back, or choose other nodes.",
                )
            case _Step.AWAY if now >= self._retry_at and self._is_here():
                self.step = _Step.RESERVE
                self._ask(self.parcel.reserve)
            case _:
                pass

    def close(self) -> None:
        if self._channel is not None:
            self._poller.unregister(self._channel)
            self._channel.close()
            self._channel = None

    def _ask(self, body: Request) -> None:
        self._answer = self._cluster.request(self.parcel.node, body, _ASK_SECONDS)
        self._answer.add_done_callback(lambda _: self._waker.wake())

    def _answered(self, answer: Future[Reply], now: float) -> None:
        self._answer = None
        try:
            reply = answer.result()
        except (NodeLostError, UnreachableError):
            self._gone(now)
            return
        if self.step is _Step.RESERVE:
            self.step = _Step.ASK
            self._ask(QueryBlobs(self.transfer.blobs))
            return
        if not isinstance(reply, BlobOffsets):
            raise ProtocolError(f"{self.parcel.name} answered QueryBlobs with {type(reply).__name__}.")
        self.transfer.resume(reply.offsets)
        self._connect(now)

    def _connect(self, now: float) -> None:
        if self.transfer.done:
            self.step = _Step.DONE
            return
        endpoint = self._cluster.node(self.parcel.node).data_endpoint
        self._channel = self._cluster.wire.connect(endpoint, self.parcel.node)
        self._poller.register(self._channel)
        self._heard_at = now
        self.step = _Step.SEND
        self._send(now)

    def _send(self, now: float) -> None:
        channel = self._channel
        assert channel is not None
        while (frames := channel.recv()) is not None:
            self._heard_at = now
            self._away_until = 0.0
            ack = decode_header(frames[0])
            if not isinstance(ack, ChunkAck):
                raise ProtocolError(f"{self.parcel.name} answered a piece of a blob with {type(ack).__name__}.")
            self.transfer.acknowledged(ack)
        if self.transfer.done and not self.transfer.waiting:
            self.close()
            self.step = _Step.DONE
        elif channel.problem() is not None or not self._is_here() or now - self._heard_at > _SILENCE_SECONDS:
            self._gone(now)
        else:
            while (piece := self.transfer.next_chunk()) is not None:
                chunk, size = piece
                channel.send([encode_header(chunk), self._blobs.read(chunk.blob, chunk.offset, size)])

    def _gone(self, now: float) -> None:
        self.close()
        self.step = _Step.AWAY
        self._retry_at = now + _RETRY_SECONDS
        if not self._away_until:
            self._away_until = now + RETURN_SECONDS

    def _is_here(self) -> bool:
        return self._cluster.node(self.parcel.node).state in CONNECTED


def deliver(
    cluster: Cluster,
    parcels: Sequence[Parcel],
    blobs: BlobSource,
    *,
    progress: Callable[[Parcel], None],
    cancel: threading.Event | None,
) -> None:
    """Returns when every node holds its blobs whole. ``progress`` is called in this thread as bytes are acknowledged.

    Raises Cancelled, NodeLostError (a node stayed away), JobError (a blob arrived damaged twice), NodeOwnedError (a
    node came back and somebody else took it).
    """
    poller, waker = cluster.wire.poller(), cluster.wire.waker()
    poller.register(waker)
    lanes = [_Lane(cluster, parcel, blobs, poller, waker) for parcel in parcels]
    unsubscribe = cluster.subscribe(lambda _event: waker.wake())
    try:
        while any(lane.step is not _Step.DONE for lane in lanes):
            if cancel is not None and cancel.is_set():
                raise Cancelled("Sending the weights was stopped.")
            now = time.monotonic()
            for lane in lanes:
                before = lane.transfer.sent_bytes, lane.step
                lane.advance(now)
                if (lane.transfer.sent_bytes, lane.step) != before:
                    progress(lane.parcel)
            if waker in poller.wait(_TICK_SECONDS if _waiting(lanes) else 0):
                waker.drain()
    finally:
        unsubscribe()
        for lane in lanes:
            lane.close()
        poller.unregister(waker)
        waker.close()


def _waiting(lanes: Sequence[_Lane]) -> bool:
    return any(lane.step is not _Step.DONE for lane in lanes)


def is_missing_blob(error: RemoteError) -> bool:
    """The node found a blob damaged on its disk and dropped it: sending it again mends that."""
    return error.remote_code == "blob"
