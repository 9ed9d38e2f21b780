"""The Run page: results read and shown, processing edited, and a whole run over real agents."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from core.errors import SinkError
from core.model.processing_types import InputProcessing, OutputProcessing, Processing
from core.model.types import TensorInfo
from gui.bridge import Bridge, Phase
from gui.main_window import MainWindow
from gui.pages.partition import PartitionPage
from gui.pages.run import NO_MODEL, NOT_DEPLOYED, READY, RunPage
from gui.partition_state import PIPELINE
from gui.results_export import export_results
from gui.results_view import expected_label, read_result
from gui.widgets.processing_editor import ProcessingEditor, number_text, parse_numbers, summary
from gui.widgets.results import KEPT, ResultsGrid, to_pixmap
from gui.widgets.run_input import RunInput
from gui.work.running import Result

Wait = Callable[..., None]
DIGITS = tuple("0123456789")


def top_three(index: int, best: int = 3, name: str = "") -> Result:
    outputs = {
        "logits/top_values": np.array([0.9, 0.06, 0.04], dtype=np.float32),
        "logits/top_indices": np.array([best, 1, 2], dtype=np.int64),
    }
    return Result(index, outputs, np.zeros((8, 8), dtype=np.uint8), name)


# ---------------------------------------------------------------- reading results


def test_top_k_outputs_become_named_guesses() -> None:
    read = read_result(top_three(0, name="004_label3.png"), DIGITS)
    assert [guess.label for guess in read.guesses] == ["3", "1", "2"]
    assert read.probabilities
    assert read.right is True
    assert read_result(top_three(0, 5, "004_label3.png"), DIGITS).right is False
    assert read_result(top_three(0, 5, "four.png"), DIGITS).right is None


def test_raw_scores_are_ranked_when_they_are_of_classes() -> None:
    scores = {"logits": np.array([1.0, 7.0, -2.0, 3.0], dtype=np.float32)}
    read = read_result(Result(0, scores, None), ())
    assert [guess.label for guess in read.guesses] == ["1", "3", "0"]
    assert not read.probabilities


def test_other_outputs_are_shown_as_values() -> None:
    read = read_result(Result(0, {"price": np.array([152.25], dtype=np.float32)}, None), ())
    assert (read.guesses, read.text) == ((), "price: 152.2")
    hidden = {"hidden": np.zeros((16, 8), dtype=np.float32)}
    assert read_result(Result(0, hidden, None), ()).text.startswith("hidden (16 × 8): 0  0")


@pytest.mark.parametrize(
    ("name", "label"),
    [("000_label1.png", "1"), ("label-7.jpg", "7"), ("cat_label_dog.png", "dog"), ("unlabelled1.png", ""), ("", "")],
)
def test_labels_in_file_names(name: str, label: str) -> None:
    assert expected_label(name) == label


# ---------------------------------------------------------------- the grid


@pytest.fixture
def grid(qtbot: QtBot, application: QApplication) -> ResultsGrid:
    made = ResultsGrid()
    qtbot.addWidget(made)
    made.resize(700, 400)
    made.results.set_labels(DIGITS)
    made.show()
    return made


def test_bursts_are_shown_together_and_only_the_newest_are_kept(qtbot: QtBot, grid: ResultsGrid) -> None:
    flushes: list[int] = []
    grid.results.flushed.connect(lambda: flushes.append(grid.results.rowCount()))
    for start in range(0, 1000, 10):
        grid.results.add([top_three(i) for i in range(start, start + 10)])
    assert grid.results.rowCount() == 0
    qtbot.waitUntil(lambda: grid.results.rowCount() == KEPT, timeout=20_000)
    assert len(flushes) == 1
    assert grid.results.results[0].item.index == 999
    grid.results.add([top_three(1000)])
    qtbot.waitUntil(lambda: len(flushes) == 2, timeout=20_000)
    assert grid.results.rowCount() == KEPT
    assert grid.results.results[0].item.index == 1000


def test_the_first_results_take_the_place_of_what_stood_there(qtbot: QtBot, application: QApplication) -> None:
    hidden = ResultsGrid()  # another widget is shown until it holds something
    qtbot.addWidget(hidden)
    hidden.results.add([top_three(0)])
    qtbot.waitUntil(lambda: len(hidden.results.results) == 1)
    hidden.results.add([top_three(1)])
    assert not hidden.results._timer.isActive(), "nobody sees it"
    hidden.show()
    assert len(hidden.results.results) == 2


def test_right_and_wrong_are_counted(grid: ResultsGrid) -> None:
    grid.results.add([top_three(0, 3, "a_label3.png"), top_three(1, 4, "b_label3.png"), top_three(2, 4, "c.png")])
    grid.results.flush()
    assert (grid.results.right, grid.results.judged) == (1, 2)
    words = [grid.results.data(grid.results.index(i, 0)) for i in range(3)]
    assert words == ["c.png: 4", "b_label3.png: 4, wrong", "a_label3.png: 3, right"]


def test_tiles_are_drawn_and_fill_the_row(grid: ResultsGrid) -> None:
    grid.results.add([top_three(i, 3, f"{i}_label3.png") for i in range(8)])
    grid.results.flush()
    grid.grab()
    columns = grid.viewport().width() // grid.gridSize().width()
    assert columns * grid.gridSize().width() > grid.viewport().width() - columns - 2


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 1), (6, 5, 3), (6, 5, 4)])
def test_pictures_of_every_kind(application: QApplication, shape: tuple[int, ...]) -> None:
    pixels = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    if shape[2:] == (4,):
        pixels[..., 3] = 255
    pixmap = to_pixmap(pixels)
    assert (pixmap.width(), pixmap.height()) == (5, 6)
    assert pixmap.toImage().pixelColor(1, 0).red() == pixels[0, 1].ravel()[0]


# ---------------------------------------------------------------- export


def test_results_are_exported_in_both_forms(tmp_path: Path) -> None:
    items = [top_three(i, i, f"{i}.png") for i in range(3)]
    export_results(tmp_path / "out.npz", items, DIGITS)
    with np.load(tmp_path / "out.npz") as held:
        assert held["logits/top_indices"][:, 0].tolist() == [0, 1, 2]
    export_results(tmp_path / "out.csv", items, DIGITS)
    with (tmp_path / "out.csv").open() as file:
        lines = list(csv.reader(file))
    assert lines[2][:3] == ["1", "1.png", "1"]
    with pytest.raises(SinkError):
        export_results(tmp_path / "no" / "out.npz", items, DIGITS)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "home") == ["out.csv", "out.npz"]


# ---------------------------------------------------------------- input


def test_input_says_what_to_run(qtbot: QtBot, application: QApplication, tmp_path: Path) -> None:
    fields = RunInput()
    qtbot.addWidget(fields)
    fields.show_model("digits", tmp_path)
    assert fields.order().spec == str(tmp_path)
    fields.show_model("other", None)
    assert fields.order().spec == "random:256"
    fields._from_files.setChecked(True)
    assert not fields.is_complete()
    fields._path.setText("data.npz")
    fields._repeat.setValue(3)
    order = fields.order()
    assert (order.spec, order.repeat, order.in_flight, order.seconds) == ("data.npz", 3, None, None)
    fields._endless.setChecked(True)
    fields._flight.setValue(4)
    order = fields.order()
    assert order.seconds is not None
    assert order.in_flight == 4


# ---------------------------------------------------------------- processing


def test_numbers_as_people_write_them() -> None:
    assert parse_numbers("1/255") == (1 / 255,)
    assert parse_numbers("0.485, 0.456; 0.406") == (0.485, 0.456, 0.406)
    assert parse_numbers("  ") is None
    for bad in ("x", "1,", "nan", "1e999"):
        with pytest.raises(ValueError):
            parse_numbers(bad)
    assert number_text(1 / 255) == "1/255"
    assert number_text(0.485) == "0.485"
    assert number_text(None) == ""


@pytest.fixture
def editor(qtbot: QtBot, application: QApplication) -> ProcessingEditor:
    inputs = (TensorInfo("image", "float32", ("batch", 3, 224, 224), True),)
    outputs = (TensorInfo("logits", "float32", ("batch", 1000), True),)
    given = Processing(
        inputs=(InputProcessing("image", layout="NHWC", dtype="uint8", scale=1 / 255, mean=(0.5, 0.4, 0.3)),),
        outputs=(OutputProcessing("logits", softmax=True, top_k=5, labels=("a", "b")),),
    )
    made = ProcessingEditor("net", inputs, outputs, given, None)  # type: ignore[arg-type]
    qtbot.addWidget(made)
    made._given = given
    return made


def test_the_editor_gives_back_what_it_was_given(editor: ProcessingEditor) -> None:
    assert editor.processing() == editor._given


def test_the_editor_changes_and_explains(qtbot: QtBot, editor: ProcessingEditor, tmp_path: Path) -> None:
    form = editor._inputs[0]
    form._mean.setText("0.1, 0.2")
    assert "2 numbers given, 1 or 3 wanted" in editor._problem.text()
    assert not editor._apply.isEnabled()
    form._mean.setText("")
    form._size._spins[0].setValue(256)
    assert "both height and width" in editor._problem.text()
    form._size._spins[1].setValue(256)
    assert editor._problem.text() == ""
    labels = tmp_path / "labels.txt"
    labels.write_text("cat\ndog\n")
    editor._outputs[0].load_labels(labels)
    with qtbot.waitSignal(editor.applied) as applied:
        qtbot.mouseClick(editor._apply, Qt.MouseButton.LeftButton)
    made = applied.args[0]
    assert made.inputs[0].size == (256, 256)
    assert made.inputs[0].mean is None
    assert made.labels == ("cat", "dog")


def test_steps_that_do_nothing_are_left_out(editor: ProcessingEditor) -> None:
    form = editor._outputs[0]
    form._softmax.setChecked(False)
    form._top.setValue(0)
    form._clear()
    assert editor.processing().outputs == ()


def test_the_summary_is_short(editor: ProcessingEditor) -> None:
    assert summary(editor._given) == [
        ("image", ["uint8 NHWC", "× 1/255", "− mean"]),
        ("logits", ["softmax", "top 5"]),
    ]


# ---------------------------------------------------------------- the page


def test_the_page_says_what_is_missing(qtbot: QtBot, bridge: Bridge, wait_for: Wait) -> None:
    page = RunPage(bridge)
    qtbot.addWidget(page)
    assert page._stack.currentIndex() == NO_MODEL
    bridge.openModel("digits-mlp")
    wait_for(lambda: page._stack.currentIndex() == NOT_DEPLOYED)
    assert not page._run.isEnabled()
    assert page._input.order().spec.endswith("digits")
    assert "softmax, top 3" in page._processing.text()


@pytest.mark.slow
def test_from_partition_to_results(qtbot: QtBot, bridge: Bridge, wait_for: Wait, tmp_path: Path) -> None:
    """Two real agents: deploy a pipeline, run the samples, read the digits, change the processing, release."""
    window = MainWindow(bridge)
    qtbot.addWidget(window)
    window.show()
    partition, run = window.pages["partition"], window.pages["run"]
    assert isinstance(partition, PartitionPage)
    assert isinstance(run, RunPage)
    bridge.start(local=2, measure=False)
    bridge.openModel("digits-cnn")
    wait_for(lambda: len(bridge.ready_nodes()) == 2 and bridge.profile is not None, 60)
    window.show_page("partition")
    partition._cards[PIPELINE].click()
    wait_for(lambda: bridge.request is not None and bridge.request.cuts)
    asked = bridge.request
    bridge.deploy()
    wait_for(partition._deploying.progress.isVisible)
    wait_for(lambda: bridge.phase is Phase.DEPLOYED, 60)
    assert bridge.deployment is not None
    assert bridge.deployment.plan.request == asked
    wait_for(partition._deploying.good.isVisible)
    assert "Verified" in partition._deploying.good._text.text()
    assert not partition._deploying.button.isEnabled()

    window.show_page("run")
    assert run._stack.currentIndex() == READY
    written = tmp_path / "all.csv"
    run._input._sink.setText(str(written))
    run._input._repeat.setValue(3)
    run.run()
    wait_for(lambda: bridge.report is not None and bridge.phase is Phase.DEPLOYED, 60)
    report = bridge.report
    assert report is not None
    samples = len(list(Path(run._input.order().spec).glob("*.png")))
    assert report.items == 3 * samples
    results = run._grid.results
    assert results.judged == min(3 * samples, KEPT)
    assert results.right / results.judged > 0.9
    assert len(written.read_text().splitlines()) == 3 * samples + 1
    assert "items/s" in run._good._text.text()
    window.grab()

    run.edit_processing()
    assert run._editor is not None
    run._editor._outputs[0]._top.setValue(2)
    run._editor._give()
    wait_for(lambda: run._editor is None)
    assert "top 2" in run._processing.text()
    assert not run._processing_note.isHidden()
    assert not run._run.isEnabled()
    assert partition._deploying.button.isEnabled()
    assert partition._deploying.button.text() == "Deploy changes"
    bridge.release()
    wait_for(lambda: bridge.phase is Phase.IDLE and len(bridge.ready_nodes()) == 2)
