"""What a node does with tensors, without any I/O: ``handle(event) -> effects``.

One Dataflow serves one epoch of one deployment. Inputs are collected for each (shard, job, micro-batch); when the last
one comes the shard is to Run; when it ran, its outputs are to be Sent to their consumers, or go straight to another
shard of this node. A message that breaks the rules is Refused and changes nothing.

    TensorsArrived ──> [Run]            ShardRan ──> [Send, Run]          ClientAttached, JobCancelled ──> [Drop]
                  └──> [Refuse]         ShardRaised ──> [Fail]            PeerFailed ──> [Drop, Fail]

Memory is bounded: at most MOST_BATCHES are held at a time, and at most ``budget`` bytes of inputs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy.typing as npt

from agent.routing import consumers_of, producers_of, shards_by_id
from core.errors import ProtocolError
from core.plan.form import CLIENT, NodeId, Port, Route, Shard, ShardId
from core.units import format_bytes
from core.wire.frames import read_tensors
from core.wire.messages import ShardFailed, Tensors

Array = npt.NDArray[Any]
Key = tuple[ShardId, int, int]
"""(shard, job, seq)"""

MOST_BATCHES: Final = 1024
_REMEMBERED: Final = 4096

# ---------------------------------------------------------------- events


class TensorsArrived(NamedTuple):
    """A message from the peer with the key ``user``; ``frames`` are those after the header."""

    header: Tensors
    user: str
    frames: Sequence[memoryview]


class ShardRan(NamedTuple):
    run: Run
    outputs: Sequence[Array]
    """In the order of the shard's outputs."""
    seconds: float


class ShardRaised(NamedTuple):
    run: Run
    code: str
    message: str
    seconds: float


class PeerFailed(NamedTuple):
    """Another node could not do its part of a micro-batch."""

    failed: ShardFailed


class JobCancelled(NamedTuple):
    job: int


class ClientAttached(NamedTuple):
    """A client begins anew: nothing that was under way is of interest, and its job numbers may be used again."""


Event = TensorsArrived | ShardRan | ShardRaised | PeerFailed | JobCancelled | ClientAttached

# ---------------------------------------------------------------- effects


class Run(NamedTuple):
    """All inputs are there."""

    shard: ShardId
    job: int
    seq: int
    feed: Mapping[str, Array]
    received: int = 0
    """Bytes of these that came from other nodes and the client."""


class Send(NamedTuple):
    """Outputs of ``producer`` for one consumer on another node, or for the client (``node`` is None)."""

    node: NodeId | None
    producer: ShardId
    consumer: ShardId
    job: int
    seq: int
    arrays: list[tuple[str, Array, str]]
    """(name at the consumer, array, codec)"""


class Fail(NamedTuple):
    """The client is to be told."""

    failed: ShardFailed


class Refuse(NamedTuple):
    """Whoever sent the tensors is to be told; it carries the numbers of what was sent."""

    failed: ShardFailed


class Drop(NamedTuple):
    """Runs of these that have not begun are not wanted any more."""

    keys: frozenset[Key]


Effect = Run | Send | Fail | Refuse | Drop


class _Batch:
    """A micro-batch at one shard, until the shard ran."""

    __slots__ = ("feed", "nbytes", "received", "running")

    def __init__(self) -> None:
        self.feed: dict[str, Array] = {}
        self.nbytes = 0
        self.received = 0
        self.running = False


class Dataflow:
    """The state machine. Not thread-safe: it belongs to the data thread.

    Raises ProtocolError when shards, routes and placement do not make sense together.
    """

    def __init__(
        self,
        node: NodeId,
        owner: str,
        deployment: str,
        epoch: int,
        shards: Sequence[Shard],
        routes: Sequence[Route],
        placement: Mapping[int, NodeId],
        budget: int,
    ) -> None:
        """``owner`` is the client's key. ``budget`` bounds the inputs held, in bytes."""
        self.node = node
        self.owner = owner
        self.deployment = deployment
        self.epoch = epoch
        self._budget = budget
        self._placement = dict(placement)
        self._shards = shards_by_id(node, shards)
        self._ports = {s.id: {p.name: p for p in s.inputs} for s in shards}
        self._producers = producers_of(self._shards, routes, self._placement)
        self._consumers = {s.id: consumers_of(s, routes, self._placement, node) for s in shards}
        self._held: dict[Key, _Batch] = {}
        self._nbytes = 0
        self.running = 0
        """Micro-batches that are ready or running; other threads may read it."""
        self._finished: deque[Key] = deque()
        self._finished_set: set[Key] = set()
        self._failed: deque[tuple[int, int]] = deque(maxlen=_REMEMBERED)

    @property
    def peers(self) -> frozenset[NodeId]:
        """The other nodes that bring tensors here or take them."""
        return frozenset(self._placement.values()) - {self.node}

    @property
    def held(self) -> int:
        """Micro-batches that this node holds inputs of."""
        return len(self._held)

    def is_alone(self, job: int, seq: int) -> bool:
        """Nothing is held here but what belongs to this micro-batch."""
        return all(key[1:] == (job, seq) for key in self._held)

    def wants(self, run: Run) -> bool:
        """Whether anybody is still interested in what it makes."""
        return run[:3] in self._held

    def handle(self, event: Event) -> list[Effect]:
        if type(event) is TensorsArrived:
            return self._on_tensors(*event)
        if type(event) is ShardRan:
            return self._on_ran(event.run, event.outputs)
        if type(event) is ShardRaised:
            return self._on_raised(event)
        if type(event) is PeerFailed:
            return self._on_peer_failed(event.failed)
        if type(event) is JobCancelled:
            return self._drop([key for key in self._held if key[1] == event.job])
        return self._on_attached()

    # ------------------------------------------------------------ tensors in

    def _on_tensors(self, header: Tensors, user: str, frames: Sequence[memoryview]) -> list[Effect]:
        try:
            self._check_sender(header, user)
            key = (header.consumer, header.job, header.seq)
            if key in self._finished_set:
                return []
            batch = self._held.get(key)
            if batch is not None and batch.running:
                return []
            arrays = read_tensors(header, frames)
            self._check_arrays(header, arrays)
        except ProtocolError as error:
            return [refuse(header, "field", error.message)]
        if batch is None and (full := self._full()):
            return [refuse(header, "busy", full)]
        return self._offer(key, arrays, travelled=True)

    def _check_sender(self, header: Tensors, user: str) -> None:
        if header.deployment != self.deployment:
            raise ProtocolError(f"Field deployment is {header.deployment!r}, but {self.deployment!r} is loaded here.")
        if header.epoch != self.epoch:
            raise ProtocolError(f"Field epoch is {header.epoch}, but epoch {self.epoch} is loaded here.")
        if header.consumer not in self._shards:
            raise ProtocolError(f"Field consumer is {header.consumer}, which is not a shard of this node.")
        if not header.tensors:
            raise ProtocolError("Field tensors is empty.")
        expected = self.owner if header.producer == CLIENT else self._placement.get(header.producer)
        if user != expected:
            raise ProtocolError(f"Field producer is {header.producer}, whose tensors do not come from this sender.")

    def _check_arrays(self, header: Tensors, arrays: Mapping[str, Array]) -> None:
        producers = self._producers[header.consumer]
        ports = self._ports[header.consumer]
        for meta in header.tensors:
            name = meta.name
            if producers.get(name) != header.producer:
                raise ProtocolError(
                    f"Field tensors names {name!r}, which shard {header.consumer} does not take from {header.producer}."
                )
            _check_port(ports[name], meta.dtype, arrays[name].shape)

    def _full(self) -> str | None:
        if len(self._held) >= MOST_BATCHES:
            return f"This node holds {MOST_BATCHES} micro-batches already; send fewer at a time."
        if self._nbytes >= self._budget:
            return f"This node holds {format_bytes(self._nbytes)} of inputs already; send fewer at a time."
        return None

    def _offer(self, key: Key, arrays: Mapping[str, Array], *, travelled: bool) -> list[Effect]:
        """Add inputs that passed the checks; duplicates are dropped. ``travelled``: they are not of this node."""
        batch = self._held.get(key)
        if batch is None:
            batch = self._held[key] = _Batch()
            if self._failed and key[1:] in self._failed:
                self._failed.remove(key[1:])  # it is tried again, and may fail again
        for name, array in arrays.items():
            if name not in batch.feed:
                batch.feed[name] = array
                batch.nbytes += array.nbytes
                batch.received += array.nbytes * travelled
                self._nbytes += array.nbytes
        if batch.running or len(batch.feed) < len(self._ports[key[0]]):
            return []
        batch.running = True
        self.running += 1
        return [Run(*key, batch.feed, batch.received)]

    # ------------------------------------------------------------ runs

    def _on_ran(self, run: Run, outputs: Sequence[Array]) -> list[Effect]:
        key = run[:3]
        if not self._finish(key):
            return []
        effects: list[Effect] = []
        try:
            for consumer in self._consumers[run.shard]:
                arrays = [
                    (target, outputs[index] if cut is None else cut(outputs[index]), codec)
                    for index, target, codec, cut in consumer.outlets
                ]
                if consumer.node == self.node:
                    local = {target: array for target, array, _ in arrays}
                    effects += self._offer((consumer.shard, run.job, run.seq), local, travelled=False)
                else:
                    effects.append(Send(consumer.node, run.shard, consumer.shard, run.job, run.seq, arrays))
        except ProtocolError as error:
            return self._on_peer_failed(self._failure(run, "shard", error.message))
        return effects

    def _on_raised(self, event: ShardRaised) -> list[Effect]:
        run = event.run
        if not self._finish(run[:3]):
            return []
        return self._on_peer_failed(self._failure(run, event.code, event.message))

    def _failure(self, run: Run, code: str, message: str) -> ShardFailed:
        return ShardFailed(self.deployment, self.epoch, run.job, run.seq, run.shard, code, message)

    def _finish(self, key: Key) -> bool:
        """Forget the inputs and remember that this ran. False: nobody wants it any more."""
        batch = self._held.pop(key, None)
        if batch is None:
            return False
        self._nbytes -= batch.nbytes
        self.running -= batch.running
        if len(self._finished) >= _REMEMBERED:
            self._finished_set.discard(self._finished.popleft())
        self._finished.append(key)
        self._finished_set.add(key)
        return True

    # ------------------------------------------------------------ failures and endings

    def _on_peer_failed(self, failed: ShardFailed) -> list[Effect]:
        """The first news of a failure is passed on; what is held of that micro-batch is of no use."""
        batch = (failed.job, failed.seq)
        if (failed.deployment, failed.epoch) != (self.deployment, self.epoch) or batch in self._failed:
            return []
        self._failed.append(batch)
        return [*self._drop([key for key in self._held if key[1:] == batch]), Fail(failed)]

    def _on_attached(self) -> list[Effect]:
        self._finished.clear()
        self._finished_set.clear()
        self._failed.clear()
        return self._drop(list(self._held))

    def _drop(self, keys: Sequence[Key]) -> list[Effect]:
        for key in keys:
            batch = self._held.pop(key)
            self._nbytes -= batch.nbytes
            self.running -= batch.running
        return [Drop(frozenset(keys))] if keys else []


def refuse(header: Tensors, code: str, message: str) -> Refuse:
    return Refuse(ShardFailed(header.deployment, header.epoch, header.job, header.seq, header.consumer, code, message))


def _check_port(port: Port, dtype: str, shape: tuple[int, ...]) -> None:
    if dtype != port.dtype:
        raise ProtocolError(f"Field dtype of {port.name!r} is {dtype}, but the shard takes {port.dtype}.")
    expected = port.shape
    if expected is None:
        return
    if len(shape) != len(expected):
        raise ProtocolError(f"Field shape of {port.name!r} is {shape}, but the shard takes {_shown(expected)}.")
    for actual, wanted in zip(shape, expected, strict=True):
        if wanted is not None and actual != wanted:
            raise ProtocolError(f"Field shape of {port.name!r} is {shape}, but the shard takes {_shown(expected)}.")


def _shown(shape: tuple[int | None, ...]) -> str:
    return f"({', '.join('any' if d is None else str(d) for d in shape)})"
