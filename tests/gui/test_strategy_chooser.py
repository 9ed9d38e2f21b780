"""Aim, cards in its order, the scatter and the automatic plan: a real model, really searched."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from msgspec.structs import replace
from PySide6.QtCore import QPoint, QRect, Qt
from PySide6.QtWidgets import QWidget
from pytestqt.qtbot import QtBot

from core.cluster.events import NodeChanged
from core.cluster.measured import MeasuredLink, Measurements
from core.cluster.node import NodeState
from core.cost.links import WORKSTATION
from core.cost.mix import mix_of
from core.cost.types import NodePrediction, Prediction
from core.plan.form import NodeId, PlanRequest
from gui.aims import BOUNDED, KINDS, LATENCY, MEMORY, THROUGHPUT, Aim, ranked
from gui.bridge import Bridge, Phase
from gui.candidates import Candidates, Ground, Question
from gui.pages.partition import PartitionPage
from gui.partition_state import PIPELINE, REPLICATE, SINGLE, STRATEGIES, PartitionState
from gui.strategy_chooser import StrategyChooser
from tests.gui.pages import GIB, node_of, report_nodes

Wait = Callable[..., None]
ENDS = (("", 0), ("192.0.2.1", 0))
"""Of a link from this workstation to one of the nodes."""
NAMES = ("workshop", "fast-one", "small-board")


def told(throughput: float, latency_s: float = 0.1, memory: int = GIB) -> Prediction:
    node = NodePrediction(NodeId("a"), 0.01, 1, 1, memory, 100, 1.0)
    return Prediction(throughput, latency_s, (node,), node.node, 0.5, 50.0, node.node)


# ---------------------------------------------------------------- order, without Qt


def test_the_simpler_strategy_wins_among_equals() -> None:
    near = {SINGLE: told(100), REPLICATE: told(101), PIPELINE: told(102)}
    assert ranked(STRATEGIES, near, (), Aim()).best == SINGLE
    assert ranked(STRATEGIES, near | {REPLICATE: told(190)}, (), Aim()).order[:3] == (REPLICATE, SINGLE, PIPELINE)
    assert ranked(STRATEGIES, {SINGLE: None}, (), Aim()).best == ""


def test_each_aim_has_its_order_and_what_fails_it_comes_last() -> None:
    known = {SINGLE: told(10, 0.3, 900), REPLICATE: told(30, 0.9, 900), PIPELINE: told(20, 0.5, 300)}
    orders = {kind: ranked(STRATEGIES, known, (), Aim(kind, bound_ms=600)).order[:3] for kind in KINDS}
    assert orders == {
        "throughput": (REPLICATE, PIPELINE, SINGLE),
        "latency": (SINGLE, PIPELINE, REPLICATE),
        "memory": (PIPELINE, SINGLE, REPLICATE),
        "bounded": (PIPELINE, SINGLE, REPLICATE),
    }
    full = ranked(STRATEGIES, known, {REPLICATE}, Aim())
    assert full.order[:3] == (PIPELINE, SINGLE, REPLICATE)
    none = ranked(STRATEGIES, known, (), Aim(BOUNDED, bound_ms=100))
    assert (none.best, none.order[:3]) == ("", (SINGLE, PIPELINE, REPLICATE))
    assert set(none.order) == set(STRATEGIES)


# ---------------------------------------------------------------- the page


@pytest.fixture
def page(qtbot: QtBot, bridge: Bridge) -> PartitionPage:
    made = PartitionPage(bridge)
    qtbot.addWidget(made)
    made.resize(1080, 900)
    made.show()
    return made


@pytest.fixture
def ready(page: PartitionPage, bridge: Bridge, wait_for: Wait) -> PartitionPage:
    """Three nodes, a timed model, all plans weighed."""
    report_nodes(bridge, *NAMES)
    bridge.openModel("digits-cnn")
    wait_for(lambda: bridge.profile is not None and page._plans.profile() is not None, 60)
    settle(page, wait_for)
    return page


def settle(page: PartitionPage, wait_for: Wait) -> None:
    search = page._chooser.candidates
    wait_for(lambda: not page._bridge.outlines.busy and not search.busy and search.answer is not None, 60)


def aim_for(page: PartitionPage, kind: str, bound_ms: int = 500) -> None:
    bar = page._chooser.aim_bar
    bar.set_aim(Aim(kind, bound_ms))
    bar.kind.activated.emit(bar.kind.currentIndex())


def rect_of(page: PartitionPage, part: QWidget) -> QRect:
    return QRect(part.mapTo(page, QPoint(0, 0)), part.size())


def is_placed(page: PartitionPage, *, beside: bool) -> bool:
    """Whether all plans are shown right of the cards, or else below the nodes."""
    parts = (page._chooser.grid, page._chooser._frame, page._budget)
    cards, plans, nodes = (rect_of(page, part) for part in parts)
    return plans.left() > cards.right() if beside else plans.top() > nodes.bottom()


def choice(chooser: StrategyChooser):  # type: ignore[no-untyped-def] # core.plan.auto is slow to import
    assert chooser.candidates.answer is not None
    assert chooser.candidates.answer.choice is not None
    return chooser.candidates.answer.choice


def test_cards_lie_in_the_order_of_the_aim_with_the_scatter_beside_or_below(
    qtbot: QtBot, ready: PartitionPage, bridge: Bridge, wait_for: Wait
) -> None:
    chooser = ready._chooser
    first = chooser.candidates.answer
    for kind in KINDS:
        aim_for(ready, kind)
        settle(ready, wait_for)
        aim, predictions = chooser.aim_bar.aim, ready._plans.predictions
        order = [card.strategy for card in chooser.grid.cards]  # type: ignore[attr-defined]
        assert SINGLE in order
        assert sorted(order) == sorted(STRATEGIES)
        assert order == list(ranked(STRATEGIES, predictions, (), aim).order)
        marked = [name for name, card in chooser.cards.items() if card.best]
        assert marked == order[:1]
        ready.grab()
        places = [(card.y(), card.x()) for card in chooser.grid.cards]
        assert places == sorted(places)
    assert chooser.cards[PIPELINE]._values["throughput"].property("role") == "stressed"
    aim_for(ready, MEMORY)
    assert chooser.cards[PIPELINE]._values["memory"].property("role") == "stressed"
    aim_for(ready, THROUGHPUT)
    assert chooser.candidates.answer is first, "going back costs nothing"
    assert not chooser.candidates.busy
    aim_for(ready, BOUNDED, 1234)
    other = PartitionPage(bridge)
    qtbot.addWidget(other)
    assert other._chooser.aim_bar.aim == Aim(BOUNDED, 1234), "it is remembered"

    frame, grid = chooser._frame, chooser.grid
    for width, height, beside in ((1080, 1100, True), (1500, 1100, True), (760, 1100, False), (1500, 860, False)):
        ready.resize(width, height)
        wait_for(lambda beside=beside: chooser.is_beside == beside and is_placed(ready, beside=beside))
        assert not rect_of(ready, frame).intersects(rect_of(ready, grid))


def test_any_plan_of_the_scatter_can_be_taken_and_undone(qtbot: QtBot, ready: PartitionPage, bridge: Bridge) -> None:
    chooser, plot, before = ready._chooser, ready._chooser.plot, bridge.request
    found = choice(chooser)
    requests = [spot.request for spot in plot.spots]
    assert {one.request for one in found.candidates} <= set(requests)
    assert requests[plot._best] == found.request
    assert {request for request in ready._plans.asked.values() if request is not None} <= set(requests)
    chosen = ready._plans.predictions[ready._choices.state.strategy]
    assert chosen is not None
    assert plot.chosen == (chosen.latency_s, chosen.throughput)
    index = next(i for i, s in enumerate(plot.spots) if s.request.strategy == PIPELINE and len(s.request.nodes) == 2)
    spot = plot.spots[index]
    plot.picked.emit(spot.request)
    assert bridge.request == spot.request
    assert ready._cards[PIPELINE].isChecked()
    assert plot.chosen == (spot.latency_s, spot.throughput)
    assert ready._choices.stack.undoText() == "choose a plan"
    ready._choices.stack.undo()
    assert bridge.request == before
    ready.grab()
    plot.setFocus()
    qtbot.keyClick(plot, Qt.Key.Key_Home)
    quickest = plot.spots[plot.front[0]]
    qtbot.keyClick(plot, Qt.Key.Key_Return)
    assert bridge.request is not None
    assert (bridge.request.strategy, bridge.request.nodes) == (quickest.request.strategy, quickest.request.nodes)

    plot.picked.emit(spot.request)
    order, at = chooser.grid.cards, plot.chosen
    assert spot.request.cuts is not None
    ready._ribbon.cutsMoved.emit((1,) if spot.request.cuts != (1,) else (2,))
    assert plot.chosen != at, "a dragged cut moves the chosen plan"
    assert chooser.grid.cards == order, "and no card"


def test_automatic_takes_the_best_plan_and_says_why_unless_somebody_goes_on_by_hand(
    ready: PartitionPage, bridge: Bridge, wait_for: Wait
) -> None:
    chooser, bar, before = ready._chooser, ready._chooser.aim_bar, bridge.request
    aim_for(ready, LATENCY)
    bar.automatic.click()
    assert not bar.cancel.isHidden(), "the search is on its way and can be cancelled"
    settle(ready, wait_for)
    best = choice(chooser)
    assert bridge.request is not None
    assert (bridge.request.strategy, bridge.request.nodes) == (best.request.strategy, best.request.nodes)
    assert bar.words.text() == best.words
    assert bar.cancel.isHidden()
    while ready._choices.stack.canUndo():
        ready._choices.stack.undo()
    assert bridge.request == before

    aim_for(ready, MEMORY)
    bar.automatic.click()
    bar.cancel.click()
    assert not chooser.candidates.busy
    assert chooser.candidates.answer is None
    assert "Automatic begins again" in bar.words.text()
    ready._refresh()
    assert not chooser.candidates.busy
    assert bridge.request == before

    bar.automatic.click()
    ready._cards[PIPELINE].click()
    settle(ready, wait_for)
    assert bridge.request.strategy == PIPELINE

    bridge._set_phase(Phase.RUNNING)
    aim_for(ready, BOUNDED)
    chooser.candidates._start()
    assert not chooser.candidates.searching, "no search takes from a run"
    assert "when the run has ended" in bar.words.text()
    bridge._set_phase(Phase.IDLE)
    settle(ready, wait_for)


def test_plans_are_weighed_anew_when_what_they_rest_on_changes_until_nothing_fits(
    ready: PartitionPage, bridge: Bridge, wait_for: Wait
) -> None:
    chooser, search = ready._chooser, ready._chooser.candidates
    first = search.answer
    assert bridge.mix == mix_of(bridge.model, bridge.profile)  # type: ignore[arg-type]
    before = dict(ready._plans.predictions)
    slow = MeasuredLink(when=0, round_trip_s=0.01, way_s=0.01, samples=(), bytes_per_s=1e6, bound="line", ends=ENDS)
    bridge._take_measurements(Measurements(links={(WORKSTATION, node_of("fast-one").id): slow}))
    assert search.answer is None, "what was found for other links is not shown any more"
    settle(ready, wait_for)
    for name, one in ready._plans.predictions.items():
        was = before[name]
        assert (one is None) == (was is None)
        assert one is None or was is None or one.throughput < was.throughput, name
    alone = ready._plans.asked[SINGLE]
    assert alone is not None
    assert alone.nodes == (node_of("workshop").id,), "the fast node is behind the slow link"
    assert choice(chooser).prediction.throughput < first.choice.prediction.throughput  # type: ignore[union-attr]
    slower = node_of("fast-one")
    assert slower.info is not None
    bridge._on_event(NodeChanged(replace(slower, info=replace(slower.info, cpu_limit=0.5))))
    assert search.answer is None, "what was found for other speeds is not shown any more"
    settle(ready, wait_for)
    assert search.answer is not first
    bridge._on_event(NodeChanged(node_of("small-board", state=NodeState.LOST)))
    assert search.answer is None
    settle(ready, wait_for)
    assert all(node_of("small-board").id not in one.request.nodes for one in choice(chooser).candidates)
    ready._items.setValue(2)
    settle(ready, wait_for)
    assert {one.request.micro_batch for one in choice(chooser).candidates} == {2}

    for name in NAMES:
        bridge._on_event(NodeChanged(node_of(name, memory=20 << 20)))
    settle(ready, wait_for)
    answer = search.answer
    assert answer is not None
    assert answer.full
    assert chooser.aim_bar.words.text() == f"{answer.problem} {answer.hint}"
    assert "more than its limit of 20" in answer.problem
    assert chooser.aim_bar.words.property("role") == "bad"
    assert not chooser.aim_bar.automatic.isEnabled()
    assert chooser.plot.spots, "the cards' own plans stay, marked as too large"
    assert not any(spot.fits for spot in chooser.plot.spots)
    assert chooser.plot.front == ()
    assert [card for card in chooser.cards.values() if card.best] == []


def test_a_bound_that_nothing_keeps_is_said_in_words(ready: PartitionPage, wait_for: Wait) -> None:
    ready._items.setValue(128)
    aim_for(ready, BOUNDED, 1)
    wait_for(lambda: ready._plans.profile() is not None, 60)
    settle(ready, wait_for)
    bar = ready._chooser.aim_bar
    assert not bar.bound.isHidden()
    assert "No plan answers within 1 ms" in bar.words.text()
    assert bar.words.property("role") == "warn"
    bar.bound.setValue(60_000)
    settle(ready, wait_for)
    assert bar.words.text() == choice(ready._chooser).words
    assert ready._chooser.plot._bound_s == 60


# ---------------------------------------------------------------- the search by itself


def question_of(page: PartitionPage, aim: Aim) -> tuple[Question, Ground]:
    search = page._chooser.candidates
    assert search._wanted is not None
    assert search._ground is not None
    return replace(search._wanted, aim=aim), search._ground


def test_a_stale_search_is_cancelled_and_what_it_finds_is_dropped(
    qtbot: QtBot, ready: PartitionPage, bridge: Bridge, wait_for: Wait
) -> None:
    search = Candidates(bridge.tasks, lambda: False, ready)
    first, ground = question_of(ready, Aim())
    second, _ = question_of(ready, Aim(LATENCY))
    search.want(first, ground, bridge.nodes)
    search._start()
    cancel: threading.Event | None = search._cancel
    assert cancel is not None
    search.want(second, ground, bridge.nodes)
    assert cancel.is_set()
    search._found(cancel, first, choice(ready._chooser))
    assert search.answer is None, "it came too late"
    wait_for(lambda: search.answer is not None)
    assert search._known.keys() == {second}
    search.want(first, replace_links(ground), bridge.nodes)
    assert search.answer is None
    assert search._known == {}, "what was found for another network counts no more"
    search.want(None, None, ())
    assert not search.busy


def replace_links(ground: Ground) -> Ground:
    from core.cost.links import Link, Links

    return replace(ground, links=Links(default=Link(0.01, 1e6)))


def test_a_nesting_keeps_the_cuts_it_was_weighed_with() -> None:
    nodes = tuple(NodeId(name) for name in "abcd")
    wanted = PlanRequest("replicate(2) > pipeline(2)", nodes, 4, (3,))
    state = PartitionState().adopted(wanted)
    assert state.request(nodes, nodes[0]) == wanted
    assert state.request(nodes, nodes[0], PIPELINE) == PlanRequest(PIPELINE, nodes, 4)
    other = state.with_nesting("pipeline(2) > tensor(2)").request(nodes, nodes[0])
    assert other is not None
    assert other.cuts is None
