"""The data thread: receives tensors and blobs, carries out what the dataflow says, sends results on.

Everything here but the methods said to be for other threads runs on the data thread. A shard that lately took under a
millisecond runs right here when nothing else waits, which spares two thread switches; all others on the compute thread.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Final

from agent.blobs import BlobStore
from agent.compute import Compute, execute
from agent.dataflow import (
    MOST_BATCHES,
    ClientAttached,
    Dataflow,
    Drop,
    Effect,
    Fail,
    JobCancelled,
    PeerFailed,
    Refuse,
    Run,
    Send,
    ShardRaised,
    ShardRan,
    TensorsArrived,
    refuse,
)
from agent.executor import LoadedShard
from agent.limits import Limits
from agent.link_limit import LinkPacer
from agent.outbox import Outbox
from agent.peers import Peers
from agent.telemetry import Meter
from core.errors import ProtocolError
from core.plan.form import CLIENT, NodeId, ShardId
from core.wire.frames import decode_header, encode_header, tensor_frames
from core.wire.messages import Attach, Attached, Chunk, ChunkAck, DataHeader, ShardFailed, Tensors
from core.wire.sockets import Buffer, Received, Wire
from core.wire.trust import TrustStore

_log = logging.getLogger(__name__)

INLINE_SECONDS: Final = 0.001
_CHECK_SECONDS: Final = 1.0
_MOST_ATTACHED: Final = 8
_MOST_AT_A_TIME: Final = 64
_FADE: Final = 0.8
_INCOMING: Final = 64
"""Messages of one sender that wait in the socket while this thread does not read; it always does, but for a slow link."""
_OUTGOING: Final = 4 * MOST_BATCHES
"""Results for a client that is slow to read. Its credits bound what is really there; a full queue would lose results."""


class _Loaded:
    """A deployment that is being served."""

    def __init__(self, flow: Dataflow, shards: Sequence[LoadedShard], peers: Peers) -> None:
        self.flow = flow
        self.shards = {loaded.shard.id: loaded for loaded in shards}
        self.seconds = dict.fromkeys(self.shards, INLINE_SECONDS)
        """What a run of each shard took lately; the first one goes to the compute thread."""
        self.peers = peers
        self.attached: list[bytes] = []
        """Connections of the client that take results, the latest first."""


class DataPlane:
    """Owns the data socket and the deployment that is served on it. Raises InputError when the port is in use."""

    def __init__(
        self,
        wire: Wire,
        bind: str,
        port: int,
        *,
        trust: TrustStore,
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
        self._blobs = blobs
        self._limits = limits
        self._meter = meter
        self._listener = wire.listen(bind, port, hwm=_INCOMING, send_hwm=_OUTGOING)
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
        self._loaded: _Loaded | None = None
        self._next_check = 0.0
        self._closing = False
        self._crashed = crashed
        self._thread = threading.Thread(target=self._guard, name="data", daemon=True)

    # ------------------------------------------------------------ for other threads

    @property
    def queue(self) -> int:
        """Micro-batches ready or running."""
        loaded = self._loaded
        return loaded.flow.running if loaded else 0

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
        if self._loaded is not None:
            self._loaded.peers.close()
        listener.close()

    def _step(self) -> bool:
        """One command or result of the compute thread."""
        if self._commands:
            self._commands.popleft()()
            return True
        if self._compute.results:
            shard, outcome = self._compute.results.popleft()
            loaded = self._loaded
            if loaded is not None and loaded.shards.get(outcome.run.shard) is shard:
                self._ran(loaded, outcome)
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
        loaded = self._loaded
        if loaded is None or not loaded.peers.channels:
            return
        for _, channel in loaded.peers.channels:
            while (frames := channel.recv()) is not None:
                self._on_answer(loaded, frames)
        now = time.perf_counter()
        if now >= self._next_check:
            self._next_check = now + _CHECK_SECONDS
            for (job, seq, shard), words in loaded.peers.check(now):
                self._report(loaded, job, seq, shard, words)

    def _timeout(self) -> float | None:
        """Seconds until something is due; None: sleep until a message or a command comes."""
        dues = []
        if self._outbox.due is not None:
            dues.append(self._outbox.due)
        if self._inbox is not None:
            dues.append(self._inbox[0])
        if self._loaded is not None and self._loaded.peers.channels:
            dues.append(self._next_check)
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
        elif type(header) is ShardFailed:
            self._on_failure(user, header)
        else:
            words = f"Field type: a node does not take {type(header).__name__}."
            self._reply(sender, ShardFailed("", 0, 0, 0, CLIENT, "field", words))

    def _on_tensors(self, sender: bytes, user: str, header: Tensors, frames: list[memoryview]) -> None:
        loaded = self._loaded
        if loaded is None:
            words = f"Field deployment is {header.deployment!r}, but nothing is loaded here."
            self._reply(sender, refuse(header, "field", words).failed)
            return
        del frames[0]
        self.received_bytes += _size(frames)
        for effect in loaded.flow.handle(TensorsArrived(header, user, frames)):
            if type(effect) is Refuse:
                self._reply(sender, effect.failed)
            else:
                self._carry_out(loaded, effect)

    def _on_chunk(self, sender: bytes, user: str, header: Chunk, frames: list[memoryview]) -> None:
        if not self._trust.is_client(user):
            ack = ChunkAck(header.blob, 0, "Only a paired workstation may send blobs.")
        elif len(frames) != 2:
            ack = ChunkAck(header.blob, 0, f"A chunk has 2 frames, {len(frames)} came.")
        else:
            ack = self._blobs.append(header.blob, header.nbytes, header.offset, frames[1])
        self._reply(sender, ack)

    def _on_attach(self, sender: bytes, user: str, header: Attach) -> None:
        loaded = self._loaded
        problem = _attach_problem(loaded.flow if loaded else None, user, header)
        if problem is not None or loaded is None:
            failed = ShardFailed(header.deployment, header.epoch, 0, 0, CLIENT, "field", problem or "")
            self._reply(sender, failed)
            return
        loaded.attached = [sender, *(s for s in loaded.attached if s != sender)][:_MOST_ATTACHED]
        self._reply(sender, Attached(header.deployment, header.epoch))
        for effect in loaded.flow.handle(ClientAttached()):
            self._carry_out(loaded, effect)

    def _on_failure(self, user: str, failed: ShardFailed) -> None:
        loaded = self._loaded
        if loaded is not None and user in loaded.flow.peers:
            for effect in loaded.flow.handle(PeerFailed(failed)):
                self._carry_out(loaded, effect)

    def _on_answer(self, loaded: _Loaded, frames: list[memoryview]) -> None:
        """A peer answers on our connection to it only when it refuses something."""
        try:
            header = decode_header(frames[0])
        except ProtocolError as error:
            _log.warning("a peer answered with something unreadable: %s", error)
            return
        if type(header) is ShardFailed:
            for effect in loaded.flow.handle(PeerFailed(header)):
                self._carry_out(loaded, effect)

    # ------------------------------------------------------------ effects

    def _carry_out(self, loaded: _Loaded, effect: Effect) -> None:
        if type(effect) is Run:
            self._run(loaded, effect)
        elif type(effect) is Send:
            self._send(loaded, effect)
        elif type(effect) is Fail:
            self._fail(loaded, effect.failed)
        elif type(effect) is Drop:
            self._compute.drop(effect.keys)

    def _run(self, loaded: _Loaded, run: Run) -> None:
        shard = loaded.shards[run.shard]
        compute = self._compute
        if loaded.seconds[run.shard] < INLINE_SECONDS and compute.idle and self._limits.cpu >= 1.0:
            self._ran(loaded, execute(shard, run, self._meter))
        else:
            compute.submit(shard, run)

    def _ran(self, loaded: _Loaded, outcome: ShardRan | ShardRaised) -> None:
        shard, took = outcome.run.shard, outcome.seconds
        if shard in loaded.seconds:
            # up at once, down slowly: one slow run is enough to leave this thread
            loaded.seconds[shard] = max(took, _FADE * loaded.seconds[shard] + (1 - _FADE) * took)
        for effect in loaded.flow.handle(outcome):
            self._carry_out(loaded, effect)

    def _send(self, loaded: _Loaded, send: Send) -> None:
        node, producer, consumer, job, seq, arrays = send
        flow = loaded.flow
        try:
            frames = tensor_frames(flow.deployment, flow.epoch, job, seq, producer, consumer, arrays)
        except ProtocolError as error:
            self._report(loaded, job, seq, producer, error.message)
            return
        nbytes = sum(array.nbytes for _, array, _ in arrays)
        self.sent_bytes += nbytes
        if self._outbox.due is None and not self._limits.link_bits_per_s:
            self._deliver(loaded, node, frames, (job, seq, producer))
        else:
            deliver = partial(self._deliver, loaded, node, frames, (job, seq, producer))
            self._outbox.put(deliver, nbytes, time.perf_counter())

    def _deliver(
        self, loaded: _Loaded, node: NodeId | None, frames: Sequence[Buffer], batch: tuple[int, int, ShardId]
    ) -> None:
        if node is None:
            self._to_client(loaded, frames)
        elif problem := loaded.peers.send(node, frames, batch, time.perf_counter()):
            self._report(loaded, *batch, problem)

    def _to_client(self, loaded: _Loaded, frames: Sequence[Buffer]) -> bool:
        """To the latest connection of the client that is still there. The last one left may come back."""
        attached = loaded.attached
        while attached:
            if self._listener.send(attached[0], frames):
                return True
            if len(attached) == 1:
                return False
            del attached[0]
        return False

    def _report(self, loaded: _Loaded, job: int, seq: int, shard: ShardId, words: str) -> None:
        flow = loaded.flow
        failed = ShardFailed(flow.deployment, flow.epoch, job, seq, shard, "shard", words)
        for effect in flow.handle(PeerFailed(failed)):
            self._carry_out(loaded, effect)

    def _fail(self, loaded: _Loaded, failed: ShardFailed) -> None:
        """To the client, or where none is attached to the neighbours, until it comes to a node that has one."""
        if not self._to_client(loaded, [encode_header(failed)]):
            loaded.peers.tell(sorted(loaded.flow.peers), failed)

    def _reply(self, sender: bytes, header: DataHeader) -> None:
        self._listener.send(sender, [encode_header(header)])

    # ------------------------------------------------------------ commands

    def _install(self, flow: Dataflow, shards: Sequence[LoadedShard], peers: Mapping[NodeId, str]) -> None:
        if self._loaded is not None:
            self._uninstall(self._loaded.flow.deployment)
        missing = flow.peers - set(peers)
        if missing:
            raise ProtocolError(f"Field peers does not say where {', '.join(n[:8] for n in sorted(missing))} is.")
        self._meter.reset([(loaded.shard.id, loaded.shard.label) for loaded in shards])
        self._loaded = _Loaded(flow, shards, Peers(self._wire, self._poller, peers))

    def _uninstall(self, deployment: str) -> None:
        loaded = self._loaded
        if loaded is None or loaded.flow.deployment != deployment:
            return
        for effect in loaded.flow.handle(ClientAttached()):
            self._carry_out(loaded, effect)
        self._outbox.clear()
        loaded.peers.close()
        self._loaded = None
        self._meter.reset()

    def _hurry(self) -> None:
        """The limit of the link has changed: what waits goes on at the new speed."""
        now = time.perf_counter()
        self._outbox.hurry(now)
        if self._inbox is not None:
            self._inbox = (now, self._inbox[1])

    def _cancel(self, deployment: str, job: int) -> None:
        loaded = self._loaded
        if loaded is not None and loaded.flow.deployment == deployment:
            for effect in loaded.flow.handle(JobCancelled(job)):
                self._carry_out(loaded, effect)


def _attach_problem(flow: Dataflow | None, user: str, header: Attach) -> str | None:
    if flow is None or flow.deployment != header.deployment:
        return f"Field deployment is {header.deployment!r}, which is not loaded here."
    if flow.epoch != header.epoch:
        return f"Field epoch is {header.epoch}, but epoch {flow.epoch} is loaded here."
    if flow.owner != user:
        return "Field deployment belongs to another workstation."
    return None


def _size(frames: Sequence[memoryview]) -> int:
    return sum(frame.nbytes for frame in frames)
