"""How the picture of the cluster is painted: this workstation, links, cards of nodes."""

from __future__ import annotations

from typing import Final

from PySide6.QtCore import QCoreApplication, QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QFontMetrics, QPainter, QPainterPath, QPen

from core.cluster.node import Node, NodeState
from gui.bridge import Bridge
from gui.colours import blend
from gui.theme import L, M, S, Theme
from gui.widgets import units
from gui.widgets.node_table import draw_pill
from gui.widgets.states import state_word
from gui.widgets.topology_model import CARD_HEIGHT, MOVING_BYTES_PER_S, Link, line_width
from gui.widgets.topology_scene import card_words

GAUGES: Final = 128.0
PILL: Final = 92.0
LOW_PILL: Final = 98.0
"""Pixels that a state takes."""


def _tr(text: str, number: int = -1) -> str:
    return QCoreApplication.translate("topology", text, None, number)


class TopologyPainter:
    """Paints one frame."""

    def __init__(self, painter: QPainter, bridge: Bridge, phase: float, ratio: float) -> None:
        """``phase``: how far the dashes of moving tensors have come, pixels; ``ratio``: device pixels per pixel."""
        self._p, self._bridge, self._phase, self._ratio = painter, bridge, phase, ratio

    def link(self, link: Link) -> None:
        theme = Theme.of()
        width = line_width(link.rate)
        ground = theme.colour("window")
        self._p.setBrush(Qt.BrushStyle.NoBrush)
        if link.broken:
            self._p.setPen(QPen(link.colour, 1.5, Qt.PenStyle.DotLine))
            self._p.drawPath(link.path)
        else:
            moving = link.rate > MOVING_BYTES_PER_S
            self._p.setPen(QPen(blend(link.colour, ground, 0.45 if moving else 0.7), width))
            self._p.drawPath(link.path)
            if moving:
                pen = QPen(link.colour, width, Qt.PenStyle.CustomDashLine, Qt.PenCapStyle.FlatCap)
                pen.setDashPattern([8 / width, 14 / width])
                pen.setDashOffset(-self._phase / width)
                self._p.setPen(pen)
                self._p.drawPath(link.path)
        if link.text:
            self._paint_label(link)

    def _paint_label(self, link: Link) -> None:
        theme = Theme.of()
        font = theme.font(-2)
        metrics = QFontMetrics(font)
        box = QRectF(0, 0, metrics.horizontalAdvance(link.text) + 12, metrics.height() + 4)
        box.moveCenter(link.label_at)
        self._p.setPen(Qt.PenStyle.NoPen)
        self._p.setBrush(theme.colour("surface"))
        self._p.drawRoundedRect(box, 4, 4)
        self._p.setFont(font)
        self._p.setPen(theme.colour("bad" if link.broken else "muted"))
        self._p.drawText(box, Qt.AlignmentFlag.AlignCenter, link.text)

    def station(self, box: QRectF) -> None:
        theme = Theme.of()
        self._p.setPen(QPen(theme.colour("border_strong"), 1))
        self._p.setBrush(theme.colour("raised"))
        self._p.drawRoundedRect(box, 8, 8)
        icon = theme.pixmap("workstation", 28, "text", self._ratio)
        self._p.drawPixmap(QPointF(box.center().x() - 14, box.top() + 12), icon)
        self._p.setFont(theme.font(0, bold=True))
        self._p.setPen(theme.colour("text"))
        top = QRectF(box.left(), box.top() + 44, box.width(), 20)
        self._p.drawText(top, Qt.AlignmentFlag.AlignCenter, _tr("This workstation"))
        self._p.setFont(theme.font(-1))
        self._p.setPen(theme.colour("muted"))
        self._p.drawText(top.translated(0, 20), Qt.AlignmentFlag.AlignCenter, self._station_words())

    def _station_words(self) -> str:
        progress = self._bridge.progress
        if progress is not None and self._bridge.report is None:
            return _tr("{0} items/s").format(units.quantity(progress.throughput))
        return _tr("%n node(s)", len(self._bridge.nodes))

    def card(self, node: Node, rect: QRectF, *, selected: bool, focused: bool) -> None:
        """``focused``: the keys are at it."""
        theme = Theme.of()
        colour = self._bridge.colour(node.id)
        lost = node.state is NodeState.LOST
        self._p.setPen(
            QPen(theme.colour("bad" if lost else "accent" if selected else "border"), 1.5 if selected or lost else 1)
        )
        self._p.setBrush(theme.colour("bad_soft" if lost else "accent_soft" if selected else "sunken"))
        self._p.drawRoundedRect(rect, 8, 8)
        if focused:
            self._p.setPen(QPen(theme.colour("text"), 1, Qt.PenStyle.DotLine))
            self._p.setBrush(Qt.BrushStyle.NoBrush)
            self._p.drawRoundedRect(rect.adjusted(-3, -3, 3, 3), 10, 10)
            self._p.setPen(Qt.PenStyle.NoPen)
        bar = QPainterPath()
        bar.addRoundedRect(QRectF(rect.left(), rect.top(), 16, rect.height()), 8, 8)
        strip = QPainterPath()
        strip.addRect(QRectF(rect.left(), rect.top(), 6, rect.height()))
        self._p.fillPath(bar.intersected(strip), blend(colour, theme.colour("surface"), 0.35) if lost else colour)
        self._paint_card_words(node, rect.adjusted(L + 6, 0, -M, 0), lost=lost)

    def _paint_card_words(self, node: Node, box: QRectF, *, lost: bool) -> None:
        if box.height() < CARD_HEIGHT:
            self._paint_one_line(node, box, lost=lost)
            return
        theme = Theme.of()
        middle = box.center().y()
        pill = PILL
        gauges = GAUGES if box.width() > 320 else 0.0
        name_width = max(40.0, box.width() - pill - gauges - M)
        bold = theme.font(1, bold=True)
        self._p.setFont(bold)
        self._p.setPen(theme.colour("text"))
        name = QFontMetrics(bold).elidedText(node.name, Qt.TextElideMode.ElideRight, int(name_width))
        self._p.drawText(QRectF(box.left(), middle - 25, name_width, 22), Qt.AlignmentFlag.AlignVCenter, name)
        small = theme.font(-1)
        self._p.setFont(small)
        self._p.setPen(theme.colour("bad" if lost else "muted"))
        words = QFontMetrics(small).elidedText(
            card_words(self._bridge, node), Qt.TextElideMode.ElideRight, int(box.width() - gauges - S)
        )
        self._p.drawText(
            QRectF(box.left(), middle + 3, box.width() - gauges - S, 20), Qt.AlignmentFlag.AlignVCenter, words
        )
        at = QRectF(box.left() + name_width, middle - 24, pill, 20).toRect()
        draw_pill(self._p, at, state_word(node.state), node.state)
        telemetry = self._bridge.telemetry.get(node.id)
        if gauges and telemetry is not None and not lost:
            area = QRectF(box.right() - gauges + M, middle - 24, gauges - M, 20)
            threads = node.info.threads if node.info else 1
            busy = telemetry.process_cpu / max(1, threads)
            self._paint_gauge(area, _tr("CPU"), busy, self._bridge.colour(node.id))
            limit = node.info.memory_limit if node.info else telemetry.memory_total
            share = telemetry.process_memory / max(1, limit)
            self._paint_gauge(area.translated(0, 27), _tr("Memory"), share, theme.colour("muted"))

    def _paint_one_line(self, node: Node, box: QRectF, *, lost: bool) -> None:
        theme = Theme.of()
        name_width, pill = box.width() * 0.34, LOW_PILL
        bold, small = theme.font(bold=True), theme.font(-1)
        self._p.setFont(bold)
        self._p.setPen(theme.colour("text"))
        name = QFontMetrics(bold).elidedText(node.name, Qt.TextElideMode.ElideRight, int(name_width - S))
        self._p.drawText(QRectF(box.left(), box.top(), name_width, box.height()), Qt.AlignmentFlag.AlignVCenter, name)
        at = QRectF(box.left() + name_width, box.top(), pill, box.height()).toRect()
        draw_pill(self._p, at, state_word(node.state), node.state)
        rest = QRectF(at.right() + S, box.top(), box.right() - at.right() - S, box.height())
        self._p.setFont(small)
        self._p.setPen(theme.colour("bad" if lost else "muted"))
        words = QFontMetrics(small).elidedText(
            card_words(self._bridge, node), Qt.TextElideMode.ElideRight, int(rest.width())
        )
        self._p.drawText(rest, Qt.AlignmentFlag.AlignVCenter, words)

    def _paint_gauge(self, area: QRectF, name: str, share: float, colour: QColor) -> None:
        theme = Theme.of()
        self._p.setFont(theme.font(-2))
        self._p.setPen(theme.colour("muted"))
        self._p.drawText(area, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop, name)
        self._p.drawText(area, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignTop, units.percent(share))
        groove = QRectF(area.left(), area.bottom() - 4, area.width(), 4)
        self._p.setPen(Qt.PenStyle.NoPen)
        self._p.setBrush(theme.colour("border"))
        self._p.drawRoundedRect(groove, 2, 2)
        groove.setWidth(groove.width() * max(0.0, min(1.0, share)))
        self._p.setBrush(colour)
        self._p.drawRoundedRect(groove, 2, 2)
