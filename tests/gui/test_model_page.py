"""The Model page against the real library and real files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PySide6.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from PySide6.QtGui import QDragEnterEvent, QDropEvent
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from core.model.types import Layer
from gui.bridge import Bridge
from gui.pages.model import ModelPage
from gui.widgets.layer_list import LayerTreeModel, build_tree
from gui.widgets.library_list import LibraryList
from gui.widgets.work_overview import WorkOverview
from resources import resource_path
from tests.counting import calls_of

Wait = Callable[..., None]


def layer(index: int, name: str, group: str = "", macs: int = 10) -> Layer:
    return Layer(index, name, "Conv", group, 5, 20, macs, (f"v{index}",), (1, 2), 8)


@pytest.fixture
def page(qtbot: QtBot, bridge: Bridge, wait_for: Wait) -> ModelPage:
    made = ModelPage(bridge)
    qtbot.addWidget(made)
    made.resize(1100, 800)
    made.show()
    wait_for(lambda: made._library.model().rowCount() > 0)
    return made


def open_and_wait(page: ModelPage, text: str, wait_for: Wait) -> None:
    page.open(text)
    wait_for(lambda: page._stack.currentIndex() == 1 and page._layers)


def test_nothing_is_open_at_first(page: ModelPage) -> None:
    assert page._stack.currentIndex() == 0


def test_a_click_in_the_library_opens_a_model(qtbot: QtBot, page: ModelPage, bridge: Bridge, wait_for: Wait) -> None:
    view = page.findChild(LibraryList)
    assert view is not None
    with qtbot.waitSignal(bridge.modelOpened, timeout=20_000):
        qtbot.mouseClick(view.viewport(), Qt.MouseButton.LeftButton, pos=view.row_point("digits-cnn"))
    wait_for(lambda: page._stack.currentIndex() == 1)
    assert bridge.entry is not None
    assert bridge.entry.key == "digits-cnn"
    assert page._facts._values["layers"].text() == str(len(page._layers))
    assert "float32" in page._facts._inputs.text()
    assert page.subtitle.text().startswith("Digits, convolutional")


def test_headings_of_the_library_cannot_be_chosen(page: ModelPage) -> None:
    model = page._library.model()
    first = model.index(0, 0)
    assert not model.flags(first) & Qt.ItemFlag.ItemIsSelectable
    assert model.flags(model.index(1, 0)) & Qt.ItemFlag.ItemIsSelectable


def test_a_bad_file_says_why_and_the_model_stays(
    page: ModelPage, bridge: Bridge, tmp_path: Path, wait_for: Wait
) -> None:
    open_and_wait(page, "digits-cnn", wait_for)
    kept = bridge.model
    bad = tmp_path / "broken.onnx"
    bad.write_bytes(b"this is no model")
    page.open(str(bad))
    wait_for(page._banner.isVisible)
    assert "broken.onnx" in page._banner._text.text()
    assert "digits-cnn stays open" in page._banner._text.text()
    assert bridge.model is kept
    assert page.shows("broken.onnx")
    open_and_wait(page, "digits-mlp", wait_for)
    wait_for(lambda: not page._banner.isVisible())


def test_a_dropped_file_is_opened(qtbot: QtBot, page: ModelPage, bridge: Bridge, wait_for: Wait) -> None:
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(resource_path("models", "digits-mlp.onnx")))])
    buttons, keys = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    enter = QDragEnterEvent(QPoint(10, 10), Qt.DropAction.CopyAction, data, buttons, keys)
    page.dragEnterEvent(enter)
    assert enter.isAccepted()
    with qtbot.waitSignal(bridge.modelOpened, timeout=20_000):
        page.dropEvent(QDropEvent(QPointF(10, 10), Qt.DropAction.CopyAction, data, buttons, keys))
    assert bridge.base_model is not None
    assert bridge.base_model.name == "digits-mlp"


def test_other_files_are_not_taken(page: ModelPage, tmp_path: Path) -> None:
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(tmp_path / "notes.txt"))])
    enter = QDragEnterEvent(
        QPoint(10, 10), Qt.DropAction.CopyAction, data, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    )
    enter.ignore()
    page.dragEnterEvent(enter)
    assert not enter.isAccepted()


def test_choosing_a_layer_fills_the_inspector(qtbot: QtBot, page: ModelPage, wait_for: Wait) -> None:
    open_and_wait(page, "digits-cnn", wait_for)
    heaviest = max(page._layers, key=lambda known: known.macs)
    with qtbot.waitSignal(page.inspected) as shown:
        page._overview.picked.emit(heaviest.index)
    assert shown.args[0].title == heaviest.name
    assert ("Operator", heaviest.op) in shown.args[0].rows


# ---------------------------------------------------------------- the tree


def test_layers_stand_under_their_modules() -> None:
    layers = [
        layer(0, "stem"),
        layer(1, "a", "net/block.0/conv"),
        layer(2, "b", "net/block.0/conv"),
        layer(3, "c", "net/block.1"),
        layer(4, "d", "net/block.0"),
    ]
    root = build_tree(layers)
    assert [row.name for row in root.children] == ["stem", "net"]
    net = root.children[1]
    assert [row.name for row in net.children] == ["block.0", "block.1"]
    assert [row.name for row in net.children[0].children] == ["conv", "d"]
    assert (net.layers, net.macs, net.parameters) == (4, 40, 20)


def test_modules_that_only_hold_another_are_joined() -> None:
    root = build_tree([layer(0, "a", "model/encoder/x"), layer(1, "b", "model/encoder/y")])
    assert [row.name for row in root.children] == ["model / encoder"]
    assert [row.name for row in root.children[0].children] == ["x", "y"]


def test_dotted_names_stand_in_for_modules() -> None:
    root = build_tree([layer(0, "f.0"), layer(1, "f.0.relu"), layer(2, "f.1.conv"), layer(3, "head")])
    assert [row.name for row in root.children] == ["f.0", "f.1", "head"]
    assert [row.name for row in root.children[0].children] == ["f.0", "f.0.relu"]


def test_the_tree_keeps_qts_rules(qtmodeltester: object) -> None:
    tree = LayerTreeModel()
    tree.set_layers([layer(i, f"l{i}", f"block.{i // 3}/part" if i % 4 else "") for i in range(20)])
    qtmodeltester.check(tree)  # type: ignore[attr-defined]


def test_three_thousand_layers_are_quick(application: QApplication) -> None:
    """One signal for all of them, and twice the work for twice as many; ``tests.bench.planning`` tells the seconds."""
    work = {}
    for count in (1500, 3000):
        layers = [layer(i, f"l{i}", f"encoder/layer.{i // 30}/part.{i % 3}", macs=i) for i in range(count)]
        tree = LayerTreeModel()
        told: list[str] = []
        tree.modelReset.connect(lambda told=told: told.append("reset"))
        tree.rowsInserted.connect(lambda *_, told=told: told.append("rows"))
        work[count] = calls_of(lambda tree=tree, layers=layers: tree.set_layers(layers))
        assert told == ["reset"]
        assert tree.index_of_layer(count - 1).isValid()
    assert work[3000] < 2.2 * work[1500]


# ---------------------------------------------------------------- the chart


def test_bars_join_layers_and_show_the_highest(qtbot: QtBot, application: QApplication) -> None:
    chart = WorkOverview()
    qtbot.addWidget(chart)
    chart.resize(100, 64)
    chart.set_layers([layer(i, f"l{i}", macs=1000 if i == 333 else 1) for i in range(1000)])
    edges, heights = chart.bars()
    assert len(heights) == 20
    assert heights.max() == 1.0
    bar = int(heights.argmax())
    assert edges[bar] <= 333 < edges[bar + 1]
    with qtbot.waitSignal(chart.picked) as picked:
        qtbot.mouseClick(chart, Qt.MouseButton.LeftButton, pos=QPoint(bar * 5 + 2, 30))
    assert picked.args == [333]
