"""Connections to the other nodes of a deployment, made when the first tensor is to go there.

A peer that cannot be reached never blocks anything: what is sent goes into a bounded queue, and when that is full, or
when the peer has not taken the connection within PATIENCE, the micro-batches concerned are reported as failed.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final

from agent.dataflow import MOST_BATCHES
from core.errors import ProtocolError
from core.plan.form import NodeId, ShardId
from core.wire.frames import encode_header
from core.wire.keys import is_key
from core.wire.messages import ShardFailed
from core.wire.sockets import DATA_SILENCE_SECONDS, Buffer, Channel, Poller, Wire

PATIENCE: Final = 5.0
"""Seconds."""
_MOST_UNCONFIRMED: Final = 256

_WORDS: Final[dict[str | None, str]] = {
    "refused": "it does not trust this node",
    "handshake": "it is not the node that the plan names",
    "disconnected": "the connection broke",
}

_ENDPOINT: Final = re.compile(r"tcp://(?:[A-Za-z0-9_.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]):[0-9]{1,5}")

Batch = tuple[int, int, ShardId]
"""(job, seq, shard that sends)"""


class _Peer:
    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.unconfirmed: deque[Batch] = deque(maxlen=_MOST_UNCONFIRMED)
        """Sent while the connection was not there."""
        self.waiting_since: float | None = None


class Peers:
    """Belongs to the data thread."""

    def __init__(self, wire: Wire, poller: Poller, endpoints: Mapping[NodeId, str]) -> None:
        """Raises ProtocolError for an endpoint or a node's key that is not one."""
        for node, address in endpoints.items():
            if not is_endpoint(node, address):
                raise ProtocolError(
                    f"Field peers says that {node[:40]!r} is at {address[:80]!r}, which is no endpoint."
                )
        self._wire = wire
        self._poller = poller
        self._endpoints = dict(endpoints)
        self._peers: dict[NodeId, _Peer] = {}

    @property
    def channels(self) -> list[tuple[NodeId, Channel]]:
        """Those that are open."""
        return [(node, peer.channel) for node, peer in self._peers.items()]

    def send(self, node: NodeId, frames: Sequence[Buffer], batch: Batch, now: float) -> str | None:
        """Queue tensors for ``node``. None, or why they cannot go, in words."""
        peer = self._peer(node)
        if not peer.channel.send(frames):
            return f"The node {node[:8]} takes no more tensors: {_WORDS.get(peer.channel.problem(), 'it is too slow')}."
        if not peer.channel.connected:
            peer.channel.problem()
        if not peer.channel.connected:
            peer.unconfirmed.append(batch)
            peer.waiting_since = peer.waiting_since or now
        return None

    def tell(self, nodes: Sequence[NodeId], failed: ShardFailed) -> None:
        """Pass a failure on to ``nodes``."""
        for node in nodes:
            self._peer(node).channel.send([encode_header(failed)])

    def check(self, now: float) -> list[tuple[Batch, str]]:
        """Micro-batches that were sent to a peer which has not been there for PATIENCE, and why."""
        lost: list[tuple[Batch, str]] = []
        for node, peer in self._peers.items():
            problem = peer.channel.problem()
            if peer.channel.connected:
                peer.unconfirmed.clear()
                peer.waiting_since = None
            elif peer.waiting_since is not None and now - peer.waiting_since >= PATIENCE:
                why = _WORDS.get(problem, "nobody answers")
                words = f"The node {node[:8]} cannot be reached at {peer.channel.endpoint}: {why}."
                lost += [(batch, words) for batch in peer.unconfirmed]
                peer.unconfirmed.clear()
                peer.waiting_since = None
        return lost

    def close(self) -> None:
        for peer in self._peers.values():
            self._poller.unregister(peer.channel)
            peer.channel.close()
        self._peers.clear()

    def _peer(self, node: NodeId) -> _Peer:
        peer = self._peers.get(node)
        if peer is None:
            channel = self._wire.connect(self._endpoints[node], node, hwm=MOST_BATCHES, silence=DATA_SILENCE_SECONDS)
            self._poller.register(channel)
            peer = self._peers[node] = _Peer(channel)
        return peer


def is_endpoint(node: NodeId, address: str) -> bool:
    """Whether a connection to ``node`` at ``address`` can be tried."""
    return is_key(node) and bool(_ENDPOINT.fullmatch(address)) and 0 < int(address.rpartition(":")[2]) < 1 << 16
