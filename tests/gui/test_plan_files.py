"""Plans saved from the Partition page and loaded again, by dialog's path and by drag and drop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from PySide6.QtCore import QMimeData, QPointF, Qt, QUrl
from PySide6.QtGui import QDropEvent
from pytestqt.qtbot import QtBot

from core.plan.form import PlanRequest
from gui.bridge import Bridge
from gui.pages.partition import PartitionPage
from gui.partition_state import PIPELINE, REPLICATE
from tests.gui.pages import node_of, report_nodes

Wait = Callable[..., None]


@pytest.fixture
def page(qtbot: QtBot, bridge: Bridge, wait_for: Wait) -> PartitionPage:
    """Two nodes and a timed model, on Pipeline."""
    made = PartitionPage(bridge)
    qtbot.addWidget(made)
    assert not made._files.load.isEnabled()
    assert not made._files.save.isEnabled()
    report_nodes(bridge, "workshop", "fast-one")
    bridge.openModel("digits-cnn")
    wait_for(lambda: bridge.profile is not None and made._plans.profile() is not None, 60)
    made._cards[PIPELINE].click()
    wait_for(lambda: made._plans._balanced)
    return made


def save(page: PartitionPage, path: Path, wait_for: Wait) -> PlanRequest:
    request = page._plans.asked[PIPELINE]
    assert request is not None
    page._files.files.save(path, request, page._plans.predictions[PIPELINE])
    wait_for(lambda: page._files.told.accessibleName().startswith("Plan saved"))
    return request


def drop(page: PartitionPage, path: Path) -> None:
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path))])
    page.dropEvent(
        QDropEvent(
            QPointF(5, 5), Qt.DropAction.CopyAction, data, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
        )
    )


def test_a_saved_plan_comes_back_as_one_edit(
    page: PartitionPage, bridge: Bridge, tmp_path: Path, wait_for: Wait
) -> None:
    saved = save(page, tmp_path / "mine", wait_for)
    text = (tmp_path / "mine.json").read_text()
    assert "workshop" in text
    assert '"predicted"' in text
    page._cards[REPLICATE].click()
    page._budget.cells(node_of("fast-one").id).use.click()
    assert bridge.request is not None
    assert len(bridge.request.nodes) == 1
    page._files.files.load(tmp_path / "mine.json", page._files.usable_nodes())
    wait_for(lambda: bridge.request == saved)
    assert page._files.told.accessibleName() == "Plan mine.json loaded"
    page._choices.stack.undo()
    assert bridge.request.strategy == REPLICATE


def test_a_plan_is_dropped_onto_the_page(page: PartitionPage, bridge: Bridge, tmp_path: Path, wait_for: Wait) -> None:
    saved = save(page, tmp_path / "mine.json", wait_for)
    page._cards[REPLICATE].click()
    drop(page, tmp_path / "mine.json")
    wait_for(lambda: bridge.request == saved)


def test_what_cannot_be_loaded_is_said_in_words_and_changes_nothing(
    page: PartitionPage, bridge: Bridge, tmp_path: Path, wait_for: Wait
) -> None:
    request = save(page, tmp_path / "mine.json", wait_for)
    whole = msgspec.json.decode((tmp_path / "mine.json").read_bytes())
    other = whole | {"model": whole["model"] | {"name": "lenet", "sha256": "0" * 64}}
    three = whole | {"nodes": [*whole["nodes"], {"name": "gone"}], "strategy": REPLICATE}
    del three["cuts"]
    bad = {
        "other.json": (msgspec.json.encode(other), "is a plan for another model: lenet"),
        "nodes.json": (msgspec.json.encode(three), "is for 3 nodes; 2 are here: gone is missing"),
        "text.json": (b"not a plan", "text.json"),
    }
    for name, (data, words) in bad.items():
        (tmp_path / name).write_bytes(data)
        drop(page, tmp_path / name)
        wait_for(lambda words=words: page._files.told.says(words))
        assert page._files.told.accessibleName().startswith("The plan was not loaded")
    page._files.files.load(tmp_path / "missing.json", page._files.usable_nodes())
    wait_for(lambda: page._files.told.says("cannot be read"))
    page._files.files.save(tmp_path / "no" / "folder.json", request, None)
    wait_for(lambda: page._files.told.says("cannot be written"))
    assert bridge.request == request
