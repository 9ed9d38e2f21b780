"""Every fault of a job, played without a network."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import Cancelled, JobError, NodeLostError, RemoteError
from core.plan.form import NodeId
from core.run.job import (
    Complete,
    Deliver,
    Dispatch,
    Effect,
    Event,
    Fail,
    Finish,
    InputEnded,
    InputRead,
    Job,
    NodeWasLost,
    ReadInput,
    ResultsArrived,
    ResultsMissing,
    ShardBroke,
    Started,
    StopRequested,
)

OUT = frozenset({"logits"})
A, B, C = NodeId("A"), NodeId("B"), NodeId("C")


class Shell:
    """Carries effects out in memory: a source of ``total`` micro-batches and replicas that answer when told to."""

    def __init__(self, job: Job, total: int) -> None:
        self.job, self.left = job, total
        self.held: dict[int, list[int]] = {}
        self.came: dict[int, set[str]] = {}
        """Pieces of each unfinished micro-batch that came since it was last sent out."""
        self.dispatched: list[tuple[int, int]] = []
        self.delivered: list[int] = []
        self.end: Finish | Fail | None = None

    def tell(self, event: Event) -> None:
        if isinstance(event, ResultsArrived) and event.seq in self.came:
            self.came[event.seq].update(event.pieces)
        todo: list[Effect] = self.job.handle(event)
        while todo:
            effect = todo.pop(0)
            match effect:
                case ReadInput():
                    self.left -= 1
                    todo += self.job.handle(InputRead() if self.left >= 0 else InputEnded())
                case Dispatch(seq, replica):
                    self.held.setdefault(replica, []).append(seq)
                    self.dispatched.append((seq, replica))
                    self.came[seq] = set()
                case Deliver(seq):
                    self.delivered.append(seq)
                case Complete(seq, replica):
                    assert self.came.pop(seq) >= self.job.pieces[replica]
                case Finish() | Fail():
                    self.end = effect

    def answer(self, replica: int) -> None:
        self.tell(ResultsArrived(self.held[replica].pop(0), tuple(self.job.pieces[replica])))


def test_a_replica_twice_as_fast_gets_twice_the_work() -> None:
    shell = Shell(Job([frozenset({A}), frozenset({B})], [OUT, OUT], credit=2), 90)
    shell.tell(Started())
    while shell.end is None:
        for replica in (0, 0, 1):
            if shell.held.get(replica):
                shell.answer(replica)
    by_fast = sum(1 for _, r in shell.dispatched if r == 0)
    assert 58 <= by_fast <= 62
    assert shell.delivered == list(range(90))


def test_credits_bound_what_is_in_flight() -> None:
    shell = Shell(Job([frozenset({A}), frozenset({B})], [OUT, OUT], credit=3), 100)
    shell.tell(Started())
    assert len(shell.held[0]) == len(shell.held[1]) == 3
    assert shell.job.in_flight == 6


def test_a_lost_replica_loses_nothing_and_duplicates_are_dropped() -> None:
    shell = Shell(Job([frozenset({A}), frozenset({B})], [OUT, OUT], credit=2), 20)
    shell.tell(Started())
    late = list(shell.held[0])
    shell.tell(NodeWasLost(A, "alpha", "no sign of life for 3 s"))
    while shell.end is None:
        shell.answer(1)
        for seq in late:
            shell.tell(ResultsArrived(seq, ("logits",)))
    assert shell.delivered == list(range(20))
    assert isinstance(shell.end, Finish)
    assert shell.job.lost_nodes == {A: "alpha"}


def test_a_lost_pipeline_stage_ends_the_job_and_names_the_node() -> None:
    shell = Shell(Job([frozenset({A, B})], [OUT], credit=2), 20)
    shell.tell(Started())
    shell.tell(NodeWasLost(B, "beta", "no sign of life for 3 s"))
    assert isinstance(shell.end, Fail)
    assert isinstance(shell.end.error, NodeLostError)
    assert "beta" in shell.end.error.message


def test_a_node_of_no_replica_does_not_matter() -> None:
    shell = Shell(Job([frozenset({A})], [OUT], credit=1), 3)
    shell.tell(Started())
    shell.tell(NodeWasLost(C, "gamma", "gone"))
    assert shell.end is None


def test_a_broken_shard_and_a_stop_end_the_job() -> None:
    for event, kind in (
        (ShardBroke(0, "Conv failed"), RemoteError),
        (StopRequested(), Cancelled),
        (ResultsMissing(20.0), JobError),
    ):
        shell = Shell(Job([frozenset({A})], [OUT], credit=1), 3)
        shell.tell(Started())
        shell.tell(event)
        assert isinstance(shell.end, Fail)
        assert isinstance(shell.end.error, kind)
        assert shell.job.handle(Started()) == []


def test_no_input_finishes_at_once() -> None:
    shell = Shell(Job([frozenset({A})], [OUT], credit=1), 0)
    shell.tell(Started())
    assert isinstance(shell.end, Finish)


def test_all_outputs_are_waited_for() -> None:
    shell = Shell(Job([frozenset({A, B})], [frozenset({"a", "b"})], credit=1), 1)
    shell.tell(Started())
    shell.tell(ResultsArrived(0, ("a",)))
    assert shell.delivered == []
    shell.tell(ResultsArrived(0, ("b",)))
    assert shell.delivered == [0]


def test_a_stuck_micro_batch_bounds_the_reorder_buffer() -> None:
    shell = Shell(Job([frozenset({A}), frozenset({B})], [OUT, OUT], credit=2), 10_000)
    shell.tell(Started())
    for _ in range(9_000):
        if not shell.held[1]:
            break
        shell.answer(1)
    assert len({seq for seq, _ in shell.dispatched}) <= 64


def test_pieces_count_for_the_replica_that_holds_the_micro_batch() -> None:
    """Two replicas that share an output out differently; the first is lost when half of a micro-batch has come."""
    thirds, halves = frozenset({"y[0:3]", "y[3:9]"}), frozenset({"y[0:4]", "y[4:9]"})
    shell = Shell(Job([frozenset({A}), frozenset({B})], [thirds, halves], credit=1), 2)
    shell.tell(Started())
    shell.tell(ResultsArrived(0, ("y[0:3]",)))
    shell.tell(ResultsArrived(0, ("y[0:3]",)))
    shell.tell(ResultsArrived(1, ("y[0:4]", "y[4:9]")))
    assert shell.delivered == []
    shell.tell(NodeWasLost(A, "alpha", "gone"))
    assert shell.dispatched[-1] == (0, 1)
    shell.tell(ResultsArrived(0, ("y[3:9]",)))  # late, and of no use to the other replica
    shell.tell(ResultsArrived(0, ("y[4:9]",)))
    assert shell.delivered == []
    shell.tell(ResultsArrived(0, ("y[0:4]",)))
    assert shell.delivered == [0, 1]


def pieces_of(replica: int) -> tuple[str, ...]:
    """Every replica shares the output out in its own way."""
    return tuple(f"y[{i}/{replica + 1}]" for i in range(replica + 1))


@settings(max_examples=300, deadline=None)
@given(
    replicas=st.integers(1, 4),
    credit=st.integers(1, 3),
    total=st.integers(0, 30),
    script=st.lists(
        st.tuples(st.sampled_from(["answer", "piece", "lose", "late"]), st.integers(0, 3), st.integers(0, 3)),
        max_size=200,
    ),
)
def test_any_order_of_events_delivers_each_once_in_order(
    replicas: int, credit: int, total: int, script: list[tuple[str, int, int]]
) -> None:
    names = [NodeId(f"n{i}") for i in range(replicas)]
    job = Job([frozenset({n}) for n in names], [frozenset(pieces_of(r)) for r in range(replicas)], credit)
    shell = Shell(job, total)
    shell.tell(Started())
    lost: set[int] = set()
    late: list[tuple[int, int]] = []
    for what, replica, number in script:
        if shell.end is not None or replica >= replicas:
            continue
        if what == "lose":
            late += [(seq, replica) for seq in shell.held.pop(replica, [])]
            lost.add(replica)
            shell.tell(NodeWasLost(names[replica], "x", "y"))
        elif what == "late" and late:
            seq, was = late[number % len(late)]
            shell.tell(ResultsArrived(seq, (pieces_of(was)[number % (was + 1)],)))
        elif replica not in lost and shell.held.get(replica):
            if what == "answer":
                shell.answer(replica)
            else:  # one piece, perhaps for the second time
                piece = pieces_of(replica)[number % (replica + 1)]
                shell.tell(ResultsArrived(shell.held[replica][0], (piece,)))
    assert shell.job.in_flight <= credit * replicas
    while shell.end is None:
        for replica in [r for r in shell.held if r not in lost and shell.held[r]]:
            shell.answer(replica)
    assert shell.delivered == sorted(set(shell.delivered))
    if isinstance(shell.end, Finish):
        assert shell.delivered == list(range(total))
    else:
        assert len(lost) == replicas
