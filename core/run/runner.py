"""The shell of a job: reads the source, owns the data connections, feeds ``core.run.job`` and carries its effects out.

Everything runs in the calling thread. The next micro-batch is read while the nodes compute, so that a freed credit is
used at once.
"""

from __future__ import annotations

import collections
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy.typing as npt

from core.cluster.client import Cluster
from core.cluster.deployment import Deployment
from core.cluster.events import ClusterEvent, NodeChanged
from core.cluster.links import DataLinks, Results
from core.cluster.node import CONNECTED
from core.plan.form import NodeId
from core.run.credit import default_in_flight
from core.run.fixed import fixed_items, whole_batch
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
from core.run.metrics import RunMetrics, latency_of, per_second, steady_throughput
from core.run.node_use import NodeUseCollector
from core.run.report import RunProgress, RunReport
from core.run.sink import Sink
from core.run.source import Batch, Source
from core.wire.messages import ShardFailed

Array = npt.NDArray[Any]

PROGRESS_SECONDS = 0.1
LAST_TELEMETRY_SECONDS = 2.0
KEPT_BYTES = 128 * 2**20
MISSING_SECONDS = 15.0


def run_job(
    deployment: Deployment,
    source: Source,
    sink: Sink,
    *,
    in_flight: int | None = None,
    repeat: int = 1,
    progress: Callable[[RunProgress], None] | None = None,
    cancel: threading.Event | None = None,
) -> RunReport:
    """Send a source through a deployment and its results, in order, into a sink.

    Args:
        in_flight: micro-batches per replica that may be unfinished at a time; None: as the plan needs.
        repeat: how often the source is read from its beginning.
        progress: called in this thread at most ten times a second, and once at the end.
        cancel: set it from any thread to stop the run.

    Raises:
        NodeLostError: a node went away whose part nobody else can do.
        RemoteError: a shard failed on its node.
        Cancelled: ``cancel`` was set.
        SourceError, SinkError: reading or writing failed.
    """
    credit = in_flight or default_in_flight(deployment.plan, _memory(deployment))
    runner = _Runner(deployment, source, sink, credit, repeat)
    try:
        runner.run(progress, cancel)
    finally:
        runner.close()
    return runner.report()


class _Runner:
    def __init__(self, deployment: Deployment, source: Source, sink: Sink, credit: int, repeat: int) -> None:
        self._deployment, self._sink = deployment, sink
        self._plan, self._credit = deployment.plan, credit
        self._cluster: Cluster = deployment.cluster
        self._total = source.items * repeat
        self._batches = _repeated(source, self._plan.request.micro_batch, repeat)
        self._ahead: Batch | None = None
        self._number = secrets.randbits(30)
        replicas = [frozenset(s.node for s in self._plan.shards if s.replica == r) for r in range(self._plan.replicas)]
        self._replicas = replicas
        self._fixed_items = fixed_items(self._plan)
        self._job = Job(replicas, deployment.outputs.names, credit)
        self._held: dict[int, Batch] = {}
        self._partial: dict[int, dict[str, Array]] = {}
        """Results of unfinished micro-batches by their name on the wire."""
        self._results: dict[int, dict[str, Array]] = {}
        """The model's outputs of finished micro-batches whose turn has not come."""
        self._sent_at: dict[int, float] = {}
        self._error: BaseException | None = None
        self._news: collections.deque[Event] = collections.deque()
        self._use = NodeUseCollector(frozenset().union(*replicas), deployment.id)
        self._links: DataLinks = deployment.open_links()
        self._unsubscribe = self._cluster.subscribe(self._on_cluster_event)
        self._started_at = time.time()
        self._metrics = RunMetrics(time.perf_counter())

    # ------------------------------------------------------------ on the cluster's thread

    def _on_cluster_event(self, event: ClusterEvent) -> None:
        self._use.take(event)
        if isinstance(event, NodeChanged) and event.node.state not in CONNECTED:
            self._news.append(_lost(event.node.id, event.node.name, event.node.reason))
            self._links.wake()

    # ------------------------------------------------------------ on the caller's thread

    def run(self, progress: Callable[[RunProgress], None] | None, cancel: threading.Event | None) -> None:
        self._use.start(self._cluster.nodes())
        self._refuse_lost_nodes()
        self._metrics = RunMetrics(time.perf_counter())
        self._tell(Started())
        next_look, heard_at = 0.0, time.perf_counter()
        while not self._job.over:
            if self._ahead is None:
                self._ahead = next(self._batches, None)
            for arrived in self._links.poll(PROGRESS_SECONDS):
                self._take(arrived)
                heard_at = time.perf_counter()
            while self._news:
                self._tell(self._news.popleft())
            if cancel is not None and cancel.is_set():
                self._tell(StopRequested())
            now = time.perf_counter()
            if now >= next_look:
                next_look = now + PROGRESS_SECONDS
                self._look(now - heard_at)
                if progress is not None:
                    progress(self._progress(now))
        if self._error is not None:
            self._deployment.cancel_job(self._number)
            raise self._error
        self._sink.close()
        alive = [node.id for node in self._cluster.nodes() if node.state in CONNECTED]
        self._use.wait_for_last_samples(alive, LAST_TELEMETRY_SECONDS)
        if progress is not None:
            progress(self._progress(time.perf_counter()))

    def _look(self, silent: float) -> None:
        """For what no message tells: connections that ended, and results that will not come any more."""
        for node in self._links.broken():
            self._tell(NodeWasLost(node, self._name(node), "its connection broke"))
        if self._job.in_flight and silent > MISSING_SECONDS and self._use.all_quiet():
            self._tell(ResultsMissing(silent))

    def _refuse_lost_nodes(self) -> None:
        for node in self._cluster.nodes():
            if node.id in self._plan.request.nodes and node.state not in CONNECTED:
                self._news.append(_lost(node.id, node.name, node.reason))

    def _take(self, arrived: Results | ShardFailed) -> None:
        if arrived.job != self._number:
            return
        if isinstance(arrived, ShardFailed):
            shard = self._plan.shard(arrived.shard)
            where = f"{shard.label} on {self._name(shard.node)}"
            self._tell(ShardBroke(arrived.seq, f"{where} failed: {arrived.message}"))
        elif (partial := self._partial.get(arrived.seq)) is not None:
            partial.update(arrived.outputs)
            self._tell(ResultsArrived(arrived.seq, tuple(arrived.outputs)))

    def _name(self, node: NodeId) -> str:
        return next((n.name for n in self._cluster.nodes() if n.id == node), node[:8])

    def _tell(self, event: Event) -> None:
        todo = collections.deque(self._job.handle(event))
        while todo:
            follow_up = self._carry_out(todo.popleft())
            if follow_up is not None:
                todo.extend(self._job.handle(follow_up))

    def _carry_out(self, effect: Effect) -> Event | None:
        match effect:
            case ReadInput():
                return self._read()
            case Dispatch(seq, replica):
                self._partial[seq] = {}
                self._sent_at[seq] = time.perf_counter()
                self._links.send(self._number, seq, replica, self._held[seq].feed)
            case Complete(seq, replica):
                self._results[seq] = self._deployment.outputs.join(replica, self._partial.pop(seq))
                now, rows = time.perf_counter(), self._held[seq].rows
                self._metrics.completed(now, rows, now - self._sent_at.pop(seq))
                self._use.credit(self._replicas[replica], rows)
            case Deliver(seq):
                self._sink.write(self._results.pop(seq), self._held.pop(seq))
            case Fail(error):
                self._error = error
            case Finish():
                pass
        return None

    def _read(self) -> Event:
        batch = self._ahead if self._ahead is not None else next(self._batches, None)
        self._ahead = None
        if batch is None:
            return InputEnded()
        self._held[self._job.next_seq] = whole_batch(batch, self._fixed_items)
        return InputRead()

    def _progress(self, now: float) -> RunProgress:
        latency = self._metrics.recent_latency()
        return RunProgress(
            items_done=self._metrics.items_done,
            items_total=self._total,
            throughput=self._metrics.recent_throughput(now),
            latency_p50_ms=latency.p50,
            in_flight=self._job.in_flight,
            latency_p95_ms=latency.p95,
            latency_p99_ms=latency.p99,
        )

    def close(self) -> None:
        self._unsubscribe()
        self._links.close()
        self._sink.abandon()

    def report(self) -> RunReport:
        metrics, plan = self._metrics, self._plan
        ended = metrics.completions[-1][0] if metrics.completions else metrics.started
        seconds = ended - metrics.started
        lost = [
            f"{name} was lost during the run; its work went to the others." for name in self._job.lost_nodes.values()
        ]
        return RunReport(
            model=plan.model_name,
            strategy=plan.request.strategy,
            items=metrics.items_done,
            seconds=seconds,
            throughput=steady_throughput(metrics.completions, metrics.started),
            latency_ms=latency_of(metrics.latencies),
            nodes=self._use.uses(plan.request.nodes, {n.id: n.name for n in self._cluster.nodes()}, seconds),
            started=self._started_at,
            micro_batch=plan.request.micro_batch,
            request=plan.request,
            model_sha256=plan.model,
            throughput_series=per_second(metrics.completions, metrics.started),
            notes=(*plan.notes, *lost),
            in_flight=self._credit,
        )


def _memory(deployment: Deployment) -> dict[NodeId, int]:
    """What the agent of each node of the plan may use."""
    nodes = [deployment.cluster.node(node) for node in deployment.nodes]
    return {node.id: node.info.memory_limit for node in nodes if node.info is not None}


def _lost(node: NodeId, name: str, reason: str) -> NodeWasLost:
    return NodeWasLost(node, name, reason or "no sign of life")


def _repeated(source: Source, size: int, repeat: int) -> Iterator[Batch]:
    """All batches, ``repeat`` times. Small sources are decoded once; those that do not fit in KEPT_BYTES every time."""
    kept: list[Batch] = []
    room = KEPT_BYTES if repeat > 1 else 0
    for batch in source.batches(size):
        room -= sum(array.nbytes for array in batch.feed.values())
        if room >= 0:
            kept.append(batch)
        yield batch
    for _ in range(repeat - 1):
        yield from kept if room >= 0 else source.batches(size)
