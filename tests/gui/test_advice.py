"""The bottleneck in words with its best change, bars of time, and what is said of an interrupted profile."""

from __future__ import annotations

import os
from collections.abc import Callable

import msgspec
import pytest
from PySide6.QtGui import QColor
from pytestqt.qtbot import QtBot

from core.cluster.events import NodeChanged
from core.cost.profile_marks import interrupted, marked
from core.errors import Cancelled
from core.plan.form import PlanRequest
from gui.bridge import Bridge
from gui.improvements import Improvements, about
from gui.pages.partition import PartitionPage
from gui.widgets.cycle_bar import PARTS, Cycle, CycleBar, MeasuredCycle, cycle_words
from gui.widgets.profile_banner import ProfileBanner
from tests.gui.pages import node_of, report_nodes

Wait = Callable[..., None]


@pytest.fixture
def page(qtbot: QtBot, bridge: Bridge) -> PartitionPage:
    made = PartitionPage(bridge)
    qtbot.addWidget(made)
    made.resize(1000, 900)
    made.show()
    return made


def test_the_best_change_is_a_button_that_can_be_undone(page: PartitionPage, bridge: Bridge, wait_for: Wait) -> None:
    nodes = tuple(report_nodes(bridge, "workshop", "fast-one"))
    bridge.openModel("digits-cnn")
    wait_for(lambda: bridge.profile is not None and page._plans.layers)
    last = len(page._plans.layers) - 1
    lopsided = PlanRequest("pipeline", nodes, 8, (last,))
    page.choose(lopsided)
    advice = page._advice
    assert advice.isVisibleTo(page)
    assert "workshop" in advice.words.text(), "it runs all but one layer"
    wait_for(lambda: not advice.buttons[0].isHidden())
    best = advice.buttons[0]
    assert "%" in best.text() or "times" in best.text()
    slow = bridge.prediction
    best.click()
    assert bridge.request != lopsided
    assert bridge.prediction is not None
    assert slow is not None
    assert bridge.prediction.throughput > slow.throughput
    page._choices.stack.undo()
    assert bridge.request is not None
    assert bridge.request.cuts == (last,)


def test_what_does_not_fit_is_deployed_only_by_who_insists(page: PartitionPage, bridge: Bridge, wait_for: Wait) -> None:
    small, roomy = node_of("small-board", memory=30 << 20), node_of("workshop")
    for node in (small, roomy):
        bridge._on_event(NodeChanged(node))
    bridge.openModel("digits-cnn")
    wait_for(lambda: bridge.profile is not None and page._plans.layers)
    page.choose(PlanRequest("replicate", (small.id, roomy.id), 8))
    wait_for(lambda: page._improvements.found)
    refused: list[str] = []
    bridge.errorRaised.connect(lambda title, _words, _hint: refused.append(title))
    page._deploying.button.click()
    banner = page._deploying.misses
    assert not banner.isHidden()
    assert banner.says("small-board would need ")
    assert refused == [], "nothing was tried"
    assert banner.says(" Nearest to it: ")
    assert banner.says("fits, with ")
    assert not banner.instead.isHidden()
    banner.anyway.click()
    assert banner.isHidden()
    assert refused == ["Nothing to deploy"], "there is no cluster here, which is told only now"
    page._deploying.button.click()
    banner.instead.click()
    assert banner.isHidden()
    assert bridge.request is not None
    assert bridge.request.nodes == (roomy.id,)


def test_what_is_asked_anew_cancels_and_drops_what_was_asked_before(
    page: PartitionPage, bridge: Bridge, wait_for: Wait
) -> None:
    nodes = tuple(report_nodes(bridge, "workshop", "fast-one"))
    bridge.openModel("digits-cnn")
    wait_for(lambda: bridge.profile is not None and page._plans.layers)
    page.choose(PlanRequest("pipeline", nodes, 8, (1,)))
    assert bridge.request is not None
    assert bridge.prediction is not None
    asked = about(bridge, page._plans, page._choices.state, page._chooser.aim_bar.aim, None)
    assert asked is not None
    improvements = Improvements(bridge.tasks, lambda: False, page)
    told: list[object] = []
    improvements.changed.connect(lambda: told.append(improvements.found))
    improvements.ask(asked)
    wait_for(lambda: improvements._cancel is not None)
    first = improvements._cancel
    assert first is not None
    other = PlanRequest("pipeline", nodes, 8, (2,))
    prediction = bridge.predict(other)
    assert prediction is not None
    improvements.ask(msgspec.structs.replace(asked, request=other, prediction=prediction))
    assert first.is_set(), "the first is told to give up"
    wait_for(lambda: improvements.found is not None)
    assert len(told) == 1, "what the first found is dropped"
    improvements.ask(None)
    assert improvements.found is None


def test_a_bar_says_all_its_figures_and_its_parts_differ_without_colour(qtbot: QtBot) -> None:
    cycle = Cycle(0.012, 0.002, 0.001, 0.005)
    words = cycle_words(cycle, MeasuredCycle(0.015, 0.004))
    assert "compute: 12.0 ms (60 %)" in words
    assert "wait: 5.00 ms (25 %)" in words
    assert "Measured: computes 15.0 ms (+25 %)" in words
    bar = CycleBar("Time of workshop")
    qtbot.addWidget(bar)
    bar.resize(400, bar.height())
    bar.show_cycle(cycle, QColor("#808080"), cycle.total, None)
    assert "receive" in bar.accessibleDescription()
    picture = bar.grab().toImage()
    ratio = picture.width() / bar.width()
    inks = []
    at = 0.0
    for part in PARTS:
        width = cycle.of(part) / cycle.total * bar.width()
        area = [
            picture.pixel(int(x * ratio), int(y * ratio))
            for x in range(int(at) + 3, int(at + width) - 2)
            for y in range(3, 10)
        ]
        inks.append(tuple(sorted(set(area))))
        at += width
    assert len(set(inks)) == len(PARTS) or inks[1] != inks[0] != inks[3], "solid, hatched, hatched, hollow"
    assert len(inks[0]) < len(inks[1]), "computing is plain, receiving is hatched"


# ---------------------------------------------------------------- interrupted profiles


def test_a_profile_broken_off_by_closing_the_panel_is_offered_again(
    qtbot: QtBot, page: PartitionPage, bridge: Bridge, wait_for: Wait
) -> None:
    report_nodes(bridge, "workshop")
    bridge.openModel("digits-mlp")
    wait_for(lambda: bridge.profile is not None)
    model = bridge.model
    assert model is not None
    with pytest.raises(Cancelled), marked(model, 8) as marker:
        raise Cancelled("")
    mark = msgspec.json.decode(marker._path.read_bytes())
    marker._path.write_bytes(msgspec.json.encode({**mark, "process": 2**22 - 3, "share": 0.4}))

    with qtbot.waitSignal(bridge.modelOpened, timeout=60_000):
        bridge.openModel("digits-mlp")
    bridge._profile_if_unknown()  # as half a second after the plan was chosen, on a busy machine
    assert not bridge.profiling, "it is not known yet that it was interrupted"
    wait_for(lambda: bridge.profile_mark is not None)
    banner = page.findChild(ProfileBanner)
    assert banner is not None
    assert banner.isVisibleTo(page)
    assert "interrupted" in banner.accessibleName()
    assert "40 %" in banner.accessibleName()
    assert bridge.profile is None, "a person decides"
    banner.again.click()
    wait_for(lambda: bridge.profile is not None)
    assert banner.isHidden()
    assert interrupted(model, 8) is None


def test_timing_can_be_cancelled_and_measured_again(page: PartitionPage, bridge: Bridge, wait_for: Wait) -> None:
    report_nodes(bridge, "workshop")
    bridge.openModel("digits-cnn")
    wait_for(lambda: bridge.profiling)
    bridge.cancelProfile()
    banner = page.findChild(ProfileBanner)
    assert banner is not None
    assert not banner.again.isHidden()
    assert "It was stopped" in banner.accessibleName()
    assert bridge.profile_mark is not None
    assert bridge.profile_mark.process == os.getpid()
    banner.again.click()
    wait_for(lambda: bridge.profile is not None)
    assert banner.isHidden()
