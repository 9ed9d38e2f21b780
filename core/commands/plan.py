"""shardboard plan: where to cut, what goes where, and how fast it should be."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from core.commands.choosing import chosen_nodes
from core.commands.opening import open_model
from core.commands.output import Progress, note, print_json, print_table
from core.commands.planning import Choice, as_predicted, check_request, choose, default_micro_batch, measure, save_plan
from core.commands.stopping import stop_on_interrupt
from core.errors import SinkError
from core.plan.form import NodeId, Shard
from core.run.report import Predicted
from core.run.sink import check_writable
from core.units import format_bytes


class ShardRow(Struct, frozen=True):
    node: str
    replica: int
    stage: int
    label: str
    weight_bytes: int
    compute_ms: float
    """Predicted, for one micro-batch."""
    sent_bytes: int
    """For one micro-batch, over the network."""
    memory_bytes: int
    busy: float
    """Predicted share of the time at full speed, 0..1."""


class PlanReport(Struct, frozen=True, kw_only=True):
    """What ``plan --json`` prints."""

    model: str
    strategy: str
    micro_batch: int
    nodes: tuple[str, ...]
    cuts: tuple[int, ...]
    shards: tuple[ShardRow, ...]
    predicted: Predicted
    efficiency: float
    single_throughput: float
    bottleneck: str
    notes: tuple[str, ...]


def run(options: argparse.Namespace) -> int:
    with Progress() as progress, stop_on_interrupt() as stop:
        if options.save is not None:
            _check_save(options.save)
        progress.step("Opening the model")
        model, _ = open_model(options.model, progress)
        check_request(options, model)
        with chosen_nodes(options, progress, stop) as (cluster, nodes):
            batch = default_micro_batch(model, options.batch)
            costs = measure(model, batch, cluster, nodes, progress, stop)
            progress.step("Planning")
            choice = choose(model, options.strategy, batch, nodes, costs, options.objective)
        names = {node.id: node.name for node in nodes}
        progress.clear()
        if options.save is not None:
            save_plan(options.save, choice, names)
        report = plan_report(choice, names)
        if options.json:
            print_json(report)
        else:
            _print(report)
    return 0


def _check_save(path: Path) -> None:
    if path.suffix.lower() in {".onnx", ".npz", ".npy"}:
        raise SinkError(f"A plan is not written as {path.name}.", hint="Choose a name that ends in .json.")
    check_writable(path)


def plan_report(choice: Choice, names: Mapping[NodeId, str]) -> PlanReport:
    plan, prediction = choice.compiled.plan, choice.prediction
    return PlanReport(
        model=plan.model_name,
        strategy=plan.request.strategy,
        micro_batch=plan.request.micro_batch,
        nodes=tuple(names[node] for node in plan.request.nodes),
        cuts=plan.request.cuts or (),
        shards=tuple(_row(choice, shard, names) for shard in plan.shards),
        predicted=as_predicted(prediction, names),
        efficiency=prediction.efficiency,
        single_throughput=prediction.single_throughput,
        bottleneck=names[prediction.bottleneck],
        notes=plan.notes,
    )


def _row(choice: Choice, shard: Shard, names: Mapping[NodeId, str]) -> ShardRow:
    use = next(use for use in choice.prediction.nodes if use.node == shard.node)
    return ShardRow(
        node=names[shard.node],
        replica=shard.replica,
        stage=shard.stage,
        label=shard.label,
        weight_bytes=shard.weight_bytes,
        compute_ms=use.compute_s * 1000,
        sent_bytes=use.sent_bytes,
        memory_bytes=use.memory_bytes,
        busy=use.share,
    )


def _print(report: PlanReport) -> None:
    cuts = f", cut before layer{'s' if len(report.cuts) > 1 else ''} {', '.join(map(str, report.cuts))}"
    print(f"{report.model}: {report.strategy}, micro-batches of {report.micro_batch}{cuts if report.cuts else ''}\n")
    print_table(
        ("node", "runs", "weights", "memory", "compute ms", "sends", "busy"),
        [
            (
                row.node,
                row.label,
                format_bytes(row.weight_bytes),
                format_bytes(row.memory_bytes),
                f"{row.compute_ms:.2f}",
                format_bytes(row.sent_bytes),
                f"{row.busy:.0%}",
            )
            for row in report.shards
        ],
    )
    print(
        f"\npredicted: {report.predicted.throughput:.1f} items/s, latency {report.predicted.latency_ms:.2f} ms, "
        f"efficiency {report.efficiency:.0%}; best node alone: {report.single_throughput:.1f} items/s; "
        f"slowest part: {report.bottleneck}"
    )
    for words in report.notes:
        note(f"note: {words}")
