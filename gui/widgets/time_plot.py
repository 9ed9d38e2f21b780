"""A live plot of a few curves over the last minute.

Fast because curves are made once, pens are one pixel wide and not smoothed, the y range is fixed between steps, and a
hidden plot does not draw.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import Qt
from PySide6.QtGui import QColor
from PySide6.QtWidgets import QVBoxLayout

from gui.theme import M, S, Theme
from gui.widgets.basics import Card, ElidedLabel, label
from gui.widgets.series import Ring, nice_ceiling

SECONDS: Final = 60.0
SAMPLE_MS: Final = 200
SAMPLES: Final = int(SECONDS * 1000 / SAMPLE_MS)
TIMES: Final = np.linspace(-SECONDS, 0.0, SAMPLES)


class ValueAxis(pg.AxisItem):
    """Tick texts by the plot's own unit."""

    def __init__(self, words: Callable[[float], str]) -> None:
        super().__init__("left")
        self._words = words

    def tickStrings(self, values: list[float], scale: float, _spacing: float) -> list[str]:
        return [self._words(v * scale) for v in values]


class TimePlot(Card):
    """Curves by key; ``add`` samples at a steady rate, then ``draw``."""

    def __init__(
        self,
        title: str,
        words: Callable[[float], str],
        *,
        floor: float = 1.0,
        ceiling: Callable[[float], float] = nice_ceiling,
    ) -> None:
        """``words`` writes a value with its unit; the y range ends at a ``ceiling`` of the data, at least ``floor``."""
        super().__init__(margin=M)
        self.setAccessibleName(title)
        self._words, self._floor, self._ceiling = words, floor, ceiling
        self._rings: dict[str, Ring] = {}
        self._curves: dict[str, pg.PlotCurveItem] = {}
        self._colours: dict[str, Callable[[], QColor]] = {}
        self._now = label("", "small")
        self._now.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        head = QVBoxLayout()
        title_label = ElidedLabel("overline")
        title_label.setText(title)
        from_top = self.layout()
        assert isinstance(from_top, QVBoxLayout)
        from_top.setSpacing(S)
        self.tools.addWidget(title_label, 1)
        self.tools.addWidget(self._now)
        head.addLayout(self.tools)
        self.body.addLayout(head)
        self.plot = self._make_plot()
        self.body.addWidget(self.plot, 1)
        self._top = 0.0
        self._set_top(floor)
        Theme.of().changed.connect(self.restyle)
        self.restyle()

    def _make_plot(self) -> pg.PlotWidget:
        self._axis = ValueAxis(self._words)
        plot = pg.PlotWidget(axisItems={"left": self._axis})
        plot.setAntialiasing(False)
        plot.setMenuEnabled(False)
        plot.setMouseEnabled(False, False)
        plot.hideButtons()
        plot.setFrameShape(plot.Shape.NoFrame)
        for part in (plot, plot.viewport()):
            part.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        plot.setMinimumHeight(96)
        item = plot.getPlotItem()
        item.setContentsMargins(0, 8, 12, 0)
        item.showGrid(y=True, alpha=0.25)
        item.disableAutoRange()
        item.setXRange(-SECONDS, 0, padding=0)
        bottom = item.getAxis("bottom")
        bottom.setTicks([[(-60, "60 s"), (-40, "40"), (-20, "20"), (0, "0")]])
        bottom.setHeight(20)
        self._axis.setWidth(58)
        return plot

    def curve(self, key: str, colour: Callable[[], QColor]) -> None:
        """Make sure the curve ``key`` exists."""
        if key in self._curves:
            return
        self._rings[key] = Ring(SAMPLES)
        self._colours[key] = colour
        made = pg.PlotCurveItem(pen=pg.mkPen(colour(), width=1), connect="finite", antialias=False)
        self.plot.addItem(made)
        self._curves[key] = made

    def drop(self, key: str) -> None:
        if key in self._curves:
            self.plot.removeItem(self._curves.pop(key))
            del self._rings[key], self._colours[key]

    def curves(self) -> tuple[str, ...]:
        """Their keys."""
        return tuple(self._curves)

    def add(self, key: str, value: float) -> None:
        self._rings[key].add(value)

    def clear(self) -> None:
        for ring in self._rings.values():
            ring.clear()

    def draw(self, now: str = "") -> None:
        """Show the newest samples; ``now`` is the figure beside the title."""
        if self._now.text() != now:
            self._now.setText(now)
        if not self.isVisible():
            return
        highest = 0.0
        for key, made in self._curves.items():
            samples = self._rings[key].view()
            made.setData(TIMES, samples)
            if not np.isnan(samples).all():
                highest = max(highest, float(np.nanmax(samples)))
        wanted = max(self._floor, self._ceiling(highest * 1.05))
        if wanted > self._top or wanted < self._top * 0.45:
            self._set_top(wanted)

    def _set_top(self, top: float) -> None:
        self._top = top
        self.plot.setYRange(0, top, padding=0.1)
        self._axis.setTicks([[(v, self._words(v)) for v in (0.0, top / 2, top)]])

    def restyle(self) -> None:
        """Take the theme's colours; pyqtgraph does not follow the palette."""
        theme = Theme.of()
        self.plot.setBackground(theme.colour("surface"))
        for side in ("left", "bottom"):
            axis = self.plot.getPlotItem().getAxis(side)
            axis.setPen(pg.mkPen(theme.colour("border_strong")))
            axis.setTextPen(pg.mkPen(theme.colour("muted")))
            axis.setStyle(tickFont=theme.font(-2), tickLength=-3, tickTextOffset=5, hideOverlappingLabels=False)
        for key, made in self._curves.items():
            made.setPen(pg.mkPen(self._colours[key](), width=1))
