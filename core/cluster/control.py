"""The control connections of a cluster: one Channel a node, requests that wait for their replies.

Everything here runs on the cluster's thread.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass

from core.cluster.node import bracketed
from core.errors import (
    DoesNotFitError,
    InputError,
    NodeLostError,
    NodeOwnedError,
    ProtocolError,
    RemoteError,
    ShardboardError,
    UnreachableError,
)
from core.plan.form import NodeId
from core.wire.frames import decode_reply, encode_request
from core.wire.messages import Failure, InfoPush, Reply, ReplyEnvelope, Request, RequestEnvelope, TelemetryPush
from core.wire.sockets import Channel, Poller, Wire
from core.wire.waker import Waker

log = logging.getLogger(__name__)

Answer = Callable[[Reply | ShardboardError, float], None]
"""Called once with the reply, or with why there is none, and the seconds it took."""


def failure_error(node_name: str, failure: Failure) -> ShardboardError:
    """The exception that a person sees for an agent's Failure."""
    match failure.code:
        case "owned":
            return NodeOwnedError(f"{node_name}: {failure.message}")
        case "memory":
            return DoesNotFitError(f"{node_name}: {failure.message}")
        case "untrusted":
            return UnreachableError(f"{node_name} does not trust this workstation: {failure.message}")
        case _:
            return RemoteError(f"{node_name}: {failure.message}", remote_code=failure.code)


def settle(future: Future[Reply], node_name: str) -> Answer:
    """An Answer that completes ``future``; Failure replies become exceptions."""

    def answer(reply: Reply | ShardboardError, _seconds: float) -> None:
        if not future.set_running_or_notify_cancel():
            return
        if isinstance(reply, ShardboardError):
            future.set_exception(reply)
        elif isinstance(reply, Failure):
            future.set_exception(failure_error(node_name, reply))
        else:
            future.set_result(reply)

    return answer


@dataclass(slots=True)
class _Waiting:
    node: NodeId
    name: str
    answer: Answer
    asked_at: float
    deadline: float


class ControlLinks:
    """Opens, closes, reads and writes control channels. ``pushed`` gets what a node sends unasked."""

    def __init__(self, wire: Wire, waker: Waker, pushed: Callable[[NodeId, TelemetryPush | InfoPush], None]) -> None:
        self._wire = wire
        self._poller: Poller = wire.poller()
        self._poller.register(waker)
        self._waker = waker
        self._pushed = pushed
        self._channels: dict[NodeId, Channel] = {}
        self._waiting: dict[int, _Waiting] = {}
        self._next_id = 1

    def open(self, node: NodeId, host: str, port: int) -> None:
        """A fresh connection; one that exists is closed first."""
        self.close(node)
        try:
            channel = self._wire.connect(f"tcp://{bracketed(host)}:{port}", node)
        except InputError as error:  # whoever announced that key or address must not end this thread
            log.warning("%s", error)
            return
        self._channels[node] = channel
        self._poller.register(channel)

    def close(self, node: NodeId, reason: str = "") -> None:
        """Close a connection, if there is one; its waiting requests fail with ``reason``, or because it broke."""
        channel = self._channels.pop(node, None)
        if channel is None:
            return
        self._poller.unregister(channel)
        channel.close()
        self.fail(node, reason)

    def fail(self, node: NodeId, reason: str = "") -> None:
        """Everything that waits for the node fails, with ``reason``, without a full stop, or because it broke."""
        for request_id in [i for i, w in self._waiting.items() if w.node == node]:
            waiting = self._waiting.pop(request_id)
            words = reason or f"{waiting.name} gave no answer: the connection to it broke"
            waiting.answer(NodeLostError(f"{words}."), time.monotonic() - waiting.asked_at)

    def ask(self, node: NodeId, name: str, body: Request, timeout: float, answer: Answer) -> None:
        """Send a request; ``answer`` is called once, at the latest after ``timeout`` seconds."""
        now = time.monotonic()
        channel = self._channels.get(node)
        if channel is None:
            answer(UnreachableError(f"{name} is not connected."), 0.0)
            return
        request_id = self._next_id
        self._next_id += 1
        if channel.send([encode_request(RequestEnvelope(request_id, body))]):
            self._waiting[request_id] = _Waiting(node, name, answer, now, now + timeout)
        else:
            answer(UnreachableError(f"{name} takes no more requests: too many wait already."), 0.0)

    def wait(self, timeout: float) -> tuple[NodeId, ...]:
        """The nodes that have something to read, after at most ``timeout`` seconds or a wake-up."""
        ready = self._poller.wait(timeout)
        if any(item is self._waker for item in ready):
            self._waker.drain()
        return tuple(node for node, channel in self._channels.items() if any(item is channel for item in ready))

    def read(self, node: NodeId) -> Iterable[None]:
        """Handle what a node sent, one message a step. Raises ProtocolError for a message that breaks the rules."""
        channel = self._channels.get(node)
        while channel is not None and (frames := channel.recv()) is not None:
            if len(frames) != 1:
                raise ProtocolError(f"a reply of {len(frames)} frames instead of one")
            self._take(node, decode_reply(frames[0]))
            yield
            channel = self._channels.get(node)

    def _take(self, node: NodeId, envelope: ReplyEnvelope) -> None:
        body = envelope.body
        if envelope.id == 0:
            if isinstance(body, TelemetryPush | InfoPush):
                self._pushed(node, body)
            return
        waiting = self._waiting.get(envelope.id)
        if waiting is None or waiting.node != node:
            return  # an answer that came after its time
        del self._waiting[envelope.id]
        waiting.answer(body, time.monotonic() - waiting.asked_at)

    def problems(self) -> list[tuple[NodeId, str]]:
        """Connections that were refused or broke since the last call."""
        return [(node, problem) for node, channel in self._channels.items() if (problem := channel.problem())]

    def expire(self, now: float) -> None:
        """Requests past their deadline fail."""
        for request_id in [i for i, w in self._waiting.items() if now >= w.deadline]:
            waiting = self._waiting.pop(request_id)
            seconds = now - waiting.asked_at
            waiting.answer(UnreachableError(f"{waiting.name} did not answer within {seconds:.0f} s."), seconds)

    def shut(self) -> None:
        for node in tuple(self._channels):
            self.close(node, "The cluster was closed")
