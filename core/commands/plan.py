"""shardboard plan: where to cut, what goes where, and how fast it should be."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from core.commands.choosing import chosen_nodes
from core.commands.division_report import DivisionReport, division_report, is_divided
from core.commands.division_words import division_words, percent
from core.commands.opening import open_model
from core.commands.output import Progress, note, print_json, print_table
from core.commands.plan_files import save_plan
from core.commands.planning import Choice, as_predicted, check_batch, choose, default_micro_batch, measure
from core.commands.stopping import stop_on_interrupt
from core.commands.wanted import wanted_of
from core.cost.types import NodePrediction
from core.errors import SinkError
from core.model.graph import Model
from core.model.types import Layer
from core.plan.division import Division
from core.plan.form import NodeId, Plan, Shard
from core.run.report import Predicted
from core.run.sink import check_writable
from core.units import format_bytes


class ShardRow(Struct, frozen=True):
    """What a node runs in one step."""

    node: str
    replica: int
    stage: int
    rank: int
    label: str
    weight_bytes: int
    activation_bytes: int


class NodeRow(Struct, frozen=True):
    """A node's part of the plan; figures are predicted, for one micro-batch that the node handles."""

    node: str
    replica: int
    stage: int
    rank: int
    runs: str
    """In words: "layers 1-58", "52 % of the model"."""
    work: float
    """Of the model's multiply-adds, 0..1."""
    weight_bytes: int
    """Each distinct weight once."""
    memory_bytes: int
    compute_ms: float
    sent_bytes: int
    """Over the network."""
    busy: float
    """Share of the time at full speed, 0..1."""


class PlanReport(Struct, frozen=True, kw_only=True):
    """What ``plan --json`` prints."""

    model: str
    strategy: str
    micro_batch: int
    nodes: tuple[str, ...]
    cuts: tuple[int, ...]
    tensor_axis: str | None
    spatial_axis: str | None
    shares: tuple[float, ...] | None
    """Of 1 for each group, in the order of ``nodes``; None: by speed."""
    per_node: tuple[NodeRow, ...]
    division: DivisionReport
    shards: tuple[ShardRow, ...]
    predicted: Predicted
    efficiency: float
    single_throughput: float
    bottleneck: str
    why: str
    """Why the automatic strategy took this one; empty where a strategy was asked for."""
    notes: tuple[str, ...]


def run(options: argparse.Namespace) -> int:
    with Progress() as progress, stop_on_interrupt() as stop:
        if options.save is not None:
            _check_save(options.save)
        asked = wanted_of(options)
        progress.step("Opening the model")
        model, _ = open_model(options.model, progress)
        check_batch(options, model)
        with chosen_nodes(options, progress, stop) as (cluster, nodes):
            batch = default_micro_batch(model, options.batch)
            costs = measure(model, batch, cluster, nodes, progress, stop)
            progress.step("Planning")
            choice = choose(model, asked, batch, nodes, costs, options.objective, stop)
        names = {node.id: node.name for node in nodes}
        progress.clear()
        if options.save is not None:
            save_plan(options.save, choice, names)
        report = plan_report(choice, model, names)
        if options.json:
            print_json(report)
        else:
            _print(report)
    return 0


def _check_save(path: Path) -> None:
    if path.suffix.lower() in {".onnx", ".npz", ".npy"}:
        raise SinkError(f"A plan is not written as {path.name}.", hint="Choose a name that ends in .json.")
    check_writable(path)


def plan_report(choice: Choice, model: Model, names: Mapping[NodeId, str]) -> PlanReport:
    plan, prediction = choice.compiled.plan, choice.prediction
    request = plan.request
    layers = model.layers(request.micro_batch)
    division = choice.compiled.outline.division
    return PlanReport(
        model=plan.model_name,
        strategy=request.strategy,
        micro_batch=request.micro_batch,
        nodes=tuple(names[node] for node in request.nodes),
        cuts=request.cuts or (),
        tensor_axis=request.tensor_axis,
        spatial_axis=request.spatial_axis,
        shares=request.shares,
        per_node=tuple(_node_row(use, plan, division, layers, names) for use in prediction.nodes),
        division=division_report(division, layers, names),
        shards=tuple(_shard_row(shard, names) for shard in plan.shards),
        predicted=as_predicted(prediction, names),
        efficiency=prediction.efficiency,
        single_throughput=prediction.single_throughput,
        bottleneck=names[prediction.bottleneck],
        why=choice.why,
        notes=tuple(dict.fromkeys((*plan.notes, *prediction.notes))),
    )


def _shard_row(shard: Shard, names: Mapping[NodeId, str]) -> ShardRow:
    return ShardRow(
        node=names[shard.node],
        replica=shard.replica,
        stage=shard.stage,
        rank=shard.rank,
        label=shard.label,
        weight_bytes=shard.weight_bytes,
        activation_bytes=shard.activation_bytes,
    )


def _node_row(
    use: NodePrediction, plan: Plan, division: Division, layers: Sequence[Layer], names: Mapping[NodeId, str]
) -> NodeRow:
    shards = plan.on_node(use.node)
    first = shards[0]
    shares = {one.layer: part.share for one in division.layers for part in one.parts if part.node == use.node}
    done = sum(share * layers[layer].macs for layer, share in shares.items())
    total = sum(layer.macs for layer in layers)
    divided = any(is_divided(division.layers[layer], first.replica) for layer in shares)
    met = sum(layers[layer].macs for layer in shares)
    part = f"{percent(done / met)} of " if divided and met else ""
    return NodeRow(
        node=names[use.node],
        replica=first.replica,
        stage=first.stage,
        rank=first.rank,
        runs=f"{part}{_layers_of(first, plan, len(shards) > 1 or divided, sorted(shares), len(layers))}",
        work=done / total if total else 0.0,
        weight_bytes=sum({weight.blob: weight.nbytes for shard in shards for weight in shard.weights}.values()),
        memory_bytes=use.memory_bytes,
        compute_ms=use.compute_s * 1000,
        sent_bytes=use.sent_bytes,
        busy=use.share,
    )


def _layers_of(shard: Shard, plan: Plan, divided: bool, met: Sequence[int], count: int) -> str:
    """Of the model: those that a node has a part of."""
    if not divided or not met:
        return shard.label
    bounds = (0, *(plan.request.cuts or ()), count)
    stages = 1 + max(other.stage for other in plan.shards)
    first, last = bounds[shard.stage : shard.stage + 2] if len(bounds) == stages + 1 else (met[0], met[-1] + 1)
    return "the model" if (first, last) == (0, count) else f"layers {first + 1}-{last}"


def _print(report: PlanReport) -> None:
    cuts = f", cut after layer{'s' if len(report.cuts) > 1 else ''} {', '.join(map(str, report.cuts))}"
    print(f"{report.model}: {report.strategy}, micro-batches of {report.micro_batch}{cuts if report.cuts else ''}\n")
    places = _places(report.per_node)
    print_table(
        ("node", *places, "runs", "weights", "memory", "compute ms", "sends", "busy"),
        [
            (
                row.node,
                *(str(1 + getattr(row, place)) for place in places),
                row.runs,
                format_bytes(row.weight_bytes),
                format_bytes(row.memory_bytes),
                f"{row.compute_ms:.2f}",
                format_bytes(row.sent_bytes),
                f"{row.busy:.0%}",
            )
            for row in report.per_node
        ],
    )
    for paragraph in division_words(report.division, report.nodes):
        print(f"\n{paragraph}")
    print(
        f"\npredicted: {report.predicted.throughput:.1f} items/s, latency {report.predicted.latency_ms:.2f} ms, "
        f"efficiency {report.efficiency:.0%}; best node alone: {report.single_throughput:.1f} items/s; "
        f"slowest part: {report.bottleneck}"
    )
    if report.why:
        print(f"\nwhy: {report.why}")
    for words in report.notes:
        note(f"note: {words}")


def _places(rows: Sequence[NodeRow]) -> list[str]:
    """The levels at which nodes differ, where there are several."""
    differing = [place for place in ("replica", "stage", "rank") if len({getattr(row, place) for row in rows}) > 1]
    return differing if len(differing) > 1 else []
