"""The Run page: what goes in, start and stop, what comes out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from PySide6.QtCore import Qt
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QFileDialog, QSizePolicy, QStackedWidget, QVBoxLayout, QWidget

from core.plan.form import PlanRequest
from core.run.report import RunProgress, RunReport
from gui.bridge import Bridge, Phase
from gui.inspector import Inspection
from gui.results_export import export_results
from gui.results_view import ReadResult, describe
from gui.theme import L, M
from gui.widgets.banner import Banner
from gui.widgets.basics import Card, EmptyState, Page, Tile, button, column, label, row
from gui.widgets.bench_dialog import BenchDialog
from gui.widgets.formats import grouped
from gui.widgets.processing_editor import ProcessingEditor, summary
from gui.widgets.progress_bar import ProgressBar
from gui.widgets.results import ResultsGrid
from gui.widgets.run_input import RunInput
from gui.widgets.units import DASH, nbytes, percent, quantity, seconds, signed_percent
from gui.work.running import Result

if TYPE_CHECKING:
    from core.model.graph import Model
    from core.model.library import LibraryEntry
    from core.model.processing_types import Processing

LEFT_WIDTH: Final = 348
NARROW_LEFT: Final = 338
WIDE: Final = 960
"""Pixels of the page in which the left part is that wide."""
NO_MODEL, NOT_DEPLOYED, READY = range(3)
WAITING, RESULTS = range(2)


class RunPage(Page):
    """See the module's docstring."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__()
        self.set_head(self.tr("Run"), self.tr("Send inputs through the deployed plan and see what comes out."))
        self._bridge = bridge
        self._editor: ProcessingEditor | None = None
        self._build()
        self._connect()
        if bridge.model is not None:
            self._model_opened(bridge.model, bridge.entry)
        self._refresh()

    # ---------------------------------------------------------------- layout

    def _build(self) -> None:
        self._run = button(self.tr("Run"), self.run, role="primary", icon="play")
        self._run.setShortcut("Ctrl+Return")
        self._stop = button(self.tr("Stop"), self._bridge.stop, role="danger", icon="stop")
        self._compare = button(self.tr("Compare strategies"), self.compare, icon="compare")
        self._compare.setToolTip(self.tr("Run every strategy on the same inputs and see predicted beside measured"))
        self.tools.addWidget(self._compare)
        self.tools.addWidget(self._stop)
        self.tools.addWidget(self._run)
        self._good, self._bad = Banner("good"), Banner("bad")
        for banner in (self._good, self._bad):
            banner.tools.addWidget(button(self.tr("Dismiss"), banner.clear, role="flat"))
        self._left = self._build_left()
        both = row(self._left, spacing=L)
        both.addLayout(self._build_right(), 1)
        content = QWidget()
        content.setLayout(column(self._good, self._bad, both, spacing=M))
        self._stack = QStackedWidget()
        to_model = button(self.tr("Go to Model"), partial(self.wanted.emit, "model"), role="primary")
        to_partition = button(self.tr("Go to Partition"), partial(self.wanted.emit, "partition"), role="primary")
        self._stack.addWidget(
            EmptyState(
                "model", self.tr("No model is open"), self.tr("Open a model, split it, then run it here."), (to_model,)
            )
        )
        self._stack.addWidget(
            EmptyState(
                "partition",
                self.tr("Nothing is deployed"),
                self.tr("Choose a partition and press Deploy; the nodes then hold their parts and can run."),
                (to_partition,),
            )
        )
        self._stack.addWidget(content)
        self.body.addWidget(self._stack, 1)

    def _build_left(self) -> QWidget:
        self._input = RunInput()
        card = Card(self.tr("Input"))
        card.body.addWidget(self._input)
        processing = Card(self.tr("Processing"))
        self._processing = label("", "", wrap=True)
        self._processing.setTextFormat(Qt.TextFormat.PlainText)
        self._edit = button(self.tr("Edit…"), self.edit_processing)
        processing.tools.addWidget(self._edit)
        processing.body.addWidget(self._processing)
        self._processing_note = label("", "small", wrap=True)
        processing.body.addWidget(self._processing_note)
        left = QWidget()
        left.setLayout(column(card, processing, None, spacing=L))
        return left

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._left.setFixedWidth(LEFT_WIDTH if self.width() >= WIDE else NARROW_LEFT)

    def _build_right(self) -> QVBoxLayout:
        self._throughput = Tile(self.tr("Items per second"))
        self._latency = Tile(self.tr("Latency"), self.tr("From sending a micro-batch to its last result; the median"))
        self._done = Tile(self.tr("Items done"))
        tiles = row(spacing=M)
        for tile in (self._throughput, self._latency, self._done):
            tile.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
            tiles.addWidget(tile, 1)
        self._bar = ProgressBar(self.tr("Progress of the run"))
        self._grid = ResultsGrid()
        card = Card(self.tr("Results"))
        self._results_hint = card.hint
        self._export = button(self.tr("Export…"), self.export, icon="export")
        self._export.setToolTip(self.tr("Save the results shown here as .npz or .csv"))
        card.tools.addWidget(self._export)
        waiting = EmptyState("play", self.tr("No results yet"), self.tr("Press Run: results appear here as they come."))
        self._results_stack = QStackedWidget()
        self._results_stack.addWidget(waiting)
        self._results_stack.addWidget(self._grid)
        card.body.addWidget(self._results_stack, 1)
        right = column(tiles, self._bar, card, spacing=M)
        right.setStretch(2, 1)
        return right

    def _connect(self) -> None:
        bridge = self._bridge
        bridge.modelOpened.connect(self._model_opened)
        bridge.modelFailed.connect(self._model_failed)
        bridge.processingChanged.connect(self._processing_changed)
        bridge.phaseChanged.connect(lambda _phase: self._refresh())
        bridge.deployed.connect(lambda _deployment: self._refresh())
        bridge.released.connect(self._refresh)
        bridge.runStarted.connect(self._started)
        bridge.runProgress.connect(self._progress)
        bridge.resultsArrived.connect(self._results_arrived)
        bridge.runFinished.connect(self._finished)
        bridge.runFailed.connect(self._failed)
        bridge.rerunRequested.connect(self._input.adopt)
        self._input.changed.connect(self._refresh)
        self._grid.picked.connect(self._inspect)
        self._grid.results.flushed.connect(self._count)

    def shows(self, message: str) -> bool:
        return self._bad.says(message)

    # ---------------------------------------------------------------- actions

    def run(self) -> None:
        """Start with what the Input card says."""
        order = self._input.order()
        self._bridge.run(order.spec, order.repeat, order.in_flight, order.sink, seconds=order.seconds)

    def compare(self) -> BenchDialog:
        """Open the comparison of all strategies."""
        dialog = BenchDialog(self._bridge, self)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.taken.connect(self._take)
        dialog.open()
        return dialog

    def _take(self, request: PlanRequest) -> None:
        """Show a plan that was compared on the Partition page."""
        self.wanted.emit("partition")
        self._bridge.planWanted.emit(request)

    def edit_processing(self) -> None:
        """Open the editor for the model's pre- and postprocessing."""
        model, processing = self._bridge.base_model, self._bridge.processing
        if model is None or processing is None:
            return
        self._editor = ProcessingEditor(model.name, model.inputs, model.outputs, processing, self)
        self._editor.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self._editor.applied.connect(self._bridge.setProcessing)
        self._editor.finished.connect(self._editor_closed)
        self._editor.open()

    def export(self) -> None:
        """Ask for a file and save the results shown."""
        path, _ = QFileDialog.getSaveFileName(
            self, self.tr("Export results"), "results.npz", self.tr("NumPy arrays (*.npz);;Table (*.csv)")
        )
        if path:
            self.export_to(Path(path))

    def export_to(self, path: Path) -> None:
        """Save the results shown, in the order of the items, as .npz or .csv."""
        items = [shown.item for shown in reversed(self._grid.results.results)]
        labels = self._labels()
        self._bridge.tasks.start(
            partial(export_results, path, items, labels),
            lambda _none: self._good.say(
                self.tr("Exported"), self.tr("%n result(s) to ", "", len(items)) + str(path), "good"
            ),
            lambda error: self._bad.say(self.tr("Not exported"), str(error), "bad"),
        )

    # ---------------------------------------------------------------- model and processing

    def _labels(self) -> tuple[str, ...]:
        processing, entry = self._bridge.processing, self._bridge.entry
        return (processing.labels if processing else ()) or (entry.labels if entry else ())

    def _model_opened(self, model: Model, entry: LibraryEntry | None) -> None:
        self._input.show_model(model.name, entry.samples if entry else None)
        self._grid.results.set_labels(self._labels())
        self._grid.results.clear()
        self._good.clear()
        self._bad.clear()
        self._reset_tiles()
        self._refresh()

    def _processing_changed(self, processing: Processing) -> None:
        if self._editor is not None:
            self._editor.accept()
        lines = [f"{name}: {', '.join(steps)}" for name, steps in summary(processing)]
        self._processing.setText("\n".join(lines) or self.tr("None: tensors are sent and received as they are."))
        self._grid.results.set_labels(self._labels())

    def _model_failed(self, message: str) -> None:
        if self._editor is not None:
            self._editor.say_problem(message)

    def _editor_closed(self) -> None:
        self._editor = None

    # ---------------------------------------------------------------- the run

    def _refresh(self) -> None:
        bridge = self._bridge
        deployment, phase = bridge.deployment, bridge.phase
        running = phase in {Phase.RUNNING, Phase.STOPPING}
        has_results = bool(self._grid.results.results)
        if bridge.model is None:
            self._stack.setCurrentIndex(NO_MODEL)
        else:
            self._stack.setCurrentIndex(READY if deployment is not None or has_results else NOT_DEPLOYED)
        stale = deployment is not None and bridge.model is not None and deployment.plan.model != bridge.model.sha256
        self._processing_note.setText(
            self.tr("Changed since the last deployment: deploy again to use it.") if stale else ""
        )
        self._processing_note.setVisible(stale)
        self._input.setEnabled(not running)
        self._edit.setEnabled(not running and bridge.processing is not None)
        self._run.setEnabled(phase is Phase.DEPLOYED and not stale and self._input.is_complete())
        self._run.setVisible(not running)
        self._stop.setVisible(running)
        self._stop.setText(self.tr("Stop at once") if phase is Phase.STOPPING else self.tr("Stop"))
        self._export.setEnabled(has_results and not running)

    def _reset_tiles(self) -> None:
        for tile in (self._throughput, self._latency, self._done):
            tile.set(DASH)
        self._bar.show_share(0.0)

    def _started(self) -> None:
        self._good.clear()
        self._bad.clear()
        self._grid.results.set_labels(self._labels())
        self._grid.results.clear()
        self._reset_tiles()
        self._bar.show_busy()
        self._refresh()

    def _progress(self, progress: RunProgress) -> None:
        total = progress.items_total
        if total > 0:
            self._bar.show_share(progress.items_done / total)
        predicted, error = self._bridge.truth.prediction, self._bridge.prediction_error()
        expected = ""
        if predicted is not None and error is not None:
            expected = self.tr("{0} against {1}").format(signed_percent(error), quantity(predicted.throughput))
        elif predicted is not None:
            expected = self.tr("{0} predicted").format(quantity(predicted.throughput))
        self._throughput.set(quantity(progress.throughput), expected)
        expected = self.tr("{0} predicted").format(seconds(predicted.loaded_latency_s)) if predicted else ""
        self._latency.set(seconds(progress.latency_p50_ms / 1e3), expected)
        flying = self.tr("{0} in flight").format(progress.in_flight)
        whole = self.tr("of {0}").format(grouped(total)) if total > 0 else ""
        self._done.set(grouped(progress.items_done), whole or flying)

    def _results_arrived(self, results: Sequence[Result]) -> None:
        self._grid.results.add(results)

    def _count(self) -> None:
        model = self._grid.results
        self._results_stack.setCurrentIndex(RESULTS if model.results else WAITING)
        words = self.tr("%n shown, newest first", "", len(model.results)) if model.results else ""
        if model.judged:
            share = percent(model.right / model.judged, 1)
            words += "  ·  " + self.tr("{0} of {1} right").format(share, grouped(model.judged))
        self._results_hint.setText(words)

    def _finished(self, report: RunReport) -> None:
        self._grid.results.flush()
        self._bar.show_share(1.0)
        self._throughput.set(
            quantity(report.throughput),
            self._against(report),
        )
        self._latency.set(
            seconds(report.latency_ms.p50 / 1e3), self.tr("95 % under {0}").format(seconds(report.latency_ms.p95 / 1e3))
        )
        self._done.set(grouped(report.items), self.tr("in {0}").format(seconds(report.seconds)))
        words = self.tr("{0} items in {1}, {2} items/s.").format(
            grouped(report.items), seconds(report.seconds), quantity(report.throughput)
        )
        if report.efficiency is not None:
            words += " " + self.tr("Efficiency {0}.").format(percent(report.efficiency))
        sent = sum(node.sent_bytes for node in report.nodes)
        if sent:
            words += " " + self.tr("The nodes sent {0}.").format(nbytes(sent))
        self._good.say(self.tr("Run finished"), " ".join((words, *report.notes)), "good")
        self._refresh()

    def _against(self, report: RunReport) -> str:
        """What was predicted, and the error of it."""
        if report.predicted is None or report.predicted.throughput <= 0:
            return ""
        error = report.throughput / report.predicted.throughput - 1.0
        return self.tr("{0} against {1}").format(signed_percent(error), quantity(report.predicted.throughput))

    def _failed(self, message: str) -> None:
        self._grid.results.flush()
        self._bar.show_share(0.0)
        self._bad.say(self.tr("The run ended early"), message, "bad")
        self._refresh()

    # ---------------------------------------------------------------- inspector

    def _inspect(self, result: ReadResult) -> None:
        rows: list[tuple[str, str | None]] = [(self.tr("Item"), str(result.item.index + 1))]
        if result.item.name:
            rows.append((self.tr("Name"), result.item.name))
        if result.expected:
            rows.append((self.tr("Should be"), result.expected))
        if result.guesses:
            rows.append((self.tr("Best classes"), None))
            rows += [
                (guess.label, percent(guess.value, 2) if result.probabilities else quantity(guess.value))
                for guess in result.guesses
            ]
        rows.append((self.tr("Outputs"), None))
        rows += [(name, describe({name: array}).partition(": ")[2]) for name, array in result.item.outputs.items()]
        title = result.guesses[0].label if result.guesses else self.tr("Result {0}").format(result.item.index + 1)
        self.inspected.emit(Inspection(title, rows, result.item.name))
