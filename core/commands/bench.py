"""shardboard bench: every strategy on the same inputs, predicted beside measured."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy.typing as npt
from msgspec import Struct

from core.cluster.client import Cluster
from core.cluster.deployment import deploy
from core.cluster.node import Node
from core.commands.choosing import chosen_nodes
from core.commands.opening import open_model
from core.commands.output import Progress, note, print_json, print_table
from core.commands.planning import (
    Choice,
    Costs,
    candidates,
    check_request,
    default_micro_batch,
    measure,
    own_speeds_sum,
)
from core.commands.stopping import stop_on_interrupt
from core.model.graph import Model
from core.plan.form import NodeId
from core.run.report import RunReport
from core.run.runner import run_job
from core.run.sink import Sink
from core.run.source import Batch, RandomSource

PROBE_BATCHES: Final = 24
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
    predicted_latency_ms: float
    """Through idle nodes; under load a micro-batch also waits."""
    efficiency: float
    """Against the sum of the nodes' own speeds."""
    speedup: float
    """Against the strategy single, measured."""


class BenchReport(Struct, frozen=True, kw_only=True):
    """What ``bench --json`` prints."""

    model: str
    micro_batch: int
    items: int
    results: tuple[BenchRow, ...]
    notes: tuple[str, ...]


class _Discarded(Sink):
    """Nobody reads these results."""

    def write(self, outputs: dict[str, npt.NDArray[Any]], batch: Batch) -> None:
        """Nothing to keep."""

    def close(self) -> None:
        """Nothing to finish."""

    def abandon(self) -> None:
        """Nothing to drop."""


def run(options: argparse.Namespace) -> int:
    with Progress() as progress, stop_on_interrupt() as stop:
        progress.step("Opening the model")
        model, _ = open_model(options.model, progress)
        check_request(options, model)
        with chosen_nodes(options, progress, stop) as (cluster, nodes):
            report = _bench(options, model, cluster, nodes, progress, stop)
        progress.clear()
        if options.json:
            print_json(report)
        else:
            _print(report)
    return 0


def _bench(
    options: argparse.Namespace,
    model: Model,
    cluster: Cluster,
    nodes: Sequence[Node],
    progress: Progress,
    stop: threading.Event,
) -> BenchReport:
    batch = default_micro_batch(model, options.batch)
    costs = measure(model, batch, cluster, nodes, progress, stop)
    choices = candidates(model, batch, nodes, costs)
    reports: dict[str, RunReport] = {}
    items = 0
    for name, choice in choices.items():
        progress.step(f"Running {name}")
        with deploy(cluster, choice.compiled, cancel=stop) as deployment:

            def timed(count: int) -> RunReport:
                return run_job(
                    deployment,
                    RandomSource(model, count),
                    _Discarded(),
                    progress=lambda told: progress.share(told.items_done / told.items_total),
                    cancel=stop,
                )

            probe = timed(batch * PROBE_BATCHES)  # also warms the nodes up
            items = items or max(batch * PROBE_BATCHES, min(MOST_ITEMS, round(probe.throughput * options.seconds)))
            reports[name] = timed(items)
    names = {node.id: node.name for node in nodes}
    single = reports["single"].throughput
    rows = tuple(_row(choices[name], report, costs, names, single) for name, report in reports.items())
    notes = tuple(dict.fromkeys(words for choice in choices.values() for words in choice.compiled.plan.notes))
    return BenchReport(model=model.name, micro_batch=batch, items=items, results=rows, notes=notes)


def _row(choice: Choice, report: RunReport, costs: Costs, names: Mapping[NodeId, str], single: float) -> BenchRow:
    used = choice.compiled.plan.request.nodes
    prediction = choice.prediction
    alone = own_speeds_sum(costs.profile.batch / costs.profile.total_seconds, costs.speeds, used)
    return BenchRow(
        strategy=report.strategy,
        nodes=tuple(names[node] for node in used),
        items=report.items,
        seconds=report.seconds,
        throughput=report.throughput,
        predicted_throughput=prediction.throughput,
        error=report.throughput / prediction.throughput - 1.0,
        latency_p50_ms=report.latency_ms.p50,
        predicted_latency_ms=prediction.latency_s * 1000,
        efficiency=report.throughput / alone,
        speedup=report.throughput / single,
    )


def _print(report: BenchReport) -> None:
    print(f"{report.model}: {report.items} items in micro-batches of {report.micro_batch}\n")
    print_table(
        ("strategy", "nodes", "items/s", "predicted", "error", "latency ms", "idle predicted", "efficiency", "speedup"),
        [
            (
                row.strategy,
                ", ".join(row.nodes),
                f"{row.throughput:.1f}",
                f"{row.predicted_throughput:.1f}",
                f"{row.error:+.0%}",
                f"{row.latency_p50_ms:.2f}",
                f"{row.predicted_latency_ms:.2f}",
                f"{row.efficiency:.0%}",
                f"{row.speedup:.2f}",
            )
            for row in report.results
        ],
    )
    for words in report.notes:
        note(f"note: {words}")
