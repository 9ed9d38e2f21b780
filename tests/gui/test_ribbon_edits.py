"""Everything that is done on the ribbons with the mouse and the keys, on the real page with real models and plans."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from PySide6.QtCore import QMimeData, QPoint, QPointF, Qt
from PySide6.QtGui import QContextMenuEvent, QDropEvent
from PySide6.QtWidgets import QApplication, QMenu, QToolTip, QWidget
from pytestqt.qtbot import QtBot

from core.plan.form import NodeId
from gui.bridge import Bridge
from gui.pages.partition import PartitionPage
from gui.partition_state import HYBRID, PIPELINE, REPLICATE, SINGLE, TENSOR
from gui.widgets.node_ribbon import NODE_MIME, Spot
from tests.gui.pages import node_of, report_nodes

Wait = Callable[..., None]
LEFT = Qt.MouseButton.LeftButton
SWAP = Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier
WORKSHOP, FAST, SMALL, SPARE = (NodeId(node_of(name).id) for name in ("workshop", "fast-one", "small-board", "spare"))


@pytest.fixture
def opened(qtbot: QtBot, bridge: Bridge, wait_for: Wait) -> Callable[..., PartitionPage]:
    """The page with digits-cnn, timed, on one of the strategies, everything settled."""

    def open_page(strategy: str, *names: str) -> PartitionPage:
        page = PartitionPage(bridge)
        qtbot.addWidget(page)
        page.resize(1100, 1400)
        page.show()
        report_nodes(bridge, *(names or ("workshop", "fast-one", "small-board")))
        bridge.openModel("digits-cnn")
        wait_for(lambda: bridge.profile is not None and page._plans.profile() is not None, 60)
        page._choices.edit(page._choices.state.with_strategy(strategy), "")
        settle(page, wait_for)
        if strategy == PIPELINE:
            wait_for(lambda: page._plans._balanced)
        page.grab()
        return page

    return open_page


def settle(page: PartitionPage, wait_for: Wait) -> None:
    wait_for(lambda: not page._bridge.outlines.busy and not page._plans.working)


def pull(qtbot: QtBot, widget: QWidget, start: QPoint, *places: QPoint) -> Callable[[QPoint], None]:
    """Press, and move there by way of ``places``; the button stays down. What is returned moves on.

    As a hand does: by the screen, whatever grows or shrinks above the widget meanwhile.
    """
    begun = widget.mapToGlobal(start)

    def move(place: QPoint) -> None:
        qtbot.mouseMove(widget, widget.mapFromGlobal(begun + place - start))

    qtbot.mousePress(widget, LEFT, pos=start)
    for place in (start + (places[0] - start) / 2, *places):
        move(place)
    return move


def nodes_of(bridge: Bridge) -> tuple[NodeId, ...]:
    assert bridge.request is not None
    return bridge.request.nodes


def texts(menu: QMenu) -> dict[str, bool]:
    """What a menu offers, and whether it can be chosen."""
    return {action.text(): action.isEnabled() for action in menu.actions() if action.text()}


def choose(menu: QMenu, text: str) -> None:
    next(action for action in menu.actions() if action.text() == text).trigger()


# ---------------------------------------------------------------- pipeline


def test_a_stage_is_dragged_onto_another(qtbot: QtBot, opened: Callable[..., PartitionPage], bridge: Bridge) -> None:
    page = opened(PIPELINE)
    ribbon, before = page._ribbon, bridge.request
    page._choices.edit(page._choices.state.with_cuts((5, 9)), "")
    asked, shown = bridge.request, page._cards[PIPELINE]._throughput.text()
    start, target = ribbon.point_at(1), ribbon.point_at(len(page._plans.layers) - 2)
    given_way: list[bool] = []
    ribbon.touched.connect(lambda: given_way.append(bridge.way.free_in > 0))
    pull(qtbot, ribbon, start, target)
    assert given_way == [True], "what goes on in the background waits from the press on"
    assert ribbon.carried == WORKSHOP
    assert ribbon.target == SMALL
    assert "items/s" in ribbon.figure
    assert page._cards[PIPELINE]._throughput.text() != shown, "the prediction is of the order as it would be"
    assert bridge.request == asked
    qtbot.mouseMove(ribbon, target + QPoint(2, 0))
    assert ribbon.target == SMALL, "stages stay under the mouse until it lets go"
    qtbot.mouseRelease(ribbon, LEFT, pos=target)
    assert nodes_of(bridge) == (SMALL, FAST, WORKSHOP)
    assert bridge.request is not None
    assert bridge.request.cuts == (5, 9)
    page._choices.stack.undo()
    assert bridge.request == asked
    page._choices.stack.redo()
    assert nodes_of(bridge) == (SMALL, FAST, WORKSHOP)
    pull(qtbot, ribbon, start, target)
    qtbot.keyClick(ribbon, Qt.Key.Key_Escape)
    qtbot.mouseRelease(ribbon, LEFT, pos=target)
    assert nodes_of(bridge) == (SMALL, FAST, WORKSHOP), "Escape gives the drag up"
    page._choices.stack.undo()
    page._choices.stack.undo()
    assert bridge.request == before


def test_a_layer_is_kept_on_its_node(
    qtbot: QtBot, opened: Callable[..., PartitionPage], bridge: Bridge, wait_for: Wait
) -> None:
    page = opened(PIPELINE)
    ribbon = page._ribbon
    page._choices.edit(page._choices.state.with_cuts((5, 9)), "")
    spot = Spot(layer=6, node=FAST)
    menu = page._edits.menu(spot)
    assert texts(menu)["Keep on fast-one"]
    choose(menu, "Keep on fast-one")
    assert bridge.request is not None
    assert bridge.request.pins == ((6, FAST),)
    assert bridge.request.cuts == (5, 9)
    assert ribbon._pins == ((6, 1),)
    pull(qtbot, ribbon, ribbon.handle_position(0), ribbon.point_at(8) + QPoint(0, 20))
    said = QToolTip.text()
    assert ribbon.cuts == (6, 9), "no further than the layer that is kept"
    assert f"{page._plans.layers[6].name} is kept on fast-one" in page._layers.refusal.text()
    assert "is kept on fast-one" in said
    assert ribbon.cursor().shape() == Qt.CursorShape.ForbiddenCursor
    qtbot.mouseRelease(ribbon, LEFT, pos=ribbon.point_at(8))
    page._edits.pin(2, SMALL)
    assert "which then comes first" in page._layers.refusal.text()
    assert bridge.request.pins == ((6, FAST),)
    page._edits.pin(8, SMALL)
    assert bridge.request.cuts == (6, 8), "a cut set by hand moves as little as a pin asks for"
    pull(qtbot, ribbon, ribbon.point_at(7), ribbon.point_at(len(page._plans.layers) - 2))
    assert "which then comes first" in ribbon.figure
    assert ribbon.cursor().shape() == Qt.CursorShape.ForbiddenCursor
    qtbot.mouseRelease(ribbon, LEFT, pos=ribbon.point_at(len(page._plans.layers) - 2))
    assert nodes_of(bridge) == (WORKSHOP, FAST, SMALL), "an order that the pins forbid is refused"
    page._fields.balance()
    settle(page, wait_for)
    first, second = ribbon.cuts
    assert first <= 6 < second <= 8, "balanced cuts keep the pins too"
    choose(page._edits.menu(spot), "Unpin from fast-one")
    assert bridge.request.pins == ((8, SMALL),)
    page._choices.stack.undo()
    assert bridge.request.pins == ((6, FAST), (8, SMALL))


def test_a_double_click_has_only_that_cut_placed(
    qtbot: QtBot, opened: Callable[..., PartitionPage], bridge: Bridge, wait_for: Wait
) -> None:
    page = opened(PIPELINE)
    ribbon, layers = page._ribbon, len(page._plans.layers)
    page._choices.edit(page._choices.state.with_cuts((layers - 4, layers - 3)), "")
    before = bridge.prediction
    place = ribbon.handle_position(0)
    qtbot.mouseClick(ribbon, LEFT, pos=place)
    qtbot.mouseDClick(ribbon, LEFT, pos=place)
    wait_for(lambda: ribbon.cuts[0] != layers - 4)
    assert ribbon.cuts[1] == layers - 3
    assert before is not None
    assert bridge.prediction is not None
    assert bridge.prediction.throughput >= before.throughput
    placed = ribbon.cuts
    ribbon.setFocus()
    ribbon._on_layers = False
    qtbot.keyClick(ribbon, Qt.Key.Key_Return)
    wait_for(lambda: "where the planner would put it" in page._layers.refusal.text())
    assert ribbon.cuts == placed
    page._choices.stack.undo()
    assert ribbon.cuts == (layers - 4, layers - 3)


def test_everything_by_keyboard(qtbot: QtBot, opened: Callable[..., PartitionPage], bridge: Bridge) -> None:
    page = opened(PIPELINE)
    ribbon = page._ribbon
    page._choices.edit(page._choices.state.with_cuts((5, 9)), "")
    ribbon.setFocus(Qt.FocusReason.TabFocusReason)
    qtbot.keyClick(ribbon, Qt.Key.Key_Down)
    assert ribbon.selected == 5
    assert "on fast-one. Delete leaves fast-one out" in ribbon.accessibleDescription()
    qtbot.keyClick(ribbon, Qt.Key.Key_Right)
    assert ribbon.selected == 6
    qtbot.keyClick(ribbon, Qt.Key.Key_Left, SWAP)
    assert nodes_of(bridge) == (FAST, WORKSHOP, SMALL)
    assert ribbon.node_of(ribbon.selected) == FAST, "the keys stay with the node that was moved"
    asked: list[tuple[Spot, QPoint]] = []
    ribbon.menuRequested.disconnect()
    ribbon.menuRequested.connect(lambda spot, place: asked.append((spot, place)))
    QApplication.sendEvent(ribbon, QContextMenuEvent(QContextMenuEvent.Reason.Keyboard, QPoint(), QPoint()))
    assert asked[0][0] == Spot(layer=ribbon.selected, node=FAST)
    qtbot.keyClick(ribbon, Qt.Key.Key_Delete)
    assert nodes_of(bridge) == (WORKSHOP, SMALL)
    assert not page._budget.cells(FAST).use.isChecked()
    qtbot.keyClick(ribbon, Qt.Key.Key_Delete)
    qtbot.keyClick(ribbon, Qt.Key.Key_Delete)
    assert len(nodes_of(bridge)) == 1
    assert "a plan needs one" in page._layers.refusal.text()
    page._budget.cells(FAST).use.click()
    assert FAST in nodes_of(bridge), "its row brings a node back"
    for _ in range(3):
        page._choices.stack.undo()
    assert nodes_of(bridge) == (FAST, WORKSHOP, SMALL)
    qtbot.keyClick(ribbon, Qt.Key.Key_Up)
    assert "Cut" in ribbon.accessibleDescription()


def test_other_strategies_say_why_a_layer_cannot_be_kept(opened: Callable[..., PartitionPage]) -> None:
    page = opened(REPLICATE)
    menu = page._edits.menu(Spot(layer=2, node=FAST))
    assert not texts(menu)["Keep this layer on a node"]
    why = next(action.toolTip() for action in menu.actions() if action.text() == "Keep this layer on a node")
    assert why.startswith("Only a pipeline keeps a layer on one node")
    page._choices.edit(page._choices.state.with_strategy(SINGLE), "")
    menu = page._edits.menu(Spot(layer=2, node=FAST))
    assert not texts(menu)["Leave fast-one out\tDel"]
    page._edits.leave_out(FAST)
    assert "choose another in its row" in page._layers.refusal.text()


# ---------------------------------------------------------------- shares


def test_the_edge_between_two_nodes_is_dragged(
    qtbot: QtBot, opened: Callable[..., PartitionPage], bridge: Bridge, wait_for: Wait
) -> None:
    page = opened(TENSOR)
    ribbon, asked = page._division.ribbon, bridge.request
    shares = ribbon.percents
    height = ribbon._scene.geometry.lane_height if ribbon._scene is not None else 0.0
    start = ribbon.edge_position(0)
    down = QPoint(0, round(height * 0.1))
    given_way: list[bool] = []
    ribbon.touched.connect(lambda: given_way.append(bridge.way.free_in > 0))
    move = pull(qtbot, ribbon, start, start + down)
    assert given_way == [True], "what goes on in the background waits from the press on"
    assert ribbon.cursor().shape() == Qt.CursorShape.SplitVCursor
    assert ribbon.percents[WORKSHOP] == pytest.approx(shares[WORKSHOP] + 10, abs=1)
    assert ribbon.percents[SMALL] == shares[SMALL]
    assert sum(ribbon.percents.values()) == 100
    assert bridge.request == asked
    begun = bridge.outlines._running | set(bridge.outlines._found)
    assert all(one.request.shares is None for one in begun), "an estimate follows the mouse: no worker is asked"
    assert "≈" in ribbon.figure
    told = QToolTip.text()
    assert f"workshop {ribbon.percents[WORKSHOP]} % · fast-one {ribbon.percents[FAST]} %" in told
    assert page._budget.cells(WORKSHOP).share.value() == ribbon.percents[WORKSHOP]
    wait_for(lambda: "≈" not in ribbon.figure and "items/s" in ribbon.figure)
    assert ribbon.gesturing, "where the mouse rests the exact figure comes, with the button still down"
    move(start + QPoint(0, 3 * round(height)))
    assert "would have less than 1 % of the work" in page._layers.refusal.text()
    assert "would have less than 1 % of the work" in QToolTip.text()
    assert ribbon.cursor().shape() == Qt.CursorShape.ForbiddenCursor
    assert ribbon.percents[FAST] == 1
    move(start + down)
    qtbot.mouseRelease(ribbon, LEFT, pos=start + down)
    assert bridge.request is not None
    assert bridge.request.shares is not None
    assert bridge.request.shares[2] == shares[SMALL] / 100
    settle(page, wait_for)
    page._choices.stack.undo()
    assert bridge.request == asked
    page._choices.stack.redo()
    settle(page, wait_for)
    qtbot.mouseDClick(ribbon, LEFT, pos=ribbon.edge_position(0))
    assert bridge.request.shares is None, "a double click shares by speed again"
    page._choices.stack.undo()
    assert bridge.request.shares is not None


def test_shares_and_bands_by_keyboard(
    qtbot: QtBot, opened: Callable[..., PartitionPage], bridge: Bridge, wait_for: Wait
) -> None:
    page = opened(TENSOR)
    ribbon, shares, count = page._division.ribbon, page._division.ribbon.percents, page._choices.stack.count()
    ribbon.setFocus(Qt.FocusReason.TabFocusReason)
    qtbot.keyClick(ribbon, Qt.Key.Key_Tab)
    assert "Edge 1 of 2: workshop" in ribbon.accessibleDescription()
    qtbot.keyClick(ribbon, Qt.Key.Key_Down)
    qtbot.keyClick(ribbon, Qt.Key.Key_PageDown)
    assert bridge.request is not None
    assert bridge.request.shares is not None
    assert bridge.request.shares[0] == pytest.approx((shares[WORKSHOP] + 6) / 100)
    assert page._choices.stack.count() == count + 1, "steps that follow fast are one step of undo"
    settle(page, wait_for)
    qtbot.keyClick(ribbon, Qt.Key.Key_Return)
    assert bridge.request.shares is None
    settle(page, wait_for)
    qtbot.keyClick(ribbon, Qt.Key.Key_Escape)
    qtbot.keyClick(ribbon, Qt.Key.Key_Home)
    qtbot.keyClick(ribbon, Qt.Key.Key_Down)
    assert "At fast-one: Delete leaves it out" in ribbon.accessibleDescription()
    qtbot.keyClick(ribbon, Qt.Key.Key_Up, SWAP)
    assert nodes_of(bridge) == (FAST, WORKSHOP, SMALL)
    settle(page, wait_for)
    qtbot.keyClick(ribbon, Qt.Key.Key_Delete)
    assert nodes_of(bridge) == (WORKSHOP, SMALL)
    settle(page, wait_for)
    pull(qtbot, ribbon, ribbon.node_position(SMALL), ribbon.node_position(WORKSHOP))
    assert ribbon.carried == SMALL
    qtbot.mouseRelease(ribbon, LEFT, pos=ribbon.node_position(WORKSHOP))
    assert nodes_of(bridge) == (SMALL, WORKSHOP)
    settle(page, wait_for)
    data = QMimeData()
    data.setData(NODE_MIME, FAST.encode())
    place, none = QPointF(ribbon.node_position(SMALL)), Qt.KeyboardModifier.NoModifier
    ribbon.dropEvent(QDropEvent(place, Qt.DropAction.MoveAction, data, LEFT, none))
    assert nodes_of(bridge) == (FAST, WORKSHOP), "a node dropped from its row comes in for the one there"


def test_groups_of_a_nesting_share_each_on_its_own(
    qtbot: QtBot, opened: Callable[..., PartitionPage], bridge: Bridge, wait_for: Wait
) -> None:
    page = opened(HYBRID, "workshop", "fast-one", "small-board", "spare")
    page._choices.edit(page._choices.state.with_nesting("replicate(2) > tensor(2)"), "")
    settle(page, wait_for)
    ribbon = page._division.ribbon
    assert [edge.nodes for edge in ribbon.edges()] == [(WORKSHOP, FAST), (SMALL, SPARE)]
    before = ribbon.percents
    for number in (0, 1):
        start = ribbon.edge_position(number)
        pull(qtbot, ribbon, start, start + QPoint(0, 20))
        qtbot.mouseRelease(ribbon, LEFT, pos=start + QPoint(0, 20))
        settle(page, wait_for)
    assert bridge.request is not None
    assert bridge.request.shares is not None
    assert ribbon.percents[WORKSHOP] > before[WORKSHOP]
    assert ribbon.percents[SMALL] > before[SMALL]
    qtbot.mouseDClick(ribbon, LEFT, pos=ribbon.edge_position(0))
    assert ribbon.percents[WORKSHOP] == before[WORKSHOP]
    assert ribbon.percents[SMALL] > before[SMALL], "the other group keeps what was set by hand"
    settle(page, wait_for)
    choose(page._edits.menu(Spot(edge=(SMALL, SPARE))), "Share by speed")
    assert bridge.request.shares is None
    settle(page, wait_for)
    named = "replicate(2) > tensor(2) @ workshop, fast-one, small-board, spare"
    page._choices.edit(page._choices.state.with_nesting(named), "")
    settle(page, wait_for)
    page._edits.put(WORKSHOP, FAST)
    assert "names its nodes" in page._layers.refusal.text()
