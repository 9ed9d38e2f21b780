"""The History page: every run that was made, compared, exported, deleted, made again."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFileDialog, QMessageBox, QSplitter, QStackedWidget

from core.errors import ShardboardError
from core.run import history
from core.run.history import RunSummary
from core.run.report import RunReport
from gui.bridge import Bridge
from gui.inspector import Inspection
from gui.theme import M
from gui.widgets import units
from gui.widgets.basics import Card, EmptyState, Page, button
from gui.widgets.comparison import Comparison
from gui.widgets.run_table import RunTable, when_words
from gui.widgets.scroll_area import ScrollArea


class HistoryPage(Page):
    """The list of runs above, one or two of them below. Reads and writes the history on worker threads."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__()
        self.set_head(self.tr("History"), self.tr("Every run is kept. Select two to compare them."))
        self._bridge = bridge
        self._chosen: list[int] = []
        self._shown: list[RunReport] = []
        self._newest = 0
        """Id of the newest run that the list has shown."""
        self._build()
        self._show_tools()
        bridge.historyChanged.connect(self.reload)
        self._table.chosen.connect(self._choose)
        self.reload()

    def _build(self) -> None:
        tr = self.tr
        self._again = button(tr("Run again"), self._run_again, icon="replay")
        self._json = button(tr("Export JSON"), partial(self._export, "json"), icon="export")
        self._csv = button(tr("Export CSV"), partial(self._export, "csv"), icon="export")
        self._delete = button(tr("Delete"), self._ask_delete, role="danger", icon="trash")
        for tool in (self._again, self._json, self._csv, self._delete):
            self.tools.addWidget(tool)
        self._table = RunTable()
        self._card = Card(tr("Comparison"))
        self._comparison = Comparison()
        area = ScrollArea(self._comparison, tr("Comparison"))
        self._hint = EmptyState(
            "compare", tr("No run selected"), tr("Select a run to see its figures, or two to see how they differ.")
        )
        self._below = QStackedWidget()
        self._below.addWidget(self._hint)
        self._below.addWidget(area)
        self._card.body.addWidget(self._below, 1)
        split = QSplitter(Qt.Orientation.Vertical)
        split.setChildrenCollapsible(False)
        split.setHandleWidth(M)
        split.addWidget(self._table)
        split.addWidget(self._card)
        split.setStretchFactor(0, 2)
        split.setStretchFactor(1, 3)
        empty = EmptyState(
            "history",
            tr("No run yet"),
            tr("Deploy a plan and run it: its throughput, latency and settings are kept here, to compare and repeat."),
        )
        self._stack = QStackedWidget()
        self._stack.addWidget(empty)
        self._stack.addWidget(split)
        self.body.addWidget(self._stack, 1)

    # ------------------------------------------------------------ the list

    def reload(self) -> None:
        """Read the list again; a new run is selected beside the one before it."""
        self._bridge.tasks.start(history.list_runs, self._show_runs, self._failed)

    def _show_runs(self, runs: Sequence[RunSummary]) -> None:
        self._stack.setCurrentIndex(1 if runs else 0)
        self._table.set_runs(runs)
        newest = runs[0].id if runs else 0
        if newest > self._newest:
            for run_id in [chosen for chosen in self._chosen if chosen != self._newest]:
                self._table.choose(run_id, chosen=False)
            self._table.choose(newest)
        self._newest = newest

    def _failed(self, error: ShardboardError) -> None:
        self._bridge.errorRaised.emit(self.tr("The history"), error.message, error.hint)

    def _choose(self, ids: list[int]) -> None:
        self._chosen = ids
        self._show_tools()
        if not ids:
            self._below.setCurrentIndex(0)
            self.inspected.emit(None)
            return
        wanted = ids[:2]
        self._bridge.tasks.start(
            lambda: [history.load_run(run_id) for run_id in wanted], partial(self._show_reports, wanted), self._failed
        )

    def _show_reports(self, wanted: list[int], reports: list[RunReport]) -> None:
        if wanted != self._chosen[:2]:
            return
        # the older of two is A, so that a difference reads as what changed since
        self._shown = sorted(reports, key=lambda report: report.started)
        second = self._shown[1] if len(self._shown) > 1 else None
        self._card.heading.setText(self.tr("Comparison") if second else self.tr("Run"))
        self._comparison.show_runs(self._shown[0], second)
        self._below.setCurrentIndex(1)
        self.inspected.emit(self._describe(self._shown[-1]))

    def _show_tools(self) -> None:
        count = len(self._chosen)
        self._again.setEnabled(count == 1)
        for tool in (self._json, self._csv, self._delete):
            tool.setEnabled(count > 0)

    def _describe(self, report: RunReport) -> Inspection:
        rows: list[tuple[str, str | None]] = []
        for node in report.nodes:
            rows.append((node.name, None))
            rows.append((self.tr("Items"), units.quantity(node.items)))
            rows.append((self.tr("Busy"), units.percent(node.busy)))
            rows.append((self.tr("CPU"), units.percent(node.cpu)))
            rows.append((self.tr("Sent"), units.nbytes(node.sent_bytes)))
            rows.append((self.tr("Received"), units.nbytes(node.received_bytes)))
        rows += [(self.tr("Note"), note) for note in report.notes]
        return Inspection(report.model, rows, self.tr("{0}, {1}").format(report.strategy, when_words(report.started)))

    # ------------------------------------------------------------ what can be done with runs

    def _run_again(self) -> None:
        if self._shown:
            self._bridge.rerunRequested.emit(self._shown[-1])

    def _export(self, kind: str) -> None:
        names = {"json": self.tr("JSON (*.json)"), "csv": self.tr("Comma separated values (*.csv)")}
        path, _ = QFileDialog.getSaveFileName(self, self.tr("Export runs"), f"runs.{kind}", names[kind])
        if path:
            self.export(Path(path))

    def export(self, target: Path) -> None:
        """Write the selected runs to ``target``; its suffix chooses the form."""
        self._bridge.tasks.start(partial(history.export_runs, list(self._chosen), target), None, self._failed)

    def _ask_delete(self) -> None:
        box = QMessageBox(self)
        box.setIcon(QMessageBox.Icon.Question)
        box.setText(self.tr("Delete %n run(s) from the history?", "", len(self._chosen)))
        box.setInformativeText(self.tr("This cannot be undone."))
        delete = box.addButton(self.tr("Delete"), QMessageBox.ButtonRole.DestructiveRole)
        box.addButton(QMessageBox.StandardButton.Cancel)
        box.buttonClicked.connect(lambda clicked: self.delete() if clicked is delete else None)
        box.finished.connect(box.deleteLater)
        box.open()

    def delete(self) -> None:
        """Delete the selected runs."""
        ids = list(self._chosen)
        self._bridge.tasks.start(
            lambda: [history.delete_run(run_id) for run_id in ids], lambda _done: self.reload(), self._failed
        )
