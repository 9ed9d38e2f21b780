"""The room of the Partition page: what matters is seen at once, nothing moves when another card is chosen, keys."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtWidgets import QApplication, QScrollArea, QWidget
from pytestqt.qtbot import QtBot

from gui.bridge import Bridge
from gui.pages.partition import PartitionPage
from gui.partition_state import PIPELINE, STRATEGIES, TENSOR
from gui.widgets.clamped_label import ClampedLabel
from tests.gui.pages import report_nodes

Wait = Callable[..., None]
NARROW = (840, 766)
"""Of the page in a window of 1280 x 800 with the inspector open."""


@pytest.fixture
def ready(qtbot: QtBot, bridge: Bridge, wait_for: Wait) -> PartitionPage:
    page = PartitionPage(bridge)
    qtbot.addWidget(page)
    page.resize(*NARROW)
    page.show()
    report_nodes(bridge, "workshop", "fast-one", "small-board")
    bridge.openModel("digits-cnn")
    wait_for(lambda: bridge.profile is not None and page._plans.profile() is not None, 60)
    wait_for(lambda: not bridge.outlines.busy and not page._plans.working)
    return page


def top(page: PartitionPage, part: QWidget) -> int:
    return part.mapTo(page, QPoint(0, 0)).y()


def lay_out(page: PartitionPage) -> None:
    """A page that scrolls takes a few rounds until every part has its place."""
    page.grab()
    for _ in range(5):
        QApplication.sendPostedEvents()
        QApplication.processEvents()


def test_nothing_moves_when_another_card_is_chosen_and_ribbon_and_nodes_are_seen(
    ready: PartitionPage, wait_for: Wait
) -> None:
    area = ready.findChild(QScrollArea)
    assert area is not None
    for height in (NARROW[1], 1100):
        ready.resize(NARROW[0], height)
        places = {}
        for strategy in STRATEGIES[:-1]:
            ready._cards[strategy].click()
            wait_for(lambda: not ready._plans.working)
            lay_out(ready)
            ribbon = ready._ribbon if ready._ribbon.isVisible() else ready._division.ribbon
            rows = [ready._budget.cells(node).use for node in ready._budget._cells]
            places[strategy] = [top(ready, part) for part in (ready._chooser.grid, ribbon, ready._budget, *rows)]
            places[strategy].append(ribbon.height())
            assert area.horizontalScrollBar().maximum() == 0
            seen = area.mapTo(ready, QPoint(0, area.viewport().height())).y()
            cycles = [ready._budget.cells(node).cycle for node in ready._budget._cells]
            assert all(top(ready, cycle) + cycle.height() <= seen for cycle in cycles if cycle.isVisible()), strategy
        assert len({tuple(one) for one in places.values()}) == 1, places


def test_the_tab_key_follows_the_eye_to_everything(
    qtbot: QtBot, ready: PartitionPage, application: QApplication
) -> None:
    ready.activateWindow()
    ready._cards[PIPELINE].click()
    ready.grab()
    ready._chooser.aim_bar.kind.setFocus()
    pipeline = ready._cards[PIPELINE]
    met: list[QWidget] = []
    for _ in range(60):
        focused = application.focusWidget()
        if focused is None or focused in met[:1]:
            break
        if not met or focused is not met[-1]:
            met.append(focused)
        qtbot.keyClick(focused, Qt.Key.Key_Tab)
    for part in (
        pipeline,
        ready._chooser.aim_bar.automatic,
        ready._items,
        ready._balance,
        ready._ribbon,
        ready._chooser.plot,
    ):
        assert part in met or part.focusProxy() in met, part.accessibleName()
    content = ready._content.parentWidget()
    tops = [part.mapTo(content, QPoint(0, 0)).y() for part in met if content.isAncestorOf(part)]
    assert len(tops) > 15
    assert all(below >= above - 40 for above, below in pairwise(tops)), tops
    nameless = [part for part in met if not (part.accessibleName() or getattr(part, "text", str)())]
    assert nameless == []
    pipeline.setFocus()
    qtbot.keyClick(pipeline, Qt.Key.Key_Left)
    assert not pipeline.isChecked(), "the arrow keys choose another card"
    assert ready._choices.stack.undoText() == "choose a strategy"


def test_words_without_room_end_in_dots_and_are_told_by_the_tool_tip(qtbot: QtBot) -> None:
    label = ClampedLabel("small", 2)
    qtbot.addWidget(label)
    label.setText("one two three four five six seven eight nine ten")
    label.resize(400, label.sizeHint().height())
    assert label.shown() == [label.text()]
    label.resize(90, label.height())
    assert len(label.shown()) == 2
    assert label.shown()[1].endswith("…")
    assert label.shown()[0] in label.text()
    label.setText("")
    assert label.shown() == []


def test_a_refusal_takes_the_place_of_what_the_plan_comes_to(ready: PartitionPage) -> None:
    card = ready._layers
    for strategy, usual in ((PIPELINE, card.words), (TENSOR, card.division.totals)):
        ready._cards[strategy].click()
        assert card._said.currentWidget() is usual
        ready._layers.refuse("No further.")
        assert card._said.currentWidget() is card.refusal
        ready._choices.edit(ready._choices.state.with_micro_batch(ready._choices.state.micro_batch + 1), "more items")
        assert card._said.currentWidget() is usual
