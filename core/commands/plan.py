"""shardboard plan: where to cut, what goes where, and how fast it should be."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

from msgspec import Struct

from core.commands.choosing import chosen_nodes
from core.commands.chosen import Chosen, choose_plan
from core.commands.division_report import DivisionReport, division_report, is_divided
from core.commands.division_words import division_words, links_words, percent
from core.commands.fitting import better, misses, nearest_words
from core.commands.opening import open_model
from core.commands.output import Progress, note, print_json, print_table
from core.commands.plan_files import check_save, load_plan, save_plan
from core.commands.planning import check_batch
from core.commands.stopping import stop_on_interrupt
from core.commands.wanted import wanted_of
from core.cost.types import NodePrediction
from core.errors import PlacementError
from core.model.types import Layer
from core.plan.division import Division
from core.plan.form import NodeId, Plan, Shard
from core.plan.improving import Change, bottleneck_words, sent_by
from core.run.report import Predicted, as_predicted
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


class NodeRow(Struct, frozen=True, kw_only=True):
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
    memory_limit: int | None
    """The agent's, bytes; None: not known."""
    compute_ms: float
    receive_ms: float
    send_ms: float
    """That handling messages takes, or that they are on the line where that is longer; then the node computes
    meanwhile."""
    wait_ms: float
    period_ms: float
    """From one micro-batch to the next at full speed."""
    sent_bytes: int
    """Over the network."""
    received_bytes: int
    busy: float
    """Share of the time at full speed, 0..1."""


class ChangeRow(Struct, frozen=True, kw_only=True):
    """A change that would make the plan better."""

    words: str
    gain: float
    """Of the objective: 0.18 is 18 % more throughput, or less latency or memory."""
    strategy: str
    nodes: tuple[str, ...]
    micro_batch: int
    cuts: tuple[int, ...]
    shares: tuple[float, ...] | None
    throughput: float
    latency_ms: float


class PlanReport(Struct, frozen=True, kw_only=True):
    """What ``plan --json`` prints."""

    model: str
    strategy: str
    micro_batch: int
    nodes: tuple[str, ...]
    cuts: tuple[int, ...]
    cut_layers: tuple[str, ...]
    """Names of the layers with which the stages behind the cuts begin."""
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
    single_node: str
    bottleneck: str
    """The busiest node."""
    bottleneck_words: str
    """What sets the pace: a node's computing, a link, the cores of a machine, the workstation."""
    changes: tuple[ChangeRow, ...]
    """The best one within the strategy, and another strategy or micro-batch where that brings more."""
    no_change: str
    """Where there are no ``changes``: in which way."""
    why: str
    """Why the automatic strategy took this one; empty where a strategy was asked for."""
    missed: tuple[str, ...]
    """Memory limits that it would not keep, and the latency bound: which is missed by how much on which node. With any
    of them the exit code is 3."""
    nearest: str
    """What would keep them all; empty where nothing is missed."""
    notes: tuple[str, ...]


def run(options: argparse.Namespace) -> int:
    with Progress() as progress, stop_on_interrupt() as stop:
        if options.save is not None:
            check_save(options.save)
        asked = wanted_of(options)
        progress.step("Opening the model")
        model, _ = open_model(options.model, progress)
        check_batch(options, model)
        saved = load_plan(options.plan, model) if options.plan is not None else None
        with chosen_nodes(options, progress, stop) as (cluster, nodes):
            chosen = choose_plan(options, model, asked, saved, cluster, nodes, progress, stop)
        progress.step("Looking for something better")
        changes = better(chosen, stop)
        nearest = nearest_words(chosen, changes, stop) if misses(chosen) else ""
        progress.clear()
        if options.save is not None:
            save_plan(options.save, model, chosen.choice, chosen.question.names)
        report = plan_report(chosen, changes, nearest)
        if options.json:
            print_json(report)
        else:
            _print(report)
    for words in report.missed:
        note(f"cannot be placed: {words}")
    if nearest:
        note(nearest)
    return PlacementError.exit_code if report.missed else 0


def plan_report(chosen: Chosen, changes: Sequence[Change] = (), nearest: str = "") -> PlanReport:
    """``changes``: what would make it better; ``nearest``: what would keep limits that it misses."""
    compiled, prediction = chosen.choice.compiled, chosen.choice.prediction
    plan, request, names = compiled.plan, chosen.request, chosen.question.names
    layers = chosen.question.model.layers(request.micro_batch)
    division = compiled.outline.division
    held_back = bottleneck_words(
        prediction,
        names,
        request,
        layers,
        sent=sent_by(compiled.outline),
        links=chosen.question.links,
        machines=chosen.question.machines,
        costs=chosen.question.profile.messages,
    )
    limits, missed = chosen.question.limits, misses(chosen)
    return PlanReport(
        model=plan.model_name,
        strategy=request.strategy,
        micro_batch=request.micro_batch,
        nodes=tuple(names[node] for node in request.nodes),
        cuts=request.cuts or (),
        cut_layers=tuple(layers[cut].name for cut in request.cuts or ()),
        tensor_axis=request.tensor_axis,
        spatial_axis=request.spatial_axis,
        shares=request.shares,
        per_node=tuple(_node_row(use, plan, division, layers, names, limits) for use in prediction.nodes),
        division=division_report(division, layers, names),
        shards=tuple(_shard_row(shard, names) for shard in plan.shards),
        predicted=as_predicted(prediction, names),
        efficiency=prediction.efficiency,
        single_throughput=prediction.single_throughput,
        single_node=names[prediction.single_node],
        bottleneck=names[prediction.bottleneck],
        bottleneck_words=held_back,
        changes=tuple(_change_row(change, names) for change in changes),
        no_change="" if changes else "none keeps the limits" if missed else "none brings 1 %",
        why=chosen.choice.why,
        missed=missed,
        nearest=nearest,
        notes=plan.notes,
    )


def _change_row(change: Change, names: Mapping[NodeId, str]) -> ChangeRow:
    request = change.request
    return ChangeRow(
        words=change.words,
        gain=change.gain,
        strategy=request.strategy,
        nodes=tuple(names[node] for node in request.nodes),
        micro_batch=request.micro_batch,
        cuts=request.cuts or (),
        shares=request.shares,
        throughput=change.prediction.throughput,
        latency_ms=change.prediction.latency_s * 1000,
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
    use: NodePrediction,
    plan: Plan,
    division: Division,
    layers: Sequence[Layer],
    names: Mapping[NodeId, str],
    limits: Mapping[NodeId, int],
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
        memory_limit=limits.get(use.node),
        compute_ms=use.compute_s * 1000,
        receive_ms=use.receive_s * 1000,
        send_ms=use.send_s * 1000,
        wait_ms=use.wait_s * 1000,
        period_ms=use.period_s * 1000,
        sent_bytes=use.sent_bytes,
        received_bytes=use.received_bytes,
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
    print(f"{report.model}: {report.strategy}, micro-batches of {report.micro_batch}{_cuts(report)}\n")
    places = _places(report.per_node)
    print_table(
        ("node", *places, "runs", "weights", "memory", "compute ms", "receive", "send", "wait", "sends", "busy"),
        [
            (
                row.node,
                *(str(1 + getattr(row, place)) for place in places),
                row.runs,
                format_bytes(row.weight_bytes),
                _of_limit(row),
                *(f"{figure:.2f}" for figure in (row.compute_ms, row.receive_ms, row.send_ms, row.wait_ms)),
                format_bytes(row.sent_bytes),
                f"{row.busy:.0%}",
            )
            for row in report.per_node
        ],
    )
    told = list(division_words(report.division, report.nodes)) or [links_words(report.division, report.nodes)]
    for paragraph in told:
        print(f"\n{paragraph}")
    predicted = report.predicted
    print(
        f"\npredicted: {predicted.throughput:.1f} items/s, latency (idle) {predicted.latency_ms:.2f} ms, under load "
        f"({predicted.in_flight} in flight) {predicted.loaded_latency_ms:.2f} ms, efficiency {report.efficiency:.0%}; "
        f"{report.single_node} alone: {report.single_throughput:.1f} items/s"
    )
    print(f"bottleneck: {report.bottleneck_words}")
    changes = [change.words for change in report.changes] or [report.no_change]
    print(f"best change: {changes[0]}", *(f"or: {words}" for words in changes[1:]), sep="\n")
    if report.why:
        print(f"\nwhy: {report.why}")
    for words in report.notes:
        note(f"note: {words}")


def _cuts(report: PlanReport) -> str:
    if not report.cuts:
        return ""
    told = [f"{cut} (before {name})" for cut, name in zip(report.cuts, report.cut_layers, strict=True)]
    return f", cut{'s' if len(told) > 1 else ''} at {', '.join(told)}"


def _of_limit(row: NodeRow) -> str:
    if row.memory_limit is None:
        return format_bytes(row.memory_bytes)
    over = ", too much" if row.memory_bytes > row.memory_limit else ""
    return f"{format_bytes(row.memory_bytes)} of {format_bytes(row.memory_limit)}{over}"


def _places(rows: Sequence[NodeRow]) -> list[str]:
    """The levels at which nodes differ, where there are several."""
    differing = [place for place in ("replica", "stage", "rank") if len({getattr(row, place) for row in rows}) > 1]
    return differing if len(differing) > 1 else []
