"""A card for each strategy: how it cuts this model, what it would reach, and whether that is worth it."""

from __future__ import annotations

from typing import Final

from msgspec import Struct
from PySide6.QtCore import QRectF, QSize, Qt
from PySide6.QtGui import QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QAbstractButton, QGridLayout, QLabel, QSizePolicy, QVBoxLayout, QWidget

from gui.theme import XS, S, Theme
from gui.widgets.basics import ElidedLabel, IconLabel, Kind, Pill, column, label, row, set_look
from gui.widgets.clamped_label import ClampedLabel
from gui.widgets.division_paint import Colour
from gui.widgets.division_picture import DivisionPicture, Picture
from gui.widgets.units import DASH

WIDTH: Final = 18
COMPACT_WIDTH: Final = 8.8
"""The least that a card needs, in heights of ordinary letters."""
VERDICT_LINES: Final = 2
"""Always so many, so that nothing below moves under the mouse while a cut is dragged."""
PICTURE: Final = 38
COMPACT_PICTURE: Final = 24
FIGURES: Final = ("throughput", "latency", "memory", "efficiency")


class CardFigures(Struct, frozen=True):
    """What a card says, in words already."""

    throughput: str = DASH
    rate: str = DASH
    """The throughput in fewer letters."""
    latency: str = DASH
    memory: str = DASH
    efficiency: str = DASH
    verdict: str = ""
    short: str = ""
    """The verdict in a few letters."""
    kind: Kind = ""
    """Of the verdict: good, warn, bad or plain."""
    best: str = ""
    """What it is the best at, in a word; "": it is not."""
    stressed: str = "throughput"
    """The one of FIGURES that the cards are ordered by."""
    able: bool = True
    """Whether the card can be chosen."""
    timed: bool | None = None
    """Whether the figures rest on shards that were timed, or on sums over the layers; None: there are none."""


class StrategyCard(QAbstractButton):
    """A checkable card; one of a group. Compact it is half as high, and its tool tip says what it left out."""

    def __init__(self, strategy: str, title: str, text: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.strategy = strategy
        self._about = text
        self._compact = False
        self._figures = CardFigures()
        self.setCheckable(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setAccessibleName(title)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.picture = DivisionPicture()
        self._best = Pill("", "good")
        self._star = IconLabel("star", 14, "good")
        self._title = label(title, "heading")
        self._text = ElidedLabel("small")
        self._text.setText(text)
        self._names = {
            "throughput": self.tr("Items/s"),
            "latency": self.tr("Latency"),
            "memory": self.tr("Memory"),
            "efficiency": self.tr("Efficiency"),
        }
        self._captions = {name: label(words, "small") for name, words in self._names.items()}
        self._values: dict[str, QLabel] = {name: label(DASH) for name in FIGURES}
        self._throughput = self._values["throughput"]
        self._verdict = ClampedLabel("small", VERDICT_LINES)
        self._short = ElidedLabel("small")
        self._grid = QGridLayout()
        self._lines = (row(None, spacing=0), row(None, spacing=0))
        """Of a compact card: two figures in each."""
        self._whole = self._lay_out()
        self.setLayout(self._whole)
        self._arrange()
        for child in self.findChildren(QWidget):
            child.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.show_figures(CardFigures())
        Theme.of().changed.connect(self.update)

    def _lay_out(self) -> QVBoxLayout:
        head = row(self._title, spacing=S)
        head.addWidget(self._text, 1)
        head.addWidget(self._best)
        head.addWidget(self._star)
        self._best.ensurePolished()
        head.addStrut(self._best.sizeHint().height())  # as high with the pill as without it
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(S)
        self._grid.setVerticalSpacing(0)
        for name, value in self._values.items():
            value.setAccessibleName(self._names[name])
        margins = (S, S, S, XS + 2)
        compact = column(*self._lines, spacing=0)
        figures = column(self._grid, compact, spacing=0)
        whole = column(head, self.picture, figures, self._verdict, self._short, None, spacing=XS, margins=margins)
        self._short.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        return whole

    @property
    def best(self) -> str:
        """What it is the best at, in a word; "": it is not."""
        return self._figures.best

    def set_compact(self, compact: bool) -> None:
        """Half as high: without the sentences and the names of the figures."""
        if compact != self._compact:
            self._compact = compact
            self._arrange()
            self.show_figures(self._figures)

    def _arrange(self) -> None:
        compact = self._compact
        self.picture.setFixedHeight(COMPACT_PICTURE if compact else PICTURE)
        self._text.setVisible(not compact)
        self._verdict.setVisible(not compact)
        self._short.setVisible(compact)
        for place, name in enumerate(FIGURES):
            caption, value = self._captions[name], self._values[name]
            self._grid.addWidget(caption, 0, place)
            self._grid.setColumnStretch(place, 1)
            if compact:
                line, second = divmod(place, 2)
                self._lines[line].insertWidget(2 if second else 0, value)
            else:
                self._grid.addWidget(value, 1, place, Qt.AlignmentFlag.AlignBottom)
            caption.setVisible(not compact)
        self.updateGeometry()

    def show_picture(self, picture: Picture | None, colour: Colour) -> None:
        """How the strategy cuts the model; None while that is not known."""
        self.picture.show_picture(picture, colour)

    def show_text(self, text: str) -> None:
        """The line beside the title: what it does, or which nesting it is."""
        self._text.setText(text)
        self._about = text

    def show_figures(self, figures: CardFigures) -> None:
        self._figures = figures
        for name, value in self._values.items():
            words = self._words(name)
            if value.text() != words:
                value.setText(words)
            set_look(value, "role", "stressed" if name == figures.stressed else "")
        self._best.set(figures.best, "good")
        self._best.setVisible(bool(figures.best) and not self._compact)
        self._star.setVisible(bool(figures.best) and self._compact)
        self._verdict.setText(figures.verdict)
        self._short.setText(figures.short or figures.verdict)
        for said in (self._verdict, self._short):
            set_look(said, "role", figures.kind or "small")
        self.setEnabled(figures.able or self.isChecked())
        self.setCursor(Qt.CursorShape.PointingHandCursor if self.isEnabled() else Qt.CursorShape.ArrowCursor)
        self.setToolTip(self._tip())
        self.setAccessibleDescription(
            self.tr("{0} items per second, latency {1}, memory {2}. {3}").format(
                figures.throughput, figures.latency, figures.memory, figures.verdict
            )
        )

    def _words(self, name: str) -> str:
        """A figure; with its unit where its name is not beside it."""
        text = str(getattr(self._figures, name))
        if name != "throughput" or text == DASH:
            return text
        text = self.tr("{0}/s").format(self._figures.rate) if self._compact else text
        return f"≈{'' if self._compact else ' '}{text}" if self._figures.timed is False else text

    def _tip(self) -> str:
        """What it does, what there was no room for, and why it cannot be chosen."""
        figures = self._figures
        lines = [f"{self._title.text()}: {self._about}" if self._compact else self._about]
        if self._compact:
            known = [name for name in FIGURES if getattr(figures, name) != DASH]
            lines += [f"{self._names[name]}: {getattr(figures, name)}" for name in known]
            lines += [figures.best] if figures.best else []
        lines += [figures.verdict] if self._compact or figures.kind == "bad" else []
        if figures.timed is not None:
            timed = self.tr("Timed: what its shards take on this machine.")
            estimated = self.tr("Estimated from the layers; its shards are timed shortly.")
            lines.append(timed if figures.timed else estimated)
        return "\n".join(filter(None, lines))

    def sizeHint(self) -> QSize:
        hint = self._whole.sizeHint()
        return QSize(max(self._least, hint.width()), hint.height())

    def minimumSizeHint(self) -> QSize:
        return QSize(self._least, self._whole.minimumSize().height())

    @property
    def _least(self) -> int:
        return round((COMPACT_WIDTH if self._compact else WIDTH) * Theme.of().base)

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
        if self.hasFocus():
            painter.setPen(QPen(theme.colour("text"), 1, Qt.PenStyle.DotLine))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRoundedRect(QRectF(self.rect()).adjusted(4.5, 4.5, -4.5, -4.5), 5, 5)
        painter.end()
