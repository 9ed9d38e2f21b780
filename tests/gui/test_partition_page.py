"""The Partition page: choices as plain data, then the page with a real model, its real profile and predictions."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace
from PySide6.QtCore import QMimeData, QPointF, Qt
from PySide6.QtGui import QDropEvent
from pytestqt.qtbot import QtBot

from core.cluster.events import NodeChanged
from core.cluster.node import NodeState
from core.cost.types import NodePrediction, Prediction
from core.plan.form import NodeId, PlanRequest
from core.run.report import Latency, RunReport
from gui import partition_cards
from gui.bridge import Bridge
from gui.pages.partition import NO_MODEL, NO_NODES, READY, PartitionPage
from gui.partition_state import PIPELINE, QUICK, REPLICATE, SINGLE, PartitionState
from gui.widgets.node_ribbon import NODE_MIME
from tests.gui.pages import GIB, node_of, report_nodes

Wait = Callable[..., None]
A, B, C = NodeId("a"), NodeId("b"), NodeId("c")


# ---------------------------------------------------------------- choices, without Qt


def test_new_nodes_join_at_the_end() -> None:
    state = PartitionState().seen([A, B]).seen([C, A])
    assert state.order == (A, B, C)
    assert state.chosen([C, B]) == (B, C)


def test_nodes_left_out_take_no_part_and_cuts_are_balanced_anew() -> None:
    state = PartitionState(strategy=PIPELINE, order=(A, B, C), cuts=(3, 6)).toggled(B)
    assert state.chosen([A, B, C]) == (A, C)
    assert state.cuts is None
    assert state.toggled(B).chosen([A, B, C]) == (A, B, C)


def test_the_order_changes_by_steps_and_stops_at_the_ends() -> None:
    state = PartitionState(order=(A, B, C))
    assert state.moved(B, -1, [A, B, C]).order == (B, A, C)
    assert state.moved(A, -1, [A, B, C]) == state
    assert state.moved(A, 1, [A, C]).chosen([A, C]) == (C, A)


def test_a_node_dropped_on_a_stage_changes_places() -> None:
    usable = [A, B, C]
    state = PartitionState(strategy=PIPELINE, order=(A, B, C), left_out=frozenset({C}), cuts=(4,))
    swapped = state.put_on_stage(B, 0, usable)
    assert swapped.chosen(usable) == (B, A)
    assert swapped.cuts == (4,)
    taken = state.put_on_stage(C, 0, usable)
    assert taken.chosen(usable) == (C, B)
    assert state.put_on_stage(A, 0, usable) == state
    assert state.put_on_stage(A, 5, usable) == state


def test_requests_follow_the_strategy() -> None:
    state = PartitionState(order=(A, B, C), micro_batch=4, cuts=(2, 5))
    usable = [A, B, C]
    assert state.request(usable, B, PIPELINE) == PlanRequest(PIPELINE, (A, B, C), 4, (2, 5))
    assert state.request(usable, B, REPLICATE) == PlanRequest(REPLICATE, (A, B, C), 4)
    assert state.request(usable, B, SINGLE) == PlanRequest(SINGLE, (B,), 4)
    assert state.alone_on(C).request(usable, B) == PlanRequest(SINGLE, (C,), 4)
    assert state.request([A, B], B, PIPELINE) == PlanRequest(PIPELINE, (A, B), 4, None)
    assert state.request([], None) is None


def prediction(throughput: float, alone: float, *nodes: str) -> Prediction:
    parts = tuple(NodePrediction(NodeId(n), 0.01, 1, 1, GIB, 100, 1.0) for n in nodes)
    return Prediction(throughput, 0.02, parts, parts[0].node, 0.5, alone, parts[0].node)


# ---------------------------------------------------------------- the page


@pytest.fixture
def page(qtbot: QtBot, bridge: Bridge) -> PartitionPage:
    made = PartitionPage(bridge)
    qtbot.addWidget(made)
    made.resize(1000, 900)
    made.show()
    return made


@pytest.fixture
def ready(page: PartitionPage, bridge: Bridge, wait_for: Wait) -> PartitionPage:
    """With three nodes and a timed model, on Pipeline, with balanced cuts."""
    report_nodes(bridge, "workshop", "fast-one", "small-board")
    bridge.openModel("digits-cnn")
    wait_for(lambda: bridge.profile is not None and page._plans.profile() is not None, 60)
    page._cards[PIPELINE].click()
    wait_for(lambda: page._plans._balanced)
    page.grab()
    return page


def test_without_a_model_or_nodes_the_page_says_what_to_do(
    qtbot: QtBot, page: PartitionPage, bridge: Bridge, wait_for: Wait
) -> None:
    assert page._stack.currentIndex() == NO_MODEL
    with qtbot.waitSignal(bridge.modelOpened, timeout=20_000):
        bridge.openModel("digits-mlp")
    assert page._stack.currentIndex() == NO_NODES
    report_nodes(bridge, "workshop")
    wait_for(lambda: page._stack.currentIndex() == READY)


def test_cards_predict_every_strategy_and_mark_one(ready: PartitionPage) -> None:
    figures = {name: ready._cards[name]._throughput.text() for name in QUICK}
    assert all(any(c.isdigit() for c in text) for text in figures.values()), figures
    assert [bool(card.best) for card in ready._cards.values()].count(True) == 1
    assert ready._cards[SINGLE]._verdict.text() == "On fast-one."


def test_slower_than_one_node_is_said_in_words(bridge: Bridge) -> None:
    ids = report_nodes(bridge, "workshop", "fast-one")
    request = PlanRequest(PIPELINE, tuple(ids), 1, (3,))
    figures = partition_cards.card_figures(bridge, PIPELINE, request, prediction(50, 80, *ids), best=False)
    assert figures.kind == "warn"
    assert figures.verdict.startswith("Slower than workshop alone, which does 80")


def test_one_node_alone_has_one_figure_on_all_cards(bridge: Bridge) -> None:
    ids = report_nodes(bridge, "workshop", "fast-one")
    request = PlanRequest(PIPELINE, tuple(ids), 1, (3,))
    estimated, timed = prediction(50, 80, *ids), replace(prediction(50, 80, *ids), timed=True)
    one_node = replace(prediction(90, 90, ids[0]), timed=True)

    def verdict(told: Prediction, alone: Prediction) -> str:
        return partition_cards.card_figures(bridge, PIPELINE, request, told, best=False, alone=alone).verdict

    assert verdict(timed, one_node).startswith("Slower than workshop alone, which does 90")
    assert verdict(estimated, one_node) == "Slower than workshop alone."
    assert verdict(timed, replace(one_node, timed=False)) == "Slower than workshop alone."
    assert verdict(estimated, replace(one_node, timed=False)).startswith("Slower than workshop alone, which does 90")
    assert verdict(timed, prediction(20, 20, ids[1])).startswith("Slower than workshop alone, which does 80")
    gain = partition_cards.card_figures(
        bridge, PIPELINE, request, replace(timed, throughput=180), best=False, alone=one_node
    )
    assert gain.verdict == "2.0 times as fast as workshop alone."


def test_what_does_not_fit_is_said_with_figures(bridge: Bridge) -> None:
    small = node_of("small-board", memory=GIB // 2)
    bridge._on_event(NodeChanged(small))
    request = PlanRequest(SINGLE, (small.id,), 1)
    figures = partition_cards.card_figures(bridge, SINGLE, request, prediction(50, 50, small.id), best=False)
    assert figures.kind == "bad"
    assert figures.verdict == "Does not fit: small-board needs 1.0 GiB and may use 512 MiB."


def test_a_dragged_cut_changes_predictions_at_once_and_the_plan_at_the_end(
    qtbot: QtBot, ready: PartitionPage, bridge: Bridge
) -> None:
    ribbon = ready._ribbon
    before = ribbon.cuts
    request = bridge.request
    shown = ready._chooser.plot.chosen
    start = ribbon.handle_position(0)
    qtbot.mousePress(ribbon, Qt.MouseButton.LeftButton, pos=start)
    target = ribbon.point_at(before[0] // 2)
    qtbot.mouseMove(ribbon, (start + target) / 2)
    qtbot.mouseMove(ribbon, target)
    assert ribbon.cuts != before
    assert bridge.request == request
    assert ready._chooser.plot.chosen != shown
    qtbot.mouseRelease(ribbon, Qt.MouseButton.LeftButton, pos=target)
    assert bridge.request is not None
    assert bridge.request.cuts == ribbon.cuts
    ready._choices.stack.undo()
    assert bridge.request == request
    assert ribbon.cuts == before
    ready._choices.stack.redo()
    assert ribbon.cuts != before


def test_steps_by_key_are_one_step_of_undo(qtbot: QtBot, ready: PartitionPage) -> None:
    before = ready._ribbon.cuts
    count = ready._choices.stack.count()
    ready._ribbon.setFocus()
    ready._ribbon._active = 0
    for _ in range(2):
        qtbot.keyClick(ready._ribbon, Qt.Key.Key_Left)
    assert ready._ribbon.cuts[0] == max(1, before[0] - 2)
    assert ready._choices.stack.count() == count + 1
    ready._choices.stack.undo()
    assert ready._ribbon.cuts == before


def test_balance_puts_cuts_back(qtbot: QtBot, ready: PartitionPage) -> None:
    balanced = ready._ribbon.cuts
    ready._ribbon.cutsChanged.emit(balanced, (1, balanced[1]))
    assert ready._ribbon.cuts == (1, balanced[1])
    ready._balance.click()
    assert ready._ribbon.cuts == balanced


def test_a_node_taken_out_leaves_two_stages(qtbot: QtBot, ready: PartitionPage, bridge: Bridge, wait_for: Wait) -> None:
    fast = node_of("fast-one").id
    ready._budget.cells(fast).use.click()
    assert bridge.request is not None
    assert fast not in bridge.request.nodes
    wait_for(lambda: len(ready._ribbon.cuts) == 1)
    assert not ready._budget.cells(fast).use.isChecked()
    ready._choices.stack.undo()
    wait_for(lambda: len(ready._ribbon.cuts) == 2)


def test_the_order_of_nodes_is_changed_by_buttons(ready: PartitionPage, bridge: Bridge) -> None:
    fast, workshop = node_of("fast-one").id, node_of("workshop").id
    ready._budget.cells(fast).up.click()
    assert bridge.request is not None
    assert bridge.request.nodes[:2] == (fast, workshop)
    assert ready._ribbon.segments()[0].node == fast


def test_a_node_dropped_on_the_ribbon_takes_the_stage(ready: PartitionPage, bridge: Bridge) -> None:
    small, workshop = node_of("small-board").id, node_of("workshop").id
    data = QMimeData()
    data.setData(NODE_MIME, small.encode())
    drop = QDropEvent(
        QPointF(ready._ribbon.point_at(0)),
        Qt.DropAction.MoveAction,
        data,
        Qt.MouseButton.LeftButton,
        Qt.KeyboardModifier.NoModifier,
    )
    ready._ribbon.dropEvent(drop)
    assert bridge.request is not None
    assert bridge.request.nodes[0] == small
    assert bridge.request.nodes[2] == workshop


def test_one_node_is_chosen_by_its_box(ready: PartitionPage, bridge: Bridge) -> None:
    ready._cards[SINGLE].click()
    assert bridge.request is not None
    assert bridge.request.nodes == (node_of("fast-one").id,)
    small = node_of("small-board").id
    ready._budget.cells(small).use.click()
    assert bridge.request.nodes == (small,)
    ready._budget.cells(small).use.click()
    assert ready._budget.cells(small).use.isChecked()


def test_replicas_are_lanes(ready: PartitionPage) -> None:
    ready._cards[REPLICATE].click()
    assert [segment.row for segment in ready._ribbon.segments()] == [0, 1, 2]
    assert ready._balance.isHidden()


def test_a_lost_node_leaves_the_plan(ready: PartitionPage, bridge: Bridge, wait_for: Wait) -> None:
    lost = node_of("small-board", state=NodeState.LOST)
    bridge._on_event(NodeChanged(lost))
    wait_for(lambda: bridge.request is not None and lost.id not in bridge.request.nodes)
    assert not ready._budget.cells(lost.id).use.isEnabled()


def test_the_bottleneck_is_marked(ready: PartitionPage, bridge: Bridge) -> None:
    predicted = bridge.prediction
    assert predicted is not None
    marked = [n.node for n in predicted.nodes if ready._budget.cells(n.node).badge.text() == "bottleneck"]
    assert marked == [predicted.bottleneck]


def test_another_micro_batch_is_timed_again(ready: PartitionPage, bridge: Bridge, wait_for: Wait) -> None:
    ready._items.setValue(2)
    assert "multiply-adds" in ready._layers.hint.text()
    wait_for(lambda: bridge.profile is not None and bridge.profile.batch == 2, 60)
    wait_for(lambda: "measured" in ready._layers.hint.text())
    assert bridge.request is not None
    assert bridge.request.micro_batch == 2


def test_an_earlier_run_is_taken_over(ready: PartitionPage, bridge: Bridge) -> None:
    ids = [node_of(name).id for name in ("small-board", "workshop")]
    report = RunReport(
        model="digits-cnn",
        strategy=PIPELINE,
        items=1,
        seconds=1.0,
        throughput=1.0,
        latency_ms=Latency(1, 1, 1),
        nodes=(),
        request=PlanRequest(PIPELINE, tuple(ids), 8, (5,)),
    )
    bridge.rerunRequested.emit(report)
    assert bridge.request == report.request


def test_a_layer_fills_the_inspector(qtbot: QtBot, ready: PartitionPage) -> None:
    with qtbot.waitSignal(ready.inspected) as shown:
        ready._ribbon.layerPicked.emit(3)
    names = [name for name, _ in shown.args[0].rows]
    assert {"Operator", "Time", "Would cross"} <= set(names)
