"""Measured beside predicted for the plan that runs, and the way to take what was measured into the predictions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from PySide6.QtCore import QDateTime, Qt
from PySide6.QtWidgets import QGridLayout, QLabel, QWidget

from core.plan.form import NodeId
from core.run.calibration import Calibration
from core.run.comparing import Beside, NodeComparison
from core.run.recalibrating import Correction
from gui.bridge import Bridge, Phase
from gui.theme import L, M, S
from gui.truth import Recalibrated
from gui.widgets import units
from gui.widgets.banner import Banner
from gui.widgets.basics import Card, Dot, ElidedLabel, button, label, line, row, set_look
from gui.widgets.cycle_bar import MeasuredCycle
from gui.widgets.node_budget import MeasuredRow, clear_layout

FAR: Final = 0.25
"""An error from here on is worth a look."""
Format = Callable[[float | None], str]


class _Figure:
    """Measured, and below it predicted with the error."""

    def __init__(self, name: str) -> None:
        self.measured, self.predicted = label(units.DASH), ElidedLabel("small")
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
            self.tr(
                "Take the speeds, and what messages cost, as this run showed them for this model; predictions follow"
            )
        )
        self.tools.addWidget(self._recalibrate)
        self._done = Banner("good")
        self.undo = button(self.tr("Undo"), bridge.truth.undo, role="flat")
        self.forget = button(self.tr("Forget"), bridge.truth.reset, role="flat")
        self.forget.setToolTip(self.tr("Predict this model from the measurements of nodes and messages alone"))
        self.again = button(self.tr("Measure again"), self._measure_again, role="flat")
        self.again.setToolTip(self.tr("Measure these nodes and their links anew, and forget what runs showed of them"))
        self._done.tools.addWidget(self.undo)
        self._done.tools.addWidget(self.forget)
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
        bridge.modelOpened.connect(lambda _model, _entry: self._show_recalibrated(bridge.truth.last))
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
        self._recalibrate.setEnabled(self._bridge.truth.able)
        self._note.setText(self._words(observed=observed))

    def _measure_again(self) -> None:
        last = self._bridge.truth.last
        if last is not None:
            self._bridge.measureNodes(last.suspects)

    def _words(self, *, observed: bool) -> str:
        if not observed:
            return self.tr("The nodes' own figures come after a second of work.")
        told = self._bridge.truth.prediction
        if told is None:
            return self.tr("For each micro-batch.")
        return self.tr(
            "For each micro-batch. Latency: median with {0} micro-batches of each replica in flight; on idle nodes "
            "one alone is predicted to take {1}."
        ).format(told.in_flight, units.seconds(told.latency_s))

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
            name, words = QWidget(), ElidedLabel()
            words.setText(self._bridge.name_of(node))
            both = row(Dot(self._bridge.colour(node)), spacing=S)
            both.addWidget(words, 1)
            name.setLayout(both)
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
        """What was changed, why nothing was, or that predictions follow an earlier run."""
        model = self._bridge.model
        known = self._bridge.truth.known()
        if done is not None and (model is None or done.model != model.sha256):
            done = None
        changed = done is not None and not done.correction.empty
        again = done is not None and bool(done.suspects)
        for shown, tool in ((changed, self.undo), (again, self.again), (bool(known) and not changed, self.forget)):
            tool.setVisible(shown)
        if done is not None and changed:
            title = self.tr("Predictions for {0} follow this run now").format(done.model_name)
            self._done.say(title, self._changed_words(done.correction), "good")
        elif done is not None:
            self._done.say(
                self.tr("Nothing was recalibrated"), self._unchanged_words(done), "warn" if done.links else "info"
            )
        elif known and model is not None:
            when = QDateTime.fromSecsSinceEpoch(int(max(one.when for one in known.values())))
            title = self.tr("Predictions for {0} follow a run of {1}").format(
                model.name, when.toString("yyyy-MM-dd HH:mm")
            )
            self._done.say(title, self._known_words(known), "info")
        else:
            self._done.clear()
        self._show()

    def _changed_words(self, found: Correction) -> str:
        words = [
            self.tr("{0}: speed {1} → {2} (computes {3} where {4} were predicted)").format(
                self._bridge.name_of(change.node),
                f"{change.before:.2f}",
                f"{change.after:.2f}",
                units.seconds(change.measured_s),
                units.seconds(change.predicted_s),
            )
            for change in found.changes
        ]
        if found.messages != 1.0:
            words.append(self.tr("messages cost {0} times what was measured").format(f"{found.messages:.2f}"))
        words.append(
            self.tr("{0} items/s are predicted instead of {1}, and {2} were measured").format(
                *(units.quantity(rate) for rate in (found.after, found.before, found.measured))
            )
        )
        return "; ".join(words) + "."

    def _unchanged_words(self, done: Recalibrated) -> str:
        changed = [
            self.tr("{0} {1}.").format(self._bridge.name_of(node), "; ".join(reasons))
            for node, reasons in done.links.items()
        ]
        return {
            "links": self.tr("{0} Once that is measured again, predictions follow it.").format(" ".join(changed)),
            "same": self.tr("The nodes compute, and the plan runs, as fast as predicted."),
            "idle": self.tr(
                "The nodes had fewer micro-batches in flight than predicted: inputs came too slowly, were too few, or "
                "this workstation was too busy to send them. Such a run does not show what the plan can do."
            ),
            "unexplained": self.tr(
                "Neither other speeds nor other costs of messages bring the prediction nearer to this run. If it was "
                "disturbed, run again; if not, measure nodes and links again."
            ),
        }.get(done.correction.reason, "")

    def _known_words(self, known: Mapping[NodeId, Calibration]) -> str:
        words = [
            self.tr("{0}: {1} times its measured speed").format(self._bridge.name_of(node), f"{one.factor:.2f}")
            for node, one in known.items()
        ]
        if (factor := self._bridge.truth.message_factor()) != 1.0:
            words.append(self.tr("messages cost {0} times what was measured").format(f"{factor:.2f}"))
        return "; ".join(words) + "."


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
        self._rate, self._rate_error = label("", "number"), ElidedLabel("small")
        self._latency, self._latency_error = label("", "number"), ElidedLabel("small")
        parts: list[QLabel] = [
            label(self.tr("Throughput"), "overline"),
            self._rate,
            self._rate_error,
            label(self.tr("Median latency"), "overline"),
            self._latency,
            self._latency_error,
        ]
        shown = row(spacing=M)
        for place, part in enumerate(parts):
            if place == 3:
                shown.addSpacing(L)
            shown.addWidget(part, int(isinstance(part, ElidedLabel)), Qt.AlignmentFlag.AlignBaseline)
        self.setLayout(shown)

    def fill(self, rate: Beside, latency: Beside) -> None:
        self._rate.setText(self.tr("{0} items/s").format(units.quantity(rate.measured)))
        self._latency.setText(units.seconds(latency.measured))
        self._predicted(self._rate_error, rate, units.quantity(rate.predicted))
        self._predicted(self._latency_error, latency, units.seconds(latency.predicted))

    def _predicted(self, target: QLabel, beside: Beside, figure: str) -> None:
        words = self.tr("predicted {0}").format(figure)
        target.setText(f"{words}, {_error(beside.error)}" if beside.error is not None else words)
