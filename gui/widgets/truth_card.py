"""Measured beside predicted for the plan that runs, and the way to take what was measured into the predictions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QGridLayout, QLabel, QWidget

from core.run.comparing import Beside, NodeComparison
from gui.bridge import Bridge, Phase
from gui.theme import L, M, S
from gui.truth import Recalibrated
from gui.widgets import units
from gui.widgets.basics import Banner, Card, Dot, button, label, line, row, set_look
from gui.widgets.cycle_bar import MeasuredCycle
from gui.widgets.node_budget import MeasuredRow, clear_layout

FAR: Final = 0.25
"""An error from here on is worth a look."""
Format = Callable[[float | None], str]


class _Figure:
    """Measured, and below it predicted with the error."""

    def __init__(self, name: str) -> None:
        self.measured, self.predicted = label(units.DASH), label("", "small")
        self.measured.setAccessibleName(name)

    def show(self, beside: Beside, write: Format, *, share: bool = False) -> None:
        error = beside.difference if share else beside.error
        self.measured.setText(write(beside.measured))
        words = write(beside.predicted)
        if error is not None:
            words = f"{words}, {_error(error, share=share)}"
        self.predicted.setText(words)
        look = "small" if error is None or abs(error) < FAR else "warn"
        set_look(self.predicted, "role", look)
        self.measured.setAccessibleDescription(words)


def _error(error: float, *, share: bool = False) -> str:
    """``+6 %``; of a share in points: ``+6``."""
    if abs(error) < 0.005:
        return "±0" if share else "±0 %"
    return f"{'−' if error < 0 else '+'}{abs(error) * 100:.0f}" if share else units.signed_percent(error)


class TruthCard(Card):
    """Hidden until something was measured."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__(bridge.tr("Measured beside predicted"))
        self._bridge = bridge
        self._nodes: tuple[str, ...] = ()
        self._figures: dict[str, tuple[_Figure, ...]] = {}
        self._recalibrate = button(self.tr("Recalibrate"), bridge.truth.recalibrate, icon="balance")
        self._recalibrate.setToolTip(
            self.tr("Take the speeds that this run showed for this model; every prediction follows")
        )
        self.tools.addWidget(self._recalibrate)
        self._done = Banner("good")
        self.undo = button(self.tr("Undo"), bridge.truth.undo, role="flat")
        self.again = button(self.tr("Measure again"), self._measure_again, role="flat")
        self.again.setToolTip(self.tr("Benchmark these nodes anew, and forget what runs showed of them"))
        self._done.tools.addWidget(self.undo)
        self._done.tools.addWidget(self.again)
        self._total = _Total()
        self._grid = QGridLayout()
        self._grid.setHorizontalSpacing(L)
        self._grid.setVerticalSpacing(S)
        self._note = label("", "small", wrap=True)
        self.body.setSpacing(M)
        self.body.addWidget(self._done)
        self.body.addWidget(self._total)
        self.body.addLayout(self._grid)
        self.body.addWidget(self._note)
        bridge.truth.changed.connect(self._show)
        bridge.truth.recalibrated.connect(self._show_recalibrated)
        bridge.phaseChanged.connect(lambda _phase: self._show())
        self._show()

    def _show(self) -> None:
        comparison = self._bridge.truth.comparison
        shown = comparison is not None and self._bridge.deployment is not None
        self.setVisible(shown or not self._done.isHidden())
        self._total.setVisible(shown)
        self._note.setVisible(shown)
        self._recalibrate.setVisible(shown)
        self.again.setEnabled(self._bridge.phase in {Phase.IDLE, Phase.DEPLOYED} and not self._bridge.measuring)
        if comparison is None or not shown:
            self._lay_out(())
            return
        going = self._bridge.phase in {Phase.RUNNING, Phase.STOPPING}
        run = self.tr("in the run that goes on") if going else self.tr("in the last run of this plan")
        self.hint.setText(self.tr("{0}; small: predicted, and the error").format(run))
        self._total.fill(comparison.throughput, comparison.latency_s)
        self._lay_out(tuple(node.node for node in comparison.nodes))
        for node in comparison.nodes:
            self._fill(node)
        observed = any(node.compute_s.measured is not None for node in comparison.nodes)
        changes = self._bridge.truth.changes()
        self._recalibrate.setEnabled(bool(changes))
        self._note.setText(self._words(observed=observed, able=bool(changes)))

    def _measure_again(self) -> None:
        last = self._bridge.truth.last
        if last is not None:
            self._bridge.measureNodes(tuple(last.after))

    def _words(self, *, observed: bool, able: bool) -> str:
        if not observed:
            return self.tr("The nodes' own figures come after a second of work.")
        if not able:
            return self.tr("The nodes compute as fast as predicted: there is nothing to recalibrate.")
        return self.tr("For each micro-batch. Latency is predicted for an idle cluster; under load micro-batches wait.")

    def _fill(self, node: NodeComparison) -> None:
        compute, wait, sent, received, memory = self._figures[node.node]
        compute.show(node.compute_s, units.seconds)
        wait.show(node.wait, units.percent, share=True)
        sent.show(node.sent_bytes, units.nbytes)
        received.show(node.received_bytes, units.nbytes)
        memory.show(node.memory_bytes, units.nbytes)

    def _lay_out(self, nodes: tuple[str, ...]) -> None:
        if nodes == self._nodes:
            return
        self._nodes = nodes
        clear_layout(self._grid)
        self._figures = {}
        if not nodes:
            return
        heads = (
            (self.tr("Node"), ""),
            (self.tr("Computes"), self.tr("Seconds of a micro-batch")),
            (self.tr("Waits"), self.tr("Part of the time without computing: messages, or nothing to do")),
            (self.tr("Sends"), self.tr("Bytes of a micro-batch")),
            (self.tr("Receives"), self.tr("Bytes of a micro-batch")),
            (self.tr("Memory"), self.tr("Of the agent")),
        )
        for place, (text, tip) in enumerate(heads):
            head = label(text, "overline")
            head.setToolTip(tip)
            self._grid.addWidget(head, 0, place)
            self._grid.setColumnStretch(place, 2)
        self._grid.addWidget(line(), 1, 0, 1, len(heads))
        for number, node in enumerate(nodes):
            name = QWidget()
            name.setLayout(row(Dot(self._bridge.colour(node)), label(self._bridge.name_of(node)), None, spacing=S))
            at = 3 * number + 2
            if number:
                self._grid.addWidget(line(), at - 1, 0, 1, len(heads))
            self._grid.addWidget(name, at, 0, 2, 1)
            figures = tuple(_Figure(f"{self._bridge.name_of(node)}: {text}") for text, _ in heads[1:])
            for place, figure in enumerate(figures, 1):
                self._grid.addWidget(figure.measured, at, place)
                self._grid.addWidget(figure.predicted, at + 1, place)
            self._figures[node] = figures

    def _show_recalibrated(self, done: Recalibrated | None) -> None:
        if done is None:
            self._done.clear()
            self._show()
            return
        words = [
            self.tr("{0}: speed {1} → {2} (computes {3} where {4} were predicted)").format(
                self._bridge.name_of(change.node),
                f"{change.before:.2f}",
                f"{change.after:.2f}",
                units.seconds(change.measured_s),
                units.seconds(change.predicted_s),
            )
            for change in done.changes
        ]
        title = self.tr("Predictions for {0} follow this run now").format(done.model_name)
        self._done.say(title, "; ".join(words) + ".", "good")
        self._show()


def measured_rows(bridge: Bridge) -> dict[str, MeasuredRow]:
    """For the table of nodes, while the plan it shows is the one that is deployed."""
    if bridge.deployment is None or bridge.request != bridge.deployed_request or bridge.truth.comparison is None:
        return {}
    rows = {}
    for node in bridge.truth.comparison.nodes:
        seen = bridge.truth.observations.get(node.node)
        if seen is not None:
            words = bridge.tr("measured {0}").format(units.nbytes(seen.memory_bytes))
            if node.memory_bytes.error is not None:
                words = f"{words}, {units.signed_percent(node.memory_bytes.error)}"
            rows[str(node.node)] = MeasuredRow(MeasuredCycle(seen.compute_s, seen.cycle_s - seen.compute_s), words)
    return rows


class _Total(QWidget):
    """The plan as a whole, in one line."""

    def __init__(self) -> None:
        super().__init__()
        self._rate, self._rate_error = label("", "number"), label("", "small")
        self._latency, self._latency_error = label("", "number"), label("", "small")
        parts: list[QLabel] = [
            label(self.tr("Throughput"), "overline"),
            self._rate,
            self._rate_error,
            label(self.tr("Latency, median"), "overline"),
            self._latency,
            self._latency_error,
        ]
        shown = row(spacing=M)
        for place, part in enumerate(parts):
            if place == 3:
                shown.addSpacing(L)
            shown.addWidget(part, 0, Qt.AlignmentFlag.AlignBaseline)
        shown.addStretch(1)
        self.setLayout(shown)

    def fill(self, rate: Beside, latency: Beside) -> None:
        self._rate.setText(self.tr("{0} items/s").format(units.quantity(rate.measured)))
        self._latency.setText(units.seconds(latency.measured))
        self._predicted(self._rate_error, rate, units.quantity(rate.predicted))
        self._predicted(self._latency_error, latency, units.seconds(latency.predicted))

    def _predicted(self, target: QLabel, beside: Beside, figure: str) -> None:
        words = self.tr("predicted {0}").format(figure)
        target.setText(f"{words}, {_error(beside.error)}" if beside.error is not None else words)
