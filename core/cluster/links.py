"""The workstation's data connections of one deployment: inputs out to the shards that want them, results back.

An object of this module belongs to the thread that made it; only ``wake`` may be called from others.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from core.errors import ProtocolError, UnreachableError
from core.plan.form import CLIENT, NodeId, Plan, ShardId
from core.wire.frames import decode_header, encode_header, read_tensors, tensor_frames
from core.wire.messages import Attach, Attached, ShardFailed, Tensors
from core.wire.pieces import Slicer, slicer
from core.wire.sockets import DATA_SILENCE_SECONDS, Channel, Wire

Array = npt.NDArray[Any]


class Results(Struct, frozen=True):
    """Some of the model's outputs for one micro-batch, or pieces of them under their names on the wire (see
    ``core.cluster.outputs``); the arrays are read-only views of what was received."""

    job: int
    seq: int
    outputs: dict[str, Array]
    nbytes: int


class _Feed(Struct, frozen=True):
    """What one shard gets from the client: (model input, what is cut out of it, name at the shard, codec)."""

    node: NodeId
    shard: ShardId
    tensors: tuple[tuple[str, Slicer | None, str, str], ...]


class DataLinks:
    """Connections to every node that takes inputs from, or gives results to, the client.

    Args:
        endpoints: data endpoint ("tcp://host:port") of each node of the plan.
        attach_timeout: seconds to wait until every node has taken the connection.

    Raises:
        UnreachableError: a node did not answer in time.
    """

    def __init__(
        self,
        wire: Wire,
        plan: Plan,
        deployment: str,
        epoch: int,
        endpoints: Mapping[NodeId, str],
        *,
        attach_timeout: float = 5.0,
    ) -> None:
        self._deployment, self._epoch = deployment, epoch
        placement = {shard.id: shard.node for shard in plan.shards}
        self._feeds = _feeds_by_replica(plan)
        ends = {placement[s] for r in plan.routes for s in (r.producer, r.consumer) if s != CLIENT}
        talks = {placement[r.consumer] for r in plan.routes if r.producer == CLIENT}
        talks |= {placement[r.producer] for r in plan.routes if r.consumer == CLIENT}
        self._channels: dict[NodeId, Channel] = {}
        self._poller = wire.poller()
        self._waker = wire.waker()
        self._poller.register(self._waker)
        try:
            for node in sorted(ends & talks):
                channel = wire.connect(endpoints[node], node, silence=DATA_SILENCE_SECONDS)
                self._channels[node] = channel
                self._poller.register(channel)
            self._attach(attach_timeout)
        except BaseException:
            self.close()
            raise

    def _attach(self, timeout: float) -> None:
        hello = encode_header(Attach(self._deployment, self._epoch))
        waiting = dict(self._channels)
        for channel in waiting.values():
            channel.send([hello])
        deadline = time.monotonic() + timeout
        while waiting:
            if time.monotonic() > deadline:
                raise UnreachableError(
                    f"{len(waiting)} of {len(self._channels)} nodes did not take a data connection in {timeout:g} s.",
                    hint="Check that the agents' data ports can be reached (shardboard doctor).",
                )
            self._poller.wait(0.2)
            for node, channel in list(waiting.items()):
                frames = channel.recv()
                if frames is not None and isinstance(decode_header(frames[0]), Attached):
                    del waiting[node]

    def send(self, job: int, seq: int, replica: int, feed: Mapping[str, Array]) -> int:
        """Send one micro-batch's inputs into a replica. Returns the bytes of tensors sent.

        The arrays must not be changed before the micro-batch is complete: they travel without a copy.

        Raises:
            UnreachableError: the node takes nothing in any more.
            ProtocolError: an input is too small for what the plan cuts out of it.
        """
        total = 0
        for target in self._feeds[replica]:
            arrays = []
            for source, cut, name, codec in target.tensors:
                array = np.ascontiguousarray(feed[source] if cut is None else cut(feed[source]))
                total += array.nbytes
                arrays.append((name, array, codec))
            frames = tensor_frames(self._deployment, self._epoch, job, seq, CLIENT, target.shard, arrays)
            if not self._channels[target.node].send(frames):
                raise UnreachableError(f"The queue to a node is full: {len(self._channels)} nodes, micro-batch {seq}.")
        return total

    def broken(self) -> tuple[NodeId, ...]:
        """Nodes whose connection ended: what was on its way from them will not come, and no node sends it again."""
        return tuple(node for node, channel in self._channels.items() if channel.problem() is not None)

    def poll(self, timeout: float) -> list[Results | ShardFailed]:
        """What has arrived, waiting up to ``timeout`` seconds when there is nothing yet.

        Raises:
            ProtocolError: a node sent something that breaks the rules.
        """
        arrived = list(self._drain())
        if arrived:
            return arrived
        if self._waker in self._poller.wait(timeout):
            self._waker.drain()
        return list(self._drain())

    def _drain(self) -> Iterator[Results | ShardFailed]:
        for channel in self._channels.values():
            while (frames := channel.recv()) is not None:
                header = decode_header(frames[0])
                if isinstance(header, Tensors):
                    if header.deployment == self._deployment and header.epoch == self._epoch:
                        outputs = read_tensors(header, frames[1:])
                        yield Results(header.job, header.seq, outputs, sum(a.nbytes for a in outputs.values()))
                elif isinstance(header, ShardFailed):
                    yield header
                elif not isinstance(header, Attached):
                    raise ProtocolError(f"A node sent {type(header).__name__} where results were expected.")

    def wake(self) -> None:
        """End a waiting ``poll`` early; may be called from any thread."""
        self._waker.wake()

    def close(self) -> None:
        for channel in self._channels.values():
            self._poller.unregister(channel)
            channel.close()
        self._channels.clear()
        self._poller.unregister(self._waker)
        self._waker.close()


def _feeds_by_replica(plan: Plan) -> list[list[_Feed]]:
    shards = {shard.id: shard for shard in plan.shards}
    wanted: dict[ShardId, list[tuple[str, Slicer | None, str, str]]] = {}
    for route in plan.routes:
        if route.producer == CLIENT and route.consumer != CLIENT:
            tensor = (route.tensor, slicer(route.slices), route.target, route.codec)
            wanted.setdefault(route.consumer, []).append(tensor)
    feeds: list[list[_Feed]] = [[] for _ in range(plan.replicas)]
    for shard_id, tensors in sorted(wanted.items()):
        shard = shards[shard_id]
        feeds[shard.replica].append(_Feed(shard.node, shard_id, tuple(tensors)))
    return feeds
