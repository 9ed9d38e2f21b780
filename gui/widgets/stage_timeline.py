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
from gui.theme import Theme
from gui.widgets import units

SPANS: Final = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds shown: the shortest that holds BLOCKS runs of a lane."""
BLOCKS: Final = 24
QUIET_SECONDS: Final = 1.0
"""A lane without news for so long is not waited for."""
CLOCKS_AGREE: Final = 0.05
"""Clocks that differ by less (the way of a message included) count as one: the same machine, or set by NTP."""
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
        self._offset = 0.0
        self._nearest: float | None = None
        self._told: float | None = None

    def take(self, telemetry: Telemetry, now: float) -> None:
        """The node's clock is set against ours by the telemetry that took the least time to come."""
        before, self._told = self._told, telemetry.time
        behind = now - telemetry.time
        nearest = behind if self._nearest is None else min(self._nearest + 0.001, behind)
        self._nearest = nearest
        self._offset = 0.0 if abs(nearest) < CLOCKS_AGREE else nearest
        if len(telemetry.executions) >= MOST_TOLD and before is not None:
            first = min(run.start for run in telemetry.executions)
            self.runs.append((before + self._offset, first + self._offset, UNTOLD))
        for run in telemetry.executions:
            start = run.start + self._offset
            self.runs.append((start, start + run.seconds, run.seq))

    def latest(self) -> float:
        """End of the last run, 0.0 when there was none."""
        return self.runs[-1][1] if self.runs else 0.0

    def period(self) -> float | None:
        """Seconds from one run's start to the next one's, typically; None when there are too few to tell."""
        starts = [start for start, _, seq in list(self.runs)[-MOST_TOLD:] if seq != UNTOLD]
        return float(np.median(np.diff(starts))) if len(starts) > 4 else None

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
        self._span = SPANS[-2]
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
        """Show the newest time that all busy lanes have told of."""
        busy = [lane for lane in self._lanes.values() if lane.latest() > now - QUIET_SECONDS]
        end = min((lane.latest() for lane in busy), default=self._end)
        if end == self._end:
            return
        periods = [period for lane in busy if (period := lane.period()) is not None]
        wanted = BLOCKS * min(periods, default=SPANS[-1])
        self._span = next((span for span in SPANS if span >= wanted), SPANS[-1])
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
        row = self._lanes[node_id].pixels(self._end - self._span, self._span, width, shades, ground.rgba())
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
            ago = self._span * (1 - i / steps)
            box = QRectF(x - 40, y, 80, 16)
            side = Qt.AlignmentFlag.AlignHCenter
            if i == 0:
                box, side = QRectF(x, y, 80, 16), Qt.AlignmentFlag.AlignLeft
            if i == steps:
                box, side = QRectF(x - 80, y, 80, 16), Qt.AlignmentFlag.AlignRight
            text = f"−{units.seconds(ago)}" if ago else "0"
            painter.drawText(box, side | Qt.AlignmentFlag.AlignTop, text)
        painter.setPen(QPen(QColor(theme.colour("border")), 1))
        painter.drawLine(QPointF(area.left(), area.bottom()), QPointF(area.right(), area.bottom()))
