"""How a node spends the time of one micro-batch: a stacked bar, told apart by pattern as well as by colour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct
from PySide6.QtCore import QCoreApplication, QRectF, QSize, Qt
from PySide6.QtGui import QBrush, QColor, QPainter, QPainterPath, QPaintEvent, QPen
from PySide6.QtWidgets import QSizePolicy, QWidget

from gui.colours import blend, text_on
from gui.theme import XS, M, S, Theme
from gui.widgets.basics import label, row
from gui.widgets.units import percent, seconds, signed_percent

COMPUTE, RECEIVE, SEND, WAIT = "compute", "receive", "send", "wait"
PARTS: Final = (COMPUTE, RECEIVE, SEND, WAIT)
PREDICTED_HEIGHT: Final = 12
MEASURED_HEIGHT: Final = 6
GAP: Final = 2
LEAST_WIDTH: Final = 84
LEAST_PART: Final = 2.0
"""Pixels of a part that is there at all."""


class Cycle(Struct, frozen=True):
    """Seconds of one micro-batch on one node."""

    compute: float
    receive: float
    send: float
    wait: float

    @property
    def total(self) -> float:
        return self.compute + self.receive + self.send + self.wait

    def of(self, part: str) -> float:
        return float(getattr(self, part))


class MeasuredCycle(Struct, frozen=True):
    """What a run showed: messages and waiting cannot be told apart from outside."""

    compute: float
    """Seconds for each micro-batch."""
    rest: float

    @property
    def total(self) -> float:
        return self.compute + self.rest


def part_word(part: str) -> str:
    tr = QCoreApplication.translate
    return {
        COMPUTE: tr("cycle", "compute"),
        RECEIVE: tr("cycle", "receive"),
        SEND: tr("cycle", "send"),
        WAIT: tr("cycle", "wait"),
    }[part]


def cycle_words(cycle: Cycle, measured: MeasuredCycle | None = None) -> str:
    """All figures of a bar, one in a line."""
    tr = QCoreApplication.translate
    total = cycle.total
    lines = [tr("cycle", "Predicted for each micro-batch:")]
    lines += [
        f"{part_word(part)}: {seconds(cycle.of(part))} ({percent(cycle.of(part) / total if total else 0.0)})"
        for part in PARTS
    ]
    if measured is not None:
        error = measured.compute / cycle.compute - 1 if cycle.compute > 0 else None
        words = tr("cycle", "Measured: computes {0} ({1}), messages and waiting {2}")
        lines.append(words.format(seconds(measured.compute), signed_percent(error), seconds(measured.rest)))
    return "\n".join(lines)


class CycleBar(QWidget):
    """Predicted above, measured below it while there is a measurement. Bars of one table share a scale."""

    def __init__(self, name: str = "") -> None:
        super().__init__()
        self._cycle: Cycle | None = None
        self._measured: MeasuredCycle | None = None
        self._scale, self._colour = 0.0, QColor()
        self._name = name
        self.setAccessibleName(name)
        self.setMinimumWidth(LEAST_WIDTH)
        self.setFixedHeight(PREDICTED_HEIGHT + GAP + MEASURED_HEIGHT)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        Theme.of().changed.connect(self.update)

    def show_cycle(self, cycle: Cycle | None, colour: QColor, scale: float, measured: MeasuredCycle | None) -> None:
        """``scale``: seconds of the whole width."""
        shown = (cycle, measured, scale, colour)
        if shown == (self._cycle, self._measured, self._scale, self._colour):
            return
        self._cycle, self._measured, self._scale, self._colour = shown
        words = cycle_words(cycle, measured) if cycle is not None else ""
        self.setToolTip(words)
        self.setAccessibleDescription(words.replace("\n", ", "))
        self.update()

    def sizeHint(self) -> QSize:
        return QSize(2 * LEAST_WIDTH, self.height())

    def paintEvent(self, _event: QPaintEvent) -> None:
        if self._cycle is None or self._scale <= 0:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        pixels = (self.width() - 1) / self._scale
        upper = [(part, self._cycle.of(part)) for part in PARTS]
        self._paint(painter, QRectF(0.5, 0.5, 0, PREDICTED_HEIGHT - 1), upper, pixels)
        if self._measured is not None:
            lower = [(COMPUTE, self._measured.compute), (WAIT, self._measured.rest)]
            self._paint(painter, QRectF(0.5, PREDICTED_HEIGHT + GAP + 0.5, 0, MEASURED_HEIGHT - 1), lower, pixels)
        painter.end()

    def _paint(self, painter: QPainter, at: QRectF, parts: Sequence[tuple[str, float]], pixels: float) -> None:
        room = self.width() - 1.0
        left = at.left()
        for part, taken in parts:
            if taken <= 0 or left >= room:
                continue
            width = min(max(LEAST_PART, taken * pixels), room - left)
            paint_part(painter, QRectF(left, at.top(), width, at.height()), part, self._colour)
            left += width


def paint_part(painter: QPainter, area: QRectF, part: str, colour: QColor) -> None:
    """One part: compute is solid, receiving and sending are hatched either way, waiting is hollow."""
    theme = Theme.of()
    outline = QPainterPath()
    outline.addRoundedRect(area, 2, 2)
    ground = theme.colour("sunken")
    if part == WAIT:
        painter.fillPath(outline, ground)
        painter.setPen(QPen(theme.colour("border_strong"), 1))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawPath(outline)
        return
    painter.fillPath(outline, colour if part == COMPUTE else blend(colour, ground, 0.45))
    if part != COMPUTE:
        style = Qt.BrushStyle.BDiagPattern if part == RECEIVE else Qt.BrushStyle.FDiagPattern
        painter.fillPath(outline, QBrush(text_on(blend(colour, ground, 0.45)), style))


class _Swatch(QWidget):
    """A part as the legend shows it, in no node's colour."""

    def __init__(self, part: str) -> None:
        super().__init__()
        self._part = part
        self.setFixedSize(22, PREDICTED_HEIGHT)
        Theme.of().changed.connect(self.update)

    def paintEvent(self, _event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        area = QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5)
        paint_part(painter, area, self._part, Theme.of().colour("muted"))
        painter.end()


class CycleLegend(QWidget):
    """What the patterns mean; the thin bar is named once there is a measurement."""

    def __init__(self) -> None:
        super().__init__()
        line = row(spacing=M)
        for part in PARTS:
            line.addLayout(row(_Swatch(part), label(part_word(part), "small"), spacing=XS + 2))
        self._measured = label(self.tr("thin bar: measured"), "small")
        self._measured.hide()
        line.addSpacing(S)
        line.addWidget(self._measured)
        line.addStretch(1)
        self.setLayout(line)
        self.setAccessibleName(self.tr("Legend: solid is compute, hatched is receive and send, hollow is wait"))

    def show_measured(self, shown: bool) -> None:
        self._measured.setVisible(shown)
