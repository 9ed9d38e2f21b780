"""Where the parts of the cluster's picture lie, and who sends tensors to whom: pure functions."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from PySide6.QtCore import QPointF, QRectF
from PySide6.QtGui import QColor, QPainterPath

from core.plan.form import CLIENT, Plan
from gui.theme import M, S

MOVING_BYTES_PER_S: Final = 200.0
"""Traffic below this is heartbeats, not work."""
CARD_HEIGHT: Final = 74.0
COMPACT_HEIGHT: Final = 36.0
"""A card with one line of words, for when there are many nodes."""
CARD_WIDTH: Final = 250.0
"""A card narrower than this is hard to read."""


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
