"""The picture of the cluster: this workstation, its nodes, the links between them, and what moves over them.

Where nodes and links lie is worked out by pure functions (:func:`place_cards`); painting reads the bridge. While
tensors move, dashes travel along the links ten times a second; a hidden or quiet picture does not repaint.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Final, NamedTuple

from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, Qt, QTimer, Signal
from PySide6.QtGui import (
    QColor,
    QFontMetrics,
    QHelpEvent,
    QHideEvent,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPainterPath,
    QPaintEvent,
    QPen,
    QShowEvent,
)
from PySide6.QtWidgets import QToolTip, QWidget

from core.cluster.node import CONNECTED, Node, NodeState
from core.plan.division import Division
from core.plan.form import CLIENT, Plan
from gui.bridge import Bridge
from gui.colours import blend
from gui.shard_words import items_per_s, shards_words
from gui.theme import L, M, S, Theme
from gui.widgets import units
from gui.widgets.division_model import link_bytes
from gui.widgets.measured_words import link_words, links_words
from gui.widgets.node_table import draw_pill
from gui.widgets.states import state_meaning, state_word

FRAME_MS: Final = 100
MOVING_BYTES_PER_S: Final = 200.0
"""Traffic below this is heartbeats, not work."""
CARD_HEIGHT: Final = 74.0
COMPACT_HEIGHT: Final = 36.0
"""A card with one line of words, for when there are many nodes."""
CARD_WIDTH: Final = 250.0
"""A card narrower than this is hard to read."""
STATION_SIZE: Final = QSize(150, 92)


class Link(NamedTuple):
    """One line of the picture."""

    path: QPainterPath
    colour: QColor
    rate: float
    """Bytes per second."""
    text: str
    label_at: QPointF
    broken: bool


class Ways(NamedTuple):
    """Who sends tensors to whom under a plan."""

    fed: set[str]
    """Nodes that exchange tensors with the client."""
    pairs: tuple[tuple[str, str], ...]
    """Nodes that send one another tensors, in either direction, each pair once."""


def ways(plan: Plan) -> Ways:
    """What the routes of ``plan`` say."""
    node_of = {shard.id: str(shard.node) for shard in plan.shards}
    to_client = [r for r in plan.routes if CLIENT in {r.producer, r.consumer}]
    fed = {node_of[end] for r in to_client for end in (r.producer, r.consumer) if end != CLIENT}
    between = [
        sorted((node_of[r.producer], node_of[r.consumer]))
        for r in plan.routes
        if CLIENT not in {r.producer, r.consumer}
    ]
    return Ways(fed, tuple(dict.fromkeys((a, b) for a, b in between if a != b)))


def place_cards(area: QRectF, count: int) -> list[QRectF]:
    """Where ``count`` node cards lie in ``area``: one column of cards, lower ones when many, then two columns."""
    if count == 0:
        return []
    gap = float(M)
    most = max(1, int((area.height() + S) // (COMPACT_HEIGHT + S)))
    columns = max(1, math.ceil(count / most))
    rows = math.ceil(count / columns)
    room = (area.height() - gap * (rows - 1)) / rows
    height = CARD_HEIGHT if room >= CARD_HEIGHT else COMPACT_HEIGHT
    width = min(430.0, (area.width() - gap * (columns - 1)) / columns)
    pitch = min(height + 3 * gap, (area.height() - height) / (rows - 1)) if rows > 1 else 0.0
    top = area.center().y() - ((rows - 1) * pitch + height) / 2
    left = area.right() - columns * width - (columns - 1) * gap
    return [QRectF(left + (i // rows) * (width + gap), top + (i % rows) * pitch, width, height) for i in range(count)]


def line_width(rate: float) -> float:
    """Pixels for a link that carries ``rate`` bytes/s: 1.5 when quiet, one more for each factor of ten over 10 kB/s."""
    return 1.5 + max(0.0, min(5.0, math.log10(max(rate, 1.0)) - 4.0)) if rate > MOVING_BYTES_PER_S else 1.5


class TopologyView(QWidget):
    """Cards can be clicked or walked through with the arrow keys; ``chosen`` says the node's id."""

    chosen = Signal(str)

    def __init__(self, bridge: Bridge) -> None:
        super().__init__()
        self._bridge = bridge
        self._selected = ""
        self._phase = 0.0
        self.setMinimumHeight(230)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMouseTracking(True)
        self.setAccessibleName(self.tr("Topology"))
        self._frames = QTimer(self)
        self._frames.setInterval(FRAME_MS)
        self._frames.timeout.connect(self._next_frame)
        self._dirty = True
        self._ways_of: Plan | None = None
        self._ways_known = Ways(set(), ())
        self._planned_of: Division | None = None
        self._planned_bytes: dict[tuple[str, str], int] = {}
        bridge.nodesChanged.connect(self._mark)
        bridge.nodeChanged.connect(self._mark)
        bridge.telemetryArrived.connect(self._mark)
        bridge.phaseChanged.connect(self._mark)
        bridge.speedsChanged.connect(self._mark)
        bridge.measurementsChanged.connect(self._mark)
        Theme.of().changed.connect(self.update)

    def sizeHint(self) -> QSize:
        return QSize(900, 310)

    def select(self, node_id: str) -> None:
        self._selected = node_id
        self.update()

    # ------------------------------------------------------------ time

    def showEvent(self, event: QShowEvent) -> None:
        self._frames.start()
        super().showEvent(event)

    def hideEvent(self, event: QHideEvent) -> None:
        self._frames.stop()
        super().hideEvent(event)

    def _mark(self, *_what: object) -> None:
        self._dirty = True

    def _next_frame(self) -> None:
        moving = any(t.sent + t.received > MOVING_BYTES_PER_S for t in self._bridge.traffic.values())
        if moving:
            self._phase = (self._phase + 1.4) % 1200.0
        if moving or self._dirty:
            self._dirty = False
            self.update()

    # ------------------------------------------------------------ geometry

    def _station(self) -> QRectF:
        return QRectF(S, self.height() / 2 - STATION_SIZE.height() / 2, STATION_SIZE.width(), STATION_SIZE.height())

    def _cards(self) -> list[tuple[Node, QRectF]]:
        station = self._station().right()
        left = station + max(130.0, min(self.width() * 0.2, self.width() - station - 2 * CARD_WIDTH))
        area = QRectF(left, S, self.width() - left - S, self.height() - 2 * S)
        nodes = sorted(self._bridge.nodes, key=lambda node: node.info is None)  # strangers come last
        return list(zip(nodes, place_cards(area, len(nodes)), strict=True))

    def _links(self, cards: list[tuple[Node, QRectF]]) -> list[Link]:
        """From the workstation to every node, and between nodes where the plan sends tensors."""
        station = self._station()
        places: dict[str, QRectF] = {node.id: rect for node, rect in cards}
        feeds = self._fed_by_client()
        links = []
        for index, (node, rect) in enumerate(cards):
            traffic = self._bridge.traffic.get(node.id)
            direct = feeds is None or node.id in feeds
            rate = traffic.sent + traffic.received if traffic and direct else 0.0
            share = (index + 1) / (len(cards) + 1)
            start = QPointF(station.right(), station.top() + station.height() * share)
            end = QPointF(rect.left(), rect.center().y())
            links.append(self._link(node, start, end, rate))
        for one, other in self._between_nodes():
            if one in places and other in places:
                links.append(self._peer_link((one, other), places))
        return links

    def _link(self, node: Node, start: QPointF, end: QPointF, rate: float) -> Link:
        bend = (end.x() - start.x()) * 0.5
        path = QPainterPath(start)
        path.cubicTo(start + QPointF(bend, 0), end - QPointF(bend, 0), end)
        away = node.state not in CONNECTED
        measured = self._bridge.link_between("", node.id)
        words = [units.seconds(node.rtt_s)] if node.rtt_s is not None and not away else []
        if measured is not None and not away:
            words = [link_words(measured)]
        if rate > MOVING_BYTES_PER_S and not away:
            words.append(self.tr("now {0}").format(units.bits_per_s(rate)) if measured else units.bits_per_s(rate))
        text = state_word(node.state) if node.state is NodeState.LOST else "  ".join(words)
        return Link(path, self._link_colour(node), rate, text, path.pointAtPercent(0.66), away)

    def _link_colour(self, node: Node) -> QColor:
        return Theme.of().colour("bad") if node.state is NodeState.LOST else self._bridge.colour(node.id)

    def _peer_link(self, ends: tuple[str, str], places: dict[str, QRectF]) -> Link:
        """Straight between cards next to one another; else it bulges out to the left, so that it crosses no card."""
        upper, lower = sorted(ends, key=lambda node: (places[node].left(), places[node].top()))
        a, b = places[upper], places[lower]
        rate = self._rate(upper, lower) + self._rate(lower, upper)
        planned = self._planned()
        nbytes = planned.get((upper, lower), 0) + planned.get((lower, upper), 0)
        measured = self._bridge.link_between(upper, lower)
        words = [link_words(measured)] if measured is not None else []
        if rate > MOVING_BYTES_PER_S:
            words.append(self.tr("now {0}").format(units.bits_per_s(rate)) if measured else units.bits_per_s(rate))
        elif nbytes:
            words.append(self.tr("{0} a micro-batch").format(units.nbytes(nbytes)))
        text = "  ".join(words)
        between = [rect for rect in places.values() if rect.left() == a.left() and a.top() < rect.top() < b.top()]
        if a.left() == b.left() and between:
            out = 16.0 + 10.0 * len(between)
            path = QPainterPath(a.center() - QPointF(a.width() / 2, 0))
            end = b.center() - QPointF(b.width() / 2, 0)
            path.cubicTo(path.currentPosition() - QPointF(out, 0), end - QPointF(out, 0), end)
            return Link(path, self._bridge.colour(upper), rate, "", path.pointAtPercent(0.5), broken=False)
        start, end = QPointF(a.left() + 26, a.bottom()), QPointF(b.left() + 26, b.top())
        if a.left() != b.left():
            start, end = QPointF(a.right(), a.center().y()), QPointF(b.left(), b.center().y())
        path = QPainterPath(start)
        path.lineTo(end)
        at = (start + end) / 2
        at += QPointF(QFontMetrics(Theme.of().font(-2)).horizontalAdvance(text) / 2 + 18, 0)
        return Link(path, self._bridge.colour(upper), rate, text, at, broken=False)

    def _planned(self) -> dict[tuple[str, str], int]:
        """(from, to) -> bytes that the deployed plan sends for a micro-batch."""
        division = self._bridge.deployed_division if self._bridge.deployment is not None else None
        if division is not self._planned_of:
            self._planned_of = division
            self._planned_bytes = link_bytes(division) if division is not None else {}
        return self._planned_bytes

    def _rate(self, producer: str, consumer: str) -> float:
        """Bytes/s from one node to another: its part, by plan, of all that the producer sends."""
        traffic = self._bridge.traffic.get(producer)  # type: ignore[call-overload]
        planned = self._planned()
        whole = sum(size for (source, _), size in planned.items() if source == producer)
        if traffic is None or not whole:
            return 0.0
        return float(traffic.sent * planned.get((producer, consumer), 0) / whole)

    def _fed_by_client(self) -> set[str] | None:
        """Nodes that exchange tensors with this workstation; None: no plan is deployed."""
        return self._ways().fed if self._bridge.deployment is not None else None

    def _between_nodes(self) -> list[tuple[str, str]]:
        """Pairs of nodes that send one another tensors, each once; without a plan, neighbours with a measured link and
        all measured links of the node that is selected."""
        if self._bridge.deployment is not None:
            return list(self._ways().pairs)
        nodes = [node.id for node in self._bridge.nodes if node.state in CONNECTED]
        pairs = [*pairwise(nodes), *((self._selected, node) for node in nodes if self._selected in nodes)]
        sides = dict.fromkeys((min(one, other), max(one, other)) for one, other in pairs if one != other)
        return [ends for ends in sides if self._bridge.link_between(*ends) is not None]

    def _ways(self) -> Ways:
        """Of the deployed plan; read off its routes once, not ten times a second."""
        plan = self._bridge.deployment.plan if self._bridge.deployment is not None else None
        if plan is not self._ways_of:
            self._ways_of, self._ways_known = plan, ways(plan) if plan is not None else Ways(set(), ())
        return self._ways_known

    # ------------------------------------------------------------ painting

    def paintEvent(self, _event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        cards = self._cards()
        for link in self._links(cards):
            self._paint_link(painter, link)
        self._paint_station(painter)
        for node, rect in cards:
            self._paint_card(painter, node, rect)

    def _paint_link(self, painter: QPainter, link: Link) -> None:
        theme = Theme.of()
        width = line_width(link.rate)
        ground = theme.colour("window")
        painter.setBrush(Qt.BrushStyle.NoBrush)
        if link.broken:
            painter.setPen(QPen(link.colour, 1.5, Qt.PenStyle.DotLine))
            painter.drawPath(link.path)
        else:
            moving = link.rate > MOVING_BYTES_PER_S
            painter.setPen(QPen(blend(link.colour, ground, 0.45 if moving else 0.7), width))
            painter.drawPath(link.path)
            if moving:
                pen = QPen(link.colour, width, Qt.PenStyle.CustomDashLine, Qt.PenCapStyle.FlatCap)
                pen.setDashPattern([8 / width, 14 / width])
                pen.setDashOffset(-self._phase / width)
                painter.setPen(pen)
                painter.drawPath(link.path)
        if link.text:
            self._paint_label(painter, link)

    def _paint_label(self, painter: QPainter, link: Link) -> None:
        theme = Theme.of()
        font = theme.font(-2)
        metrics = QFontMetrics(font)
        box = QRectF(0, 0, metrics.horizontalAdvance(link.text) + 12, metrics.height() + 4)
        box.moveCenter(link.label_at)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(theme.colour("surface"))
        painter.drawRoundedRect(box, 4, 4)
        painter.setFont(font)
        painter.setPen(theme.colour("bad" if link.broken else "muted"))
        painter.drawText(box, Qt.AlignmentFlag.AlignCenter, link.text)

    def _paint_station(self, painter: QPainter) -> None:
        theme = Theme.of()
        box = self._station()
        painter.setPen(QPen(theme.colour("border_strong"), 1))
        painter.setBrush(theme.colour("raised"))
        painter.drawRoundedRect(box, 8, 8)
        ratio = self.devicePixelRatioF()
        icon = theme.pixmap("workstation", 28, "text", ratio)
        painter.drawPixmap(QPointF(box.center().x() - 14, box.top() + 12), icon)
        painter.setFont(theme.font(0, bold=True))
        painter.setPen(theme.colour("text"))
        top = QRectF(box.left(), box.top() + 44, box.width(), 20)
        painter.drawText(top, Qt.AlignmentFlag.AlignCenter, self.tr("This workstation"))
        painter.setFont(theme.font(-1))
        painter.setPen(theme.colour("muted"))
        painter.drawText(top.translated(0, 20), Qt.AlignmentFlag.AlignCenter, self._station_words())

    def _station_words(self) -> str:
        progress = self._bridge.progress
        if progress is not None and self._bridge.report is None:
            return self.tr("{0} items/s").format(units.quantity(progress.throughput))
        return self.tr("%n node(s)", "", len(self._bridge.nodes))

    def _paint_card(self, painter: QPainter, node: Node, rect: QRectF) -> None:
        theme = Theme.of()
        colour = self._bridge.colour(node.id)
        lost = node.state is NodeState.LOST
        selected = node.id == self._selected
        painter.setPen(
            QPen(theme.colour("bad" if lost else "accent" if selected else "border"), 1.5 if selected or lost else 1)
        )
        painter.setBrush(theme.colour("bad_soft" if lost else "accent_soft" if selected else "sunken"))
        painter.drawRoundedRect(rect, 8, 8)
        bar = QPainterPath()
        bar.addRoundedRect(QRectF(rect.left(), rect.top(), 16, rect.height()), 8, 8)
        strip = QPainterPath()
        strip.addRect(QRectF(rect.left(), rect.top(), 6, rect.height()))
        painter.fillPath(bar.intersected(strip), blend(colour, theme.colour("surface"), 0.35) if lost else colour)
        self._paint_card_words(painter, node, rect.adjusted(L + 6, 0, -M, 0), lost=lost)

    def _paint_card_words(self, painter: QPainter, node: Node, box: QRectF, *, lost: bool) -> None:
        if box.height() < CARD_HEIGHT:
            self._paint_one_line(painter, node, box, lost=lost)
            return
        theme = Theme.of()
        middle = box.center().y()
        pill = 92.0
        gauges = 128.0 if box.width() > 320 else 0.0
        name_width = max(40.0, box.width() - pill - gauges - M)
        bold = theme.font(1, bold=True)
        painter.setFont(bold)
        painter.setPen(theme.colour("text"))
        name = QFontMetrics(bold).elidedText(node.name, Qt.TextElideMode.ElideRight, int(name_width))
        painter.drawText(QRectF(box.left(), middle - 25, name_width, 22), Qt.AlignmentFlag.AlignVCenter, name)
        small = theme.font(-1)
        painter.setFont(small)
        painter.setPen(theme.colour("bad" if lost else "muted"))
        words = QFontMetrics(small).elidedText(
            self._card_words(node), Qt.TextElideMode.ElideRight, int(box.width() - gauges - S)
        )
        painter.drawText(
            QRectF(box.left(), middle + 3, box.width() - gauges - S, 20), Qt.AlignmentFlag.AlignVCenter, words
        )
        at = QRectF(box.left() + name_width, middle - 24, pill, 20).toRect()
        draw_pill(painter, at, state_word(node.state), node.state)
        telemetry = self._bridge.telemetry.get(node.id)
        if gauges and telemetry is not None and not lost:
            area = QRectF(box.right() - gauges + M, middle - 24, gauges - M, 20)
            threads = node.info.threads if node.info else 1
            busy = telemetry.process_cpu / max(1, threads)
            self._paint_gauge(painter, area, self.tr("CPU"), busy, self._bridge.colour(node.id))
            limit = node.info.memory_limit if node.info else telemetry.memory_total
            share = telemetry.process_memory / max(1, limit)
            self._paint_gauge(painter, area.translated(0, 27), self.tr("Memory"), share, theme.colour("muted"))

    def _paint_one_line(self, painter: QPainter, node: Node, box: QRectF, *, lost: bool) -> None:
        theme = Theme.of()
        name_width, pill = box.width() * 0.34, 98.0
        bold, small = theme.font(bold=True), theme.font(-1)
        painter.setFont(bold)
        painter.setPen(theme.colour("text"))
        name = QFontMetrics(bold).elidedText(node.name, Qt.TextElideMode.ElideRight, int(name_width - S))
        painter.drawText(QRectF(box.left(), box.top(), name_width, box.height()), Qt.AlignmentFlag.AlignVCenter, name)
        at = QRectF(box.left() + name_width, box.top(), pill, box.height()).toRect()
        draw_pill(painter, at, state_word(node.state), node.state)
        rest = QRectF(at.right() + S, box.top(), box.right() - at.right() - S, box.height())
        painter.setFont(small)
        painter.setPen(theme.colour("bad" if lost else "muted"))
        words = QFontMetrics(small).elidedText(self._card_words(node), Qt.TextElideMode.ElideRight, int(rest.width()))
        painter.drawText(rest, Qt.AlignmentFlag.AlignVCenter, words)

    def _card_words(self, node: Node) -> str:
        if node.state is NodeState.LOST:
            return node.reason or self.tr("no sign of life")
        deployment = self._bridge.deployment
        shards = deployment.plan.on_node(node.id) if deployment else ()
        if shards:
            telemetry = self._bridge.telemetry.get(node.id)
            rate = items_per_s(telemetry.shards) if telemetry else 0.0
            parts = shards_words(shards)
            return self.tr("{0} · {1} items/s").format(parts, units.quantity(rate)) if rate > 0 else parts
        if node.reason:
            return node.reason
        if node.info is None:
            return node.address
        speed = self._bridge.speeds.get(node.id)
        threads = self.tr("%n thread(s)", "", node.info.threads)
        return self.tr("{0} · speed {1}").format(threads, f"{speed:.2f}") if speed is not None else threads

    def _paint_gauge(self, painter: QPainter, area: QRectF, name: str, share: float, colour: QColor) -> None:
        theme = Theme.of()
        painter.setFont(theme.font(-2))
        painter.setPen(theme.colour("muted"))
        painter.drawText(area, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop, name)
        painter.drawText(area, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignTop, units.percent(share))
        groove = QRectF(area.left(), area.bottom() - 4, area.width(), 4)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(theme.colour("border"))
        painter.drawRoundedRect(groove, 2, 2)
        groove.setWidth(groove.width() * max(0.0, min(1.0, share)))
        painter.setBrush(colour)
        painter.drawRoundedRect(groove, 2, 2)

    # ------------------------------------------------------------ hands

    def _at(self, point: QPointF) -> str:
        return next((node.id for node, rect in self._cards() if rect.contains(point)), "")

    def mousePressEvent(self, event: QMouseEvent) -> None:
        self._choose(self._at(event.position()))

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        over = bool(self._at(event.position()))
        self.setCursor(Qt.CursorShape.PointingHandCursor if over else Qt.CursorShape.ArrowCursor)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        ids = [n.id for n in self._bridge.nodes]
        step = {Qt.Key.Key_Down: 1, Qt.Key.Key_Right: 1, Qt.Key.Key_Up: -1, Qt.Key.Key_Left: -1}.get(
            Qt.Key(event.key())
        )
        if step is None or not ids:
            super().keyPressEvent(event)
            return
        now = ids.index(self._selected) if self._selected in ids else (-1 if step > 0 else 0)  # type: ignore[arg-type]
        self._choose(ids[(now + step) % len(ids)])

    def event(self, event: QEvent) -> bool:
        if event.type() == QEvent.Type.ToolTip and isinstance(event, QHelpEvent):
            node = self._bridge.node(self._at(QPointF(event.pos())))
            words = f"{node.name}: {state_meaning(node.state)} {node.reason}".strip() if node else ""
            words = "\n".join([words, *links_words(self._bridge, node.id), *self._sends(node)]) if node else ""
            QToolTip.showText(event.globalPos(), words, self)
            return True
        return super().event(event)

    def _sends(self, node: Node) -> list[str]:
        """What the plan has a node send to each other, in words."""
        links = [(target, size) for (source, target), size in self._planned().items() if source == node.id]
        words = self.tr("{0} to {1} for a micro-batch")
        name = self._bridge.name_of
        return [
            words.format(units.nbytes(size), name(target) if target else self.tr("this workstation"))
            for target, size in links
        ]

    def _choose(self, node_id: str) -> None:
        self.select(node_id)
        self.chosen.emit(node_id)
