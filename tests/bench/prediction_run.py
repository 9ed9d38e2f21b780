"""One cell of the truth test: real agents, the program's own measurements, its prediction, then the run."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

import numpy as np
import psutil

from core.cluster.client import Cluster
from core.cluster.deployment import Deployment, deploy
from core.cluster.local import LocalAgents, start_local_agents
from core.cluster.node import Node as AgentNode
from core.cluster.opening import open_cluster
from core.commands.output import Progress
from core.commands.planning import Costs, candidate, measure
from core.commands.wanted import wanted
from core.cost.types import NodePrediction, Prediction
from core.errors import DoesNotFitError, PlanError
from core.model.graph import Model
from core.plan.form import NodeId
from core.run.report import RunProgress
from core.run.runner import run_job
from core.run.sink import Sink
from core.run.source import Batch, Source
from core.units import parse_rate
from tests.bench.limits import Feed, cores_at_once, family_seconds, machine_seconds, memory_at_once
from tests.bench.prediction_cells import Cell, Figures, Kept, Node

LOOPBACK = "loopback"
HALF = 0.5
"""CPU limit of the last agent."""
FEEDS = 24
"""Micro-batches of different items: a run touches as much of an embedding as its inputs differ."""
WARM_BATCHES = 3
FEWEST_CALLS, MOST_CALLS = 2, 30
CALLS_SECONDS = 1.0
FEWEST_BATCHES = 9
LEFT_OUT = 2
"""Completions at the beginning, and at the end, where micro-batches are not yet, or no more, under way."""


@contextlib.contextmanager
def agents_of(cell: Cell, folder: Path) -> Iterator[tuple[LocalAgents, Cluster, list[AgentNode]]]:
    """The cell's agents, one of them at half speed. Their state stays in ``folder``: blobs are sent once."""
    limits = [1.0] * (cell.agents - 1) + [HALF]
    link = None if cell.link == LOOPBACK else parse_rate(cell.link)
    with (
        start_local_agents(
            cell.agents, threads=1, pin=True, cpu_limits=limits, link_limit=link, state_root=folder
        ) as agents,
        contextlib.closing(open_cluster(local=agents.agents, discovery=False)) as cluster,
    ):
        nodes = cluster.wait_ready(cell.agents, timeout=20)
        yield agents, cluster, list(nodes)


def measured_costs(cell: Cell, model: Model, micro_batch: int, folder: Path) -> Costs:
    """All that a prediction may know, as ``shardboard bench`` measures it."""
    with agents_of(cell, folder) as (_, cluster, nodes), Progress() as progress:
        return measure(model, micro_batch, cluster, nodes, progress, threading.Event())


def run_cell(cell: Cell, model: Model, micro_batch: int, costs: Costs, folder: Path, seconds: float) -> Kept:
    with agents_of(cell, folder) as (agents, cluster, nodes):
        try:
            choice = candidate(model, wanted(cell.strategy), micro_batch, nodes, costs)
        except PlanError as error:
            return Kept(cell, time.time(), micro_batch, refused=str(error))
        processes = {agent.id: psutil.Process(agent.pid) for agent in agents.agents}
        empty = {node: process.memory_info().rss for node, process in processes.items()}
        try:
            deploying = deploy(cluster, choice.compiled)
        except DoesNotFitError as error:
            return Kept(cell, time.time(), micro_batch, refused=str(error))
        with deploying as deployment:
            measured = _Run(deployment, model, micro_batch, processes, empty).figures(seconds)
    request = choice.compiled.plan.request
    return Kept(cell, time.time(), micro_batch, request, foretold(choice.prediction, costs), measured)


def foretold(prediction: Prediction, costs: Costs) -> Figures:
    machines = costs.machines
    nodes = tuple(
        Node(node.memory_bytes - machines[node.node].own_bytes, _busy(node, machines[node.node].cpu_limit))
        for node in prediction.nodes
    )
    return Figures(prediction.throughput, prediction.latency_s, prediction.loaded_latency_s, nodes)


def _busy(node: NodePrediction, cpu_limit: float) -> float:
    """Part of the time in its shards, rests left out."""
    return node.compute_s * cpu_limit / node.period_s if node.period_s else 0.0


class _Timed(Source):
    """The same micro-batches again and again, until the time is up; at least FEWEST_BATCHES."""

    def __init__(self, feeds: Sequence[Feed], rows: int, seconds: float) -> None:
        self._batches, self._rows, self._seconds = [Batch(feed, rows) for feed in feeds], rows, seconds
        self.sent = 0
        self.ended = 0.0
        """When the last one was read."""

    @property
    def items(self) -> int:
        return self._rows * max(self.sent, FEWEST_BATCHES)

    def batches(self, size: int) -> Iterator[Batch]:
        end = time.perf_counter() + self._seconds
        while time.perf_counter() < end or self.sent < FEWEST_BATCHES:
            self.sent += 1
            self.ended = time.perf_counter()
            yield self._batches[self.sent % len(self._batches)]


class _Moments(Sink):
    """When each micro-batch was complete; keeps nothing else."""

    def __init__(self) -> None:
        self.moments: list[float] = []
        self.completed: list[tuple[float, int]] = []
        """(when, items that were complete by then): results wait for their turn, where replicas differ in speed."""

    def told(self, progress: RunProgress) -> None:
        self.completed.append((time.perf_counter(), progress.items_done))

    def write(self, outputs: Feed, batch: Batch) -> None:
        self.moments.append(time.perf_counter())

    def close(self) -> None:
        """Nothing to do."""

    def abandon(self) -> None:
        """Nothing to do."""


class _Run:
    def __init__(
        self,
        deployment: Deployment,
        model: Model,
        micro_batch: int,
        processes: dict[NodeId, psutil.Process],
        empty: dict[NodeId, int],
    ) -> None:
        self._deployment, self._processes, self._empty = deployment, processes, empty
        self._feeds, self._rows = [model.random_feed(micro_batch, seed) for seed in range(FEEDS)], micro_batch

    def figures(self, seconds: float) -> Figures:
        for feed in self._feeds[:WARM_BATCHES]:
            self._deployment.infer(feed)
        latency = self._latency()
        used = self._cpu()
        start, machine, mine = time.perf_counter(), machine_seconds(), family_seconds()
        source, sink = _Timed(self._feeds, self._rows, seconds), _Moments()
        report = run_job(self._deployment, source, sink, progress=sink.told)
        ended = time.perf_counter()
        foreign = max(0.0, (machine_seconds() - machine - (family_seconds() - mine)) / (ended - start))
        spent = self._cpu() - used
        count = len(sink.moments)
        grown = [self._processes[n].memory_info().rss - self._empty[n] for n in self._deployment.plan.request.nodes]
        busy = [use.busy for use in report.nodes]
        nodes = self._deployment.plan.request.nodes
        order = [list(self._processes).index(node) for node in nodes]
        return Figures(
            throughput=self._rows * steady_rate(sink.moments, source.ended, report.in_flight)
            if self._deployment.plan.replicas == 1
            else completion_rate(sink.completed, source.ended),
            latency_s=latency,
            loaded_latency_s=report.latency_ms.p50 / 1e3,
            nodes=tuple(Node(g, b, float(spent[i]) / count) for g, b, i in zip(grown, busy, order, strict=True)),
            client_cpu_s=float(spent[-1]) / count,
            foreign_cores=foreign,
            cores_at_once=cores_at_once(),
            memory_at_once=memory_at_once(),
            micro_batches=count,
        )

    def _latency(self) -> float:
        taken: list[float] = []
        end = time.perf_counter() + CALLS_SECONDS
        while len(taken) < FEWEST_CALLS or (time.perf_counter() < end and len(taken) < MOST_CALLS):
            feed = self._feeds[len(taken) % len(self._feeds)]
            begun = time.perf_counter()
            self._deployment.infer(feed)
            taken.append(time.perf_counter() - begun)
        return median(taken)

    def _cpu(self) -> np.ndarray:
        """Seconds of each agent's process, last of this one."""
        times = [process.cpu_times() for process in (*self._processes.values(), psutil.Process())]
        return np.array([one.user + one.system for one in times])


def completion_rate(completed: Sequence[tuple[float, int]], fed_until: float) -> float:
    """Items per second, as ``steady_rate`` gives it, from how many were complete at several moments."""
    counted = [one for one in completed if one[0] <= fed_until and one[1] > 0]
    counted = counted[len(counted) // 5 :]
    when, items = np.array(counted).T
    return float(np.polyfit(when - when[0], items, 1)[0])


def steady_rate(moments: Sequence[float], fed_until: float, under_way: int) -> float:
    """Micro-batches per second while the source still gave some: the slope of completions, so that neither a burst nor
    the filling and draining at the ends counts. As many as are under way at a time may go on together: the mean of
    their moments counts, where there were several such rounds."""
    counted = [moment for moment in moments if moment <= fed_until]
    if len(counted) < FEWEST_BATCHES:
        counted = list(moments[:-LEFT_OUT])
    counted = counted[max(LEFT_OUT, len(counted) // 5) :]
    together = under_way if len(counted) >= 2 * under_way else 1
    rounds = len(counted) // together
    means = np.reshape(counted[-rounds * together :], (rounds, together)).mean(axis=1)
    slope = np.polyfit(means - means[0], together * np.arange(rounds), 1)[0]
    return float(slope)
