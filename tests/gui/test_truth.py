"""Measured beside predicted with real agents: live figures, recalibration with undo, and every strategy compared."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from core.cluster.node import NodeState
from core.plan.form import PlanRequest
from core.run.calibrations import CalibrationStore
from gui.bench import Line, fastest, median_error, right_pairs
from gui.bridge import Phase
from gui.main_window import MainWindow
from gui.widgets.bench_dialog import BenchDialog
from gui.widgets.truth_card import TruthCard

Wait = Callable[..., None]


def start(window: MainWindow, wait_for: Wait) -> None:
    """Two agents, and a model with its profile; nothing is measured in the background."""
    bridge = window.bridge
    bridge.start(local=2, measure=False)
    bridge.openModel("digits-mlp")
    wait_for(lambda: len(bridge.speeds) == 2 and bridge.profile is not None, 40)


def test_a_run_is_shown_beside_its_prediction_and_recalibrates_it(
    window: MainWindow, wait_for: Wait, errors: list[str]
) -> None:
    bridge, truth = window.bridge, window.bridge.truth
    start(window, wait_for)
    page = window.pages["partition"]
    window.show_page("partition")
    page.choose(PlanRequest("pipeline", tuple(node.id for node in bridge.nodes), 16, (2,)))  # type: ignore[attr-defined]
    wait_for(lambda: bridge.prediction is not None, 20)
    card = page.findChild(TruthCard)
    assert card is not None
    assert card.isHidden(), "nothing was measured yet"
    bridge.deploy()
    wait_for(lambda: bridge.phase is Phase.DEPLOYED and bridge.deployment is not None, 40)
    bridge.run("random:512", seconds=1.8)
    wait_for(lambda: bridge.report is not None, 30)

    comparison = truth.comparison
    assert comparison is not None
    assert bridge.report is not None
    assert comparison.throughput.measured == bridge.report.throughput
    assert comparison.throughput.error == pytest.approx(bridge.prediction_error())
    assert len(comparison.nodes) == 2
    for node in comparison.nodes:
        assert node.compute_s.measured is not None
        assert node.compute_s.measured > 0
        assert node.sent_bytes.error == pytest.approx(0, abs=0.25), "what crosses is known, headers aside"
        assert node.received_bytes.error == pytest.approx(0, abs=0.25)
        assert node.memory_bytes.measured is not None
    assert card.isVisibleTo(page)
    first = bridge.nodes[0].id
    wait_for(lambda: "Measured: computes" in page._budget.cells(first).cycle.toolTip(), 10)  # type: ignore[attr-defined]
    assert "measured" in page._budget.cells(first).measured_memory.text()  # type: ignore[attr-defined]

    changes = truth.changes()
    assert changes, "timed within a model's layers of some microseconds, no prediction is exact"
    changed = changes[0]
    before, predicted = bridge.speed_of(changed.node), bridge.deployed_prediction
    truth.recalibrate()
    assert bridge.speed_of(changed.node) == pytest.approx(changed.after)
    assert bridge.deployed_prediction != predicted, "predictions follow"
    assert truth.comparison is not None
    mended = next(node for node in truth.comparison.nodes if node.node == changed.node)
    assert mended.compute_s.predicted == pytest.approx(changed.measured_s, rel=1e-6)
    assert bridge.name_of(changed.node) in card._done.accessibleName()
    wait_for(lambda: len(CalibrationStore().all()) == len(changes), 10)
    card.undo.click()
    assert bridge.speed_of(changed.node) == pytest.approx(before)
    wait_for(lambda: not CalibrationStore().all(), 10)
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
    wait_for(lambda: len(bridge.bench.lines) >= 2, 40)
    dialog._cancel.click()
    wait_for(lambda: not bridge.bench.running, 30)
    assert bridge.phase is Phase.IDLE
    single, replicate = bridge.bench.lines[:2]
    assert (single.strategy, replicate.strategy) == ("single", "replicate")
    assert single.row is not None
    assert single.row.speedup == 1.0
    table = dialog._table
    assert table.model().data(table.model().index(0, 3)).endswith("%"), "the error is a percentage"
    assert "Stopped" in dialog._problem.accessibleName()
    wait_for(lambda: all(node.state is NodeState.READY for node in bridge.nodes), 10)
    table.selectRow(1)
    dialog._take.click()
    assert window.current_page() == "partition"
    wait_for(lambda: bridge.request is not None and bridge.request.strategy == "replicate", 10)
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
            latency_p50_ms=1.0,
            predicted_latency_ms=1.0,
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
