"""A division of a model as it is drawn and told: plain rules first, then the widgets, on divisions made by hand."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PySide6.QtCore import Qt
from PySide6.QtGui import QColor
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from core.model.types import Cut, Layer
from core.plan.division import Division, Exchange, LayerDivision, NodePart
from core.plan.form import NodeId
from gui.widgets import division_words as said
from gui.widgets.division_legend import DivisionLegend, Entry, form_entries
from gui.widgets.division_model import (
    FINEST,
    MARK_GAP,
    Form,
    boxes_of,
    lanes_of,
    link_bytes,
    marks_of,
    plain_lanes,
    replica_lanes,
    runs_of,
    shown_exchanges,
)
from gui.widgets.division_picture import DivisionPicture, Picture
from gui.widgets.division_ribbon import DivisionRibbon
from gui.widgets.ribbon_model import RibbonModel

A, B, C, D = (NodeId(name) for name in "abcd")
COLOURS = {A: QColor("#ff0000"), B: QColor("#0000ff"), C: QColor("#00ff00"), D: QColor("#ff00ff")}


def name_of(node: str) -> str:
    return {"a": "lab-1", "b": "lab-2", "c": "lab-3", "d": "lab-4", "": "this workstation"}[node]


def colour_of(node: str) -> QColor:
    return COLOURS[NodeId(node)]


def part(node: NodeId, share: float, *ranges: tuple[int, int], replica: int = 0, stage: int = 0) -> NodePart:
    return NodePart(node, replica, stage, share, ranges or None)


def columns(index: int, first: float = 0.25, size: int = 8) -> LayerDivision:
    edge = round(size * first)
    return LayerDivision(index, "columns", 1, (part(A, first, (0, edge)), part(B, 1 - first, (edge, size))))


def replicated(index: int) -> LayerDivision:
    return LayerDivision(index, "replicated", None, (part(A, 1.0), part(B, 1.0)))


def rows(index: int) -> LayerDivision:
    return LayerDivision(index, "rows", None, (part(A, 0.25), part(B, 0.75)))


def all_reduce(layer: int, nbytes: int = 1000, replica: int = 0) -> Exchange:
    return Exchange("all-reduce", f"v{layer}", replica, layer, nbytes, ((A, B, nbytes // 2), (B, A, nbytes // 2)))


def model_of(costs: list[float]) -> RibbonModel:
    layers = [
        Layer(
            index=i,
            name=f"block.{i}",
            op="MatMul",
            group="",
            parameters=0,
            parameter_bytes=0,
            macs=0,
            outputs=(f"v{i}",),
            output_shape=None,
            output_bytes=0,
        )
        for i in range(len(costs))
    ]
    return RibbonModel(layers, costs, [Cut(p, (f"v{p - 1}",), 1000 * p, ()) for p in range(1, len(costs))])


MLP = Division(
    (columns(0), LayerDivision(1, "split", 1, columns(1).parts), rows(2), replicated(3)),
    (
        Exchange("input", "x", 0, 0, 64, (("", A, 32), ("", B, 32))),
        all_reduce(3),
        Exchange("output", "y", 0, -1, 40, ((A, "", 40),)),
    ),
    split_share=0.96,
    without_rule=("Foo",),
    fallbacks=("block.3 (MatMul): it has 1 output",),
)


# ---------------------------------------------------------------- looks


def test_each_kind_has_its_look() -> None:
    forms = [lanes_of(MLP)[0].of(layer).form for layer in range(4)]
    assert forms == [Form.BANDS, Form.BANDS, Form.TERMS, Form.COPIES]
    strips = LayerDivision(0, "image rows", 2, (part(A, 0.5, (0, 4)), part(B, 0.5, (4, 8))))
    whole = LayerDivision(1, "whole", None, (part(A, 1.0),))
    nowhere = LayerDivision(2, "whole", None, ())
    lane = lanes_of(Division((strips, whole, nowhere), (), 1.0))[0]
    assert [lane.of(layer).form for layer in range(3)] == [Form.STRIPS, Form.WHOLE, Form.NOWHERE]


def test_every_replica_is_a_lane_with_shares_of_its_own() -> None:
    parts = (
        part(A, 0.125, (0, 2)),
        part(B, 0.375, (2, 8)),
        part(C, 0.25, (0, 4), replica=1),
        part(D, 0.25, (4, 8), replica=1),
    )
    lanes = lanes_of(Division((LayerDivision(0, "items + columns", 1, parts),), (), 1.0))
    assert [lane.of(0).parts for lane in lanes] == [((A, 0.25), (B, 0.75)), ((C, 0.5), (D, 0.5))]
    copies = (part(A, 1.0), part(B, 1.0, replica=1))
    lanes = lanes_of(Division((LayerDivision(0, "items", None, copies),), (), 0.0))
    assert [lane.of(0).form for lane in lanes] == [Form.WHOLE, Form.WHOLE]


def test_stages_and_replicas_without_division() -> None:
    (lane,) = plain_lanes([(A, 2), (B, 3)])
    assert [lane.of(layer).parts[0][0] for layer in range(5)] == [A, A, B, B, B]
    assert [lane.nodes for lane in replica_lanes([A, B, C], 4)] == [(A,), (B,), (C,)]


# ---------------------------------------------------------------- boxes


def test_bands_are_in_proportion_and_fill_the_lane() -> None:
    edges = np.array([0.0, 100.0, 200.0, 300.0, 400.0])
    lane = lanes_of(MLP)[0]
    runs = runs_of(lane, edges)
    assert [(run.first, run.last) for run in runs] == [(0, 2), (2, 3), (3, 4)]
    boxes = boxes_of(runs, edges, 10.0, 40.0)
    assert [(b.left, b.top, b.width, b.height, b.nodes) for b in boxes] == [
        (0, 10, 200, 10, (A,)),
        (0, 20, 200, 30, (B,)),
        (200, 10, 100, 10, (A,)),
        (200, 20, 100, 30, (B,)),
        (300, 10, 100, 40, (A, B)),
    ]
    assert sum(box.width * box.height for box in boxes) == pytest.approx(400 * 40)


@settings(derandomize=True, max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.floats(0.0, 5.0)), min_size=1, max_size=300), st.floats(20, 400))
def test_what_is_drawn_depends_on_the_width_not_on_the_layers(layers: list[tuple[int, float]], width: float) -> None:
    makers = (columns, rows, replicated)
    lane = lanes_of(Division(tuple(makers[look](i) for i, (look, _) in enumerate(layers)), (), 1.0))[0]
    edges = model_of([cost for _, cost in layers]).edges * width
    runs = runs_of(lane, edges)
    assert runs[0].first == 0
    assert runs[-1].last == len(layers)
    assert all(before.last == after.first for before, after in pairwise(runs))
    assert len(runs) <= width / FINEST + 1
    boxes = boxes_of(runs, edges, 0.0, 30.0)
    assert sum(box.width * box.height for box in boxes) == pytest.approx(width * 30.0)


# ---------------------------------------------------------------- marks


def test_only_what_travels_between_nodes_is_marked_and_close_marks_are_one() -> None:
    exchanges = [all_reduce(1), all_reduce(2), all_reduce(30), Exchange("halo", "h", 0, 1, 8, ((A, B, 8),))]
    exchanges.append(Exchange("input", "x", 0, 0, 64, (("", A, 64),)))
    division = Division(tuple(columns(i) for i in range(40)), tuple(exchanges), 1.0)
    edges = np.arange(41) * (MARK_GAP / 2)
    marks = marks_of(shown_exchanges(division), edges)
    assert [(mark.kind, len(mark.exchanges), mark.nbytes) for mark in marks] == [
        ("all-reduce", 2, 2000),
        ("all-reduce", 1, 1000),
        ("halo", 1, 8),
    ]
    assert marks[1].x == edges[30]


def test_planned_bytes_of_links_add_up() -> None:
    division = Division((columns(0),), (all_reduce(0), all_reduce(0, 400), MLP.exchanges[0]), 1.0)
    assert link_bytes(division) == {(A, B): 700, (B, A): 700, ("", A): 32, ("", B): 32}


# ---------------------------------------------------------------- words


def test_layers_in_words() -> None:
    wide = LayerDivision(0, "columns", 1, (part(A, 0.5, (0, 1536)), part(B, 0.5, (1536, 3072))))
    assert said.layer_words(wide, "MatMul", name_of) == "columns 0–1535 on lab-1, 1536–3071 on lab-2"
    assert said.layer_words(wide, "Conv", name_of) == "channels 0–1535 on lab-1, 1536–3071 on lab-2"
    strips = LayerDivision(0, "image rows", 2, (part(A, 0.5, (0, 112)), part(B, 0.5, (112, 224))))
    assert said.layer_words(strips, "Conv", name_of) == "image rows 0–111 on lab-1, 112–223 on lab-2"
    heads = LayerDivision(0, "heads", 2, (part(A, 0.5, (0, 64), (128, 192)), part(B, 0.5, (64, 128))))
    assert said.layer_words(heads, "MatMul", name_of) == "columns 0–63, 128–191 on lab-1, 64–127 on lab-2"
    assert said.layer_words(rows(0), "MatMul", name_of) == (
        "rows, a term of the sum each: 25 % on lab-1, 75 % on lab-2"
    )
    assert said.layer_words(replicated(0), "Add", name_of) == "not split: lab-1, lab-2 each run all of it"
    two = LayerDivision(0, "items", None, (part(A, 1.0), part(B, 1.0, replica=1)))
    assert said.layer_words(two, "Add", name_of) == "replica 1: runs on lab-1; replica 2: runs on lab-2"


def test_every_kind_of_the_form_has_words() -> None:
    for kind in ("columns", "rows", "groups", "heads", "vocabulary", "directions", "positions", "split"):
        layer = LayerDivision(0, kind, 1, (part(A, 0.5, (0, 1)), part(B, 0.5, (1, 2))))
        assert "0 on lab-1, 1 on lab-2" in said.layer_words(layer, "Gemm", name_of)
        assert said.split_word(layer, "Gemm")


def test_why_a_layer_is_not_split() -> None:
    layers = model_of([1.0] * 4).layers
    assert said.why_not_split(MLP, layers[3]) == "block.3 (MatMul): it has 1 output"
    assert said.why_not_split(MLP, layers[0]) == ""


def test_totals(application: QApplication) -> None:
    assert said.totals_words(MLP) == (
        "1 all-reduce, 1000 B a micro-batch; 96 % of the multiply-adds are split; no rule for: Foo"
    )
    alone = Division((LayerDivision(0, "whole", None, (part(A, 1.0),)),), (), 0.0)
    assert said.totals_words(alone) == "Nothing travels between nodes"


# ---------------------------------------------------------------- widgets


@pytest.fixture
def ribbon(qtbot: QtBot, application: QApplication) -> DivisionRibbon:
    made = DivisionRibbon()
    qtbot.addWidget(made)
    made.resize(824, 200)
    made.set_model(model_of([1.0, 1.0, 1.0, 1.0]), 0.004)
    made.set_division(MLP, colour_of, name_of)
    made.show()
    return made


def colour_at(ribbon: DivisionRibbon, x: float, y: float) -> str:
    return ribbon.grab().toImage().pixelColor(round(x), round(y)).name()


def test_bands_have_the_colours_of_the_nodes(ribbon: DivisionRibbon) -> None:
    assert ribbon._scene is not None
    g = ribbon._scene.geometry
    middle = g.x(0.06)
    assert colour_at(ribbon, middle, g.lane_top(0) + g.lane_height * 0.1) == COLOURS[A].name()
    assert colour_at(ribbon, middle, g.lane_top(0) + g.lane_height * 0.9) == COLOURS[B].name()
    image = ribbon.grab().toImage()
    y = round(g.lane_top(0) + g.lane_height / 2)
    seen = {image.pixelColor(round(g.x(0.8)) + dx, y).name() for dx in range(60)}
    assert {COLOURS[A].name(), COLOURS[B].name()} <= seen, "stripes of both nodes where neither has a part"


def test_a_layer_is_picked_and_told(qtbot: QtBot, ribbon: DivisionRibbon) -> None:
    with qtbot.waitSignal(ribbon.layerPicked) as picked:
        qtbot.mouseClick(ribbon, Qt.MouseButton.LeftButton, pos=ribbon.point_at(2))
    assert picked.args == [2]
    assert "25 % on lab-1" in ribbon.accessibleDescription()
    assert "block.3 (MatMul): it has 1 output" in ribbon._layer_tip(3)


def test_a_mark_is_picked_and_told(qtbot: QtBot, ribbon: DivisionRibbon) -> None:
    (mark,) = ribbon.marks()
    tip = said.mark_tip(mark, model_of([1.0] * 4).layers, name_of)
    assert "lab-1 → lab-2, 500 B" in tip
    assert "v3, for block.3" in tip
    with qtbot.waitSignal(ribbon.markPicked) as picked:
        qtbot.mouseClick(ribbon, Qt.MouseButton.LeftButton, pos=ribbon.mark_point(0))
    assert picked.args == [mark]


def test_keys_go_through_layers_and_exchanges(qtbot: QtBot, ribbon: DivisionRibbon) -> None:
    ribbon.setFocus()
    for key, modifier, reached in (
        (Qt.Key.Key_Right, Qt.KeyboardModifier.NoModifier, 0),
        (Qt.Key.Key_Right, Qt.KeyboardModifier.NoModifier, 1),
        (Qt.Key.Key_Right, Qt.KeyboardModifier.ControlModifier, 3),
        (Qt.Key.Key_Home, Qt.KeyboardModifier.NoModifier, 0),
        (Qt.Key.Key_End, Qt.KeyboardModifier.NoModifier, 3),
        (Qt.Key.Key_Left, Qt.KeyboardModifier.NoModifier, 2),
    ):
        qtbot.keyClick(ribbon, key, modifier)
        assert ribbon.selected == reached


def test_a_division_of_another_model_is_not_drawn(ribbon: DivisionRibbon) -> None:
    ribbon.set_model(model_of([1.0] * 7), None)
    ribbon.set_division(MLP, colour_of, name_of)
    assert ribbon.boxes() == []
    assert ribbon.marks() == ()
    ribbon.grab()


def test_a_thousand_layers_are_drawn_with_few_strokes(qtbot: QtBot, ribbon: DivisionRibbon) -> None:
    """Counted, not timed: what is painted is bounded by the width, whatever the number of layers."""
    size = 1000
    makers = (columns, rows, replicated)
    division = Division(
        tuple(makers[i % 3](i) for i in range(size)), tuple(all_reduce(i) for i in range(0, size, 2)), 0.9
    )
    ribbon.set_model(model_of([1.0] * size), 1.0)
    ribbon.set_division(division, colour_of, name_of)
    width = ribbon.width()
    assert 100 < len(ribbon.boxes()) <= 2 * (width / FINEST + 1)
    assert 20 < len(ribbon.marks()) <= width / MARK_GAP + 1
    assert sum(len(mark.exchanges) for mark in ribbon.marks()) == size / 2
    assert ribbon._scene is not None
    assert len(ribbon._scene.cells) <= width / 4 + 1
    ribbon.grab()


def test_pictures_and_legends_explain_what_is_there(qtbot: QtBot, application: QApplication) -> None:
    picture, legend = DivisionPicture(), DivisionLegend()
    for widget in (picture, legend):
        qtbot.addWidget(widget)
        widget.resize(200, 40)
        widget.show()
    picture.show_picture(None, colour_of)
    assert picture.boxes() == []
    picture.grab()
    picture.show_picture(Picture(lanes_of(MLP), model_of([1.0] * 4).edges, "Tensor: …"), colour_of)
    assert [box.form for box in picture.boxes()] == [Form.BANDS] * 2 + [Form.TERMS] * 2 + [Form.COPIES]
    assert picture.accessibleName() == "Tensor: …"
    picture.grab()
    legend.show_entries(
        [*form_entries(frozenset({Form.BANDS, Form.COPIES}), [A, B]), Entry("all-reduce", kind="all-reduce")], colour_of
    )
    assert [entry.form or entry.kind for entry in legend.entries] == [Form.BANDS, Form.COPIES, "all-reduce"]
    assert legend.height() > 30, "more than one line at this width"
    legend.grab()
