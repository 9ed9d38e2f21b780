"""A deployment that is served: carries out what its dataflow says. Belongs to the data thread.

Where nothing else waits a shard runs right here, on the data thread, which spares two thread switches: always when it
lately took under SHORT_SECONDS, and up to LONG_SECONDS while micro-batches come one at a time, so that there is nothing
to receive meanwhile. All others run on the compute thread.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from functools import partial
from typing import Final

from agent.backlog import Backlog
from agent.compute import Compute, execute
from agent.dataflow import (
    ClientAttached,
    Dataflow,
    Drop,
    Effect,
    Event,
    Fail,
    JobCancelled,
    PeerFailed,
    Refuse,
    Run,
    Send,
    ShardRaised,
    ShardRan,
    TensorsArrived,
)
from agent.executor import LoadedShard
from agent.limits import Limits
from agent.outbox import Outbox
from agent.peers import Peers
from agent.telemetry import Meter
from core.errors import ProtocolError
from core.plan.form import NodeId, ShardId
from core.wire.frames import decode_header, encode_header, tensor_frames
from core.wire.messages import Attach, ShardFailed, Tensors
from core.wire.pacing import SHORT_SECONDS
from core.wire.sockets import Buffer, Listener

_log = logging.getLogger(__name__)

LONG_SECONDS: Final = 0.05
_CROWDED_RUNS: Final = 32
"""So many runs of longer shards leave this thread after a micro-batch had to wait for one."""
_CHECK_SECONDS: Final = 1.0
_MOST_ATTACHED: Final = 8
_FADE: Final = 0.8


class Serving:
    """One epoch of one deployment: its dataflow, its shards, its peers, and the client that takes the results."""

    def __init__(
        self,
        flow: Dataflow,
        shards: Sequence[LoadedShard],
        peers: Peers,
        *,
        listener: Listener,
        compute: Compute,
        outbox: Outbox,
        limits: Limits,
        meter: Meter,
    ) -> None:
        self.flow = flow
        self.sent_bytes = 0
        """Of tensors, since the last time it was set to 0."""
        self._shards = {loaded.shard.id: loaded for loaded in shards}
        self._seconds: dict[ShardId, float] = {}
        """What a run of each shard took lately; its first one, which reads the weights, goes to the compute thread."""
        self._ready: Backlog[Run] = Backlog()
        """What is still to be run here; empty between messages."""
        self._kept_waiting: tuple[int, int] | None = None
        """The (job, seq) that ran here last, if messages came meanwhile that were not looked at yet."""
        self._crowded = 0
        """Runs of longer shards that are to leave this thread."""
        self._peers = peers
        self._attached: list[bytes] = []
        """Connections of the client that take results, the latest first."""
        self._listener = listener
        self._compute = compute
        self._outbox = outbox
        self._limits = limits
        self._meter = meter
        self._next_check = 0.0

    # ------------------------------------------------------------ what happens

    def tensors(self, header: Tensors, user: str, frames: Sequence[memoryview]) -> ShardFailed | None:
        """Take tensors in. What is to be answered to whoever sent them, if they are refused."""
        if self._kept_waiting is not None:
            if self._kept_waiting != (header.job, header.seq):
                self._crowded = _CROWDED_RUNS
            self._kept_waiting = None
        refused = None
        for effect in self.flow.handle(TensorsArrived(header, user, frames)):
            if type(effect) is Refuse:
                refused = effect.failed
            else:
                self._carry_out(effect)
        self._run_ready()
        return refused

    def attach(self, sender: bytes, user: str, header: Attach) -> str | None:
        """Results go to ``sender`` from now on. None, or why not."""
        flow = self.flow
        if flow.deployment != header.deployment:
            return f"Field deployment is {header.deployment!r}, but {flow.deployment!r} is loaded here."
        if flow.epoch != header.epoch:
            return f"Field epoch is {header.epoch}, but epoch {flow.epoch} is loaded here."
        if flow.owner != user:
            return "Field deployment belongs to another workstation."
        self._attached = [sender, *(s for s in self._attached if s != sender)][:_MOST_ATTACHED]
        self._handle(ClientAttached())
        return None

    def ran(self, shard: LoadedShard, outcome: ShardRan | ShardRaised) -> None:
        """A result of the compute thread; one of an earlier deployment's shard is of no interest."""
        if self._shards.get(outcome.run.shard) is shard:
            self._ran(outcome)
            self._run_ready()

    def failed(self, user: str, failed: ShardFailed) -> None:
        """A peer passes a failure on."""
        if user in self.flow.peers:
            self._handle(PeerFailed(failed))

    def cancel(self, job: int) -> None:
        self._handle(JobCancelled(job))

    def tend(self, now: float) -> None:
        """Read what peers answer and look after those that cannot be reached; call before ``next_check``."""
        for _, channel in self._peers.channels:
            while (frames := channel.recv()) is not None:
                self._on_answer(frames)
        if now >= self._next_check:
            self._next_check = now + _CHECK_SECONDS
            for (job, seq, shard), words in self._peers.check(now):
                self._report(job, seq, shard, words)

    @property
    def next_check(self) -> float | None:
        """When ``tend`` is due by the clock."""
        return self._next_check if self._peers.channels else None

    def close(self) -> None:
        """Drop what waits and close the connections to peers."""
        self._handle(ClientAttached())
        self._peers.close()

    def _on_answer(self, frames: list[memoryview]) -> None:
        """A peer answers on our connection to it only when it refuses something."""
        try:
            header = decode_header(frames[0])
        except ProtocolError as error:
            _log.warning("a peer answered with something unreadable: %s", error)
            return
        if type(header) is ShardFailed:
            self._handle(PeerFailed(header))

    # ------------------------------------------------------------ effects

    def _handle(self, event: Event) -> None:
        for effect in self.flow.handle(event):
            self._carry_out(effect)

    def _carry_out(self, effect: Effect) -> None:
        if type(effect) is Run:
            self._run(effect)
        elif type(effect) is Send:
            self._send(effect)
        elif type(effect) is Fail:
            self._fail(effect.failed)
        elif type(effect) is Drop:
            self._compute.drop(effect.keys)
            self._ready.drop(effect.keys)

    def _run(self, run: Run) -> None:
        if self._limits.cpu >= 1.0 and self._compute.idle and self._is_for_here(run):
            self._ready.put(run, run)
        else:
            self._compute.submit(self._shards[run.shard], run)

    def _is_for_here(self, run: Run) -> bool:
        took = self._seconds.get(run.shard, LONG_SECONDS)
        if took < SHORT_SECONDS:
            return True
        if self._crowded:
            self._crowded -= 1
            return False
        paced = self._outbox.due is not None or self._limits.link_bits_per_s
        return took < LONG_SECONDS and not paced and self.flow.is_alone(run.job, run.seq)

    def _run_ready(self) -> None:
        """Run what is to run on this thread, and what follows from it; results leave before the next one begins."""
        while self._ready:
            run = self._ready.take()
            outcome = execute(self._shards[run.shard], run, self._meter)
            self._kept_waiting = (run.job, run.seq) if self._listener.waiting else None
            self._ran(outcome)

    def _ran(self, outcome: ShardRan | ShardRaised) -> None:
        shard, took = outcome.run.shard, outcome.seconds
        # up at once, down slowly: one slow run is enough to leave this thread
        self._seconds[shard] = max(took, _FADE * self._seconds.get(shard, took) + (1 - _FADE) * took)
        counts = type(outcome) is ShardRan and self.flow.wants(outcome.run)
        before = self.sent_bytes
        self._handle(outcome)
        if counts:
            self._meter.handed_on(shard, took, self.sent_bytes - before, outcome.run.received)

    def _send(self, send: Send) -> None:
        node, producer, consumer, job, seq, arrays = send
        flow = self.flow
        try:
            frames = tensor_frames(flow.deployment, flow.epoch, job, seq, producer, consumer, arrays)
        except ProtocolError as error:
            self._report(job, seq, producer, error.message)
            return
        nbytes = sum(array.nbytes for _, array, _ in arrays)
        self.sent_bytes += nbytes
        if self._outbox.due is None and not self._limits.link_bits_per_s:
            self._deliver(node, frames, (job, seq, producer))
        else:
            self._outbox.put(partial(self._deliver, node, frames, (job, seq, producer)), nbytes, time.perf_counter())

    def _deliver(self, node: NodeId | None, frames: Sequence[Buffer], batch: tuple[int, int, ShardId]) -> None:
        if node is None:
            self._to_client(frames)
        elif problem := self._peers.send(node, frames, batch, time.perf_counter()):
            self._report(*batch, problem)

    def _to_client(self, frames: Sequence[Buffer]) -> bool:
        """To the latest connection of the client that is still there. The last one left may come back."""
        attached = self._attached
        while attached:
            if self._listener.send(attached[0], frames):
                return True
            if len(attached) == 1:
                return False
            del attached[0]
        return False

    def _report(self, job: int, seq: int, shard: ShardId, words: str) -> None:
        flow = self.flow
        self._handle(PeerFailed(ShardFailed(flow.deployment, flow.epoch, job, seq, shard, "shard", words)))

    def _fail(self, failed: ShardFailed) -> None:
        """To the client, or where none is attached to the neighbours, until it comes to a node that has one."""
        if not self._to_client([encode_header(failed)]):
            self._peers.tell(sorted(self.flow.peers), failed)
