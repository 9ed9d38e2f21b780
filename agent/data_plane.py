"""The data thread: receives tensors and blobs, hands tensors to the deployment that is served, wakes for what is due.

Everything here but the methods said to be for other threads runs on the data thread.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Final

from agent.blobs import BlobStore
from agent.compute import Compute
from agent.dataflow import MOST_BATCHES, Dataflow, refuse
from agent.executor import LoadedShard
from agent.limits import Limits
from agent.link_limit import LinkPacer
from agent.outbox import Outbox
from agent.peers import Peers
from agent.probes import Probes
from agent.serving import Serving
from agent.telemetry import Meter
from core.errors import ProtocolError
from core.plan.form import CLIENT, NodeId
from core.wire.frames import decode_header, encode_header
from core.wire.messages import (
    Attach,
    Attached,
    Chunk,
    ChunkAck,
    DataHeader,
    Probe,
    ProbeAck,
    ShardFailed,
    Tensors,
)
from core.wire.sockets import DATA_SILENCE_SECONDS, Received, Wire
from core.wire.trust import TrustStore

_MOST_AT_A_TIME: Final = 64
_INCOMING: Final = 64
"""Messages of one sender that wait in the socket while this thread does not read, as with a limited link."""
_OUTGOING: Final = 4 * MOST_BATCHES
"""Results for a client that is slow to read. Its credits bound what is there; a full queue would lose results."""


class DataPlane:
    """Owns the data socket and the deployment that is served on it. Raises InputError when the port is in use."""

    def __init__(
        self,
        wire: Wire,
        bind: str,
        port: int,
        *,
        trust: TrustStore,
        probes: Probes,
        blobs: BlobStore,
        limits: Limits,
        meter: Meter,
        crashed: Callable[[], None],
    ) -> None:
        """``crashed`` is called on the data thread when it ends for a reason that nobody foresaw."""
        self.sent_bytes = 0
        self.received_bytes = 0
        self._wire = wire
        self._trust = trust
        self._probes = probes
        self._blobs = blobs
        self._limits = limits
        self._meter = meter
        self._listener = wire.listen(bind, port, hwm=_INCOMING, send_hwm=_OUTGOING, silence=DATA_SILENCE_SECONDS)
        self.port = self._listener.port
        self._waker = wire.waker()
        self._poller = wire.poller()
        self._poller.register(self._listener)
        self._poller.register(self._waker)
        self._compute = Compute(meter, limits, self._waker.wake)
        self._outbox = Outbox(LinkPacer(limits))
        self._inbound = LinkPacer(limits)
        self._inbox: tuple[float, Received] | None = None
        """A message that a slower link would not have brought yet, and when it would."""
        self._commands: deque[Callable[[], None]] = deque()
        self._serving: Serving | None = None
        self._closing = False
        self._crashed = crashed
        self._thread = threading.Thread(target=self._guard, name="data", daemon=True)

    # ------------------------------------------------------------ for other threads

    @property
    def queue(self) -> int:
        """Micro-batches ready or running."""
        serving = self._serving
        return serving.flow.running if serving else 0

    def start(self) -> None:
        self._thread.start()

    def install(self, flow: Dataflow, shards: Sequence[LoadedShard], peers: Mapping[NodeId, str]) -> Future[None]:
        """Serve ``flow`` from now on, in place of what is served. ``peers``: data endpoint of each other node."""
        return self._post(partial(self._install, flow, shards, peers))

    def uninstall(self, deployment: str) -> Future[None]:
        """Stop serving ``deployment``, if it is served, and let go of its shards."""
        return self._post(partial(self._uninstall, deployment))

    def cancel(self, deployment: str, job: int) -> Future[None]:
        return self._post(partial(self._cancel, deployment, job))

    def limits_changed(self) -> None:
        self._compute.limits_changed()
        self._post(self._hurry)

    def close(self) -> bool:
        """Stop the threads and close the sockets. False: a shard still runs and cannot be stopped."""
        self._closing = True
        self._waker.wake()
        self._thread.join()
        self._waker.close()
        return self._compute.close()

    def _post(self, command: Callable[[], None]) -> Future[None]:
        done: Future[None] = Future()

        def run() -> None:
            try:
                command()
            except Exception as error:  # noqa: BLE001 - belongs to whoever asked
                done.set_exception(error)
            else:
                done.set_result(None)

        self._commands.append(run)
        self._waker.wake()
        return done

    # ------------------------------------------------------------ the loop

    def _guard(self) -> None:
        try:
            self._serve()
        except BaseException:
            self._crashed()
            raise

    def _serve(self) -> None:
        wait, waker, listener = self._poller.wait, self._waker, self._listener
        while not self._closing:
            ready = wait(self._timeout())
            if waker in ready:
                waker.drain()
            while self._step():
                pass
            if listener in ready or self._inbox is not None:
                self._receive_all()
            self._tend()
        if self._serving is not None:
            self._serving.close()
        listener.close()

    def _step(self) -> bool:
        """One command or result of the compute thread."""
        if self._commands:
            self._commands.popleft()()
            return True
        if self._compute.results:
            result = self._compute.results.popleft()
            if self._serving is not None:
                self._serving.ran(*result)
                self._count_sent(self._serving)
            return True
        return False

    def _receive_all(self) -> None:
        """What has arrived, up to a bound; results of the compute thread go out in between."""
        if self._inbox is not None:
            due, received = self._inbox
            if due > time.perf_counter():
                return
            self._inbox = None
            self._poller.register(self._listener)
            self._on_message(received)
        for _ in range(_MOST_AT_A_TIME):
            arrived = self._listener.recv()
            if arrived is None or self._hold_back(arrived):
                return
            self._on_message(arrived)
            while self._step():
                pass

    def _hold_back(self, received: Received) -> bool:
        """With a limited link: keep the message, and all that follow, until it would have come. The same where more
        results wait for the link than should: what comes in makes more of them."""
        if self._outbox.due is None and not self._limits.link_bits_per_s:
            return False
        now = time.perf_counter()
        due = self._inbound.delay(_size(received.frames), now)
        if self._outbox.full and self._outbox.due is not None:
            due = max(due, self._outbox.due)
        if due <= now:
            return False
        self._poller.unregister(self._listener)
        self._inbox = (due, received)
        return True

    def _tend(self) -> None:
        """What is due by the clock."""
        if self._outbox.due is not None:
            self._outbox.flush(time.perf_counter())
        if self._serving is not None and self._serving.next_check is not None:
            self._serving.tend(time.perf_counter())

    def _timeout(self) -> float | None:
        """Seconds until something is due; None: sleep until a message or a command comes."""
        dues = []
        if self._outbox.due is not None:
            dues.append(self._outbox.due)
        if self._inbox is not None:
            dues.append(self._inbox[0])
        if self._serving is not None and (check := self._serving.next_check) is not None:
            dues.append(check)
        return max(0.0, min(dues) - time.perf_counter()) if dues else None

    # ------------------------------------------------------------ messages in

    def _on_message(self, received: Received) -> None:
        sender, user, frames = received
        try:
            header = decode_header(frames[0] if frames else b"")
        except ProtocolError as error:
            self._reply(sender, ShardFailed("", 0, 0, 0, CLIENT, "field", error.message))
            return
        if type(header) is Tensors:
            self._on_tensors(sender, user, header, frames)
        elif type(header) is Chunk:
            self._on_chunk(sender, user, header, frames)
        elif type(header) is Attach:
            self._on_attach(sender, user, header)
        elif type(header) is Probe:
            self._on_probe(sender, user, header, frames)
        elif type(header) is ShardFailed:
            if self._serving is not None:
                self._serving.failed(user, header)
        else:
            words = f"Field type: a node does not take {type(header).__name__}."
            self._reply(sender, ShardFailed("", 0, 0, 0, CLIENT, "field", words))

    def _on_tensors(self, sender: bytes, user: str, header: Tensors, frames: list[memoryview]) -> None:
        serving = self._serving
        if serving is None:
            words = f"Field deployment is {header.deployment!r}, but nothing is loaded here."
            self._reply(sender, refuse(header, "field", words).failed)
            return
        del frames[0]
        self.received_bytes += _size(frames)
        refused = serving.tensors(header, user, frames)
        self._count_sent(serving)
        if refused is not None:
            self._reply(sender, refused)

    def _count_sent(self, serving: Serving) -> None:
        self.sent_bytes += serving.sent_bytes
        serving.sent_bytes = 0

    def _on_chunk(self, sender: bytes, user: str, header: Chunk, frames: list[memoryview]) -> None:
        if not self._trust.is_client(user):
            ack = ChunkAck(header.blob, 0, "Only a paired workstation may send blobs.")
        elif len(frames) != 2:
            ack = ChunkAck(header.blob, 0, f"A chunk has 2 frames, {len(frames)} came.")
        else:
            ack = self._blobs.append(header.blob, header.nbytes, header.offset, frames[1])
        self._reply(sender, ack)

    def _on_attach(self, sender: bytes, user: str, header: Attach) -> None:
        problem = self._serving.attach(sender, user, header) if self._serving else "Nothing is loaded here."
        if problem is None:
            self._reply(sender, Attached(header.deployment, header.epoch))
        else:
            self._reply(sender, ShardFailed(header.deployment, header.epoch, 0, 0, CLIENT, "field", problem))

    def _on_probe(self, sender: bytes, user: str, header: Probe, frames: list[memoryview]) -> None:
        problem = self._probes.refusal(header, user, frames)
        if problem is not None:
            self._reply(sender, ShardFailed("", 0, 0, 0, CLIENT, "field", problem))
            return
        ack = ProbeAck(header.probe, header.number)
        if not header.answer:
            self._reply(sender, ack)
            return
        send = partial(self._listener.send, sender, [encode_header(ack), bytes(header.answer)])
        self._outbox.put(send, header.answer, time.perf_counter())

    def _reply(self, sender: bytes, header: DataHeader) -> None:
        self._listener.send(sender, [encode_header(header)])

    # ------------------------------------------------------------ commands

    def _install(self, flow: Dataflow, shards: Sequence[LoadedShard], peers: Mapping[NodeId, str]) -> None:
        missing = flow.peers - set(peers)
        if missing:
            raise ProtocolError(f"Field peers does not say where {', '.join(n[:8] for n in sorted(missing))} is.")
        connections = Peers(self._wire, self._poller, peers)
        if self._serving is not None:
            self._uninstall(self._serving.flow.deployment)
        self._meter.reset([(loaded.shard.id, loaded.shard.label) for loaded in shards])
        self._serving = Serving(
            flow,
            shards,
            connections,
            listener=self._listener,
            compute=self._compute,
            outbox=self._outbox,
            limits=self._limits,
            meter=self._meter,
        )

    def _uninstall(self, deployment: str) -> None:
        if self._serving is None or self._serving.flow.deployment != deployment:
            return
        self._serving.close()
        self._serving = None
        self._outbox.clear()
        self._meter.reset()

    def _hurry(self) -> None:
        """The limit of the link has changed: what waits goes on at the new speed."""
        now = time.perf_counter()
        self._outbox.hurry(now)
        if self._inbox is not None:
            self._inbox = (now, self._inbox[1])

    def _cancel(self, deployment: str, job: int) -> None:
        if self._serving is not None and self._serving.flow.deployment == deployment:
            self._serving.cancel(job)


def _size(frames: Sequence[memoryview]) -> int:
    return sum(frame.nbytes for frame in frames)
