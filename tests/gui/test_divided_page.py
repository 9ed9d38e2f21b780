"""The Partition page with strategies that divide layers: real models, really planned."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace

import msgspec
import pytest
from PySide6.QtCore import Qt
from pytestqt.qtbot import QtBot

from core.plan.form import NodeId, PlanRequest
from core.run.report import Latency, RunReport
from gui import right_of_way
from gui.bridge import Bridge
from gui.outlines import KEPT
from gui.pages.partition import PartitionPage
from gui.partition_state import HYBRID, PIPELINE, REPLICATE, SINGLE, SPATIAL, STRATEGIES, TENSOR
from gui.widgets.division_model import Form
from tests.gui.pages import node_of, report_nodes

Wait = Callable[..., None]


@pytest.fixture
def page(qtbot: QtBot, bridge: Bridge) -> PartitionPage:
    made = PartitionPage(bridge)
    qtbot.addWidget(made)
    made.resize(1100, 900)
    made.show()
    return made


@pytest.fixture
def opened(page: PartitionPage, bridge: Bridge, wait_for: Wait) -> Callable[..., PartitionPage]:
    """Opens a model on so many nodes and waits until everything is predicted."""

    def open_model(key: str, nodes: int, *, alike: bool = False) -> PartitionPage:
        unlike = ("workshop", "fast-one", "small-board", "spare")
        report_nodes(bridge, *(("lab-1", "lab-2", "lab-3", "lab-4") if alike else unlike)[:nodes])
        bridge.openModel(key)
        wait_for(lambda: bridge.profile is not None and page._plans.profile() is not None, 60)
        settle(page, wait_for)
        return page

    return open_model


def settle(page: PartitionPage, wait_for: Wait) -> None:
    wait_for(lambda: not page._bridge.outlines.busy and not page._plans.working)


def names(page: PartitionPage, strategy: str) -> list[str]:
    request = page._plans.asked[strategy]
    assert request is not None
    return [page._bridge.name_of(node) for node in request.nodes]


def test_every_card_predicts_and_shows_how_it_cuts_the_model(opened: Callable[..., PartitionPage]) -> None:
    page = opened("digits-cnn", 4)
    for strategy in STRATEGIES:
        card = page._cards[strategy]
        assert any(c.isdigit() for c in card._throughput.text()), (strategy, card._verdict.text())
        assert card.isEnabled()
        assert card.picture.boxes(), strategy
    forms = {s: {box.form for box in page._cards[s].picture.boxes()} for s in STRATEGIES}
    assert forms[SINGLE] == forms[REPLICATE] == forms[PIPELINE] == {Form.WHOLE}
    assert {Form.BANDS, Form.COPIES} <= forms[TENSOR]
    assert Form.STRIPS in forms[SPATIAL]
    lanes = {s: len(page._cards[s].picture._boxes) for s in STRATEGIES}
    assert lanes == {SINGLE: 1, REPLICATE: 4, PIPELINE: 1, TENSOR: 1, SPATIAL: 1, HYBRID: 2}
    assert [bool(card.best) for card in page._cards.values()].count(True) == 1
    assert page._cards[HYBRID]._text.text() == "replicate(2) > tensor(2)"


def test_a_strategy_that_the_model_cannot_take_says_why_and_is_disabled(opened: Callable[..., PartitionPage]) -> None:
    page = opened("linear-regression", 2)
    card, reason = page._cards[SPATIAL], page._plans.problems[SPATIAL]
    assert "rows of an image or positions of a sequence" in reason
    assert not card.isEnabled()
    assert card._verdict.text() == reason
    assert reason in card.toolTip()
    assert not card.picture.boxes()
    card.click()
    assert page._choices.state.strategy != SPATIAL
    assert page._cards[TENSOR].isEnabled()
    assert page._cards[TENSOR].picture.boxes()


def test_too_many_nodes_for_what_is_forced_can_be_taken_back(
    opened: Callable[..., PartitionPage], bridge: Bridge, wait_for: Wait
) -> None:
    """A problem with the chosen strategy bars the way to deploy it, not the way out of it."""
    page = opened("rnn", 2)
    page._cards[TENSOR].click()
    settle(page, wait_for)
    assert page._deploying.button.isEnabled()
    page._options.tensorAxisChosen.emit("rows")
    settle(page, wait_for)
    forced = page._plans.problems[TENSOR]
    assert page._deploying.button.isEnabled() == (not forced)
    assert page._cards[TENSOR].isEnabled()
    page._cards[SINGLE].click()
    assert page._cards[TENSOR].isEnabled(), "the axis can still be changed"
    page._cards[TENSOR].click()
    page._options.tensorAxisChosen.emit("")
    settle(page, wait_for)
    assert page._deploying.button.isEnabled()


def test_too_few_nodes_are_said_on_the_card(opened: Callable[..., PartitionPage], bridge: Bridge) -> None:
    page = opened("digits-cnn", 1)
    assert page._cards[TENSOR]._verdict.text() == "Needs two nodes that are ready."
    assert not page._cards[TENSOR].isEnabled()
    report_nodes(bridge, "fast-one", "small-board")
    assert page._cards[TENSOR].isEnabled()
    assert page._cards[HYBRID]._verdict.text() == "Needs four nodes that are ready."
    assert not page._cards[HYBRID].isEnabled()


def test_the_ribbon_tells_what_runs_where_and_what_travels(
    qtbot: QtBot, opened: Callable[..., PartitionPage], bridge: Bridge, wait_for: Wait
) -> None:
    page = opened("digits-cnn", 2)
    page._cards[TENSOR].click()
    settle(page, wait_for)
    ribbon = page._division.ribbon
    assert ribbon.isVisible()
    assert not page._ribbon.isVisible()
    assert bridge.request is not None
    assert bridge.request.strategy == TENSOR
    division = page._plans.divisions[TENSOR]
    assert division is not None
    conv = next(d for d in division.layers if d.kind == "columns" and page._plans.layers[d.layer].op == "Conv")
    tip = page._division.ribbon._layer_tip(conv.layer)
    total = max(stop for part in conv.parts for _, stop in part.ranges or ())
    assert "channels 0–" in tip
    assert f"–{total - 1} on " in tip
    assert "on workshop" in tip
    kinds = {mark.kind for mark in page._division.ribbon.marks()}
    assert kinds & {"all-reduce", "reduce-scatter", "all-gather"}
    assert {entry.kind for entry in page._division.legend.entries if entry.kind} == kinds
    assert "of the multiply-adds are split" in page._division.totals.text()
    with qtbot.waitSignal(page.inspected) as shown:
        qtbot.mouseClick(
            page._division.ribbon, Qt.MouseButton.LeftButton, pos=page._division.ribbon.point_at(conv.layer)
        )
    rows = dict(shown.args[0].rows)
    assert rows["Divided by"] == "output channels"
    assert rows["workshop"].startswith("channels 0–")
    with qtbot.waitSignal(page.inspected) as shown:
        qtbot.mouseClick(ribbon, Qt.MouseButton.LeftButton, pos=ribbon.mark_point(0))
    rows = dict(shown.args[0].rows)
    assert "workshop → fast-one" in rows["Links"] or "fast-one → workshop" in rows["Links"]
    assert rows["Bytes"].endswith("B")


def test_image_rows_and_halos(opened: Callable[..., PartitionPage], wait_for: Wait) -> None:
    page = opened("digits-cnn", 2)
    page._cards[SPATIAL].click()
    settle(page, wait_for)
    assert "halo" in page._division.ribbon.kinds
    division = page._plans.divisions[SPATIAL]
    assert division is not None
    first = next(d for d in division.layers if d.kind == "image rows")
    assert "image rows 0–" in page._division.ribbon._layer_tip(first.layer)
    assert page._options.spatial_axis.isVisible()
    assert not page._options.tensor_axis.isVisible()


def test_a_recurrent_model_is_divided_too(opened: Callable[..., PartitionPage]) -> None:
    page = opened("lstm", 2)
    assert page._plans.predictions[TENSOR] is not None, page._plans.problems[TENSOR]
    assert page._cards[TENSOR].picture.boxes()
    page._cards[TENSOR].click()
    division = page._plans.divisions[TENSOR]
    assert division is not None
    whole = next(d for d in division.layers if d.kind == "replicated" and page._plans.layers[d.layer].op == "LSTM")
    assert "not split: workshop, fast-one each run all of it" in page._division.ribbon._layer_tip(whole.layer)
    assert "it has nothing that so many nodes can share" in page._division.ribbon._layer_tip(whole.layer)


def test_the_axis_can_be_forced_and_undone(
    opened: Callable[..., PartitionPage], bridge: Bridge, wait_for: Wait
) -> None:
    page = opened("digits-mlp", 2)
    page._cards[TENSOR].click()
    box = page._options.tensor_axis
    box.setCurrentIndex(box.findData("rows"))
    box.activated.emit(box.currentIndex())
    settle(page, wait_for)
    assert bridge.request is not None
    assert bridge.request.tensor_axis == "rows"
    division = page._plans.divisions[TENSOR]
    assert division is not None, page._plans.problems[TENSOR]
    kinds = {layer.kind for layer in division.layers}
    assert "rows" in kinds
    assert "columns" not in kinds
    assert Form.TERMS in page._division.ribbon.forms
    page._choices.stack.undo()
    assert bridge.request.tensor_axis is None
    assert box.currentData() == ""


def test_shares_add_up_and_are_planned(opened: Callable[..., PartitionPage], bridge: Bridge, wait_for: Wait) -> None:
    page = opened("digits-cnn", 3)
    page._cards[TENSOR].click()
    settle(page, wait_for)
    ids = [node_of(name).id for name in names(page, TENSOR)]
    before = [page._budget.cells(node).share.value() for node in ids]
    assert sum(before) == 100
    assert before == [36, 50, 14], "by speed: 1.0, 1.4 and 0.4"
    assert page._nodes.by_speed.isHidden()
    page._budget.cells(ids[2]).share.setValue(50)
    after = [page._budget.cells(node).share.value() for node in ids]
    assert after[2] == 50
    assert sum(after) == 100
    assert bridge.request is not None
    assert bridge.request.shares == tuple(value / 100 for value in after)
    settle(page, wait_for)
    division = page._plans.divisions[TENSOR]
    assert division is not None, page._plans.problems[TENSOR]
    widest = max((d for d in division.layers if d.kind == "columns"), key=lambda d: max(p.share for p in d.parts))
    assert max(widest.parts, key=lambda part: part.share).node == ids[2]
    page._choices.stack.undo()
    assert bridge.request.shares is None
    page._choices.stack.redo()
    assert not page._nodes.by_speed.isHidden()
    page._nodes.by_speed.click()
    assert [page._budget.cells(node).share.value() for node in ids] == before


def test_a_nesting_is_chosen_or_written(
    qtbot: QtBot, opened: Callable[..., PartitionPage], bridge: Bridge, wait_for: Wait
) -> None:
    page = opened("digits-cnn", 4, alike=True)
    page._cards[HYBRID].click()
    nesting = page._options.nesting
    offered = [nesting.itemText(i) for i in range(nesting.count())]
    assert "pipeline(2) > tensor(2)" in offered
    nesting.setCurrentIndex(offered.index("pipeline(2) > tensor(2)"))
    nesting.activated.emit(nesting.currentIndex())
    assert bridge.request is not None
    assert bridge.request.strategy == "pipeline(2) > tensor(2)"
    settle(page, wait_for)
    assert "hand-over" in page._division.ribbon.kinds
    runs = [page._budget.cells(node).runs.text() for node in bridge.request.nodes]
    assert runs == ["Stage 1, part 1", "Stage 1, part 2", "Stage 2, part 1", "Stage 2, part 2"]
    text = page._options._text
    text.setFocus()
    text.selectAll()
    qtbot.keyClicks(text, "replicate(2) > tensr(2)")
    qtbot.keyClick(text, Qt.Key.Key_Return)
    words = page._options.problem.text().splitlines()
    assert "There is no strategy 'tensr'" in words[0]
    assert words[2].index("^") == words[1].index("tensr")
    assert "Did you mean tensor?" in words[-1]
    assert not page._deploying.button.isEnabled()
    assert page._cards[HYBRID].isEnabled()
    page._choices.stack.undo()
    assert page._options.problem.isHidden()
    assert bridge.request.strategy == "pipeline(2) > tensor(2)"
    assert text.text() == "pipeline(2) > tensor(2)"


def test_the_newest_question_wins(opened: Callable[..., PartitionPage], bridge: Bridge, wait_for: Wait) -> None:
    """Questions that were overtaken are not worked out one after another."""
    page = opened("digits-cnn", 2)
    page._cards[TENSOR].click()
    settle(page, wait_for)
    request = page._plans.asked[TENSOR]
    assert request is not None
    before = len(bridge.outlines._found)
    asked = [msgspec.structs.replace(request, shares=(share / 100, 1 - share / 100)) for share in range(20, 60)]
    for one in asked:
        assert bridge.work_out("test", one) is None
    wait_for(lambda: not bridge.outlines.busy)
    assert bridge.work_out("test", asked[-1]) is not None
    assert len(bridge.outlines._found) - before < len(asked) / 4  # the cards of the page may ask too
    assert len(bridge.outlines._found) <= KEPT
    bridge.work_out("test", None)


def test_what_nobody_looks_at_is_worked_out_when_the_hand_rests(
    opened: Callable[..., PartitionPage], bridge: Bridge, wait_for: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = opened("digits-cnn", 2)
    page._cards[TENSOR].click()
    settle(page, wait_for)
    request = page._plans.asked[TENSOR]
    assert request is not None
    aside, dragged = (msgspec.structs.replace(request, shares=shares) for shares in ((0.3, 0.7), (0.6, 0.4)))
    now = [time.monotonic()]
    with monkeypatch.context() as patch:
        patch.setattr(right_of_way, "time", SimpleNamespace(monotonic=lambda: now[0]))
        bridge.way.hand_moves()
        now[0] += right_of_way.REST_SECONDS - 0.05
        bridge.work_out("aside", aside, urgent=False)
        bridge.work_out("dragged", dragged)
        wait_for(lambda: bridge.work_out("dragged", dragged) is not None)
        begun = bridge.outlines._running | set(bridge.outlines._found)
        assert all(one.request != aside for one in begun), "what the hand drags goes first"
        now[0] += 0.05
        wait_for(lambda: bridge.outlines.known(aside, bridge.speeds_of(aside)) is not None)


def test_another_model_forgets_what_was_worked_out(
    opened: Callable[..., PartitionPage], bridge: Bridge, wait_for: Wait
) -> None:
    page = opened("digits-cnn", 2)
    page._cards[TENSOR].click()
    settle(page, wait_for)
    assert page._division.ribbon.marks()
    bridge.openModel("digits-mlp")
    wait_for(
        lambda: (
            bridge.model is not None and bridge.model.name != page._plans.ribbon and not page._division.ribbon.marks()
        )
    )
    wait_for(lambda: page._plans.profile() is not None, 60)
    settle(page, wait_for)
    division = page._plans.divisions[TENSOR]
    assert division is not None
    assert len(division.layers) == len(page._plans.layers)


def test_an_earlier_run_is_taken_over_with_its_nesting(opened: Callable[..., PartitionPage], bridge: Bridge) -> None:
    page = opened("digits-cnn", 4)
    ids = tuple(NodeId(node_of(name).id) for name in ("spare", "small-board", "workshop", "fast-one"))
    request = PlanRequest("replicate(2) > spatial(2)", ids, 8, spatial_axis="columns", shares=(0.5, 0.5, 0.25, 0.75))
    bridge.rerunRequested.emit(
        RunReport(
            model="digits-cnn",
            strategy=request.strategy,
            items=1,
            seconds=1.0,
            throughput=1.0,
            latency_ms=Latency(1, 1, 1),
            nodes=(),
            request=request,
        )
    )
    assert bridge.request == request
    assert page._options.nesting.currentText() == "replicate(2) > spatial(2)"
    assert page._options.spatial_axis.currentData() == "columns"
    assert page._budget.cells(ids[2]).share.value() == 25
