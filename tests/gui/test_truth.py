"""Measured beside predicted with real agents: live figures, recalibration with undo, and every strategy compared."""

from __future__ import annotations

from collections.abc import Callable
from math import log

import pytest

from core.cluster.node import NodeState
from core.plan.form import PlanRequest
from core.run.calibration import SAME
from core.run.calibrations import CalibrationStore
from core.run.recalibrating import Correction
from gui.bench import Line, fastest, median_error, right_pairs
from gui.bridge import Phase
from gui.main_window import MainWindow
from gui.truth import Recalibrated
from gui.widgets.bench_dialog import BenchDialog
from gui.widgets.truth_card import TruthCard

Wait = Callable[..., None]


def start(window: MainWindow, wait_for: Wait) -> None:
    """Two agents, and a model with its profile; nothing is measured in the background."""
    bridge = window.bridge
    bridge.start(local=2, measure=False)
    bridge.openModel("digits-mlp")
    wait_for(lambda: len(bridge.speeds) == 2 and bridge.profile is not None)


def test_a_run_is_shown_beside_its_prediction_and_recalibrates_it(
    window: MainWindow, wait_for: Wait, errors: list[str]
) -> None:
    bridge, truth = window.bridge, window.bridge.truth
    start(window, wait_for)
    page = window.pages["partition"]
    window.show_page("partition")
    page.choose(PlanRequest("pipeline", tuple(node.id for node in bridge.nodes), 16, (2,)))  # type: ignore[attr-defined]
    wait_for(lambda: bridge.prediction is not None)
    card = page.findChild(TruthCard)
    assert card is not None
    assert card.isHidden(), "nothing was measured yet"
    bridge.deploy()
    wait_for(lambda: bridge.phase is Phase.DEPLOYED and bridge.deployment is not None)
    bridge.run("random:512", seconds=90.0)
    wait_for(lambda: len(truth.observations) == 2, 60)
    bridge.stop()
    wait_for(lambda: bridge.report is not None, 60)

    comparison = truth.comparison
    assert comparison is not None
    assert bridge.report is not None
    assert bridge.deployed_prediction is not None
    assert comparison.throughput.measured == bridge.report.throughput
    assert comparison.throughput.error == pytest.approx(bridge.prediction_error())
    assert len(comparison.nodes) == 2
    for node in comparison.nodes:
        assert node.compute_s.measured is not None
        assert node.compute_s.measured > 0
        assert node.sent_bytes.error == pytest.approx(0), "what crosses is known, and counted"
        assert node.received_bytes.error == pytest.approx(0)
        assert node.memory_bytes.measured is not None
    assert card.isVisibleTo(page)
    first = comparison.nodes[0].node
    wait_for(lambda: "Measured: computes" in page._budget.cells(first).cycle.toolTip())  # type: ignore[attr-defined]
    assert "measured" in page._budget.cells(first).measured_memory.text()  # type: ignore[attr-defined]

    assert comparison.latency_s.predicted == bridge.deployed_prediction.loaded_latency_s, "like with like"
    assert bridge.report.in_flight == bridge.deployed_prediction.in_flight
    assert truth.able
    before = {node.id: bridge.speed_of(node.id) for node in bridge.nodes}
    predicted, cost = bridge.deployed_prediction, bridge.profile.messages
    card._recalibrate.click()
    assert not truth.able, "one at a time"
    wait_for(lambda: truth.last is not None)
    found = truth.last.correction
    if found.empty:  # a model of microseconds on a busy machine: whatever was measured, nothing is spoilt
        assert found.reason
        assert card._done.accessibleName().startswith("Nothing was recalibrated")
        assert bridge.deployed_prediction == predicted
        assert not truth.known()
    else:
        for change in found.changes:
            assert bridge.speed_of(change.node) == pytest.approx(change.after)
            assert bridge.name_of(change.node) in card._done.accessibleName()
        assert bridge.profile.messages.message_s == pytest.approx(cost.message_s * found.messages)
        assert bridge.deployed_prediction != predicted, "predictions follow"
        wait_for(lambda: truth.prediction is not None and truth.prediction.throughput == pytest.approx(found.after))
        off, was = (abs(log(rate / found.measured)) for rate in (found.after, found.before))
        assert off < max(was, SAME)
        wait_for(lambda: len(CalibrationStore().all()) == len(truth.known()))
        card.undo.click()
        wait_for(lambda: not CalibrationStore().all())
    assert {node.id: bridge.speed_of(node.id) for node in bridge.nodes} == pytest.approx(before)
    assert bridge.profile.messages == cost

    assert bridge.model is not None
    nodes = tuple(node.id for node in bridge.nodes)
    unexplained = Correction(reason="unexplained")
    truth.last = Recalibrated(bridge.model.sha256, "digits-mlp", unexplained, {}, {}, nodes=nodes)
    truth.recalibrated.emit(truth.last)
    assert "measure nodes and links again" in card._done.accessibleName()
    assert card.again.isVisibleTo(card)
    assert card.again.isEnabled()
    card.again.click()
    assert bridge.measuring
    bridge.cancelMeasuring()
    wait_for(lambda: not bridge.measuring)
    truth.forget(nodes)
    assert truth.last is None, "they were measured anew"
    assert not card.again.isVisibleTo(card)
    assert errors == []


def test_every_strategy_is_compared_cancelled_and_taken_over(
    window: MainWindow, wait_for: Wait, errors: list[str]
) -> None:
    bridge = window.bridge
    start(window, wait_for)
    window.show_page("run")
    dialog = window.pages["run"].compare()  # type: ignore[attr-defined]
    assert isinstance(dialog, BenchDialog)
    bridge.bench.start(0.1)
    assert bridge.phase is Phase.COMPARING
    assert not dialog._cancel.isHidden()
    wait_for(lambda: len(bridge.bench.lines) >= 2)
    dialog._cancel.click()
    wait_for(lambda: not bridge.bench.running)
    assert bridge.phase is Phase.IDLE
    single, replicate = bridge.bench.lines[:2]
    assert (single.strategy, replicate.strategy) == ("single", "replicate")
    assert single.row is not None
    assert single.row.speedup == 1.0
    table = dialog._table
    assert table.model().data(table.model().index(0, 3)).endswith("%"), "the error is a percentage"
    assert "Stopped" in dialog._problem.accessibleName()
    wait_for(lambda: all(node.state is NodeState.READY for node in bridge.nodes))
    table.selectRow(1)
    dialog._take.click()
    assert window.current_page() == "partition"
    wait_for(lambda: bridge.request is not None and bridge.request.strategy == "replicate")
    assert errors == []


def row(strategy: str, measured: float, predicted: float) -> Line:
    from core.commands.comparison import BenchRow

    return Line(
        strategy,
        BenchRow(
            strategy=strategy,
            nodes=("a",),
            items=1,
            seconds=1.0,
            throughput=measured,
            predicted_throughput=predicted,
            error=measured / predicted - 1,
            latency_p50_ms=2.0,
            predicted_loaded_latency_ms=2.0,
            loaded_latency_error=0.0,
            idle_latency_ms=1.0,
            predicted_latency_ms=1.0,
            latency_error=0.0,
            efficiency=0.5,
            speedup=None,
        ),
    )


def test_a_comparison_is_summed_up() -> None:
    lines = [row("single", 100, 110), row("replicate", 180, 150), row("pipeline", 101, 90), Line("spatial", why="No.")]
    assert fastest(lines) == "replicate"
    assert fastest(lines[:1]) == ""
    assert median_error(lines) == pytest.approx(1 - 100 / 110, abs=0.05)
    assert right_pairs(lines) == (2, 2), "single and pipeline are as good as equal"
    assert right_pairs([row("single", 100, 90), row("pipeline", 150, 80)]) == (0, 1)
