"""The window without any node: pages, keys, themes, empty states, names for people who cannot see it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from PySide6.QtCore import QSettings, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QAbstractButton, QApplication, QLabel, QLineEdit, QSlider, QWidget

from core.cluster.events import NodeChanged
from core.cluster.node import NodeState
from core.plan.form import NodeId
from core.run.report import Latency, NodeUse, RunReport
from gui.bridge import Bridge
from gui.inspector import Inspection
from gui.main_window import PAGE_NAMES, MainWindow
from gui.theme import Mode, Theme
from gui.widgets.basics import EmptyState
from gui.widgets.dialogs import AddressDialog, PairDialog
from gui.widgets.doctor import DoctorDialog
from gui.work import running
from tests.gui.pages import node_of

Wait = Callable[..., None]


@pytest.fixture
def window(application: QApplication) -> Iterator[MainWindow]:
    made = MainWindow(Bridge(), restore=False)
    made.show()
    QTest.qWaitForWindowExposed(made)
    yield made
    made.close()
    made.deleteLater()


def test_every_page_is_reached_by_its_key_and_its_button(window: MainWindow) -> None:
    for number, name in enumerate(PAGE_NAMES, start=1):
        QTest.keyClick(window, getattr(Qt.Key, f"Key_{number}"), Qt.KeyboardModifier.ControlModifier)
        assert window.current_page() == name
        assert window.pages[name].isVisible()


def test_no_page_is_empty_without_saying_what_to_do(window: MainWindow) -> None:
    for name in PAGE_NAMES:
        window.show_page(name)
        QApplication.processEvents()
        page = window.pages[name]
        states = [w for w in page.findChildren(EmptyState) if w.isVisible()]
        words = [label.text() for label in page.findChildren(QLabel) if label.isVisible() and len(label.text()) > 20]
        assert states or words, name


def test_everything_that_takes_input_has_a_name(window: MainWindow) -> None:
    for widget in window.findChildren(QWidget):
        if isinstance(widget, QAbstractButton | QSlider) and not widget.objectName().startswith("qt_"):
            assert widget.accessibleName() or widget.text() or widget.toolTip(), widget  # type: ignore[union-attr]


def test_the_theme_switches_and_is_remembered(window: MainWindow) -> None:
    theme = Theme.of()
    before = theme.mode
    try:
        theme.set_mode(Mode.DARK)
        assert theme.tokens.dark
        dark = window.grab().toImage().pixelColor(400, 700).lightnessF()
        theme.set_mode(Mode.LIGHT)
        assert not theme.tokens.dark
        assert window.grab().toImage().pixelColor(400, 700).lightnessF() > dark + 0.5
        assert QSettings().value("theme", type=str) == "light"
    finally:
        theme.set_mode(before)


def test_the_inspector_hides_and_shows(window: MainWindow) -> None:
    window.resize(1440, 900)
    inspector = window._inspector
    assert inspector.isVisible()
    QTest.keyClick(window, Qt.Key.Key_I, Qt.KeyboardModifier.ControlModifier)
    assert not inspector.isVisible()
    QTest.keyClick(window, Qt.Key.Key_I, Qt.KeyboardModifier.ControlModifier)
    assert inspector.isVisible()
    window.resize(1100, 800)
    assert not inspector.isVisible()


def test_the_inspector_follows_the_page(window: MainWindow) -> None:
    window.show_page("history")
    window.pages["nodes"].inspected.emit(Inspection("pi-9", [("State", "ready")]))
    texts = {label.text() for label in window._inspector.findChildren(QLabel)}
    assert "pi-9" not in texts
    window.show_page("nodes")
    texts = {label.text() for label in window._inspector.findChildren(QLabel)}
    assert {"pi-9", "State", "ready"} <= texts


def test_the_status_line_counts_as_ready_what_the_pages_can_use(window: MainWindow) -> None:
    window.bridge._on_event(NodeChanged(node_of("workshop")))
    window.bridge._on_event(NodeChanged(node_of("spare", state=NodeState.BUSY)))
    assert len(window.bridge.ready_nodes()) == 1
    assert window._status._node_words() == "1 of 2 ready, 1 busy"


def test_errors_are_shown_until_dismissed(window: MainWindow) -> None:
    window.bridge.errorRaised.emit("Not found", "There is no such node.", "Look again.")
    assert window._problem.isVisible()
    assert "There is no such node. Look again." in window._problem.accessibleName()


def test_a_model_that_cannot_be_opened_is_told_in_words(window: MainWindow, wait_for: Wait) -> None:
    failures: list[str] = []
    window.bridge.modelFailed.connect(failures.append)
    window.bridge.openModel("no-such-model")
    wait_for(lambda: failures)
    assert "no-such-model" in failures[0]
    assert window._problem.isVisible()


def test_discovery_that_is_off_says_why(window: MainWindow) -> None:
    page = window.pages["nodes"]
    window.bridge.discoveryProblem.emit("Multicast is blocked here.")
    banner = page._discovery  # type: ignore[attr-defined]
    assert banner.isVisible()
    assert "Multicast is blocked here." in banner.accessibleName()
    window.bridge.discoveryProblem.emit("")
    assert not banner.isVisible()


def test_dialogs_act_only_when_complete(window: MainWindow) -> None:
    dialog = AddressDialog(window)
    field = dialog.findChild(QLineEdit)
    assert not dialog.act.isEnabled()
    field.setText("lab-pc:7420")
    assert dialog.act.isEnabled()
    assert dialog.address() == ("lab-pc", 7420)
    pair = PairDialog(window, "10.0.0.4", 7421)
    host, code = pair.findChildren(QLineEdit)[:2]
    assert host.text() == "10.0.0.4:7421"
    assert not pair.act.isEnabled()
    code.setText("ABCD-EFGH-JK")
    assert pair.act.isEnabled()
    assert pair.answer() == ("10.0.0.4", 7421, "ABCD-EFGH-JK")
    for made in (dialog, pair):
        made.deleteLater()


def report(strategy: str, throughput: float, started: float) -> RunReport:
    return RunReport(
        model="digits-cnn",
        strategy=strategy,
        items=600,
        seconds=600 / throughput,
        throughput=throughput,
        latency_ms=Latency(p50=2.0, p95=3.0, p99=4.0),
        nodes=(NodeUse("pi-1", NodeId("k" * 40), 600, 0.5, 0.6, 1000, 2000),),
        started=started,
    )


def test_runs_are_listed_compared_exported_and_deleted(window: MainWindow, wait_for: Wait, tmp_path: object) -> None:
    page = window.pages["history"]
    table, shown = page._table, lambda: page._shown  # type: ignore[attr-defined]
    window.show_page("history")
    now = time.time()
    running.save_run(report("replicate", 200.0, now - 60))
    page.reload()  # type: ignore[attr-defined]
    wait_for(lambda: len(shown()) == 1)
    running.save_run(report("pipeline", 300.0, now))
    window.bridge.historyChanged.emit()
    wait_for(lambda: len(shown()) == 2)
    assert table.runs.rowCount() == 2
    words = {label.text() for label in page._comparison.findChildren(QLabel)}  # type: ignore[attr-defined]
    assert {"replicate", "pipeline", "+50.0 %", "differs"} <= words
    target = tmp_path / "runs.csv"  # type: ignore[operator]
    page.export(target)  # type: ignore[attr-defined]
    wait_for(target.exists)
    assert len(target.read_text().splitlines()) == 3
    page.delete()  # type: ignore[attr-defined]
    wait_for(lambda: table.runs.rowCount() == 0)


def test_the_doctor_says_what_it_found(window: MainWindow, wait_for: Wait) -> None:
    dialog = DoctorDialog(window.bridge, window)
    dialog.show()
    dialog.examine()
    wait_for(dialog._again.isEnabled)
    words = [label.text() for label in dialog.findChildren(QLabel) if label.text()]
    assert "packages" in words
    assert len(words) > 8
    before = _clusters()
    dialog.examine()
    wait_for(lambda: _clusters() > before)  # it looks for nodes
    dialog.deleteLater()  # findings that come later find nobody
    wait_for(lambda: _clusters() == before)


def _clusters() -> int:
    return sum(thread.name == "cluster" for thread in threading.enumerate())
