"""The small picture on a strategy's card: how it cuts this model, layers from left to right, as wide as their time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from msgspec import Struct
from PySide6.QtCore import QEvent, QRectF, QSize, Qt
from PySide6.QtGui import QPainter, QPaintEvent, QPen, QResizeEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from gui.theme import Theme
from gui.widgets.division_model import Box, Lane, boxes_of, runs_of
from gui.widgets.division_paint import Colour, LanePainter

HEIGHT: Final = 38
GAP: Final = 3.0
MOST_LANES: Final = 7
"""More replicas than this are not told apart at this size."""
RADIUS: Final = 3.0


class Picture(Struct, frozen=True, eq=False):
    """``edges``: float64 [layers + 1] from 0 to 1; ``words``: the same for a screen reader."""

    lanes: tuple[Lane, ...]
    edges: np.ndarray
    words: str = ""


class DivisionPicture(QWidget):
    """GUI thread."""

    def __init__(self) -> None:
        super().__init__()
        self._picture: Picture | None = None
        self._colour: Colour | None = None
        self._boxes: tuple[tuple[QRectF, tuple[Box, ...]], ...] = ()
        self._brush: LanePainter | None = None
        self.setFixedHeight(HEIGHT)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        Theme.of().changed.connect(self._restyle)

    def show_picture(self, picture: Picture | None, colour: Colour) -> None:
        """``colour``: of a node; None: nothing is known, an empty frame."""
        self._picture, self._colour = picture, colour
        self.setAccessibleName(picture.words if picture else "")
        self._brush = None
        self._arrange()

    def boxes(self) -> Sequence[Box]:
        """Everything that is filled at the present size."""
        return [box for _, boxes in self._boxes for box in boxes]

    def sizeHint(self) -> QSize:
        return QSize(180, self.height())

    def _arrange(self) -> None:
        self._boxes = ()
        if self._picture is not None:
            lanes = self._picture.lanes[:MOST_LANES]
            height = (self.height() - GAP * (len(lanes) - 1)) / max(1, len(lanes))
            edges = self._picture.edges * self.width()
            made = []
            for place, lane in enumerate(lanes):
                top = place * (height + GAP)
                outline = QRectF(0, top, self.width(), height)
                made.append((outline, boxes_of(runs_of(lane, edges), edges, top, height)))
            self._boxes = tuple(made)
        self.update()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._arrange()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.EnabledChange:
            self.update()

    def _restyle(self) -> None:
        self._brush = None
        self.update()

    def paintEvent(self, _event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if not self._boxes or self._colour is None:
            painter.setPen(QPen(Theme.of().colour("border_strong"), 1, Qt.PenStyle.DashLine))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRoundedRect(QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5), RADIUS, RADIUS)
        else:
            if self._brush is None:
                ground = Theme.of().colour("border")
                self._brush = LanePainter(self._colour, ground, self.devicePixelRatioF())
            painter.setOpacity(1.0 if self.isEnabled() else 0.4)
            for outline, boxes in self._boxes:
                self._brush.lane(painter, boxes, outline, RADIUS)
        painter.end()
