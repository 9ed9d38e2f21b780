"""What the colours, bands, stripes and marks of a divided model mean; only what is shown is explained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct
from PySide6.QtCore import QCoreApplication, QPointF, QRectF, QSize, QSizeF, Qt
from PySide6.QtGui import QFontMetricsF, QPainter, QPaintEvent, QResizeEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from gui.theme import L, S, Theme
from gui.widgets.division_model import Box, Form
from gui.widgets.division_paint import MARK_SIZE, Colour, LanePainter, draw_mark

SWATCH: Final = QSize(22, 14)
GAP: Final = float(L)
MORE: Final = "…"


class Entry(Struct, frozen=True):
    """A swatch (``nodes`` under ``form``) or the mark of a ``kind``, and what it means."""

    words: str
    nodes: tuple[str, ...] = ()
    form: Form | None = None
    kind: str = ""


def _tr(text: str) -> str:
    return QCoreApplication.translate("division", text)


def form_entries(forms: frozenset[Form], nodes: Sequence[str]) -> list[Entry]:
    """Swatches for the looks that occur; ``nodes`` lend their colours."""
    some = tuple(nodes[:3])
    words = {
        Form.BANDS: _tr("a part of the output each"),
        Form.TERMS: _tr("a term of a sum each"),
        Form.STRIPS: _tr("a strip each"),
        Form.COPIES: _tr("all of it on each"),
    }
    return [Entry(text, some, form) for form, text in words.items() if form in forms]


class DivisionLegend(QWidget):
    """Entries in as many lines as they need, or in so many as are given; its tool tip names all."""

    def __init__(self, lines: int = 0) -> None:
        """``lines``: always as high, and entries beyond them are only in the tool tip; 0: as many as need be."""
        super().__init__()
        self._lines = lines
        self._entries: tuple[Entry, ...] = ()
        self._colour: Colour | None = None
        self._places: list[QPointF] = []
        """Of the entries that have room."""
        self._end = QPointF()
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        Theme.of().changed.connect(self._arrange)

    def show_entries(self, entries: Sequence[Entry], colour: Colour) -> None:
        self._colour = colour
        self._entries = tuple(entries)
        self.setAccessibleName("; ".join(entry.words for entry in entries))
        self.setToolTip("\n".join(entry.words for entry in entries))
        self._arrange()

    @property
    def entries(self) -> tuple[Entry, ...]:
        return self._entries

    @property
    def line_height(self) -> int:
        return round(self._pitch)

    @property
    def _pitch(self) -> float:
        return QFontMetricsF(Theme.of().font(-1)).height() + 6

    def sizeHint(self) -> QSize:
        return QSize(300, self.height())

    def minimumSizeHint(self) -> QSize:
        return QSize(1, self.height())

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._arrange()

    def _arrange(self) -> None:
        metrics = QFontMetricsF(Theme.of().font(-1))
        pitch = self._pitch
        more = metrics.horizontalAdvance(MORE)
        x, y, self._places = 0.0, 0.0, []
        for entry in self._entries:
            width = self._sign_width(entry) + S + metrics.horizontalAdvance(entry.words)
            if x > 0 and x + width > self.width():
                x, y = 0.0, y + pitch
            if self._lines and y >= self._lines * pitch - 1:
                self._drop_for_more(more)
                break
            self._places.append(QPointF(x, y))
            x += width + GAP
            self._end = QPointF(x, y)
        lines = self._lines or (round(y / pitch) + 1 if self._entries else 0)
        self.setFixedHeight(round(lines * pitch))
        self.update()

    def _drop_for_more(self, more: float) -> None:
        """Leave room for the sign that there are more entries."""
        while len(self._places) > 1 and self._end.x() + more > self.width():
            self._end = self._places.pop()

    def _sign_width(self, entry: Entry) -> float:
        return MARK_SIZE + 2 if entry.kind else SWATCH.width()

    def paintEvent(self, _event: QPaintEvent) -> None:
        if self._colour is None:
            return
        theme = Theme.of()
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setFont(theme.font(-1))
        brush = LanePainter(self._colour, theme.colour("border"), self.devicePixelRatioF())
        line = QFontMetricsF(painter.font()).height() + 6
        if len(self._places) < len(self._entries):
            painter.setPen(theme.colour("muted"))
            painter.drawText(QRectF(self._end, QSizeF(self.width(), line)), Qt.AlignmentFlag.AlignVCenter, MORE)
        for entry, place in zip(self._entries, self._places, strict=False):
            middle = place.y() + line / 2
            wide = self._sign_width(entry)
            if entry.kind:
                draw_mark(painter, entry.kind, QPointF(place.x() + wide / 2, middle), theme.colour("text"))
            else:
                self._swatch(painter, brush, entry, QPointF(place.x(), middle - SWATCH.height() / 2))
            painter.setPen(theme.colour("muted"))
            room = QRectF(place.x() + wide + S, place.y(), self.width(), line)
            painter.drawText(room, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, entry.words)
        painter.end()

    def _swatch(self, painter: QPainter, brush: LanePainter, entry: Entry, at: QPointF) -> None:
        area = QRectF(at.x(), at.y(), SWATCH.width(), SWATCH.height())
        form = entry.form or Form.WHOLE
        if form in {Form.WHOLE, Form.COPIES}:
            boxes = [Box(area.left(), area.top(), area.width(), area.height(), entry.nodes, form, first=True)]
        else:
            tall = area.height() / len(entry.nodes)
            boxes = [
                Box(area.left(), area.top() + i * tall, area.width(), tall, (node,), form, first=i == 0)
                for i, node in enumerate(entry.nodes)
            ]
        brush.lane(painter, boxes, area, 3)
