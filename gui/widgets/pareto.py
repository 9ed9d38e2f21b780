"""A scatter of plans, throughput against latency: those that nothing beats are joined, and any can be chosen.

Mouse: a plan says what it is when the mouse is over it; a click chooses it. Keys: Left and Right go from plan to plan
by latency, Up and Down by throughput, Home and End to the ends of the front, Return chooses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from PySide6.QtCore import QEvent, QPoint, QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import (
    QAccessible,
    QAccessibleEvent,
    QColor,
    QFocusEvent,
    QFontMetricsF,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPainterPath,
    QPaintEvent,
    QPen,
    QPolygonF,
    QResizeEvent,
)
from PySide6.QtWidgets import QSizePolicy, QToolTip, QWidget

from gui.colours import blend
from gui.theme import XS, M, S, Theme
from gui.widgets.pareto_model import Scale, Spot, front, nearest, scale_for, stepped, tick_text, unit_of

LEAST: Final = QSize(230, 150)
RADIUS: Final = 4.0
MARKED: Final = 8.0
"""Radius of the rings around the plan that is chosen and the one that the keys point at."""
MARK: Final = 15.0
"""Pixels from an entry of the legend to its text."""


Entry = tuple[Callable[[QPainter, Theme, QPointF], None], str]
"""Of the legend: how it is drawn, what it is."""


class ParetoPlot(QWidget):
    """GUI thread."""

    picked = Signal(object)
    """The PlanRequest of a plan that a person chose."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._spots: tuple[Spot, ...] = ()
        self._front: tuple[int, ...] = ()
        self._best = -1
        self._chosen: tuple[float, float] | None = None
        self._bound_s: float | None = None
        self._note = ""
        self._points: list[tuple[float, float]] = []
        self._plot = QRectF()
        self._rows: list[list[Entry]] = []
        """Of the legend."""
        self._x, self._y = Scale(0, 1), Scale(0, 1)
        self._pointed = -1
        self.setMouseTracking(True)
        self.setMinimumSize(LEAST)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setAccessibleName(self.tr("All plans, throughput against latency"))
        Theme.of().changed.connect(self._arrange)

    # ---------------------------------------------------------------- what is shown

    def show_spots(self, spots: Sequence[Spot], best: int = -1, *, bound_s: float | None = None) -> None:
        """``best``: index of what the planner would take; ``bound_s``: the longest latency asked for."""
        if (self._spots, self._best, self._bound_s) == (tuple(spots), best, bound_s):
            return
        before = self._spots[self._pointed].request if self._pointed >= 0 else None
        self._spots, self._best, self._bound_s = tuple(spots), best, bound_s
        self._front = front(self._spots)
        self._pointed = next((i for i, spot in enumerate(self._spots) if spot.request == before), -1)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus if self._spots else Qt.FocusPolicy.NoFocus)
        self._arrange()

    def show_chosen(self, chosen: tuple[float, float] | None) -> None:
        """(latency in seconds, items per second) of the plan that is chosen; it need not be one of the spots."""
        if chosen != self._chosen:
            self._chosen = chosen
            self._arrange()

    def show_note(self, note: str) -> None:
        """What is said in place of spots while there are none."""
        if note != self._note:
            self._note = note
            self.update()

    @property
    def spots(self) -> tuple[Spot, ...]:
        return self._spots

    @property
    def front(self) -> tuple[int, ...]:
        """Indices of the spots that nothing beats."""
        return self._front

    @property
    def pointed(self) -> int:
        """Index of the spot under the mouse or the keys; -1: none."""
        return self._pointed

    @property
    def chosen(self) -> tuple[float, float] | None:
        return self._chosen

    def place_of(self, index: int) -> QPoint:
        """Where a spot is drawn."""
        return QPointF(*self._points[index]).toPoint()

    # ---------------------------------------------------------------- geometry

    def _arrange(self) -> None:
        also = [self._chosen] if self._chosen is not None else []
        latencies = [spot.latency_s for spot in self._spots] + [latency for latency, _ in also]
        self._x = scale_for(latencies)
        self._y = scale_for([spot.throughput for spot in self._spots] + [rate for _, rate in also])
        metrics = self._metrics()
        left = max((metrics.horizontalAdvance(tick_text(tick)) for tick in self._y.ticks()), default=0.0) + S
        line = metrics.height()
        self._rows = self._legend_rows(metrics)
        bottom = line * (2 + len(self._rows)) + XS
        top = line + XS
        room = QSize(max(1, int(self.width() - left - XS)), max(1, int(self.height() - top - bottom)))
        self._plot = QRectF(left, top, room.width(), room.height())
        self._points = [self._at(spot.latency_s, spot.throughput) for spot in self._spots]
        self.update()

    def _metrics(self) -> QFontMetricsF:
        return QFontMetricsF(Theme.of().font(-2))

    def _at(self, latency_s: float, throughput: float) -> tuple[float, float]:
        area, x, y = self._plot, self._x.at(latency_s), self._y.at(throughput)
        return area.left() + x * area.width(), area.bottom() - y * area.height()

    def sizeHint(self) -> QSize:
        return QSize(340, 240)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._arrange()

    # ---------------------------------------------------------------- mouse and keys

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        self._point_at(nearest(self._points, event.position().x(), event.position().y()))

    def leaveEvent(self, event: QEvent) -> None:
        super().leaveEvent(event)
        if not self.hasFocus():
            self._point_at(-1)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        index = nearest(self._points, event.position().x(), event.position().y())
        if event.button() == Qt.MouseButton.LeftButton and index >= 0:
            self.picked.emit(self._spots[index].request)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        by_latency = [spot.latency_s for spot in self._spots]
        by_rate = [spot.throughput for spot in self._spots]
        match event.key():
            case Qt.Key.Key_Left | Qt.Key.Key_Right as key:
                self._point_at(stepped(by_latency, self._pointed, -1 if key == Qt.Key.Key_Left else 1))
            case Qt.Key.Key_Up | Qt.Key.Key_Down as key:
                self._point_at(stepped(by_rate, self._pointed, 1 if key == Qt.Key.Key_Up else -1))
            case Qt.Key.Key_Home | Qt.Key.Key_End as key if self._front:
                self._point_at(self._front[0 if key == Qt.Key.Key_Home else -1])
            case Qt.Key.Key_Return | Qt.Key.Key_Enter | Qt.Key.Key_Space if self._pointed >= 0:
                self.picked.emit(self._spots[self._pointed].request)
            case _:
                super().keyPressEvent(event)

    def focusInEvent(self, event: QFocusEvent) -> None:
        super().focusInEvent(event)
        if self._pointed < 0 and self._spots:
            self._point_at(max(0, self._best), tell=False)

    def focusOutEvent(self, event: QFocusEvent) -> None:
        super().focusOutEvent(event)
        self._point_at(-1)

    def _point_at(self, index: int, *, tell: bool = True) -> None:
        if index == self._pointed:
            return
        self._pointed = index
        self.setCursor(Qt.CursorShape.PointingHandCursor if index >= 0 else Qt.CursorShape.ArrowCursor)
        spot = self._spots[index] if index >= 0 else None
        self.setAccessibleDescription(f"{spot.title}\n{spot.words}" if spot is not None else "")
        QAccessible.updateAccessibility(QAccessibleEvent(self, QAccessible.Event.DescriptionChanged))
        if spot is not None and tell:
            QToolTip.showText(self.mapToGlobal(self.place_of(index)), f"{spot.title}\n{spot.words}", self)
        else:
            QToolTip.hideText()
        self.update()

    # ---------------------------------------------------------------- painting

    def paintEvent(self, _event: QPaintEvent) -> None:
        theme = Theme.of()
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setFont(theme.font(-2))
        if self._spots or self._chosen is not None:
            self._paint_axes(painter, theme)
            self._paint_bound(painter, theme)
            self._paint_front(painter, theme)
            self._paint_spots(painter, theme)
            self._paint_rings(painter, theme)
            self._paint_legend(painter, theme)
        else:
            painter.setPen(theme.colour("muted"))
            flags = Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap
            painter.drawText(QRectF(self.rect()).adjusted(M, M, -M, -M), int(flags), self._note)
        painter.end()

    def _paint_axes(self, painter: QPainter, theme: Theme) -> None:
        area, line = self._plot, painter.fontMetrics().height()
        unit, factor = unit_of([self._x.high])
        painter.setPen(QPen(theme.colour("grid"), 1))
        for tick in self._y.ticks():
            y = round(self._at(self._x.low, tick)[1]) + 0.5
            painter.drawLine(QPointF(area.left(), y), QPointF(area.right(), y))
        painter.setPen(theme.colour("muted"))
        for tick in self._y.ticks():
            y = self._at(self._x.low, tick)[1]
            box = QRectF(0, y - line / 2, area.left() - XS, line)
            painter.drawText(box, int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter), tick_text(tick))
        end = 0.0
        for tick in self._x.ticks():
            text = tick_text(tick * factor)
            width = painter.fontMetrics().horizontalAdvance(text)
            x = self._at(tick, self._y.low)[0]
            x = min(max(x - width / 2, area.left()), area.right() - width)
            if x > end:
                painter.drawText(QRectF(x, area.bottom() + 1, width + 1, line), int(Qt.AlignmentFlag.AlignLeft), text)
                end = x + width + S
        painter.drawText(QRectF(0, 0, self.width(), line), int(Qt.AlignmentFlag.AlignLeft), self.tr("items/s"))
        below = QRectF(area.left(), area.bottom() + line, area.width(), line)
        painter.drawText(below, int(Qt.AlignmentFlag.AlignRight), self.tr("latency, {0}").format(unit))
        painter.setPen(QPen(theme.colour("border_strong"), 1))
        painter.drawLine(QPointF(area.left(), area.bottom() + 0.5), QPointF(area.right(), area.bottom() + 0.5))

    def _paint_bound(self, painter: QPainter, theme: Theme) -> None:
        """What takes longer than is allowed lies in a shade."""
        if self._bound_s is None or self._bound_s >= self._x.high:
            return
        x = max(self._plot.left(), self._at(max(self._bound_s, self._x.low), self._y.low)[0])
        shade = theme.colour("warn_soft")
        painter.fillRect(QRectF(x, self._plot.top(), self._plot.right() - x, self._plot.height()), shade)
        painter.setPen(QPen(theme.colour("warn"), 1, Qt.PenStyle.DashLine))
        painter.drawLine(QPointF(x, self._plot.top()), QPointF(x, self._plot.bottom()))

    def _paint_front(self, painter: QPainter, theme: Theme) -> None:
        """A stair: on its other side nothing is known to be reached."""
        if len(self._front) < 2:
            return
        corners = [QPointF(*self._points[self._front[0]])]
        for index in self._front[1:]:
            x, y = self._points[index]
            corners += [QPointF(x, corners[-1].y()), QPointF(x, y)]
        painter.setPen(QPen(blend(theme.colour("accent"), theme.colour("surface"), 0.55), 1.5))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawPolyline(QPolygonF(corners))

    def _paint_spots(self, painter: QPainter, theme: Theme) -> None:
        """The front last: it lies on top."""
        top = set(self._front)
        for index in sorted(range(len(self._spots)), key=lambda index: index in top):
            draw = self._cross if not self._spots[index].fits else self._disc if index in top else self._circle
            draw(painter, theme, QPointF(*self._points[index]))
        if self._best >= 0:
            self._star(painter, theme, QPointF(*self._points[self._best]))

    def _paint_rings(self, painter: QPainter, theme: Theme) -> None:
        if self._chosen is not None:
            self._ring(painter, theme, QPointF(*self._at(*self._chosen)))
        if self._pointed >= 0:
            style = Qt.PenStyle.DotLine if self.hasFocus() else Qt.PenStyle.SolidLine
            painter.setPen(QPen(theme.colour("text"), 1, style))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawEllipse(QPointF(*self._points[self._pointed]), MARKED + 2, MARKED + 2)

    def _legend(self) -> list[Entry]:
        """Everything that is there."""
        found: list[Entry] = []
        if self._chosen is not None:
            found.append((self._ring, self.tr("chosen")))
        if self._best >= 0:
            found.append((self._star, self.tr("automatic")))
        if self._front:
            found.append((self._disc, self.tr("unbeaten")))
        if any(not spot.fits for spot in self._spots):
            found.append((self._cross, self.tr("does not fit")))
        return found

    def _legend_rows(self, metrics: QFontMetricsF) -> list[list[Entry]]:
        """As many entries in a row as have room."""
        rows: list[list[Entry]] = []
        end = 0.0
        for entry in self._legend():
            width = MARK + metrics.horizontalAdvance(entry[1]) + M
            if not rows or end + width - M > self.width():
                rows.append([])
                end = 0.0
            rows[-1].append(entry)
            end += width
        return rows

    def _paint_legend(self, painter: QPainter, theme: Theme) -> None:
        metrics = QFontMetricsF(painter.font())
        for place, entries in enumerate(self._rows):
            x, y = 0.0, self.height() - metrics.height() * (len(self._rows) - place - 0.5)
            for draw, text in entries:
                painter.save()
                painter.translate(x + RADIUS + 2, y)
                painter.scale(0.7, 0.7)
                draw(painter, theme, QPointF(0, 0))
                painter.restore()
                painter.setPen(theme.colour("muted"))
                painter.drawText(QPointF(x + MARK, y + metrics.ascent() / 2 - 1), text)
                x += MARK + metrics.horizontalAdvance(text) + M

    def _disc(self, painter: QPainter, theme: Theme, at: QPointF) -> None:
        painter.setPen(QPen(theme.colour("surface"), 1))
        painter.setBrush(theme.colour("accent"))
        painter.drawEllipse(at, RADIUS + 1, RADIUS + 1)

    def _circle(self, painter: QPainter, theme: Theme, at: QPointF) -> None:
        painter.setPen(QPen(theme.colour("muted"), 1.2))
        painter.setBrush(theme.colour("surface"))
        painter.drawEllipse(at, RADIUS - 0.5, RADIUS - 0.5)

    def _cross(self, painter: QPainter, theme: Theme, at: QPointF) -> None:
        painter.setPen(QPen(theme.colour("bad"), 1.6))
        for rise in (-1, 1):
            reach = QPointF(RADIUS - 0.5, rise * (RADIUS - 0.5))
            painter.drawLine(at - reach, at + reach)

    def _ring(self, painter: QPainter, theme: Theme, at: QPointF) -> None:
        painter.setPen(QPen(theme.colour("text"), 2))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawEllipse(at, MARKED, MARKED)

    def _star(self, painter: QPainter, theme: Theme, at: QPointF) -> None:
        """Four points, so that it is told from a disc without its colour."""
        reach, waist = RADIUS + 3.5, 2.2
        points, corners = ((0, -1), (1, 0), (0, 1), (-1, 0)), ((1, -1), (1, 1), (-1, 1), (-1, -1))
        path = QPainterPath(at + QPointF(0, -reach))
        for (x, y), (u, v) in zip((*points[1:], points[0]), corners, strict=True):
            path.lineTo(at + QPointF(u * waist, v * waist))
            path.lineTo(at + QPointF(x * reach, y * reach))
        path.closeSubpath()
        painter.setPen(QPen(theme.colour("surface"), 1))
        painter.setBrush(QColor(theme.colour("good")))
        painter.drawPath(path)
