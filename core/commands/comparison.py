"""Every strategy on the same inputs, predicted beside measured: for ``shardboard bench`` and for the panel."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy.typing as npt
from msgspec import Struct
from msgspec.structs import replace

from core.cluster.client import Cluster
from core.cluster.deployment import Deployment, deploy
from core.cluster.node import Node
from core.commands.planning import Choice, Costs, candidate
from core.commands.wanted import Wanted, comparable, wanted
from core.errors import Cancelled, DoesNotFitError, PlanError, ShardboardError
from core.model.graph import Model
from core.plan.form import NodeId, PlanRequest
from core.plan.misses import lacking_words
from core.plan.strategy_text import SINGLE, SPATIAL, TENSOR
from core.run.report import RunReport
from core.run.runner import run_job
from core.run.sink import Sink
from core.run.source import Batch, RandomSource

PROBE_BATCHES: Final = 24
FEWEST_CALLS: Final = 3
MOST_CALLS: Final = 100
CALLS_SECONDS: Final = 0.5
MOST_ITEMS: Final = 2_000_000


class BenchRow(Struct, frozen=True, kw_only=True):
    strategy: str
    nodes: tuple[str, ...]
    items: int
    seconds: float
    throughput: float
    predicted_throughput: float
    error: float
    """Measured against predicted throughput: -0.1 is 10 % less than predicted."""
    latency_p50_ms: float
    """Median of the run: under load."""
    predicted_loaded_latency_ms: float
    loaded_latency_error: float
    """As ``error``, of the median under load."""
    idle_latency_ms: float
    """Through idle nodes: median of a few micro-batches, one at a time."""
    predicted_latency_ms: float
    """Through idle nodes."""
    latency_error: float
    """As ``error``, of the latency through idle nodes."""
    efficiency: float
    """Against the sum of the nodes' own speeds."""
    speedup: float | None
    """Against the strategy single, measured; None where that was not."""


class Refusal(Struct, frozen=True):
    """A strategy that this model or these nodes cannot take."""

    strategy: str
    why: str


class BenchReport(Struct, frozen=True, kw_only=True):
    """What ``bench --json`` prints."""

    model: str
    micro_batch: int
    items: int
    results: tuple[BenchRow, ...]
    refused: tuple[Refusal, ...]
    notes: tuple[str, ...]
    ended: str = ""
    """Why it ended before all strategies were run, in words."""


class Steps(Struct, frozen=True):
    """Who wants to know how a comparison goes on; called on its thread."""

    begins: Callable[[str], object]
    """A strategy, by its text."""
    share: Callable[[float], None]
    """Of the strategy that was begun: done, 0 to 1."""
    ran: Callable[[BenchRow, PlanRequest], object] = lambda _row, _request: None
    refused: Callable[[Refusal], object] = lambda _refusal: None


class _Discarded(Sink):
    """Nobody reads these results."""

    def write(self, outputs: dict[str, npt.NDArray[Any]], batch: Batch) -> None:
        """Nothing to keep."""

    def close(self) -> None:
        """Nothing to finish."""

    def abandon(self) -> None:
        """Nothing to drop."""


def every_strategy(nodes: int, *, tensor_axis: str | None = None, spatial_axis: str | None = None) -> dict[str, Wanted]:
    """Every strategy that makes sense for so many nodes, with the axes where they apply."""
    return {
        text: wanted(
            text,
            tensor_axis=tensor_axis if TENSOR in text else None,
            spatial_axis=spatial_axis if SPATIAL in text else None,
        )
        for text in comparable(nodes)
    }


def compare_strategies(
    cluster: Cluster,
    model: Model,
    asked: Mapping[str, Wanted],
    batch: int,
    nodes: Sequence[Node],
    costs: Costs,
    seconds: float,
    steps: Steps,
    stop: threading.Event,
) -> BenchReport:
    """Deploy and run each of ``asked`` in turn, all on the same random inputs, about ``seconds`` for the first.

    Raises the first refusal when none could be run, and what deploying and running raise; Cancelled soon after ``stop``
    is set. Nodes are free afterwards.
    """
    measured: dict[str, Choice] = {}
    rows: list[BenchRow] = []
    refused: list[Refusal] = []
    problems: list[ShardboardError] = []
    names = {node.id: node.name for node in nodes}
    items = 0
    for text, one in asked.items():
        steps.begins(text)
        try:
            choice = candidate(model, one, batch, nodes, costs, stop=stop)
            if words := lacking_words(choice.prediction, costs.limits, names):
                raise DoesNotFitError(f"{words}.")
            deploying = deploy(cluster, choice.compiled, cancel=stop)
        except (PlanError, DoesNotFitError) as error:
            refused.append(Refusal(text, str(error)))
            steps.refused(refused[-1])
            problems.append(error)
            continue
        with deploying as deployment:

            def timed(count: int) -> RunReport:
                return run_job(
                    deployment,
                    RandomSource(model, count),
                    _Discarded(),
                    progress=lambda told: steps.share(told.items_done / told.items_total),
                    cancel=stop,
                )

            probe = timed(batch * PROBE_BATCHES)  # also warms the nodes up
            items = items or max(batch * PROBE_BATCHES, min(MOST_ITEMS, round(probe.throughput * seconds)))
            report = timed(items)
            idle = _idle_latency(deployment, model.random_feed(batch), stop)
        single = next((row.throughput for row in rows if row.strategy == SINGLE), None)
        measured[text] = choice
        rows.append(_row(text, choice, report, idle, names, single))
        steps.ran(rows[-1], choice.compiled.plan.request)
    if not measured:
        raise problems[0]
    notes: dict[str, list[str]] = {}
    for text, choice in measured.items():
        for words in choice.compiled.plan.notes:
            notes.setdefault(words, []).append(text)
    return BenchReport(
        model=model.name,
        micro_batch=batch,
        items=items,
        results=sped_up(rows),
        refused=tuple(refused),
        notes=tuple(f"{', '.join(texts)}: {words}" for words, texts in notes.items()),
    )


def sped_up(rows: Sequence[BenchRow]) -> tuple[BenchRow, ...]:
    """Against single, wherever that stood in the order."""
    single = next((row.throughput for row in rows if row.strategy == SINGLE), None)
    return tuple(replace(row, speedup=row.throughput / single if single else None) for row in rows)


def _idle_latency(deployment: Deployment, feed: Mapping[str, npt.NDArray[Any]], stop: threading.Event) -> float:
    """Median seconds of one micro-batch at a time; the first is not counted. Raises Cancelled."""
    taken: list[float] = []
    deployment.infer(feed)
    while len(taken) < FEWEST_CALLS or (sum(taken) < CALLS_SECONDS and len(taken) < MOST_CALLS):
        if stop.is_set():
            raise Cancelled("The comparison was stopped.")
        begun = time.perf_counter()
        deployment.infer(feed)
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def _row(
    text: str,
    choice: Choice,
    report: RunReport,
    idle_s: float,
    names: Mapping[NodeId, str],
    single: float | None,
) -> BenchRow:
    used = choice.compiled.plan.request.nodes
    prediction = choice.prediction
    return BenchRow(
        strategy=text,
        nodes=tuple(names[node] for node in used),
        items=report.items,
        seconds=report.seconds,
        throughput=report.throughput,
        predicted_throughput=prediction.throughput,
        error=report.throughput / prediction.throughput - 1.0,
        latency_p50_ms=report.latency_ms.p50,
        predicted_loaded_latency_ms=prediction.loaded_latency_s * 1000,
        loaded_latency_error=report.latency_ms.p50 / 1000 / prediction.loaded_latency_s - 1.0,
        predicted_latency_ms=prediction.latency_s * 1000,
        idle_latency_ms=idle_s * 1000,
        latency_error=idle_s / prediction.latency_s - 1.0,
        efficiency=prediction.efficiency_at(report.throughput) or 0.0,
        speedup=1.0 if text == SINGLE else report.throughput / single if single else None,
    )
