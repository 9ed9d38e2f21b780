"""A group of nodes that were introduced to one another for a while, so that the links between them can be measured.

All methods block; Cancelled comes soon after ``stop`` is set.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from math import inf
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from core.cluster.deployment import peer_endpoint
from core.cluster.measuring_steps import await_reply
from core.cost.links import WORKSTATION
from core.errors import Cancelled, ProtocolError, ShardboardError
from core.plan.form import NodeId
from core.wire.messages import CloseProbe, LinkProbed, OpenProbe, ProbeLink, Reply
from core.wire.probing import SIZES, probe_link, stream_link

if TYPE_CHECKING:
    from core.cluster.client import Cluster

_OPEN_SECONDS: Final = 120.0
_ANSWER_SECONDS: Final = 10.0
_PROBE_ANSWER_SECONDS: Final = 30.0
"""Beside the measurement itself: connecting, and requests that wait before it."""
_CLOSE_SECONDS: Final = 3.0


class LinkProbes:
    """Open from entering to leaving; what is still being measured ends with it."""

    def __init__(
        self, cluster: Cluster, nodes: Sequence[NodeId], stop: threading.Event, refused: dict[NodeId, str]
    ) -> None:
        """``nodes`` are known to the cluster; ``refused`` gets a sentence for each that does not take part."""
        self.nodes = {node: cluster.node(node) for node in nodes}
        """That take part, once it is open."""
        self._cluster = cluster
        self._stop = stop
        self._refused = refused
        self._probe = secrets.token_hex(8)

    def __enter__(self) -> Self:
        peers = tuple(self.nodes)
        asked = {
            node: self._cluster.request(node, OpenProbe(self._probe, peers, _OPEN_SECONDS), _ANSWER_SECONDS)
            for node in peers
        }
        try:
            for node, answer in asked.items():
                try:
                    await_reply(answer, self._stop)
                except Cancelled:
                    raise
                except ShardboardError as error:
                    self._refused[node] = error.message
                    del self.nodes[node]
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        asked = [self._cluster.request(node, CloseProbe(self._probe), _CLOSE_SECONDS) for node in self.nodes]
        done, _ = wait(asked, _CLOSE_SECONDS)
        for answer in done:
            with suppress(ShardboardError):
                answer.result()

    def measure(self, source: NodeId, target: NodeId, sizes: Sequence[int], seconds: float) -> LinkProbed:
        """One direction of a link; an end may be the workstation. Raises what ``probe_link`` raises."""
        if source == WORKSTATION:
            return self._from_here(target, sizes, seconds, pull=False)
        if target == WORKSTATION:
            return self._from_here(source, sizes, seconds, pull=True)
        sender, receiver = self.nodes[source], self.nodes[target]
        body = ProbeLink(self._probe, target, peer_endpoint(receiver, sender), tuple(sizes), seconds)
        answer: Future[Reply] = self._cluster.request(source, body, seconds + _PROBE_ANSWER_SECONDS)
        return _checked(await_reply(answer, self._stop), sender.name)

    def stream(self, node: NodeId, size: int, seconds: float, *, pull: bool) -> list[float]:
        """As ``stream_link``, between this workstation and a node."""
        channel = self._cluster.wire.connect(self.nodes[node].data_endpoint, node)
        try:
            return stream_link(channel, self._probe, size, seconds, pull=pull, stop=self._stop.is_set)
        finally:
            channel.close()

    def _from_here(self, node: NodeId, sizes: Sequence[int], seconds: float, *, pull: bool) -> LinkProbed:
        channel = self._cluster.wire.connect(self.nodes[node].data_endpoint, node)
        try:
            return probe_link(channel, self._probe, sizes, seconds, pull=pull, stop=self._stop.is_set)
        finally:
            channel.close()

    def name(self, node: NodeId) -> str:
        return self.nodes[node].name if node != WORKSTATION else "this workstation"


def _checked(reply: Reply, name: str) -> LinkProbed:
    """An answer that makes sense. Raises ProtocolError."""
    if isinstance(reply, LinkProbed) and reply.samples and 0 < reply.round_trip_s < inf:
        sizes = [sample.nbytes for sample in reply.samples]
        ordered = sizes == sorted(set(sizes)) and set(sizes) <= set(SIZES)
        if ordered and all(0 < sample.bytes_per_s < inf for sample in reply.samples):
            return reply
    raise ProtocolError(f"{name} answered the measurement of a link with {str(reply)[:200]}.")
