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
    candidate,
    check_batch,
    default_micro_batch,
    measure,
    own_speeds_sum,
)
from core.commands.stopping import stop_on_interrupt
from core.commands.wanted import Wanted, comparable, wanted, wanted_of
from core.errors import DoesNotFitError, PlanError, ShardboardError
from core.model.graph import Model
from core.plan.form import NodeId
from core.plan.strategy_text import SINGLE, SPATIAL, TENSOR
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
        asked = _asked(options)
        progress.step("Opening the model")
        model, _ = open_model(options.model, progress)
        check_batch(options, model)
        with chosen_nodes(options, progress, stop) as (cluster, nodes):
            report = _bench(options, asked, model, cluster, nodes, progress, stop)
        progress.clear()
        if options.json:
            print_json(report)
        else:
            _print(report)
    return 0


def _asked(options: argparse.Namespace) -> dict[str, Wanted] | None:
    """By what was written; None: what suits the nodes. Raises PlanError."""
    if not options.strategy:
        if options.shares is not None:
            raise PlanError("--shares goes with --strategy: each strategy has its own groups.", hint="Say which one.")
        return None
    every = {" ".join(text.split()): wanted_of(argparse.Namespace(**vars(options) | {"strategy": text}))
             for text in options.strategy}  # fmt: skip
    if None in every.values():
        raise PlanError("auto is no strategy to compare.", hint="Leave --strategy out to compare every one.")
    return {text: asked for text, asked in every.items() if asked is not None}


def _comparable(options: argparse.Namespace, nodes: int) -> dict[str, Wanted]:
    """Every strategy that makes sense for so many nodes, with the axes where they apply."""
    return {
        text: wanted(
            text,
            tensor_axis=options.tensor_axis if TENSOR in text else None,
            spatial_axis=options.spatial_axis if SPATIAL in text else None,
        )
        for text in comparable(nodes)
    }


def _bench(
    options: argparse.Namespace,
    asked: dict[str, Wanted] | None,
    model: Model,
    cluster: Cluster,
    nodes: Sequence[Node],
    progress: Progress,
    stop: threading.Event,
) -> BenchReport:
    batch = default_micro_batch(model, options.batch)
    costs = measure(model, batch, cluster, nodes, progress, stop)
    measured: dict[str, tuple[Choice, RunReport]] = {}
    refused: list[Refusal] = []
    problems: list[ShardboardError] = []
    items = 0
    for text, one in (asked or _comparable(options, len(nodes))).items():
        progress.step(f"Running {text}")
        try:
            choice = candidate(model, one, batch, nodes, costs)
            deploying = deploy(cluster, choice.compiled, cancel=stop)
        except (PlanError, DoesNotFitError) as error:
            refused.append(Refusal(text, str(error)))
            problems.append(error)
            continue
        with deploying as deployment:

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
            measured[text] = choice, timed(items)
    if not measured:
        raise problems[0]
    names = {node.id: node.name for node in nodes}
    single = measured[SINGLE][1].throughput if SINGLE in measured else None
    rows = tuple(_row(text, *found, costs, names, single) for text, found in measured.items())
    notes: dict[str, list[str]] = {}
    for text, (choice, _) in measured.items():
        for words in dict.fromkeys((*choice.compiled.plan.notes, *choice.prediction.notes)):
            notes.setdefault(words, []).append(text)
    return BenchReport(
        model=model.name,
        micro_batch=batch,
        items=items,
        results=rows,
        refused=tuple(refused),
        notes=tuple(f"{', '.join(texts)}: {words}" for words, texts in notes.items()),
    )


def _row(
    text: str, choice: Choice, report: RunReport, costs: Costs, names: Mapping[NodeId, str], single: float | None
) -> BenchRow:
    used = choice.compiled.plan.request.nodes
    prediction = choice.prediction
    alone = own_speeds_sum(costs.profile.batch / costs.profile.total_seconds, costs.speeds, used)
    return BenchRow(
        strategy=text,
        nodes=tuple(names[node] for node in used),
        items=report.items,
        seconds=report.seconds,
        throughput=report.throughput,
        predicted_throughput=prediction.throughput,
        error=report.throughput / prediction.throughput - 1.0,
        latency_p50_ms=report.latency_ms.p50,
        predicted_latency_ms=prediction.latency_s * 1000,
        efficiency=report.throughput / alone,
        speedup=report.throughput / single if single else None,
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
                f"{row.speedup:.2f}" if row.speedup is not None else "–",
            )
            for row in report.results
        ]
        + [(one.strategy, "cannot be run, see below", *["–"] * 7) for one in report.refused],
    )
    if report.refused:
        print()
    for one in report.refused:
        print(f"{one.strategy}: {one.why}")
    for words in report.notes:
        note(f"note: {words}")
