"""The ribbon: the rules of cutting without Qt, then the widget with mouse and keys."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QColor, QImage
from PySide6.QtWidgets import QLineEdit, QVBoxLayout, QWidget
from pytestqt.qtbot import QtBot

from core.model.types import Cut, Layer
from gui.theme import Theme
from gui.widgets.ribbon import Ribbon
from gui.widgets.ribbon_geometry import nice_step, spread
from gui.widgets.ribbon_model import Refusal, RibbonModel, split_group
from gui.widgets.ribbon_view import RibbonNode
from tests.counting import calls_of


def layer(index: int, name: str = "", group: str = "") -> Layer:
    return Layer(
        index=index,
        name=name or f"layer {index}",
        op="Conv",
        group=group,
        parameters=0,
        parameter_bytes=0,
        macs=0,
        outputs=(f"v{index}",),
        output_shape=None,
        output_bytes=0,
    )


def model_of(costs: list[float], groups: list[str] | None = None) -> RibbonModel:
    layers = [layer(i, group=groups[i] if groups else "") for i in range(len(costs))]
    cuts = [Cut(p, (f"v{p - 1}",), 1000 * p, ()) for p in range(1, len(costs))]
    return RibbonModel(layers, costs, cuts)


# ---------------------------------------------------------------- without Qt


def test_widths_follow_the_costs() -> None:
    model = model_of([1.0, 3.0, 4.0])
    assert np.allclose(model.edges, [0, 0.125, 0.5, 1.0])
    assert [model.layer_at(u) for u in (0.0, 0.12, 0.13, 0.49, 0.51, 1.0)] == [0, 0, 1, 1, 2, 2]


def test_layers_without_cost_keep_a_sliver() -> None:
    model = model_of([0.0] * 50 + [1.0] * 50)
    widths = np.diff(model.edges)
    assert (widths > 0).all()
    assert widths[:50].sum() <= 0.04
    assert np.allclose(np.diff(model_of([0.0, 0.0]).edges), 0.5)


def test_costs_must_match_the_layers() -> None:
    with pytest.raises(ValueError, match="1 layers but 2 costs"):
        RibbonModel([layer(0)], [1.0, 2.0], [])


@given(st.lists(st.floats(0, 10), min_size=2, max_size=60), st.floats(-0.2, 1.2))
def test_the_nearest_position_is_the_nearest(costs: list[float], u: float) -> None:
    model = model_of(costs)
    position = model.position_at(u)
    assert position is not None
    best = min(abs(float(model.edges[p]) - u) for p in model.positions)
    assert abs(float(model.edges[position]) - u) == pytest.approx(best)


def test_a_cut_stops_at_its_neighbours_and_says_why() -> None:
    model = model_of([1.0] * 10)
    assert model.move((3, 6), 0, 5).cuts == (5, 6)
    assert model.move((3, 6), 0, 5).refusal is None
    stopped = model.move((3, 6), 0, 6)
    assert (stopped.cuts, stopped.refusal) == ((5, 6), Refusal.EMPTY_AFTER)
    stopped = model.move((3, 6), 1, 2)
    assert (stopped.cuts, stopped.refusal) == ((3, 4), Refusal.EMPTY_BEFORE)
    stopped = model.move((3, 6), 0, 0)
    assert (stopped.cuts, stopped.refusal) == ((1, 6), Refusal.EMPTY_BEFORE)
    stopped = model.move((3, 6), 1, 10)
    assert (stopped.cuts, stopped.refusal) == ((3, 9), Refusal.EMPTY_AFTER)


@given(st.data())
def test_no_move_makes_a_stage_empty(data: st.DataObject) -> None:
    size = data.draw(st.integers(3, 30))
    model = model_of([1.0] * size)
    cuts = tuple(sorted(data.draw(st.sets(st.integers(1, size - 1), min_size=1, max_size=min(5, size - 1)))))
    for _ in range(8):
        index = data.draw(st.integers(0, len(cuts) - 1))
        cuts = model.move(cuts, index, data.draw(st.integers(0, size))).cuts
        assert all(len(stage) > 0 for stage in model.stages(cuts))
        assert sum(len(stage) for stage in model.stages(cuts)) == size


def test_only_legal_positions_are_taken() -> None:
    layers = [layer(i) for i in range(10)]
    model = RibbonModel(layers, [1.0] * 10, [Cut(p, ("v",), 5, ()) for p in (2, 5, 8)])
    assert model.move((5,), 0, 4).cuts == (5,)
    assert model.move((5,), 0, 3).cuts == (2,)
    assert model.step((5,), 0, 1).cuts == (8,)
    assert model.step((8,), 0, 1).refusal is Refusal.EMPTY_AFTER
    assert model.nearest(6) == 5


def test_modules_become_bands() -> None:
    groups = ["net/conv1", "net/layer1/0", "net/layer1/0", "net/layer1/1", "", "net/layer2/0/conv", "net/fc"]
    model = model_of([1.0] * 7, groups)
    assert [(b.label, b.first, b.last) for b in model.bands(1)] == [
        ("conv1", 0, 1),
        ("layer1", 1, 4),
        ("layer2", 5, 6),
        ("fc", 6, 7),
    ]
    coarse, fine = model.band_rows(10)
    assert [b.label for b in coarse] == ["conv1", "layer1", "layer2", "fc"]
    assert [b.label for b in fine][1:3] == ["layer1.0", "layer1.1"]
    assert model_of([1.0] * 4).band_rows(10) == ()


def test_group_names_of_several_exporters() -> None:
    assert split_group("encoder/layer.0/attention") == ("encoder", "layer.0", "attention")
    assert split_group("/encoder/layer.11/") == ("encoder", "layer.11")
    assert split_group("layer1/layer1.0/layer1.0.conv1") == ("layer1", "layer1.0", "conv1")
    assert split_group("encoder.layer.3.output") == ("encoder", "layer.3", "output")
    assert split_group("layer1.0.conv2") == ("layer1", "0", "conv2")
    assert split_group("") == ()


def test_a_step_by_module_goes_to_where_the_next_module_begins() -> None:
    model = model_of([1.0] * 6, ["a", "a", "b", "b", "b", "c"])
    assert model.step_group((1,), 0, 1).cuts == (2,)
    assert model.step_group((2,), 0, 1).cuts == (5,)
    assert model.step_group((5,), 0, -1).cuts == (2,)


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=8), st.floats(10, 60))
def test_labels_never_overlap(centres: list[float], width: float) -> None:
    placed = spread(sorted(centres), [width] * len(centres), 0, 1000, 4)
    assert all(b - a >= width + 4 - 1e-6 for a, b in pairwise(placed))
    assert placed[0] >= width / 2 - 1e-6
    assert placed[-1] <= 1000 - width / 2 + 1e-6


def test_labels_that_do_not_overlap_stay_where_they_are() -> None:
    assert spread([100.0, 300.0], [40, 40], 0, 1000, 4) == [100.0, 300.0]
    assert spread([], [], 0, 10, 4) == []


def test_ticks_are_round() -> None:
    assert nice_step(0.0614, 10) == pytest.approx(0.01)
    assert nice_step(7.0, 3) == pytest.approx(5.0)


# ---------------------------------------------------------------- the widget


@pytest.fixture
def ribbon(qtbot: QtBot) -> Ribbon:
    Theme.of()
    made = Ribbon()
    qtbot.addWidget(made)
    made.resize(1000, 200)
    made.set_model(model_of([1e-3] * 20), 20e-3)
    nodes = [RibbonNode(str(i), f"node {i}", QColor.fromHsv(i * 90, 200, 220), "7 ms") for i in range(3)]
    made.set_plan(nodes, (6, 13), pipeline=True)
    made.show()
    qtbot.waitExposed(made)
    made.grab()
    return made


def drag(qtbot: QtBot, ribbon: Ribbon, index: int, to: QPoint) -> None:
    start = ribbon.handle_position(index)
    qtbot.mousePress(ribbon, Qt.MouseButton.LeftButton, pos=start)
    qtbot.mouseMove(ribbon, (start + to) / 2)
    qtbot.mouseMove(ribbon, to)
    qtbot.mouseRelease(ribbon, Qt.MouseButton.LeftButton, pos=to)


def test_dragging_moves_a_cut_and_tells_while_it_moves(qtbot: QtBot, ribbon: Ribbon) -> None:
    moved: list[tuple[int, ...]] = []
    ribbon.cutsMoved.connect(moved.append)
    target = QPoint(ribbon.point_at(9).x() + 24, ribbon.handle_position(0).y())
    with qtbot.waitSignal(ribbon.cutsChanged) as changed:
        drag(qtbot, ribbon, 0, target)
    assert changed.args == [(6, 13), (10, 13)]
    assert moved[-1] == (10, 13)
    assert len(moved) >= 2


def test_a_stage_cannot_be_dragged_empty(qtbot: QtBot, ribbon: Ribbon) -> None:
    beyond = QPoint(ribbon.point_at(18).x(), ribbon.handle_position(0).y())
    with qtbot.waitSignal(ribbon.refused) as refused:
        drag(qtbot, ribbon, 0, beyond)
    assert "stage after" in refused.args[0]
    assert ribbon.cuts == (12, 13)


def test_a_click_without_a_move_changes_nothing(qtbot: QtBot, ribbon: Ribbon) -> None:
    with qtbot.assertNotEmitted(ribbon.cutsChanged):
        drag(qtbot, ribbon, 0, ribbon.handle_position(0))


def test_keys_move_cuts_and_tab_goes_from_cut_to_cut(qtbot: QtBot) -> None:
    Theme.of()
    window = QWidget()
    qtbot.addWidget(window)
    layout = QVBoxLayout(window)
    before, ribbon, after = QLineEdit(), Ribbon(), QLineEdit()
    for part in (before, ribbon, after):
        layout.addWidget(part)
    ribbon.set_model(model_of([1.0] * 20, ["a"] * 8 + ["b"] * 12), None)
    ribbon.set_plan([RibbonNode(str(i), str(i), QColor("red")) for i in range(3)], (6, 13), pipeline=True)
    window.show()
    window.activateWindow()
    qtbot.waitExposed(window)
    before.setFocus()
    qtbot.waitUntil(before.hasFocus)
    qtbot.keyClick(before, Qt.Key.Key_Tab)
    assert ribbon.hasFocus()
    assert ribbon.active_cut == 0
    qtbot.keyClick(ribbon, Qt.Key.Key_Right)
    assert ribbon.cuts == (7, 13)
    assert "Cut 1 of 2, before layer 7" in ribbon.accessibleDescription()
    qtbot.keyClick(ribbon, Qt.Key.Key_Right, Qt.KeyboardModifier.ControlModifier)
    assert ribbon.cuts == (8, 13)
    qtbot.keyClick(ribbon, Qt.Key.Key_Tab)
    assert ribbon.active_cut == 1
    qtbot.keyClick(ribbon, Qt.Key.Key_End)
    assert ribbon.cuts == (8, 19)
    with qtbot.waitSignal(ribbon.refused):
        qtbot.keyClick(ribbon, Qt.Key.Key_Right)
    with qtbot.waitSignal(ribbon.placeRequested) as placed:
        qtbot.keyClick(ribbon, Qt.Key.Key_Return)
    assert placed.args == [1]
    qtbot.keyClick(ribbon, Qt.Key.Key_Tab)
    assert after.hasFocus()
    qtbot.keyClick(after, Qt.Key.Key_Backtab)
    assert ribbon.hasFocus()
    assert ribbon.active_cut == 1


def test_double_click_has_one_cut_placed(qtbot: QtBot, ribbon: Ribbon) -> None:
    with qtbot.waitSignal(ribbon.placeRequested) as placed:
        qtbot.mouseDClick(ribbon, Qt.MouseButton.LeftButton, pos=ribbon.handle_position(1))
    assert placed.args == [1]
    with qtbot.assertNotEmitted(ribbon.placeRequested):
        qtbot.mouseDClick(ribbon, Qt.MouseButton.LeftButton, pos=ribbon.point_at(3))


def test_a_click_on_a_layer_picks_it(qtbot: QtBot, ribbon: Ribbon) -> None:
    with qtbot.waitSignal(ribbon.layerPicked) as picked:
        qtbot.mouseClick(ribbon, Qt.MouseButton.LeftButton, pos=ribbon.point_at(15))
    assert picked.args == [15]


def test_stages_have_the_colour_of_their_node(ribbon: Ribbon) -> None:
    image: QImage = ribbon.grab().toImage()
    seen = [QColor(image.pixel(ribbon.point_at(i) - QPoint(0, 4))).hue() for i in (3, 10, 17)]
    assert seen == pytest.approx([0, 90, 180], abs=6)


def test_replicas_get_a_lane_each_and_no_handles(ribbon: Ribbon) -> None:
    tall = ribbon.height()
    nodes = [RibbonNode(str(i), f"node {i}", QColor("red")) for i in range(5)]
    ribbon.set_plan(nodes, (6,), pipeline=False)
    assert ribbon.cuts == ()
    assert [(s.first, s.last, s.row) for s in ribbon.segments()] == [(0, 20, i) for i in range(5)]
    assert ribbon.height() > tall
    assert ribbon.focusPolicy() is Qt.FocusPolicy.StrongFocus, "its nodes can be left out by key"


def test_three_thousand_layers_paint_like_six_hundred(qtbot: QtBot) -> None:
    """What is painted goes by pixels and modules, not by layers; ``tests.bench.planning`` tells the seconds."""
    Theme.of()
    work = []
    for each in (4, 20):
        ribbon = Ribbon()
        qtbot.addWidget(ribbon)
        ribbon.resize(1200, 200)
        count = 150 * each
        paths = [f"block/{i // (3 * each)}/part{i // each % 3}" for i in range(count)]
        ribbon.set_model(model_of([0.3 / count] * count, paths), 0.3)
        nodes = [RibbonNode(str(i), str(i), QColor("red")) for i in range(4)]
        ribbon.set_plan(nodes, (35 * each, 75 * each, 110 * each), pipeline=True)
        ribbon.show()
        ribbon.grab()
        work.append(calls_of(ribbon.grab))
    assert work[1] < 1.5 * work[0]
