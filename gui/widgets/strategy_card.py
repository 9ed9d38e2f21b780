"""A card for each strategy: a small drawing, what it would reach, and whether that is worth it."""

from __future__ import annotations

from math import ceil
from typing import Final

from msgspec import Struct
from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QAbstractButton, QGridLayout, QLabel, QSizePolicy, QWidget

from gui.partition_state import PIPELINE, SINGLE
from gui.theme import L, M, S, Theme
from gui.widgets.basics import Kind, Pill, column, label, row, set_look
from gui.widgets.units import DASH

DRAWING: Final = QSize(92, 56)
MOST_DRAWN: Final = 4
VERDICT_LINES: Final = 2


class CardFigures(Struct, frozen=True):
    """What a card says, in words already."""

    throughput: str = DASH
    latency: str = DASH
    memory: str = DASH
    efficiency: str = DASH
    verdict: str = ""
    kind: Kind = ""
    """Of the verdict: good, warn, bad or plain."""
    best: bool = False


class StrategyCard(QAbstractButton):
    """A checkable card; one of a group."""

    def __init__(self, strategy: str, title: str, text: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.strategy = strategy
        self.setCheckable(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setAccessibleName(title)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self._drawing = Drawing(strategy)
        self._best = Pill(self.tr("fastest"), "good")
        self._throughput = label(DASH, "figure")
        self._unit = label(self.tr("items/s"), "caption")
        self._values: dict[str, QLabel] = {}
        self._verdict = label("", "small", wrap=True)
        head = column(label(title, "heading"), label(text, "small", wrap=True), None, spacing=2)
        top = row(spacing=M)
        top.addLayout(head, 1)
        top.addWidget(self._drawing, 0, Qt.AlignmentFlag.AlignTop)
        above = QWidget()
        above.setLayout(top)
        above.setMinimumHeight(DRAWING.height())
        figure = row(self._throughput, self._unit, None, self._best, spacing=S)
        figure.setAlignment(self._unit, Qt.AlignmentFlag.AlignBottom)
        details = QGridLayout()
        details.setContentsMargins(0, 0, 0, 0)
        details.setHorizontalSpacing(L)
        details.setVerticalSpacing(2)
        for place, (key, name) in enumerate(
            (
                ("latency", self.tr("Latency")),
                ("memory", self.tr("Memory")),
                ("efficiency", self.tr("Efficiency")),
            )
        ):
            made = self._values[key] = label(DASH)
            made.setAccessibleName(name)
            if key == "memory":
                made.setToolTip(self.tr("The most that one node needs: weights, activations and the runtime"))
            details.addWidget(label(name, "small"), 0, place)
            details.addWidget(made, 1, place)
            details.setColumnStretch(place, 1)
        whole = column(above, figure, details, self._verdict, spacing=S, margins=(L, L, L, M))
        whole.setStretch(3, 1)
        self._verdict.setAlignment(Qt.AlignmentFlag.AlignTop)
        # Room for the longest verdict, so that nothing below moves under the mouse while a cut is dragged.
        self._verdict.setMinimumHeight(VERDICT_LINES * self._verdict.fontMetrics().lineSpacing())
        self._whole = whole
        self.setLayout(whole)
        for child in self.findChildren(QWidget):
            child.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.show_figures(CardFigures())
        Theme.of().changed.connect(self.update)

    def show_nodes(self, colours: list[QColor]) -> None:
        """Colours of the nodes that would take part."""
        self._drawing.show_nodes(colours)

    def show_figures(self, figures: CardFigures) -> None:
        self._throughput.setText(figures.throughput)
        for key, value in self._values.items():
            value.setText(getattr(figures, key))
        self._best.setVisible(figures.best)
        self._verdict.setText(figures.verdict)
        set_look(self._verdict, "role", figures.kind or "small")
        self.setAccessibleDescription(
            self.tr("{0} items per second, latency {1}, memory {2}. {3}").format(
                figures.throughput, figures.latency, figures.memory, figures.verdict
            )
        )

    def sizeHint(self) -> QSize:
        hint = self._whole.sizeHint()
        return QSize(max(260, hint.width()), hint.height())

    def hasHeightForWidth(self) -> bool:
        return True

    def heightForWidth(self, width: int) -> int:
        return self._whole.totalHeightForWidth(width)

    def paintEvent(self, _event: QPaintEvent) -> None:
        theme = Theme.of()
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        checked = self.isChecked()
        wide = 2.0 if checked else 1.0
        edge = "accent" if checked or self.hasFocus() else "border_strong" if self.underMouse() else "border"
        painter.setPen(QPen(theme.colour(edge), wide))
        painter.setBrush(theme.colour("accent_soft" if checked else "surface"))
        painter.drawRoundedRect(QRectF(self.rect()).adjusted(wide / 2, wide / 2, -wide / 2, -wide / 2), 8, 8)
        if self.hasFocus() and checked:
            painter.setPen(QPen(theme.colour("text"), 1, Qt.PenStyle.DotLine))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRoundedRect(QRectF(self.rect()).adjusted(4.5, 4.5, -4.5, -4.5), 5, 5)
        painter.end()


class Drawing(QWidget):
    """How data flows: one box, boxes side by side, or boxes one after another."""

    def __init__(self, strategy: str) -> None:
        super().__init__()
        self._strategy = strategy
        self._colours: list[QColor] = []
        self.setFixedSize(DRAWING)

    def show_nodes(self, colours: list[QColor]) -> None:
        self._colours = colours
        self.update()

    def paintEvent(self, _event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        shown = self._colours[:MOST_DRAWN] or [Theme.of().colour("faint")]
        if self._strategy == SINGLE:
            boxes = [QRectF(28, 16, 34, 24)]
            shown = shown[:1]
        elif self._strategy == PIPELINE:
            boxes = _side_by_side(len(shown))
        else:
            boxes = _stacked(len(shown))
        self._arrows(painter, boxes)
        painter.setPen(Qt.PenStyle.NoPen)
        for box, colour in zip(boxes, shown, strict=True):
            painter.setBrush(colour)
            painter.drawRoundedRect(box, 3, 3)
        painter.end()

    def _arrows(self, painter: QPainter, boxes: list[QRectF]) -> None:
        painter.setPen(QPen(Theme.of().colour("faint"), 1.4))
        middle = self.height() / 2
        if self._strategy == PIPELINE or len(boxes) == 1:
            painter.drawLine(QPointF(4, middle), QPointF(self.width() - 8, middle))
        else:
            for box in boxes:
                y = box.center().y()
                painter.drawPolyline([QPointF(4, middle), QPointF(13, middle), QPointF(20, y), QPointF(box.left(), y)])
                right = self.width()
                painter.drawPolyline(
                    [
                        QPointF(box.right(), y),
                        QPointF(right - 26, y),
                        QPointF(right - 18, middle),
                        QPointF(right - 8, middle),
                    ]
                )
        tip = QPointF(self.width() - 4, middle)
        painter.drawPolyline([tip + QPointF(-5, -4), tip, tip + QPointF(-5, 4)])


def _side_by_side(number: int) -> list[QRectF]:
    width = min(24.0, (DRAWING.width() - 28 - 6 * (number - 1)) / number)
    start = (DRAWING.width() - number * width - 6 * (number - 1)) / 2 - 2
    return [QRectF(start + i * (width + 6), 14, width, 28) for i in range(number)]


def _stacked(number: int) -> list[QRectF]:
    height = min(13.0, ceil((DRAWING.height() - 4 * (number - 1)) / number))
    start = (DRAWING.height() - number * height - 4 * (number - 1)) / 2
    return [QRectF(30, start + i * (height + 4), 30, height) for i in range(number)]
