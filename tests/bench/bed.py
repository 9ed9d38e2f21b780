"""What the benchmarks share: a cluster of local agents, a deployment on it, and inputs held in memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from core.cluster.deployment import Deployment, deploy
from core.cluster.local import start_local_agents
from core.cluster.opening import open_cluster
from core.model.graph import Model
from core.plan.compile import compile_plan
from core.plan.form import PlanRequest
from core.run.report import RunReport
from core.run.runner import run_job
from core.run.sink import Sink
from core.run.source import Batch, Source
from tests.bench.limits import Feed


class Repeated(Source):
    """The same micro-batch, ``count`` times."""

    def __init__(self, feed: Feed, rows: int, count: int) -> None:
        self._batch, self._count, self._rows = Batch(feed, rows), count, rows

    @property
    def items(self) -> int:
        return self._count * self._rows

    def batches(self, size: int) -> Iterator[Batch]:
        return iter([self._batch] * self._count)


class Counting(Sink):
    """Keeps nothing."""

    def __init__(self) -> None:
        self.rows = 0

    def write(self, outputs: Feed, batch: Batch) -> None:
        self.rows += batch.rows

    def close(self) -> None:
        """Nothing to do."""

    def abandon(self) -> None:
        """Nothing to do."""


@contextlib.contextmanager
def deployed(
    model: Model, strategy: str, nodes: int, micro_batch: int, cuts: tuple[int, ...] | None = None
) -> Iterator[Deployment]:
    """The model on ``nodes`` fresh local agents of one pinned thread each."""
    with (
        start_local_agents(nodes, threads=1, pin=True) as agents,
        contextlib.closing(open_cluster(local=agents.agents, discovery=False)) as cluster,
    ):
        ids = tuple(node.id for node in cluster.wait_ready(nodes, timeout=20))
        compiled = compile_plan(model, PlanRequest(strategy, ids, micro_batch, cuts))
        with contextlib.closing(deploy(cluster, compiled, owner="benchmark")) as deployment:
            yield deployment


def micro_batches_per_second(deployment: Deployment, feed: Feed, rows: int, count: int) -> float:
    """From the first micro-batch sent to the last result held, filling and draining included."""
    return count / _run(deployment, feed, rows, count).seconds


def steady_micro_batches_per_second(deployment: Deployment, feed: Feed, rows: int, count: int) -> float:
    """From the first result to the last: what a long run comes to, with the filling of the pipeline left out."""
    return _run(deployment, feed, rows, count).throughput / rows


def _run(deployment: Deployment, feed: Feed, rows: int, count: int) -> RunReport:
    report = run_job(deployment, Repeated(feed, rows, count), sink := Counting())
    assert sink.rows == count * rows == report.items
    return report
