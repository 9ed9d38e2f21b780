"""shardboard bench: every strategy on the same inputs, predicted beside measured."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from core.commands.choosing import chosen_nodes
from core.commands.comparison import (
    BenchReport,
    BenchRow,
    Refusal,
    Steps,
    compare_strategies,
    every_strategy,
    sped_up,
)
from core.commands.opening import open_model
from core.commands.output import Progress, note, print_json, print_table
from core.commands.planning import check_batch, default_micro_batch, measure
from core.commands.stopping import stop_on_interrupt
from core.commands.wanted import Wanted, wanted_of
from core.errors import PlanError, ShardboardError


def run(options: argparse.Namespace) -> int:
    with Progress() as progress, stop_on_interrupt() as stop:
        asked = _asked(options)
        progress.step("Opening the model")
        model, _ = open_model(options.model, progress)
        check_batch(options, model)
        with chosen_nodes(options, progress, stop) as (cluster, nodes):
            batch = default_micro_batch(model, options.batch)
            costs = measure(model, batch, cluster, nodes, progress, stop, profile_on=options.profile_on)
            rows: list[BenchRow] = []
            refused: list[Refusal] = []
            steps = Steps(
                begins=lambda text: progress.step(f"Running {text}"),
                share=progress.share,
                ran=lambda row, _request: rows.append(row),
                refused=refused.append,
            )
            every = asked or every_strategy(
                len(nodes), tensor_axis=options.tensor_axis, spatial_axis=options.spatial_axis
            )
            try:
                report = compare_strategies(cluster, model, every, batch, nodes, costs, options.seconds, steps, stop)
            except ShardboardError as error:
                progress.clear()
                if rows:  # what was measured took minutes, and holds
                    _show(_ended(model.name, batch, rows, refused, error), options)
                raise
        progress.clear()
        _show(report, options)
    return 0


def _ended(
    model: str, batch: int, rows: Sequence[BenchRow], refused: Sequence[Refusal], error: ShardboardError
) -> BenchReport:
    return BenchReport(
        model=model,
        micro_batch=batch,
        items=rows[0].items,
        results=sped_up(rows),
        refused=tuple(refused),
        notes=(),
        ended=str(error),
    )


def _show(report: BenchReport, options: argparse.Namespace) -> None:
    if options.json:
        print_json(report)
    else:
        _print(report)


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


def _print(report: BenchReport) -> None:
    print(f"{report.model}: {report.items} items in micro-batches of {report.micro_batch}\n")
    print_table(
        (
            *("strategy", "nodes", "items/s", "predicted", "error"),
            *("latency ms under load", "predicted", "error", "idle", "predicted", "error", "efficiency", "speedup"),
        ),
        [
            (
                row.strategy,
                ", ".join(row.nodes),
                f"{row.throughput:.1f}",
                f"{row.predicted_throughput:.1f}",
                f"{row.error:+.0%}",
                f"{row.latency_p50_ms:.2f}",
                f"{row.predicted_loaded_latency_ms:.2f}",
                f"{row.loaded_latency_error:+.0%}",
                f"{row.idle_latency_ms:.2f}",
                f"{row.predicted_latency_ms:.2f}",
                f"{row.latency_error:+.0%}",
                f"{row.efficiency:.0%}",
                f"{row.speedup:.2f}" if row.speedup is not None else "–",
            )
            for row in report.results
        ]
        + [(one.strategy, "cannot be run, see below", *["–"] * 11) for one in report.refused],
    )
    if report.refused:
        print()
    for one in report.refused:
        print(f"{one.strategy}: {one.why}")
    for words in report.notes:
        note(f"note: {words}")
