"""What the picture of the cluster shows now: the cards of the nodes and the links between them, read off the bridge."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

from PySide6.QtCore import QCoreApplication, QPointF, QRectF, QSize
from PySide6.QtGui import QColor, QFontMetrics, QPainterPath

from core.cluster.node import CONNECTED, Node, NodeState
from core.plan.division import Division
from core.plan.form import Plan
from gui.bridge import Bridge
from gui.shard_words import items_per_s, shards_words
from gui.theme import S, Theme
from gui.widgets import units
from gui.widgets.division_model import link_bytes
from gui.widgets.measured_words import link_words
from gui.widgets.states import state_word
from gui.widgets.topology_model import CARD_WIDTH, MOVING_BYTES_PER_S, Link, Ways, place_cards, ways

BESIDE_CARD: Final = 12.0
"""Pixels from the words of a link to the card at its end."""
STATION_SIZE: Final = QSize(150, 92)


def _tr(text: str, number: int = -1) -> str:
    return QCoreApplication.translate("topology", text, None, number)


class TopologyScene:
    """GUI thread."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._ways_of: Plan | None = None
        self._ways_known = Ways(set(), ())
        self._planned_of: Division | None = None
        self._planned_bytes: dict[tuple[str, str], int] = {}

    def station(self, size: QSize) -> QRectF:
        """The card of this workstation."""
        return QRectF(S, size.height() / 2 - STATION_SIZE.height() / 2, STATION_SIZE.width(), STATION_SIZE.height())

    def cards(self, size: QSize) -> list[tuple[Node, QRectF]]:
        """The nodes and where they lie."""
        station = self.station(size).right()
        left = station + max(130.0, min(size.width() * 0.2, size.width() - station - 2 * CARD_WIDTH))
        area = QRectF(left, S, size.width() - left - S, size.height() - 2 * S)
        nodes = sorted(self._bridge.nodes, key=lambda node: node.info is None)  # strangers come last
        return list(zip(nodes, place_cards(area, len(nodes)), strict=True))

    def links(self, size: QSize, selected: str = "") -> list[Link]:
        """From the workstation to every node, and between nodes where the plan sends tensors; without a plan, those of
        the node that is ``selected``."""
        station, cards = self.station(size), self.cards(size)
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
        for one, other in self.between_nodes(selected):
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
            words.append(_tr("now {0}").format(units.bits_per_s(rate)) if measured else units.bits_per_s(rate))
        text = state_word(node.state) if node.state is NodeState.LOST else "  ".join(words)
        at = path.pointAtPercent(0.66)
        room = QFontMetrics(Theme.of().font(-2)).horizontalAdvance(text) / 2 + BESIDE_CARD
        at.setX(max(start.x() + room, min(at.x(), end.x() - room)))
        return Link(path, self._link_colour(node), rate, text, at, away)

    def _link_colour(self, node: Node) -> QColor:
        return Theme.of().colour("bad") if node.state is NodeState.LOST else self._bridge.colour(node.id)

    def _peer_link(self, ends: tuple[str, str], places: dict[str, QRectF]) -> Link:
        """Straight between cards next to one another; else it bulges out to the left, so that it crosses no card."""
        upper, lower = sorted(ends, key=lambda node: (places[node].left(), places[node].top()))
        a, b = places[upper], places[lower]
        rate = self._rate(upper, lower) + self._rate(lower, upper)
        planned = self.planned()
        nbytes = planned.get((upper, lower), 0) + planned.get((lower, upper), 0)
        measured = self._bridge.link_between(upper, lower)
        words = [link_words(measured)] if measured is not None else []
        if rate > MOVING_BYTES_PER_S:
            words.append(_tr("now {0}").format(units.bits_per_s(rate)) if measured else units.bits_per_s(rate))
        elif nbytes:
            words.append(_tr("{0} a micro-batch").format(units.nbytes(nbytes)))
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

    def planned(self) -> dict[tuple[str, str], int]:
        """(from, to) -> bytes that the deployed plan sends for a micro-batch."""
        division = self._bridge.deployed_division if self._bridge.deployment is not None else None
        if division is not self._planned_of:
            self._planned_of = division
            self._planned_bytes = link_bytes(division) if division is not None else {}
        return self._planned_bytes

    def _rate(self, producer: str, consumer: str) -> float:
        """Bytes/s from one node to another: its part, by plan, of all that the producer sends."""
        traffic = self._bridge.traffic.get(producer)  # type: ignore[call-overload]
        planned = self.planned()
        whole = sum(size for (source, _), size in planned.items() if source == producer)
        if traffic is None or not whole:
            return 0.0
        return float(traffic.sent * planned.get((producer, consumer), 0) / whole)

    def _fed_by_client(self) -> set[str] | None:
        """Nodes that exchange tensors with this workstation; None: no plan is deployed."""
        return self._ways().fed if self._bridge.deployment is not None else None

    def between_nodes(self, selected: str) -> list[tuple[str, str]]:
        """Pairs of nodes that send one another tensors, each once; without a plan, neighbours with a measured link and
        all measured links of the node that is selected."""
        if self._bridge.deployment is not None:
            return list(self._ways().pairs)
        nodes = [node.id for node in self._bridge.nodes if node.state in CONNECTED]
        pairs = [*pairwise(nodes), *((selected, node) for node in nodes if selected in nodes)]
        sides = dict.fromkeys((min(one, other), max(one, other)) for one, other in pairs if one != other)
        return [ends for ends in sides if self._bridge.link_between(*ends) is not None]

    def _ways(self) -> Ways:
        """Of the deployed plan; read off its routes once, not ten times a second."""
        plan = self._bridge.deployment.plan if self._bridge.deployment is not None else None
        if plan is not self._ways_of:
            self._ways_of, self._ways_known = plan, ways(plan) if plan is not None else Ways(set(), ())
        return self._ways_known


def card_words(bridge: Bridge, node: Node) -> str:
    """What a node runs, how fast it is, or what is wrong with it."""
    if node.state is NodeState.LOST:
        return node.reason or _tr("no sign of life")
    deployment = bridge.deployment
    shards = deployment.plan.on_node(node.id) if deployment else ()
    if shards:
        telemetry = bridge.telemetry.get(node.id)
        rate = items_per_s(telemetry.shards) if telemetry else 0.0
        parts = shards_words(shards)
        return _tr("{0} · {1} items/s").format(parts, units.quantity(rate)) if rate > 0 else parts
    if node.reason:
        return node.reason
    if node.info is None:
        return node.address
    speed = bridge.speeds.get(node.id)
    threads = _tr("%n thread(s)", node.info.threads)
    return _tr("{0} · speed {1}").format(threads, f"{speed:.2f}") if speed is not None else threads
