"""A card for each strategy: how it cuts this model, what it would reach, and whether that is worth it."""

from __future__ import annotations

from math import ceil
from typing import Final

from msgspec import Struct
from PySide6.QtCore import QRectF, QSize, Qt
from PySide6.QtGui import QFontMetricsF, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QAbstractButton, QGridLayout, QLabel, QSizePolicy, QWidget

from gui.theme import XS, M, S, Theme
from gui.widgets.basics import ElidedLabel, Kind, Pill, column, label, row, set_look
from gui.widgets.division_paint import Colour
from gui.widgets.division_picture import DivisionPicture, Picture
from gui.widgets.units import DASH

WIDTH: Final = 18
"""The least that a card needs, in heights of ordinary letters."""
VERDICT_LINES: Final = 2
FIGURES: Final = ("throughput", "latency", "memory", "efficiency")


class CardFigures(Struct, frozen=True):
    """What a card says, in words already."""

    throughput: str = DASH
    latency: str = DASH
    memory: str = DASH
    efficiency: str = DASH
    verdict: str = ""
    kind: Kind = ""
    """Of the verdict: good, warn, bad or plain."""
    best: str = ""
    """What it is the best at, in a word; "": it is not."""
    stressed: str = "throughput"
    """The one of FIGURES that the cards are ordered by."""
    able: bool = True
    """Whether the card can be chosen."""


class StrategyCard(QAbstractButton):
    """A checkable card; one of a group."""

    def __init__(self, strategy: str, title: str, text: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.strategy = strategy
        self._about = text
        self.setCheckable(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setAccessibleName(title)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.setToolTip(text)
        self.picture = DivisionPicture()
        self._best = Pill("", "good")
        self._title = label(title, "heading")
        self._text = ElidedLabel("small")
        self._text.setText(text)
        self._values: dict[str, QLabel] = {name: label(DASH) for name in FIGURES}
        self._throughput = self._values["throughput"]
        self._verdict = label("", "small", wrap=True)
        head = row(self._title, spacing=S)
        head.addWidget(self._text, 1)
        head.addWidget(self._best)
        above = QWidget()
        above.setLayout(head)
        above.setMinimumHeight(self._best.sizeHint().height())
        margins = (M - 2, S, M - 2, XS)
        whole = column(above, self.picture, self._figures(), self._verdict, spacing=XS + 2, margins=margins)
        whole.setStretch(3, 1)
        self._verdict.setAlignment(Qt.AlignmentFlag.AlignTop)
        # Room for the longest verdict, so that nothing below moves under the mouse while a cut is dragged.
        self._verdict.setMinimumHeight(VERDICT_LINES * ceil(QFontMetricsF(Theme.of().font()).height()))
        self._whole = whole
        self.setLayout(whole)
        for child in self.findChildren(QWidget):
            child.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.show_figures(CardFigures())
        Theme.of().changed.connect(self.update)

    def _figures(self) -> QGridLayout:
        grid = QGridLayout()
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(S)
        grid.setVerticalSpacing(0)
        for place, (key, name) in enumerate(
            (
                ("throughput", self.tr("Items/s")),
                ("latency", self.tr("Latency")),
                ("memory", self.tr("Memory")),
                ("efficiency", self.tr("Efficiency")),
            )
        ):
            made = self._values[key]
            made.setAccessibleName(name)
            if key == "memory":
                made.setToolTip(self.tr("The most that one node needs: weights, activations and the runtime"))
            grid.addWidget(label(name, "small"), 0, place)
            grid.addWidget(made, 1, place, Qt.AlignmentFlag.AlignBottom)
            grid.setColumnStretch(place, 1)
        return grid

    def show_picture(self, picture: Picture | None, colour: Colour) -> None:
        """How the strategy cuts the model; None while that is not known."""
        self.picture.show_picture(picture, colour)

    def show_text(self, text: str) -> None:
        """The line beside the title: what it does, or which nesting it is."""
        self._text.setText(text)
        self._about = text

    def show_figures(self, figures: CardFigures) -> None:
        for key, value in self._values.items():
            if value.text() != getattr(figures, key):
                value.setText(getattr(figures, key))
            set_look(value, "role", "stressed" if key == figures.stressed else "")
        self._best.set(figures.best, "good")
        self._best.setVisible(bool(figures.best))
        self._verdict.setText(figures.verdict)
        set_look(self._verdict, "role", figures.kind or "small")
        self.setEnabled(figures.able or self.isChecked())
        self.setCursor(Qt.CursorShape.PointingHandCursor if self.isEnabled() else Qt.CursorShape.ArrowCursor)
        # A reason is wanted most where the card is disabled and has no room for all of it.
        self.setToolTip(f"{self._about}\n{figures.verdict}".strip() if figures.kind == "bad" else self._about)
        self.setAccessibleDescription(
            self.tr("{0} items per second, latency {1}, memory {2}. {3}").format(
                figures.throughput, figures.latency, figures.memory, figures.verdict
            )
        )

    def sizeHint(self) -> QSize:
        hint = self._whole.sizeHint()
        return QSize(max(self._least, hint.width()), hint.height())

    def minimumSizeHint(self) -> QSize:
        return QSize(self._least, self._whole.minimumSize().height())

    @property
    def _least(self) -> int:
        return WIDTH * Theme.of().base

    def paintEvent(self, _event: QPaintEvent) -> None:
        theme = Theme.of()
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        checked = self.isChecked()
        wide = 2.0 if checked else 1.0
        edge = "accent" if checked or self.hasFocus() else "border_strong" if self.underMouse() else "border"
        painter.setPen(QPen(theme.colour(edge), wide))
        painter.setBrush(theme.colour("accent_soft" if checked else "surface" if self.isEnabled() else "window"))
        painter.drawRoundedRect(QRectF(self.rect()).adjusted(wide / 2, wide / 2, -wide / 2, -wide / 2), 8, 8)
        if self.hasFocus() and checked:
            painter.setPen(QPen(theme.colour("text"), 1, Qt.PenStyle.DotLine))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRoundedRect(QRectF(self.rect()).adjusted(4.5, 4.5, -4.5, -4.5), 5, 5)
        painter.end()
