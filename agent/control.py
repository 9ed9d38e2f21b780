"""The control thread: answers requests, pushes telemetry, pairs. Nothing slow runs here, so heartbeats are prompt.

Loading and measuring run on the worker; their answers come back through a queue. Everything here but the methods said
to be for other threads runs on the control thread.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import msgspec

from agent.blobs import BlobStore
from agent.data_plane import DataPlane
from agent.executor import measure_graph
from agent.failures import AgentFailureError
from agent.leases import Leases, Reservation
from agent.limits import Limits
from agent.link_probe import probe_peer
from agent.loading import Loader
from agent.probes import Probes
from agent.telemetry import Meter, Sampler
from agent.worker import Worker
from core import PROTOCOL_VERSION, __version__
from core.errors import ProtocolError
from core.wire.frames import decode_request, encode_reply
from core.wire.messages import (
    BlobOffsets,
    CancelJob,
    CloseProbe,
    Done,
    Failure,
    Hello,
    InfoPush,
    LoadShards,
    Measure,
    Measured,
    NodeInfo,
    OpenProbe,
    PairReply,
    Ping,
    ProbeLink,
    QueryBlobs,
    Release,
    Reply,
    ReplyEnvelope,
    Request,
    Reserve,
    SetLimits,
    Subscribe,
    TelemetryPush,
    Welcome,
)
from core.wire.pairing import PairingHost
from core.wire.sockets import Received, Wire
from core.wire.trust import TrustStore

_log = logging.getLogger(__name__)

_EXPIRE_SECONDS: Final = 1.0
_RENEW_SECONDS: Final = 0.1
_MAX_MESSAGE: Final = 256 * 1024**2
_MOST_BLOBS: Final = 100_000
_MAX_NAME: Final = 64


class Control:
    """Owns the control and the pairing socket. Raises InputError when a port is in use."""

    def __init__(
        self,
        wire: Wire,
        bind: str,
        ports: tuple[int, int],
        *,
        info: NodeInfo,
        trust: TrustStore,
        probes: Probes,
        blobs: BlobStore,
        data: DataPlane,
        loader: Loader,
        limits: Limits,
        meter: Meter,
        key_file: bytes | None,
        paired: Callable[[str, str | None], None],
        crashed: Callable[[], None],
    ) -> None:
        """``ports``: control and pairing. ``paired`` is told the workstation's name and the next code, if there is one;
        ``crashed`` is called when the thread ends for a reason that nobody foresaw."""
        self._info = info
        self._wire = wire
        self._trust = trust
        self._probes = probes
        self._blobs = blobs
        self._data = data
        self._loader = loader
        self._limits = limits
        self._meter = meter
        self._paired = paired
        self._crashed = crashed
        self._listener = wire.listen(bind, ports[0], allow=trust.is_client, max_message=_MAX_MESSAGE)
        self.port = self._listener.port
        self._pairing = PairingHost(wire, bind, ports[1], trust, self._pair_reply, key_file=key_file)
        self.pairing_port = self._pairing.port
        self._newly_paired: str | None = None
        self._leases = Leases()
        self._sampler: Sampler | None = None
        self._worker = Worker()
        self._answers: deque[tuple[bytes, ReplyEnvelope]] = deque()
        self._waker = wire.waker()
        self._poller = wire.poller()
        self._poller.register(self._listener)
        self._poller.register(self._waker)
        if self._pairing.listener is not None:
            self._poller.register(self._pairing.listener)
        self._next_expiry = 0.0
        self._closing = False
        self._thread = threading.Thread(target=self._guard, name="control", daemon=True)
        self._handlers: dict[type, Callable[[Received, int, Request], Reply | None]] = {
            Hello: self._on_hello,
            Ping: lambda *_: Done(),
            Subscribe: self._on_subscribe,
            Reserve: self._on_reserve,
            QueryBlobs: self._on_query,
            LoadShards: self._on_load,
            Release: self._on_release,
            CancelJob: self._on_cancel,
            Measure: self._on_measure,
            OpenProbe: self._on_open_probe,
            ProbeLink: self._on_probe_link,
            CloseProbe: self._on_close_probe,
            SetLimits: self._on_limits,
        }

    # ------------------------------------------------------------ for other threads

    @property
    def code(self) -> str | None:
        """The pairing code; None with a key file."""
        return self._pairing.code

    def start(self) -> None:
        self._thread.start()

    def close(self) -> bool:
        """Stop the thread and close the sockets. False: loading or measuring cannot be stopped."""
        self._closing = True
        self._waker.wake()
        self._thread.join()
        self._waker.close()
        self._probes.shut()
        return self._worker.close()

    # ------------------------------------------------------------ the loop

    def _guard(self) -> None:
        try:
            self._serve()
        except BaseException:
            self._crashed()
            raise

    def _serve(self) -> None:
        while not self._closing:
            ready = self._poller.wait(self._timeout())
            if self._waker in ready:
                self._waker.drain()
            while self._answers:
                self._send(*self._answers.popleft())
            while (received := self._listener.recv()) is not None:
                self._on_message(received)
            self._pair(ready)
            now = time.monotonic()
            if now >= self._next_expiry:
                self._next_expiry = now + _EXPIRE_SECONDS
                self._leases.expire(now)
                self._probes.expire(now)
            self._publish(now)
        self._listener.close()
        self._pairing.close()

    def _timeout(self) -> float | None:
        """Seconds until something is due; None: sleep until a message or an answer comes."""
        dues = []
        if self._leases.senders or self._probes.next_expiry is not None:
            dues.append(self._next_expiry)
        if (due := self._leases.next_due()) is not None:
            dues.append(due)
        if self._pairing.spent:
            dues.append(time.monotonic() + _RENEW_SECONDS)
        return max(0.0, min(dues) - time.monotonic()) if dues else None

    def _on_message(self, received: Received) -> None:
        sender, user, frames = received
        try:
            if len(frames) != 1:
                raise ProtocolError(f"A request has one frame, {len(frames)} came.")
            request = decode_request(frames[0])
        except ProtocolError as error:
            self._send(sender, ReplyEnvelope(0, Failure("field", error.message)))
            return
        if not self._trust.is_client(user):
            self._send(sender, ReplyEnvelope(request.id, Failure("untrusted", "This node was told to forget you.")))
            return
        self._leases.heard(sender, user, time.monotonic())
        try:
            reply = self._handlers[type(request.body)](received, request.id, request.body)
        except AgentFailureError as failure:
            reply = failure.as_failure()
        if reply is not None:
            self._send(sender, ReplyEnvelope(request.id, reply))

    def _send(self, sender: bytes, envelope: ReplyEnvelope) -> None:
        if not self._listener.send(sender, [encode_reply(envelope)]):
            self._leases.forget(sender)

    # ------------------------------------------------------------ pairing

    def _pair(self, ready: Sequence[object]) -> None:
        if self._pairing.spent:
            if self._pairing.renew() and self._pairing.listener is not None:
                self._poller.register(self._pairing.listener)
                self._paired(self._newly_paired or "", self._pairing.code)
            return
        listener = self._pairing.listener
        if listener is None or listener not in ready:
            return
        name = self._pairing.serve()
        if name is None:
            return
        self._newly_paired = name
        if self._pairing.code is None:
            self._paired(name, None)
        else:
            self._poller.unregister(listener)
            self._pairing.spend()

    def _pair_reply(self) -> PairReply:
        return PairReply(self._info.id, self._info.name, self.port, __version__, PROTOCOL_VERSION)

    # ------------------------------------------------------------ telemetry

    def _publish(self, now: float) -> None:
        ready = self._leases.due(now)
        if not ready:
            return
        self._sampler = self._sampler or Sampler()
        held = self._leases.alive()
        telemetry = self._sampler.sample(
            self._meter,
            self._data.queue,
            held.deployment if held else "",
            held.name if held else "",
            self._data.sent_bytes,
            self._data.received_bytes,
        )
        frames = [encode_reply(ReplyEnvelope(0, TelemetryPush(telemetry)))]
        for sender in ready:
            if not self._listener.send(sender, frames):
                self._leases.forget(sender)

    def _on_subscribe(self, received: Received, _id: int, body: Request) -> Reply:
        assert isinstance(body, Subscribe)
        if not self._leases.watched:
            self._sampler = Sampler()  # rates count from now, not from the last time somebody watched
            self._meter.drain()
        self._leases.subscribe(received.sender, body.interval, time.monotonic())
        return Done()

    # ------------------------------------------------------------ requests

    def _on_hello(self, _received: Received, _id: int, body: Request) -> Reply:
        assert isinstance(body, Hello)
        if body.protocol != PROTOCOL_VERSION:
            return Failure(
                "version",
                f"This node speaks protocol {PROTOCOL_VERSION} (Shardboard {__version__}), "
                f"you speak {body.protocol} (Shardboard {body.version[:32]}). Install the same version on both.",
            )
        self._info = msgspec.structs.replace(self._info, own_memory=self._loader.own_memory)
        return Welcome(PROTOCOL_VERSION, self._info)

    def _on_reserve(self, received: Received, _id: int, body: Request) -> Reply:
        assert isinstance(body, Reserve)
        if not body.deployment or body.memory_bytes < 0:
            return Failure("field", "Field deployment is empty or field memory_bytes is negative.")
        held = self._leases.conflict(received.sender, received.user, body.deployment)
        if held is not None and held.user == received.user and not any(map(self._connected, self._leases.holders())):
            held = None
        if held is not None:
            return Failure("owned", f"This node is in use by {held.name}.")
        self._loader.check_memory(body.memory_bytes)
        previous = self._leases.reservation
        if previous is not None and previous.deployment != body.deployment:
            self._loader.unload(previous.deployment)
        name = body.client_name[:_MAX_NAME]
        self._probes.close_others(received.user)
        self._leases.reserve(Reservation(body.deployment, received.user, received.sender, name, body.memory_bytes))
        return Done()

    def _connected(self, sender: bytes) -> bool:
        """Whether a program that was heard lately is still there: one that ended took its connection along."""
        there = self._listener.send(sender, [encode_reply(ReplyEnvelope(0, InfoPush(self._info)))])
        if not there:
            self._leases.forget(sender)
        return there

    def _on_query(self, received: Received, _id: int, body: Request) -> Reply:
        assert isinstance(body, QueryBlobs)
        if len(body.blobs) > _MOST_BLOBS:
            return Failure("field", f"Field blobs has {len(body.blobs)} entries; at most {_MOST_BLOBS} are answered.")
        offsets = tuple(self._blobs.held(sha) for sha in body.blobs)
        held = self._leases.reservation
        if held is not None and held.user == received.user:
            self._blobs.pin(held.deployment, body.blobs)
        return BlobOffsets(offsets)

    def _on_load(self, received: Received, request: int, body: Request) -> Reply | None:
        assert isinstance(body, LoadShards)
        held = self._leases.reservation
        if held is None or not self._leases.owns(received.user, body.deployment):
            return Failure("owned", "Reserve this node for the deployment before its shards are loaded.")

        def wanted() -> bool:
            now = self._leases.reservation
            return now is not None and (now.user, now.deployment) == (held.user, held.deployment)

        return self._later(received.sender, request, partial(self._loader.load, body, received.user, wanted))

    def _on_release(self, received: Received, _id: int, body: Request) -> Reply:
        assert isinstance(body, Release)
        held = self._leases.reservation
        if held is None or held.deployment != body.deployment:
            return Done()
        if held.user != received.user:
            return Failure("owned", f"This node is in use by {held.name}.")
        self._leases.release()
        self._loader.unload(body.deployment)
        return Done()

    def _on_cancel(self, received: Received, _id: int, body: Request) -> Reply:
        assert isinstance(body, CancelJob)
        if self._leases.owns(received.user, body.deployment):
            self._data.cancel(body.deployment, body.job)
        return Done()

    def _on_measure(self, received: Received, request: int, body: Request) -> Reply | None:
        assert isinstance(body, Measure)
        if (owned := self._held_by_another(received)) is not None:
            return owned
        if not 0 <= body.threads <= self._info.threads:
            return Failure(
                "field", f"Field threads is {body.threads}, but this node computes with {self._info.threads}."
            )
        threads = body.threads or self._info.threads

        def measure() -> Reply:
            found = measure_graph(body.graph, body.inputs, body.repeats, threads, body.seconds)
            return Measured(found.seconds, found.quiet, self._loader.free_memory, found.held)

        return self._later(received.sender, request, measure)

    def _on_open_probe(self, received: Received, _id: int, body: Request) -> Reply:
        assert isinstance(body, OpenProbe)
        if (owned := self._held_by_another(received)) is not None:
            return owned
        self._probes.open(body, received.user, time.monotonic())
        return Done()

    def _on_probe_link(self, received: Received, request: int, body: Request) -> Reply | None:
        assert isinstance(body, ProbeLink)
        if (owned := self._held_by_another(received)) is not None:
            return owned
        self._probes.check(body, received.user)
        task = partial(probe_peer, self._wire, self._limits, self._probes, body)
        return self._later(received.sender, request, task)

    def _on_close_probe(self, received: Received, _id: int, body: Request) -> Reply:
        assert isinstance(body, CloseProbe)
        self._probes.close(body.probe, received.user)
        return Done()

    def _held_by_another(self, received: Received) -> Failure | None:
        """A measurement would disturb what another workstation runs here, and be disturbed by it."""
        held = self._leases.alive()
        if held is None or held.user == received.user:
            return None
        return Failure("owned", f"This node is in use by {held.name}.")

    def _on_limits(self, _received: Received, _id: int, body: Request) -> Reply:
        assert isinstance(body, SetLimits)
        self._limits.set(cpu=body.cpu_limit, link_bits_per_s=body.link_limit)
        self._data.limits_changed()
        self._info = msgspec.structs.replace(
            self._info, cpu_limit=self._limits.cpu, link_limit=self._limits.link_bits_per_s
        )
        for sender in self._leases.senders:
            self._send(sender, ReplyEnvelope(0, InfoPush(self._info)))
        return Done()

    def _later(self, sender: bytes, request: int, task: Callable[[], Reply]) -> Reply | None:
        """Run ``task`` on the worker; its answer goes out when it is there."""

        def run() -> None:
            try:
                reply: Reply = task()
            except AgentFailureError as failure:
                reply = failure.as_failure()
            except Exception as error:  # noqa: BLE001 - whoever asked gets an answer, whatever went wrong
                _log.exception("a request failed")
                reply = Failure("internal", f"This node could not do that: {type(error).__name__}: {error}")
            self._answers.append((sender, ReplyEnvelope(request, reply)))
            self._waker.wake()

        return None if self._worker.submit(run) else Failure("busy", "This node has too much to do; try again later.")
