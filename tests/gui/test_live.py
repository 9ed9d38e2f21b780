"""The panel with real agents: found, plotted, deployed to, run on, killed, and all gone at the end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
from PySide6.QtCore import QEvent, QObject, QPoint, Qt
from PySide6.QtWidgets import QApplication, QLabel, QWidget
from pytestqt.qtbot import QtBot

from core.cluster.node import NodeState
from core.plan.form import PlanRequest
from gui.bridge import Bridge, Phase
from gui.main_window import MainWindow
from gui.pages.partition import PartitionPage
from gui.widgets.node_ribbon import Spot

Wait = Callable[..., None]
LOST_SECONDS = 60.0
"""After 3 s without a sign of life; more where the machine is busy."""


class Paints(QObject):
    """How often a widget was painted."""

    def __init__(self, widget: QWidget) -> None:
        super().__init__(widget)
        self.count = 0
        widget.installEventFilter(self)

    def eventFilter(self, _watched: QObject, event: QEvent) -> bool:  # noqa: N802 - Qt's name
        self.count += event.type() is QEvent.Type.Paint
        return False


def own(bridge: Bridge) -> list[str]:
    return [n.id for n in bridge.nodes if bridge.is_local(n.id)]


def start(window: MainWindow, wait_for: Wait, count: int, limits: list[float] | None = None) -> None:
    bridge = window.bridge
    bridge.start(local=count, cpu_limits=limits, measure=False)
    wait_for(lambda: len(own(bridge)) == count and all(n in bridge.speeds for n in own(bridge)))


def deploy(window: MainWindow, wait_for: Wait, strategy: str, micro_batch: int = 20) -> None:
    bridge = window.bridge
    if bridge.model is None:
        bridge.openModel("digits-cnn")
        wait_for(lambda: bridge.profile is not None)
    page = window.pages["partition"]
    page.choose(PlanRequest(strategy, tuple(own(bridge)), micro_batch))  # type: ignore[attr-defined, arg-type]
    wait_for(lambda: bridge.request is not None and bridge.request.strategy == strategy and bridge.prediction)
    bridge.deploy()
    wait_for(lambda: bridge.phase is Phase.DEPLOYED and bridge.deployment is not None)


@pytest.mark.slow
def test_from_nothing_to_results_and_a_lost_replica(window: MainWindow, wait_for: Wait, errors: list[str]) -> None:
    bridge = window.bridge
    start(window, wait_for, 2, [1.0, 0.5])
    assert all(bridge.node(n).state is NodeState.READY for n in own(bridge))  # type: ignore[union-attr]
    limited = next(n for n in bridge.nodes if n.info is not None and n.info.cpu_limit == 0.5)
    full = next(n for n in bridge.nodes if n.info is not None and n.info.cpu_limit == 1.0)
    assert bridge.colour(limited.id) != bridge.colour(full.id)

    deploy(window, wait_for, "replicate")
    assert bridge.verification is not None
    assert bridge.verification.passed
    results: list[object] = []
    reports: list[object] = []
    bridge.resultsArrived.connect(results.extend)
    bridge.runFinished.connect(reports.append)
    assert bridge.entry is not None
    bridge.run(str(bridge.entry.samples), repeat=2)
    wait_for(lambda: reports)
    assert len(results) == 120
    right = sum(int(r.outputs["logits/top_indices"][0]) == int(r.name.split("label")[1][0]) for r in results)  # type: ignore[attr-defined]
    assert right > 0.9 * len(results)
    assert bridge.report is not None
    assert bridge.report.verified
    assert bridge.report.predicted is not None
    wait_for(lambda: window.pages["history"]._table.runs.rowCount() == 1)  # type: ignore[attr-defined]

    window.show_page("nodes")
    bridge.run(str(bridge.entry.samples), seconds=60.0)
    wait_for(lambda: bridge.progress is not None and bridge.progress.items_done > 0)
    bridge.killLocal(limited.id)
    wait_for(lambda: bridge.node(limited.id).state is NodeState.LOST, LOST_SECONDS)  # type: ignore[union-attr]
    banner = window.pages["nodes"]._lost  # type: ignore[attr-defined]
    assert banner.isVisible()
    assert "nothing is lost" in banner.accessibleName()
    done = bridge.progress.items_done if bridge.progress else 0
    wait_for(lambda: bridge.progress is not None and bridge.progress.items_done > done + 100)
    bridge.stop()
    wait_for(lambda: len(reports) == 2)
    assert any("lost" in note for note in reports[1].notes)  # type: ignore[attr-defined]
    assert errors == []
    bridge.release()
    wait_for(lambda: bridge.phase is Phase.IDLE)


@pytest.mark.slow
def test_a_lost_stage_ends_the_job_in_words(window: MainWindow, wait_for: Wait, errors: list[str]) -> None:
    bridge = window.bridge
    start(window, wait_for, 2)
    deploy(window, wait_for, "pipeline")
    failures: list[str] = []
    bridge.runFailed.connect(failures.append)
    assert bridge.entry is not None
    bridge.run(str(bridge.entry.samples), seconds=60.0)
    wait_for(lambda: bridge.progress is not None and bridge.progress.items_done > 0)
    victim = own(bridge)[1]
    bridge.killLocal(victim)
    wait_for(lambda: failures)
    assert bridge.name_of(victim) in failures[0]
    assert errors
    assert "Deploy again" in bridge.consequence(victim)
    assert bridge.phase is Phase.DEPLOYED


@pytest.mark.slow
def test_layers_divided_over_two_agents_give_the_right_answers(
    window: MainWindow, wait_for: Wait, errors: list[str]
) -> None:
    """From the page's card to results; the topology knows what the plan sends between the two."""
    bridge = window.bridge
    start(window, wait_for, 2)
    bridge.openModel("digits-cnn")
    wait_for(lambda: bridge.profile is not None)
    window.show_page("partition")
    page = window.pages["partition"]
    page._items.setValue(20)  # type: ignore[attr-defined]
    page._cards["tensor"].click()  # type: ignore[attr-defined]
    wait_for(lambda: bridge.prediction is not None and page._division.ribbon.marks())  # type: ignore[attr-defined]
    page._deploying.button.click()  # type: ignore[attr-defined]
    wait_for(lambda: (bridge.phase is Phase.DEPLOYED and bridge.deployment is not None) or errors)
    assert errors == []
    assert bridge.verification is not None
    assert bridge.verification.passed
    assert bridge.deployed_prediction is not None
    assert not page._deploying.button.isEnabled(), "what is shown is what is deployed"  # type: ignore[attr-defined]
    topology = window.pages["nodes"]._topology  # type: ignore[attr-defined]
    one, other = own(bridge)
    assert topology.scene.planned()[one, other] > 0
    assert [sorted(pair) for pair in topology.scene.between_nodes("")] == [sorted((one, other))]
    results: list[object] = []
    reports: list[object] = []
    bridge.resultsArrived.connect(results.extend)
    bridge.runFinished.connect(reports.append)
    assert bridge.entry is not None
    bridge.run(str(bridge.entry.samples), repeat=2)
    wait_for(lambda: reports or errors)
    assert errors == []
    right = sum(int(r.outputs["logits/top_indices"][0]) == int(r.name.split("label")[1][0]) for r in results)  # type: ignore[attr-defined]
    assert right > 0.9 * len(results) > 0
    window.show_page("nodes")
    window.grab()
    bridge.release()
    wait_for(lambda: bridge.phase is Phase.IDLE)


@pytest.mark.slow
def test_the_automatic_plan_is_deployed_and_comes_back_from_its_file(
    window: MainWindow, wait_for: Wait, errors: list[str], tmp_path: Path
) -> None:
    bridge = window.bridge
    start(window, wait_for, 2, [1.0, 0.25])
    bridge.openModel("digits-cnn")
    wait_for(lambda: bridge.profile is not None)
    window.show_page("partition")
    page = window.pages["partition"]
    chooser = page._chooser  # type: ignore[attr-defined]
    chooser.aim_bar.automatic.click()
    wait_for(lambda: chooser.candidates.answer is not None and chooser.candidates.answer.choice is not None)
    best = chooser.candidates.answer.choice
    assert chooser.aim_bar.words.text() == best.words
    request = bridge.request
    assert request is not None
    assert (request.strategy, request.nodes) == (best.request.strategy, best.request.nodes)
    page._deploying.button.click()  # type: ignore[attr-defined]
    wait_for(lambda: bridge.phase is Phase.DEPLOYED or errors)
    assert errors == []
    assert bridge.verification is not None
    assert bridge.verification.passed
    page._files.files.save(tmp_path / "best.json", request, bridge.prediction)  # type: ignore[attr-defined]
    wait_for((tmp_path / "best.json").is_file)
    other = "pipeline" if request.strategy != "pipeline" else "replicate"
    page._cards[other].click()  # type: ignore[attr-defined]
    assert page._deploying.button.text() == "Deploy changes"  # type: ignore[attr-defined]
    page._files.files.load(tmp_path / "best.json", page._files.usable_nodes())  # type: ignore[attr-defined]
    wait_for(lambda: bridge.request == request)
    assert not page._deploying.button.isEnabled(), "what is shown is what is deployed"  # type: ignore[attr-defined]
    bridge.release()
    wait_for(lambda: bridge.phase is Phase.IDLE)


@pytest.mark.slow
def test_plots_are_live_and_cheap(window: MainWindow, wait_for: Wait) -> None:
    """A plot paints once for each sample of all nodes, and not at all while another page is in front;
    ``tests.bench.panel`` tells what that takes of a core, and for how long it keeps the GUI thread."""
    start(window, wait_for, 3)
    window.show_page("monitor")
    page = window.pages["monitor"]
    plots = page._node_plots  # type: ignore[attr-defined]

    def alive() -> bool:
        newest = [plot._rings[key].view()[-1] for plot in plots for key in plot.curves()]
        return len(newest) == 3 * 5 and min(newest) >= 0.0  # nobody's is missing, nor NaN

    wait_for(alive)
    painted = [Paints(plot.plot.viewport()) for plot in plots]
    samples: list[int] = []
    page._sampler.timeout.connect(lambda: samples.append(1))  # type: ignore[attr-defined]
    wait_for(lambda: len(samples) >= 15)
    assert all(1 <= paints.count <= 2 * len(samples) for paints in painted), "not for each node's telemetry"
    window.show_page("nodes")
    QApplication.processEvents()
    before = [paints.count for paints in painted]
    seen = len(samples)
    wait_for(lambda: len(samples) >= seen + 5)
    assert [paints.count for paints in painted] == before


@pytest.mark.slow
def test_limits_are_set_from_the_monitor_page(window: MainWindow, wait_for: Wait) -> None:
    bridge = window.bridge
    start(window, wait_for, 1)
    node = own(bridge)[0]
    before = bridge.speeds[node]  # type: ignore[index]
    bridge.setLimits(node, cpu_limit=0.25, link_limit=10_000_000)

    def limited() -> bool:
        info = bridge.node(node).info  # type: ignore[union-attr]
        return info is not None and info.cpu_limit == 0.25 and info.link_limit == 10_000_000

    wait_for(limited)
    assert bridge.speeds[node] == pytest.approx(before * 0.25)  # type: ignore[index]
    window.show_page("monitor")
    QApplication.processEvents()
    words = {label.text() for label in window.pages["monitor"].findChildren(QLabel)}
    assert "CPU 25 %" in words


@pytest.mark.slow
def test_closing_while_agents_start_and_a_model_opens_leaves_nothing(window: MainWindow, wait_for: Wait) -> None:
    bridge = window.bridge
    bridge.start(local=2, measure=False)
    bridge.openModel("digits-cnn")
    wait_for(lambda: bridge.cluster is not None)
    window.close()


@pytest.mark.slow
def test_what_was_dragged_is_what_runs(window: MainWindow, qtbot: QtBot, wait_for: Wait, errors: list[str]) -> None:
    """Shares and a kept layer, set with the mouse, reach the agents, and the outputs are the whole model's."""
    bridge, left = window.bridge, Qt.MouseButton.LeftButton
    window.resize(1200, 1400)
    window.show_page("partition")
    start(window, wait_for, 2)
    bridge.openModel("digits-cnn")
    page = cast(PartitionPage, window.pages["partition"])
    wait_for(lambda: bridge.profile is not None)
    page.choose(PlanRequest("tensor", tuple(own(bridge)), 20))  # type: ignore[arg-type]
    ribbon = page._division.ribbon
    wait_for(lambda: ribbon.edges() and not bridge.outlines.busy and not page._plans.working)
    before, place = ribbon.percents, ribbon.edge_position(0)
    begun = ribbon.mapToGlobal(place)
    qtbot.mousePress(ribbon, left, pos=place)
    for step in (4, 12, 20):
        qtbot.mouseMove(ribbon, ribbon.mapFromGlobal(begun + QPoint(0, step)))
    qtbot.mouseRelease(ribbon, left, pos=ribbon.mapFromGlobal(begun + QPoint(0, 20)))
    assert bridge.request is not None
    assert bridge.request.shares is not None
    assert bridge.request.shares[0] > before[bridge.request.nodes[0]] / 100
    deploy_shown(bridge, wait_for)
    assert bridge.deployed_request is not None
    assert bridge.deployed_request.shares == bridge.request.shares

    page.choose(PlanRequest("pipeline", tuple(own(bridge)), 20, (5,)))  # type: ignore[arg-type]
    cut = page._ribbon
    wait_for(lambda: cut.cuts == (5,))
    menu = page._edits.menu(Spot(layer=6, node=bridge.request.nodes[1]))
    next(action for action in menu.actions() if action.text().startswith("Keep on ")).trigger()
    assert bridge.request.pins == ((6, bridge.request.nodes[1]),)
    deploy_shown(bridge, wait_for)
    assert bridge.deployment is not None
    assert bridge.deployment.plan.request.pins == bridge.request.pins
    assert errors == []
    bridge.release()
    wait_for(lambda: bridge.phase is Phase.IDLE)


def deploy_shown(bridge: Bridge, wait_for: Wait) -> None:
    """Deploy what the page asks for, and check that it was verified."""
    asked = bridge.request
    bridge.deploy()
    wait_for(lambda: bridge.phase is Phase.DEPLOYED and bridge.deployed_request == asked)
    assert bridge.verification is not None
    assert bridge.verification.passed
