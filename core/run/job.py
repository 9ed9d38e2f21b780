"""The coordinator of a job, without any I/O: ``handle(event) -> effects``.

A job sends micro-batches, numbered from 0, through the replicas of a deployment.

* Each replica has K credits: at most K of its micro-batches are unfinished at a time; this bounds memory on nodes.
* The next micro-batch goes to the replica with the most free credits, so a node twice as fast gets twice the work.
* Results leave in order and exactly once: what comes twice, or from a replica that no longer holds the micro-batch and
  after it finished, is dropped.
* The window between the oldest undelivered and the newest micro-batch is bounded, which bounds memory here.
* When a node is lost, its replicas take no more work and their unfinished micro-batches are sent again through the
  others. When no replica is left, the job fails and says which node was to blame.

The shell (``core.run.runner``) keeps the arrays, carries the effects out and reports what happened as events.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from core.errors import Cancelled, JobError, NodeLostError, RemoteError, ShardboardError
from core.plan.form import NodeId

WINDOW_PER_CREDIT = 8
MIN_WINDOW = 16

# ---------------------------------------------------------------- events: what happened


class Started(Struct, frozen=True):
    pass


class InputRead(Struct, frozen=True):
    """The next micro-batch is at hand; it gets the next number."""


class InputEnded(Struct, frozen=True):
    pass


class ResultsArrived(Struct, frozen=True):
    seq: int
    pieces: tuple[str, ...]
    """Names of the outputs, or of the pieces of outputs, that arrived in one message."""


class ShardBroke(Struct, frozen=True):
    seq: int
    message: str


class NodeWasLost(Struct, frozen=True):
    node: NodeId
    name: str
    reason: str


class ResultsMissing(Struct, frozen=True):
    """Micro-batches are in flight, and yet for ``seconds`` no result came while every node was idle."""

    seconds: float


class StopRequested(Struct, frozen=True):
    pass


Event = Started | InputRead | InputEnded | ResultsArrived | ShardBroke | NodeWasLost | ResultsMissing | StopRequested

# ---------------------------------------------------------------- effects: what to do


class ReadInput(Struct, frozen=True):
    """Read one micro-batch from the source, then report InputRead or InputEnded."""


class Dispatch(Struct, frozen=True):
    seq: int
    replica: int
    again: bool
    """True: an earlier attempt was lost with its node, and partial results are to be forgotten."""


class Complete(Struct, frozen=True):
    """All results of ``seq`` are in, as ``replica`` gives them; its inputs can be let go."""

    seq: int
    replica: int


class Deliver(Struct, frozen=True):
    """Hand the results of ``seq`` to the sink; always in order."""

    seq: int


class Finish(Struct, frozen=True):
    pass


class Fail(Struct, frozen=True):
    error: ShardboardError


Effect = ReadInput | Dispatch | Complete | Deliver | Finish | Fail


class _Flight:
    __slots__ = ("missing", "replica")

    def __init__(self, replica: int, pieces: frozenset[str]) -> None:
        self.replica = replica
        self.missing = set(pieces)


class Job:
    """See the module's docstring.

    Args:
        replica_nodes: for each replica, the nodes that its micro-batches pass.
        pieces: for each replica, the names of all that makes up the results of one micro-batch: one for each output, or
            for each piece of one. What has the same name is the same from whichever replica it comes.
        credit: unfinished micro-batches allowed per replica.
    """

    def __init__(
        self, replica_nodes: Sequence[frozenset[NodeId]], pieces: Sequence[frozenset[str]], credit: int
    ) -> None:
        self._nodes = list(replica_nodes)
        self.pieces = tuple(pieces)
        self._credits = dict.fromkeys(range(len(replica_nodes)), credit)
        self._window = max(MIN_WINDOW, WINDOW_PER_CREDIT * credit * len(replica_nodes))
        self._flights: dict[int, _Flight] = {}
        self._orphans: deque[int] = deque()
        self._undelivered: set[int] = set()
        self._next_seq = 0
        self._next_delivery = 0
        self._reading = False
        self._ended = False
        self._over = False
        self._lost: dict[NodeId, str] = {}

    @property
    def in_flight(self) -> int:
        return len(self._flights)

    @property
    def next_seq(self) -> int:
        """The number that the next micro-batch read will get."""
        return self._next_seq

    @property
    def over(self) -> bool:
        return self._over

    @property
    def lost_nodes(self) -> Mapping[NodeId, str]:
        """Names of the nodes that were lost so far."""
        return self._lost

    def handle(self, event: Event) -> list[Effect]:
        """Take in what happened; returns what to do, in order. Nothing happens once the job is over."""
        if self._over:
            return []
        return list(self._react(event))

    def _react(self, event: Event) -> Iterator[Effect]:
        match event:
            case ResultsArrived(seq, pieces):
                yield from self._results(seq, pieces)
            case InputRead():
                self._reading = False
                self._orphans.append(self._next_seq)
                self._next_seq += 1
                yield from self._dispatch()
            case InputEnded():
                self._reading, self._ended = False, True
                yield from self._finish_if_done()
            case Started():
                yield from self._dispatch()
            case NodeWasLost(node, name, reason):
                yield from self._node_lost(node, name, reason)
            case ShardBroke(seq, message):
                if seq in self._flights:
                    yield self._fail(RemoteError(message, remote_code="shard"))
            case ResultsMissing(seconds):
                yield self._fail(
                    JobError(
                        f"{len(self._flights)} micro-batches were lost on the way: no result for {seconds:.0f} s, "
                        "and no node has work.",
                        hint="A connection between nodes broke. Check the network (shardboard doctor) and run again.",
                    )
                )
            case StopRequested():
                yield self._fail(Cancelled("The run was stopped."))

    def _results(self, seq: int, pieces: tuple[str, ...]) -> Iterator[Effect]:
        flight = self._flights.get(seq)
        if flight is None:
            return
        flight.missing.difference_update(pieces)
        if flight.missing:
            return
        del self._flights[seq]
        if flight.replica in self._credits:
            self._credits[flight.replica] += 1
        elif seq in self._orphans:
            self._orphans.remove(seq)  # a lost node's last words were enough
        yield Complete(seq, flight.replica)
        self._undelivered.add(seq)
        while self._next_delivery in self._undelivered:
            self._undelivered.remove(self._next_delivery)
            yield Deliver(self._next_delivery)
            self._next_delivery += 1
        yield from self._dispatch()
        yield from self._finish_if_done()

    def _dispatch(self) -> Iterator[Effect]:
        while self._orphans and (replica := self._freest()) is not None:
            seq = self._orphans.popleft()
            again = seq in self._flights
            self._credits[replica] -= 1
            self._flights[seq] = _Flight(replica, self.pieces[replica])
            yield Dispatch(seq, replica, again)
        wanted = not (self._ended or self._reading or self._orphans)
        if wanted and self._freest() is not None and self._next_seq - self._next_delivery < self._window:
            self._reading = True
            yield ReadInput()

    def _freest(self) -> int | None:
        best = max(self._credits.items(), key=lambda kv: kv[1], default=(0, 0))
        return best[0] if best[1] > 0 else None

    def _node_lost(self, node: NodeId, name: str, reason: str) -> Iterator[Effect]:
        hit = [r for r in self._credits if node in self._nodes[r]]
        if not hit:
            return
        self._lost[node] = name
        for replica in hit:
            del self._credits[replica]
        if not self._credits:
            where = "every replica" if len(self._nodes) > 1 else "a part of the model that no other node has"
            yield self._fail(
                NodeLostError(
                    f"Node {name} was lost ({reason}) and with it {where}.",
                    hint="Bring it back, or leave it out of the partition and run again.",
                )
            )
            return
        lost = sorted(seq for seq, flight in self._flights.items() if flight.replica in hit)
        self._orphans.extendleft(reversed(lost))
        yield from self._dispatch()

    def _finish_if_done(self) -> Iterator[Effect]:
        if self._ended and not self._flights and not self._orphans:
            if self._undelivered:
                raise JobError(f"results {sorted(self._undelivered)} were never delivered")
            self._over = True
            yield Finish()

    def _fail(self, error: ShardboardError) -> Effect:
        self._over = True
        return Fail(error)
