"""shardboard run: inputs through a model on several nodes, results in order."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Sequence
from itertools import islice
from typing import Any, Final

import numpy.typing as npt
from msgspec import Struct
from msgspec.structs import replace

from core.cluster.client import Cluster
from core.cluster.deployment import Deployment, DeployProgress, deploy
from core.cluster.node import Node
from core.cluster.verified import deploy_and_verify
from core.commands.choosing import chosen_nodes
from core.commands.chosen import choose_plan
from core.commands.fitting import insist_it_fits, misses
from core.commands.opening import Work, open_work
from core.commands.output import Progress, print_json
from core.commands.planning import Choice
from core.commands.reports import print_report
from core.commands.stopping import stop_on_interrupt
from core.errors import VerificationError
from core.model.graph import Model
from core.plan.form import NodeId
from core.plan.tolerance import tolerance
from core.plan.verify import Verification, drawn_outputs, verify_outputs
from core.run.history import save_run
from core.run.report import RunProgress, RunReport, as_predicted
from core.run.runner import run_job
from core.run.sink import Sink, real_rows
from core.run.source import Batch, Source
from core.units import format_bytes

Array = npt.NDArray[Any]

VERIFIED_BATCHES: Final = 64
"""With --verify so many micro-batches, from the first, are compared with the whole model's outputs after the run."""


class _Verified(Struct, frozen=True):
    passed: bool
    max_abs_error: float


def run(options: argparse.Namespace) -> int:
    with Progress() as progress, stop_on_interrupt() as stop:
        progress.step("Opening the model")
        with open_work(options, progress) as work, chosen_nodes(options, progress, stop) as (cluster, nodes):
            report = _run(options, work, cluster, nodes, progress, stop)
        progress.clear()
        save_run(report)
        if options.json:
            print_json(report)
        else:
            print_report(report)
    return 0


def _run(
    options: argparse.Namespace,
    work: Work,
    cluster: Cluster,
    nodes: Sequence[Node],
    progress: Progress,
    stop: threading.Event,
) -> RunReport:
    items = work.source.items * options.repeat
    chosen = choose_plan(
        options,
        work.model,
        work.asked,
        work.plan,
        cluster,
        nodes,
        progress,
        stop,
        items=items,
        in_flight=options.in_flight,
    )
    if not options.anyway:
        insist_it_fits(chosen, stop)
    choice = chosen.choice
    kept = _Kept(work.sink, VERIFIED_BATCHES if options.verify else 0)
    with _deployed(options, work, choice, cluster, progress, stop) as deployment:
        progress.step("Running")
        report = run_job(
            deployment,
            work.source,
            kept,
            in_flight=options.in_flight,
            repeat=options.repeat,
            progress=lambda told: _show(progress, told),
            cancel=stop,
        )
    verified = _verify(work.model, work.source, kept, choice, progress) if options.verify else None
    names = {node.id: node.name for node in nodes}
    return replace(
        report,
        model=work.name,
        input=options.input,
        predicted=as_predicted(choice.prediction, names),
        efficiency=choice.prediction.efficiency_at(report.throughput),
        verified=verified.passed if verified is not None else None,
        max_abs_error=verified.max_abs_error if verified is not None else None,
        notes=(*filter(None, [choice.why]), *misses(chosen), *report.notes),
    )


def _deployed(
    options: argparse.Namespace,
    work: Work,
    choice: Choice,
    cluster: Cluster,
    progress: Progress,
    stop: threading.Event,
) -> Deployment:
    progress.step("Sending the model to the nodes")
    told = _Shipping(progress)
    if not options.verify:
        return deploy(cluster, choice.compiled, progress=told, cancel=stop)
    first = next(iter(work.source.batches(choice.compiled.plan.request.micro_batch)))
    deployment, _ = deploy_and_verify(cluster, choice.compiled, work.model, feed=first.feed, progress=told, cancel=stop)
    return deployment


class _Shipping:
    """Sums up all nodes' progress."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._told: dict[NodeId, DeployProgress] = {}

    def __call__(self, told: DeployProgress) -> None:
        self._told[told.node] = told
        sent = sum(one.sent_bytes for one in self._told.values())
        total = sum(one.total_bytes for one in self._told.values())
        self._progress.share(sent / total if total else 0.0, f"{format_bytes(sent)} of {format_bytes(total)}")


def _show(progress: Progress, told: RunProgress) -> None:
    share = told.items_done / told.items_total if told.items_total else 1.0
    progress.share(share, f"{told.items_done} items, {told.throughput:.1f} items/s, {told.latency_p50_ms:.1f} ms")


class _Kept(Sink):
    """Passes results on, and keeps those of the first micro-batches to be verified."""

    def __init__(self, sink: Sink | None, batches: int) -> None:
        self._sink = sink
        self._batches = batches
        self.outputs: list[dict[str, Array]] = []

    def write(self, outputs: dict[str, Array], batch: Batch) -> None:
        if len(self.outputs) < self._batches:
            self.outputs.append(dict(outputs))
        if self._sink is not None:
            self._sink.write(outputs, batch)

    def close(self) -> None:
        if self._sink is not None:
            self._sink.close()

    def abandon(self) -> None:
        if self._sink is not None:
            self._sink.abandon()


def _verify(model: Model, source: Source, kept: _Kept, choice: Choice, progress: Progress) -> _Verified:
    """Compare what the run gave with the whole model on this machine. Raises VerificationError where it differs."""
    progress.step("Verifying")
    reference, rtol = model.reference(), tolerance(model)
    names = [info.name for info in model.outputs]
    worst = Verification(0.0, 0.0, True)
    batches = source.batches(choice.compiled.plan.request.micro_batch)
    for done, (batch, outputs) in enumerate(zip(islice(batches, len(kept.outputs)), kept.outputs, strict=False)):
        whole = reference(batch.feed)
        drawn = drawn_outputs(model, reference, batch.feed, whole, rtol)
        expected = real_rows(dict(zip(names, whole, strict=True)), batch)
        actual = real_rows(outputs, batch)
        found = verify_outputs([expected[name] for name in names], [actual[name] for name in names], rtol, drawn)
        if not found.passed:
            raise VerificationError(f"The distributed outputs are not the whole model's: {found.reason}.")
        worst = max(worst, found, key=lambda one: one.max_abs_error)
        progress.share((done + 1) / len(kept.outputs))
    return _Verified(worst.passed, worst.max_abs_error)
