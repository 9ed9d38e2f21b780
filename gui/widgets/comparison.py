"""Two runs side by side, with what differs marked."""

from __future__ import annotations

from typing import NamedTuple

from PySide6.QtCore import QCoreApplication, Qt
from PySide6.QtWidgets import QGridLayout, QLabel, QWidget

from core.run.report import RunReport
from gui.theme import L, M, S
from gui.widgets import units
from gui.widgets.basics import label, line, set_look
from gui.widgets.run_table import when_words


class Fact(NamedTuple):
    """One line of the comparison."""

    name: str
    first: str
    second: str
    change: float | None = None
    """(second − first) / first."""
    better: int = 0
    """+1: more is better, -1: less is better, 0: neither."""


def facts(first: RunReport, second: RunReport | None) -> list[Fact]:
    """What is said of one run, or of two; ``second`` None leaves its column empty."""
    tr = QCoreApplication.translate
    other = second

    def number(name: str, a: float | None, b: float | None, words: object, better: int) -> Fact:
        assert callable(words)
        change = b / a - 1.0 if a and b is not None and other is not None else None
        return Fact(name, words(a), words(b) if other is not None else "", change, better)

    def text(name: str, a: str, b: str) -> Fact:
        return Fact(name, a, b if other is not None else "")

    s = second if second is not None else first
    lines = [
        text(tr("history", "Started"), when_words(first.started), when_words(s.started)),
        text(tr("history", "Model"), first.model, s.model),
        text(tr("history", "Strategy"), first.strategy, s.strategy),
        text(tr("history", "Nodes"), _names(first), _names(s)),
        text(tr("history", "Cuts"), _cuts(first), _cuts(s)),
        text(tr("history", "Axis and shares"), _division(first), _division(s)),
        text(tr("history", "Micro-batch"), str(first.micro_batch), str(s.micro_batch)),
        text(tr("history", "In flight, each replica"), _in_flight(first), _in_flight(s)),
        text(tr("history", "Input"), first.input or units.DASH, s.input or units.DASH),
        number(tr("history", "Items"), first.items, s.items, units.quantity, 0),
        number(tr("history", "Throughput, items/s"), first.throughput, s.throughput, units.quantity, 1),
        number(tr("history", "Predicted, items/s"), _predicted(first), _predicted(s), units.quantity, 0),
        number(tr("history", "Efficiency"), first.efficiency, s.efficiency, units.percent, 1),
    ]
    for name, a, b in (
        ("p50", first.latency_ms.p50, s.latency_ms.p50),
        ("p95", first.latency_ms.p95, s.latency_ms.p95),
        ("p99", first.latency_ms.p99, s.latency_ms.p99),
    ):
        lines.append(number(tr("history", "Latency {0}").format(name), a / 1e3, b / 1e3, units.seconds, -1))
    a_told, b_told = _predicted_latency(first), _predicted_latency(s)
    lines.append(number(tr("history", "Latency p50, predicted"), a_told, b_told, units.seconds, 0))
    lines.append(number(tr("history", "Bytes sent"), _sent(first), _sent(s), units.nbytes, -1))
    lines.append(text(tr("history", "Verified"), _verified(first), _verified(s)))
    return lines


def _names(report: RunReport) -> str:
    return ", ".join(node.name for node in report.nodes)


def _division(report: RunReport) -> str:
    """``rows; 36 : 50 : 14``: the axis that was forced, and the nodes' shares where they were set by hand."""
    if report.request is None:
        return units.DASH
    request = report.request
    said = [axis for axis in (request.tensor_axis, request.spatial_axis) if axis is not None]
    if request.shares is not None:
        said.append(" : ".join(f"{share * 100:.0f}" for share in request.shares))
    return "; ".join(said) or units.DASH


def _cuts(report: RunReport) -> str:
    cuts = report.request.cuts if report.request is not None else None
    return ", ".join(str(cut) for cut in cuts) if cuts else units.DASH


def _predicted(report: RunReport) -> float | None:
    return report.predicted.throughput if report.predicted is not None else None


def _predicted_latency(report: RunReport) -> float | None:
    """Seconds, under load."""
    told = report.predicted
    return told.loaded_latency_ms / 1e3 if told is not None and told.loaded_latency_ms > 0 else None


def _in_flight(report: RunReport) -> str:
    return str(report.in_flight) if report.in_flight else units.DASH


def _sent(report: RunReport) -> float:
    return float(sum(node.sent_bytes for node in report.nodes))


def _verified(report: RunReport) -> str:
    tr = QCoreApplication.translate
    if report.verified is None:
        return tr("history", "not checked")
    if not report.verified:
        return tr("history", "no")
    error = report.max_abs_error
    if error == 0:
        return tr("history", "yes, exactly")
    return tr("history", "yes, within {0}").format(f"{error:.1e}") if error is not None else tr("history", "yes")


class Comparison(QWidget):
    """A grid: name, first run, second run, difference."""

    def __init__(self) -> None:
        super().__init__()
        self.setProperty("role", "page")
        self._grid = QGridLayout()
        self._grid.setContentsMargins(0, 0, M, 0)
        self._grid.setHorizontalSpacing(L)
        self._grid.setVerticalSpacing(S - 2)
        self._cells: list[tuple[QLabel, QLabel, QLabel, QLabel]] = []
        self._heads = tuple(label("", "overline") for _ in range(4))
        self._heads[3].setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        for column, head in enumerate(self._heads):
            self._grid.addWidget(head, 0, column)
        self._rule = line()
        self._grid.addWidget(self._rule, 1, 0, 1, 4)
        self.setLayout(self._grid)

    def show_runs(self, first: RunReport, second: RunReport | None) -> None:
        heads = ("", self.tr("Run A"), self.tr("Run B"), self.tr("Difference")) if second else ("", "", "", "")
        for head, text in zip(self._heads, heads, strict=True):
            head.setText(text)
            head.setVisible(second is not None)
        self._rule.setVisible(second is not None)
        for column, stretch in enumerate((2, 3, 3, 1) if second is not None else (1, 5, 0, 0)):
            self._grid.setColumnStretch(column, stretch)
        lines = facts(first, second)
        while len(self._cells) < len(lines):
            self._add_line()
        for cells, fact in zip(self._cells, lines, strict=False):
            self._fill(cells, fact, both=second is not None)
            cells[2].setVisible(second is not None)
            cells[3].setVisible(second is not None)

    def _add_line(self) -> None:
        cells = (
            label("", "caption"),
            label("", wrap=True, selectable=True),
            label("", wrap=True, selectable=True),
            label(),
        )
        cells[3].setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignTop)
        at = len(self._cells) + 2
        for column, cell in enumerate(cells):
            self._grid.addWidget(cell, at, column, Qt.AlignmentFlag.AlignTop if column < 3 else Qt.AlignmentFlag(0))
        self._cells.append(cells)

    def _fill(self, cells: tuple[QLabel, QLabel, QLabel, QLabel], fact: Fact, *, both: bool) -> None:
        name, first, second, change = cells
        name.setText(fact.name)
        first.setText(fact.first)
        second.setText(fact.second)
        differs = both and fact.first != fact.second
        set_look(second, "role", "" if differs or not both else "caption")
        if fact.change is None:
            change.setText(self.tr("differs") if differs else "")
            set_look(change, "role", "caption")
            return
        change.setText(units.signed_percent(fact.change, 1))
        good = fact.change * fact.better
        look = "caption" if abs(fact.change) < 0.02 or not fact.better else "good" if good > 0 else "bad"
        set_look(change, "role", look)
