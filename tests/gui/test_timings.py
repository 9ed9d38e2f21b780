"""Shards of plans timed in the background: real models, real shards; and who gives way to whom."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from pytestqt.qtbot import QtBot

from core.cost.types import Prediction
from core.plan.form import NodeId, PlanRequest
from gui import right_of_way
from gui.bridge import Bridge, Phase
from gui.pages.partition import PartitionPage
from gui.partition_state import PIPELINE, REPLICATE, STRATEGIES, TENSOR
from gui.right_of_way import REST_SECONDS, Cancel, RightOfWay
from tests.gui.pages import report_nodes

Wait = Callable[..., None]
NAMES = ("workshop", "fast-one", "small-board")


@pytest.fixture
def opened(qtbot: QtBot, bridge: Bridge, wait_for: Wait) -> Bridge:
    """Three nodes and a timed model, without a page."""
    report_nodes(bridge, *NAMES)
    bridge.openModel("digits-cnn")
    wait_for(lambda: bridge.profile is not None, 60)
    return bridge


def pipeline(bridge: Bridge, cut: int, batch: int = 0) -> PlanRequest:
    nodes = tuple(node.id for node in bridge.nodes[:2])
    return PlanRequest(PIPELINE, nodes, batch or bridge.micro_batch() or 1, (cut,))


def test_a_plan_is_timed_and_then_foretold_by_what_its_shards_take(opened: Bridge, wait_for: Wait) -> None:
    bridge, request = opened, pipeline(opened, 4)
    estimated = bridge.predict(request)
    assert estimated is not None
    assert not estimated.timed
    told: list[Prediction | None] = []
    bridge.predictionChanged.connect(told.append)
    bridge.have_timed("chosen", request, urgent=True)
    assert bridge.timings.busy
    wait_for(lambda: not bridge.timings.busy)
    timed = bridge.predict(request)
    assert timed is not None
    assert timed.timed
    assert told, "predictions follow"
    assert bridge.predict(request, timed=False) == estimated, "sums over layers still follow the mouse"
    assert bridge.predict(pipeline(bridge, 5), timed=True) is None, "of no other plan"
    bridge._quick[request.nodes[0]] *= 0.5
    bridge._work_out_speeds()
    assert bridge.predict(request, timed=True) is None, "what was found for other speeds counts no more"
    bridge.have_timed("chosen", request, urgent=True)
    wait_for(lambda: not bridge.timings.busy)
    slower = bridge.predict(request, timed=True)
    assert slower is not None
    assert slower.nodes[0].compute_s > 1.9 * timed.nodes[0].compute_s


def test_plans_that_follow_one_another_fast_are_one_and_what_nobody_wants_is_ended(
    opened: Bridge, wait_for: Wait
) -> None:
    bridge, timings = opened, opened.timings
    for cut in (2, 3, 4):
        bridge.have_timed("chosen", pipeline(bridge, cut), urgent=True)
        assert not timings.running, "it waits until the plan stays as it is"
    timings._start()
    assert timings._running is not None
    question, cancel = timings._running
    assert question.request == pipeline(bridge, 4)
    bridge.have_timed("chosen", pipeline(bridge, 5), urgent=True)
    assert cancel.is_set()
    assert not timings.running
    wait_for(lambda: not timings.busy)
    assert bridge.predict(pipeline(bridge, 4), timed=True) is None
    assert bridge.predict(pipeline(bridge, 5), timed=True) is not None


def test_nothing_is_timed_while_a_job_runs_but_what_is_kept_is_found(opened: Bridge, wait_for: Wait) -> None:
    bridge, timings = opened, opened.timings
    bridge._set_phase(Phase.RUNNING)
    bridge.have_timed("chosen", pipeline(bridge, 4), urgent=True)
    timings._start()
    wait_for(lambda: timings._looked_up)
    assert timings.busy, "nothing was kept, and nothing is timed"
    bridge._set_phase(Phase.DEPLOYED)
    wait_for(lambda: not timings.busy)
    known = bridge.predict(pipeline(bridge, 4), timed=True)
    bridge._set_phase(Phase.RUNNING)
    timings._known.clear()
    bridge.have_timed("chosen", None)
    bridge.have_timed("chosen", pipeline(bridge, 4), urgent=True)
    wait_for(lambda: not timings.busy)
    assert bridge.predict(pipeline(bridge, 4), timed=True) == known, "told anew from the shards that were kept"
    bridge._set_phase(Phase.IDLE)


def test_a_job_that_begins_ends_what_is_being_timed(opened: Bridge) -> None:
    bridge, timings = opened, opened.timings
    bridge.have_timed("chosen", pipeline(bridge, 4), urgent=True)
    timings._start()
    assert timings._running is not None
    cancel = timings._running[1]
    bridge._set_phase(Phase.DEPLOYING)
    assert cancel.is_set()
    assert not timings.running
    bridge._set_phase(Phase.IDLE)


def test_cards_say_whether_their_figures_were_timed(qtbot: QtBot, bridge: Bridge, wait_for: Wait) -> None:
    page = PartitionPage(bridge)
    qtbot.addWidget(page)
    page.resize(1080, 1300)
    page.show()
    report_nodes(bridge, *NAMES)
    bridge.openModel("digits-cnn")
    wait_for(lambda: bridge.profile is not None and page._plans.profile() is not None, 60)
    plans, cards = page._plans, page._chooser.cards

    def timed(name: str) -> bool:
        told = plans.predictions[name]
        return told is not None and told.timed

    wait_for(lambda: timed(REPLICATE), 60)
    assert page._choices.state.strategy == REPLICATE
    assert "Timed" in cards[REPLICATE].toolTip()
    wait_for(lambda: all(timed(name) or plans.predictions[name] is None for name in STRATEGIES), 60)
    assert timed(TENSOR)
    assert plans.predictions[TENSOR] == bridge.predict(plans.asked[TENSOR])  # type: ignore[arg-type]
    cards[PIPELINE].click()
    asked = plans.asked[PIPELINE]
    assert asked is not None
    assert asked.cuts is not None
    page._ribbon.cutsMoved.emit((asked.cuts[0] - 1, asked.cuts[1]))
    assert "Estimated" in cards[PIPELINE].toolTip(), "what follows the mouse is an estimate"


# ---------------------------------------------------------------- who gives way


def test_background_work_waits_while_something_has_the_right_of_way() -> None:
    way = RightOfWay()
    cancel = Cancel(way)
    assert not cancel.is_set()
    way.take("job")
    looked = threading.Event()
    answers: list[bool] = []

    def look() -> None:
        answers.append(cancel.is_set())
        looked.set()

    thread = threading.Thread(target=look)
    thread.start()
    assert not looked.wait(0.3)
    way.give("job")
    assert looked.wait(60)
    thread.join()
    assert answers == [False]


def test_cancelled_or_ended_nobody_waits() -> None:
    way = RightOfWay()
    way.take("job")
    cancel = Cancel(way)
    cancel.set()
    assert cancel.is_set()
    way.end()
    assert not Cancel(way).is_set()


def test_the_hand_has_the_right_of_way_until_it_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    way, now = RightOfWay(), [100.0]
    with monkeypatch.context() as patch:
        patch.setattr(right_of_way, "time", SimpleNamespace(monotonic=lambda: now[0]))
        way.hand_moves()
        assert way.free_in == pytest.approx(REST_SECONDS)
        now[0] += REST_SECONDS
        assert way.free_in <= 0
    way.hand_moves()
    assert not Cancel(way).is_set(), "it returned when the hand had rested"
    assert way.free_in <= 0


def test_a_search_waits_while_a_job_runs(qtbot: QtBot, bridge: Bridge, wait_for: Wait) -> None:
    page = PartitionPage(bridge)
    qtbot.addWidget(page)
    page.show()
    report_nodes(bridge, *NAMES)
    bridge.openModel("digits-cnn")
    wait_for(lambda: bridge.profile is not None and page._plans.profile() is not None, 60)
    search = page._chooser.candidates
    wait_for(lambda: search.answer is not None, 60)
    bridge.way.take("test")
    page._chooser.aim_bar.set_aim(page._chooser.aim_bar.aim.__class__("latency"))
    page._refresh()
    search._start()
    assert search.searching
    shares: list[float] = []
    search.progressed.connect(shares.append)
    qtbot.wait(200)
    assert search.searching
    assert not shares
    bridge.way.give("test")
    wait_for(lambda: search.answer is not None, 60)


def test_no_plan_is_proposed_for_a_node_that_a_person_took_out(qtbot: QtBot, bridge: Bridge, wait_for: Wait) -> None:
    page = PartitionPage(bridge)
    qtbot.addWidget(page)
    page.show()
    ids = report_nodes(bridge, *NAMES)
    bridge.openModel("digits-cnn")
    wait_for(lambda: bridge.profile is not None and page._plans.profile() is not None, 60)
    search = page._chooser.candidates
    page._fields.toggle(ids[1])
    wait_for(lambda: search.answer is not None, 60)
    assert search.answer is not None
    assert search.answer.choice is not None
    assert all(ids[1] not in one.request.nodes for one in search.answer.choice.candidates)
    page._chooser.automatic()
    assert page._bridge.request is not None
    assert ids[1] not in page._bridge.request.nodes
    page._fields.toggle(ids[1])
    wait_for(lambda: search.answer is not None, 60)
    assert any(ids[1] in one.request.nodes for one in search.answer.choice.candidates)
    page.choose(PlanRequest(REPLICATE, (NodeId(ids[0]),), bridge.micro_batch() or 1))
    assert search._wanted is not None
    assert set(search._wanted.nodes) == set(ids), "what a plan leaves out may come in again"
