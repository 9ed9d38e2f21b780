"""What ran when: one lane a node, a block for every run of a shard, over the last seconds.

Blocks of one lane are written into a row of pixels that is stretched over the lane, so that thousands of short runs
cost no more than a few long ones. Neighbouring micro-batches differ in shade; a pale block stands for runs that were
too many to tell.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import numpy as np
from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFontMetrics, QImage, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QWidget

from core.wire.messages import Telemetry
from gui.bridge import Bridge
from gui.colours import blend
from gui.theme import S, Theme

SPAN: Final = 2.0
"""Seconds shown."""
DELAY: Final = 0.5
"""Seconds that the picture lags, so that all telemetry of what it shows has come."""
LABEL_WIDTH: Final = 108
AXIS_HEIGHT: Final = 20
KEPT: Final = 4096
MOST_TOLD: Final = 64
"""Runs that one telemetry can hold; a busier node leaves the first ones of the interval out."""
UNTOLD: Final = -1
"""In place of a micro-batch's number: runs that were too many to tell."""


class Lane:
    """Runs of one node, in the workstation's time."""

    def __init__(self) -> None:
        self.runs: deque[tuple[float, float, int]] = deque(maxlen=KEPT)
        """(start, end, seq)."""
        self._offset: float | None = None
        self._told: float | None = None

    def take(self, telemetry: Telemetry, now: float) -> None:
        """The node's clock is set against ours by the telemetry that took the least time to come."""
        before, self._told = self._told, telemetry.time
        behind = now - telemetry.time
        self._offset = behind if self._offset is None else min(self._offset + 0.001, behind)
        if len(telemetry.executions) >= MOST_TOLD and before is not None:
            first = min(run.start for run in telemetry.executions)
            self.runs.append((before + self._offset, first + self._offset, UNTOLD))
        for run in telemetry.executions:
            start = run.start + self._offset
            self.runs.append((start, start + run.seconds, run.seq))

    def pixels(self, begin: float, span: float, width: int, shades: tuple[int, int, int], ground: int) -> np.ndarray:
        """uint32 ARGB, shape (width,), of the time from ``begin`` on."""
        row = np.full(width, ground, dtype=np.uint32)
        scale = width / span
        for start, end, seq in self.runs:
            if end < begin or start > begin + span:
                continue
            first = max(0, int((start - begin) * scale))
            row[first : max(first + 1, int((end - begin) * scale))] = shades[2 if seq == UNTOLD else seq & 1]
        return row


class StageTimeline(QWidget):
    """Fed by ``take``; ``draw`` repaints when visible."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__()
        self._bridge = bridge
        self._lanes: dict[str, Lane] = {}
        self._end = 0.0
        self.setMinimumHeight(110)
        self.setAccessibleName(self.tr("Stage time line"))
        Theme.of().changed.connect(self.update)

    def sizeHint(self) -> QSize:
        return QSize(520, 160)

    def take(self, node_id: str, telemetry: Telemetry, now: float) -> None:
        """``now`` is this workstation's Unix time."""
        if node_id not in self._lanes:
            self._lanes[node_id] = Lane()
        self._lanes[node_id].take(telemetry, now)

    def draw(self, now: float) -> None:
        latest = max((lane.runs[-1][1] for lane in self._lanes.values() if lane.runs), default=0.0)
        end = now - DELAY
        if latest < end - SPAN and self._end > latest + SPAN:
            return
        self._end = end
        if self.isVisible():
            self.update()

    def paintEvent(self, _event: QPaintEvent) -> None:
        painter = QPainter(self)
        theme = Theme.of()
        nodes = [n for n in self._bridge.nodes if n.id in self._lanes]
        area = QRectF(LABEL_WIDTH, 0, self.width() - LABEL_WIDTH, self.height() - AXIS_HEIGHT)
        painter.setFont(theme.font(-1))
        if nodes:
            pitch = min(64.0, area.height() / len(nodes))
            for index, node in enumerate(nodes):
                self._paint_lane(painter, node.id, node.name, QRectF(0, index * pitch, self.width(), pitch))
            area.setHeight(pitch * len(nodes))
        self._paint_axis(painter, area)

    def _paint_lane(self, painter: QPainter, node_id: str, name: str, box: QRectF) -> None:
        theme = Theme.of()
        colour = self._bridge.colour(node_id)
        metrics = QFontMetrics(painter.font())
        painter.setPen(theme.colour("text"))
        words = metrics.elidedText(name, Qt.TextElideMode.ElideRight, LABEL_WIDTH - 28)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setBrush(colour)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.drawEllipse(QPointF(6, box.center().y()), 4.5, 4.5)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, on=False)
        painter.setPen(theme.colour("text"))
        painter.drawText(box.adjusted(18, 0, 0, 0), Qt.AlignmentFlag.AlignVCenter, words)
        lane = QRectF(LABEL_WIDTH, box.top() + 4, box.width() - LABEL_WIDTH, box.height() - 8)
        width = max(1, int(lane.width() * self.devicePixelRatioF()))
        ground = theme.colour("sunken")
        surface = theme.colour("surface")
        shades = (colour.rgba(), blend(colour, surface, 0.62).rgba(), blend(colour, surface, 0.25).rgba())
        row = self._lanes[node_id].pixels(self._end - SPAN, SPAN, width, shades, ground.rgba())
        image = QImage(row.data, width, 1, width * 4, QImage.Format.Format_RGB32)
        painter.drawImage(lane, image)

    def _paint_axis(self, painter: QPainter, area: QRectF) -> None:
        theme = Theme.of()
        painter.setFont(theme.font(-2))
        painter.setPen(QPen(theme.colour("muted")))
        y = area.bottom() + 4
        steps = 4
        for i in range(steps + 1):
            x = area.left() + area.width() * i / steps
            ago = SPAN * (1 - i / steps)
            box = QRectF(x - 40, y, 80, 16)
            side = Qt.AlignmentFlag.AlignHCenter
            if i == 0:
                box, side = QRectF(x, y, 80, 16), Qt.AlignmentFlag.AlignLeft
            if i == steps:
                box, side = QRectF(x - 80, y, 80, 16), Qt.AlignmentFlag.AlignRight
            text = self.tr("{0} s ago").format(f"{ago:.1f}") if i == 0 else f"{ago:.1f}"
            painter.drawText(box, side | Qt.AlignmentFlag.AlignTop, text)
        painter.setPen(QPen(QColor(theme.colour("border")), 1))
        painter.drawLine(QPointF(area.left(), area.bottom()), QPointF(area.right(), area.bottom() + S - S))
