"""What the colours, bands, stripes and marks of a divided model mean; only what is shown is explained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct
from PySide6.QtCore import QCoreApplication, QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QFontMetricsF, QPainter, QPaintEvent, QResizeEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from gui.theme import L, S, Theme
from gui.widgets.division_model import Box, Form
from gui.widgets.division_paint import MARK_SIZE, Colour, LanePainter, draw_mark

SWATCH: Final = QSize(22, 14)
GAP: Final = float(L)


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
        Form.BANDS: _tr("divided: a part of the output each"),
        Form.TERMS: _tr("divided: a term of a sum each"),
        Form.STRIPS: _tr("divided: a strip each"),
        Form.COPIES: _tr("not divided: all of it on each"),
    }
    return [Entry(text, some, form) for form, text in words.items() if form in forms]


class DivisionLegend(QWidget):
    """Entries in as many lines as they need."""

    def __init__(self) -> None:
        super().__init__()
        self._entries: tuple[Entry, ...] = ()
        self._colour: Colour | None = None
        self._places: list[QPointF] = []
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        Theme.of().changed.connect(self._arrange)

    def show_entries(self, entries: Sequence[Entry], colour: Colour) -> None:
        self._colour = colour
        self._entries = tuple(entries)
        self.setAccessibleName("; ".join(entry.words for entry in entries))
        self._arrange()

    @property
    def entries(self) -> tuple[Entry, ...]:
        return self._entries

    def sizeHint(self) -> QSize:
        return QSize(300, self.height())

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._arrange()

    def _arrange(self) -> None:
        metrics = QFontMetricsF(Theme.of().font(-1))
        pitch = metrics.height() + 6
        x, y, self._places = 0.0, 0.0, []
        for entry in self._entries:
            width = self._sign_width(entry) + S + metrics.horizontalAdvance(entry.words)
            if x > 0 and x + width > self.width():
                x, y = 0.0, y + pitch
            self._places.append(QPointF(x, y))
            x += width + GAP
        self.setFixedHeight(round(y + pitch) if self._entries else 0)
        self.update()

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
        for entry, place in zip(self._entries, self._places, strict=True):
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
