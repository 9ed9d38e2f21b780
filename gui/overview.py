"""What the inspector says while nothing is selected: the cluster, the model, the plan and the run at a glance."""

from __future__ import annotations

from PySide6.QtCore import QCoreApplication

from core.cluster.node import NodeState
from gui.bridge import Bridge, Phase
from gui.inspector import Inspection
from gui.widgets import units
from gui.widgets.states import state_word

Rows = list[tuple[str, str | None]]


def overview(bridge: Bridge) -> Inspection:
    """Built anew each time; the inspector keeps its labels where only values changed."""
    tr = QCoreApplication.translate
    rows = [*_cluster(bridge), *_model(bridge), *_plan(bridge), *_run(bridge)]
    return Inspection(tr("overview", "Overview"), rows, tr("overview", "Select something to see its details."))


def _cluster(bridge: Bridge) -> Rows:
    tr = QCoreApplication.translate
    rows: Rows = [(tr("overview", "Cluster"), None)]
    if not bridge.nodes:
        return [*rows, (tr("overview", "Nodes"), tr("overview", "none yet"))]
    for state in NodeState:
        count = sum(node.state is state for node in bridge.nodes)
        if count:
            rows.append((state_word(state).capitalize(), str(count)))
    known = [bridge.speeds[node.id] for node in bridge.ready_nodes() if node.id in bridge.speeds]
    if known:
        rows.append((tr("overview", "Speed"), tr("overview", "{0} × this core").format(f"{sum(known):.2f}")))
    memory = sum(node.info.memory_limit for node in bridge.ready_nodes() if node.info is not None)
    if memory:
        rows.append((tr("overview", "Memory"), units.nbytes(memory)))
    discovery = tr("overview", "off") if bridge.discovery_problem else tr("overview", "on")
    rows.append((tr("overview", "Discovery"), discovery))
    return rows


def _model(bridge: Bridge) -> Rows:
    tr = QCoreApplication.translate
    rows: Rows = [(tr("overview", "Model"), None)]
    if bridge.model is None:
        return [*rows, (tr("overview", "Name"), tr("overview", "none open"))]
    rows.append((tr("overview", "Name"), bridge.model.name))
    inputs = ", ".join(info.name for info in bridge.model.inputs)
    outputs = ", ".join(info.name for info in bridge.model.outputs)
    rows += [(tr("overview", "Inputs"), inputs), (tr("overview", "Outputs"), outputs)]
    if bridge.profile is not None:
        each = tr("overview", "{0} for %n item(s)", "", bridge.profile.batch)
        rows.append((tr("overview", "One core"), each.format(units.seconds(bridge.profile.total_seconds))))
    return rows


def _plan(bridge: Bridge) -> Rows:
    tr = QCoreApplication.translate
    request = bridge.deployment.plan.request if bridge.deployment is not None else bridge.request
    if request is None:
        return []
    words = {
        Phase.IDLE: tr("overview", "not deployed"),
        Phase.DEPLOYING: tr("overview", "deploying"),
        Phase.DEPLOYED: tr("overview", "deployed"),
        Phase.RUNNING: tr("overview", "running"),
        Phase.STOPPING: tr("overview", "stopping"),
        Phase.RELEASING: tr("overview", "releasing"),
        Phase.COMPARING: tr("overview", "comparing strategies"),
    }
    rows: Rows = [
        (tr("overview", "Plan"), None),
        (tr("overview", "State"), words[bridge.phase]),
        (tr("overview", "Strategy"), request.strategy),
        (tr("overview", "On"), ", ".join(bridge.name_of(node) for node in request.nodes)),
        (tr("overview", "Micro-batch"), str(request.micro_batch)),
    ]
    prediction = bridge.prediction
    if prediction is not None:
        rate = tr("overview", "{0} items/s").format(units.quantity(prediction.throughput))
        rows += [
            (tr("overview", "Predicted"), rate),
            (tr("overview", "Latency (idle)"), units.seconds(prediction.latency_s)),
            (tr("overview", "Under load"), units.seconds(prediction.loaded_latency_s)),
            (tr("overview", "Efficiency"), units.percent(prediction.efficiency)),
            (tr("overview", "Bottleneck"), bridge.name_of(prediction.bottleneck)),
        ]
    if bridge.deployment is not None and bridge.verification is not None:
        error = bridge.verification.max_abs_error
        exact = (
            tr("overview", "yes, exactly") if error == 0 else tr("overview", "yes, within {0}").format(f"{error:.1e}")
        )
        rows.append((tr("overview", "Verified"), exact))
    return rows


def _run(bridge: Bridge) -> Rows:
    tr = QCoreApplication.translate
    report, progress = bridge.report, bridge.progress
    if report is not None:
        return [
            (tr("overview", "Last run"), None),
            (tr("overview", "Items"), units.quantity(report.items)),
            (tr("overview", "Throughput"), tr("overview", "{0} items/s").format(units.quantity(report.throughput))),
            (tr("overview", "Latency p50"), units.seconds(report.latency_ms.p50 / 1e3)),
        ]
    if progress is not None:
        return [
            (tr("overview", "Run"), None),
            (tr("overview", "Items"), units.quantity(progress.items_done)),
            (tr("overview", "Throughput"), tr("overview", "{0} items/s").format(units.quantity(progress.throughput))),
            (tr("overview", "Latency p50"), units.seconds(progress.latency_p50_ms / 1e3)),
        ]
    return []
