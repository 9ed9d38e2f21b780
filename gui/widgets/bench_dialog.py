"""The dialog that compares all strategies: start, watch, cancel, and take one over."""

from __future__ import annotations

from typing import Final

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QDialog, QStackedWidget, QWidget

from gui.bench import median_error, right_pairs
from gui.bridge import Bridge
from gui.theme import L, M, S
from gui.widgets.banner import Banner
from gui.widgets.basics import EmptyState, button, column, label, row
from gui.widgets.bench_table import BenchTable
from gui.widgets.fields import spin_box
from gui.widgets.formats import grouped
from gui.widgets.progress_bar import ProgressBar
from gui.widgets.units import percent

SECONDS_WIDTH: Final = 130
BAR_WIDTH: Final = 320
MOST_SECONDS: Final = 120
DEFAULT_SECONDS: Final = 4


class BenchDialog(QDialog):
    """Shows the bridge's comparison; closing it stops nothing, and it shows the same when it is opened again."""

    taken = Signal(object)
    """PlanRequest that a person wants to use."""

    def __init__(self, bridge: Bridge, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._bridge = bridge
        self.setWindowTitle(self.tr("Compare strategies"))
        self.resize(1040, 560)
        self._table = BenchTable()
        self._seconds = spin_box(1, MOST_SECONDS, DEFAULT_SECONDS, self.tr("Seconds for each strategy"))
        self._seconds.setSuffix(self.tr(" s each"))
        self._start = button(self.tr("Start"), self.start, role="primary", icon="play")
        self._cancel = button(self.tr("Cancel"), bridge.bench.cancel, role="danger", icon="stop")
        self._doing = label("", "small")
        self._bar = ProgressBar(self.tr("Progress of the comparison"), BAR_WIDTH)
        self._problem = Banner("warn")
        self._summary = label("", "", wrap=True)
        self._notes = label("", "small", wrap=True, selectable=True)
        self._take = button(self.tr("Use this plan"), self._taken, icon="partition")
        self._take.setToolTip(self.tr("Show the selected strategy on the Partition page"))
        self._close = button(self.tr("Close"), self.accept)
        self._build()
        bench = bridge.bench
        bench.changed.connect(self._show)
        bench.progressed.connect(self._progress)
        for signal in (bridge.phaseChanged, bridge.nodesChanged, bridge.modelOpened):
            signal.connect(lambda *_what: self._show())
        self._table.chosen.connect(lambda _line: self._show_take())
        self._show()

    def _build(self) -> None:
        heading = label(self.tr("Every strategy on the same inputs, predicted beside measured"), "heading")
        about = label(
            self.tr(
                "Each is deployed on all ready nodes and runs random inputs for some seconds. What is deployed now is "
                "released first; one node alone is always among them."
            ),
            "caption",
            wrap=True,
        )
        self._seconds.setFixedWidth(SECONDS_WIDTH)
        controls = row(self._seconds, self._start, self._cancel, self._bar, self._doing, None, spacing=M)
        empty = EmptyState(
            "compare", self.tr("Nothing compared yet"), self.tr("Press Start: strategies appear here as they are done.")
        )
        self._stack = QStackedWidget()
        self._stack.addWidget(empty)
        self._stack.addWidget(self._table)
        whole = column(heading, about, controls, self._problem, spacing=M, margins=(L, L, L, L))
        whole.addWidget(self._stack, 1)
        whole.addWidget(self._summary)
        whole.addWidget(self._notes)
        whole.addLayout(row(None, self._take, self._close, spacing=S))
        self.setLayout(whole)

    def start(self) -> None:
        """With the seconds that were set."""
        self._bridge.bench.start(float(self._seconds.value()))

    def _show(self) -> None:
        bench = self._bridge.bench
        running, obstacle = bench.running, bench.obstacle()
        self._table.compared.set_lines(bench.lines)
        self._stack.setCurrentIndex(1 if bench.lines else 0)
        self._start.setVisible(not running)
        self._start.setEnabled(not obstacle)
        self._start.setToolTip(obstacle)
        self._seconds.setEnabled(not running)
        self._cancel.setVisible(running)
        self._bar.setVisible(running)
        if not running:
            self._doing.setText(obstacle)
        if bench.problem:
            self._problem.say("", bench.problem, "warn")
        else:
            self._problem.clear()
        self._summary.setText(self._words())
        self._summary.setVisible(bool(self._summary.text()))
        self._notes.setText("\n".join(bench.notes))
        self._notes.setVisible(bool(bench.notes))
        self._show_take()

    def _words(self) -> str:
        bench = self._bridge.bench
        error = median_error(bench.lines)
        if error is None or bench.running:
            return ""
        words = self.tr("{0}, micro-batches of {1}: the median error of predicted throughput is {2}.").format(
            bench.model_name, grouped(bench.micro_batch), percent(error)
        )
        right, whole = right_pairs(bench.lines)
        if whole:
            words += " " + self.tr("{0} of {1} pairs of strategies are in the predicted order.").format(right, whole)
        return words

    def _progress(self, strategy: str, done: float) -> None:
        self._bar.show_share(done)
        self._doing.setText(self.tr("running {0}, {1}").format(strategy, percent(done)))

    def _show_take(self) -> None:
        line = self._table.chosen_line()
        self._take.setEnabled(line is not None and line.request is not None and not self._bridge.bench.running)

    def _taken(self) -> None:
        line = self._table.chosen_line()
        if line is not None and line.request is not None:
            self.taken.emit(line.request)
            self.accept()
