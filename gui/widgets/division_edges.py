"""Edges between two nodes' parts in a ribbon of divided layers: where they are, and bands while one is dragged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

from msgspec import Struct, structs
from PySide6.QtCore import QPointF

from core.plan.form import NodeId
from gui.widgets.division_model import Form, Lane, Pattern, Run
from gui.widgets.division_scene import LaneParts, Scene

REACH = 5.0
"""Pixels above and below an edge within which it is taken by the mouse."""
SHARED = frozenset({Form.BANDS, Form.TERMS, Form.STRIPS})
"""Looks of layers in which nodes have parts of the work."""


Percents = Mapping[NodeId, int]


class Edge(Struct, frozen=True):
    """Between the parts of ``group[rank]`` and ``group[rank + 1]``, in the lane of one replica."""

    group: tuple[str, ...]
    rank: int
    lane: int

    @property
    def nodes(self) -> tuple[str, str]:
        return self.group[self.rank], self.group[self.rank + 1]


def edges_of(lanes: Sequence[Lane], groups: Sequence[Sequence[str]]) -> tuple[Edge, ...]:
    """Every edge that can be moved, from the top to the bottom of every group."""
    found = []
    for group in map(tuple, groups):
        for row, lane in enumerate(lanes):
            if any(_is_of(pattern, group) for pattern in lane.patterns):
                found += [Edge(group, rank, row) for rank in range(len(group) - 1)]
    return tuple(found)


def edge_at(scene: Scene, groups: Sequence[Sequence[str]], place: QPointF) -> Edge | None:
    """The edge under ``place``."""
    layer = scene.layer_at(place)
    if layer < 0:
        return None
    for row, parts in enumerate(scene.parts):
        top, height = parts.outline.top(), parts.outline.height()
        run = run_at(parts, layer)
        if run is None or not top - REACH <= place.y() <= top + height + REACH:
            continue
        group = next((tuple(one) for one in groups if len(one) > 1 and _is_of(run.pattern, one)), None)
        if group is None:
            continue
        gaps = [abs(top + height * share - place.y()) for share in _inner(run.pattern)]
        nearest = min(range(len(gaps)), key=gaps.__getitem__)
        if gaps[nearest] <= REACH:
            return Edge(group, nearest, row)
    return None


def edge_point(scene: Scene, edge: Edge) -> QPointF | None:
    """The middle of an edge, in the widest run of layers that has it; None: no layer has it."""
    parts = scene.parts[edge.lane] if edge.lane < len(scene.parts) else None
    lines = edge_lines(scene, edge)
    if parts is None or not lines:
        return None
    left, right, y = max(lines, key=lambda line: line[1] - line[0])
    return QPointF((left + right) / 2, y)


def edge_lines(scene: Scene, edge: Edge) -> list[tuple[float, float, float]]:
    """(left, right, y) of an edge in every run of layers that has it."""
    if edge.lane >= len(scene.parts):
        return []
    parts, g = scene.parts[edge.lane], scene.geometry
    found = []
    for run in parts.runs:
        if _is_of(run.pattern, edge.group):
            left, right = (g.x(float(scene.model.edges[at])) for at in (run.first, run.last))
            found.append((left, right, parts.outline.top() + parts.outline.height() * _inner(run.pattern)[edge.rank]))
    return found


def run_at(parts: LaneParts, layer: int) -> Run | None:
    """The run that is drawn at a layer."""
    return next((run for run in parts.runs if run.first <= layer < run.last), None)


def node_in(parts: LaneParts, layer: int, y: float) -> str:
    """The node whose colour is at height ``y`` of a layer; where all run all of it each has an equal height."""
    run = run_at(parts, layer)
    if run is None or not run.pattern.parts:
        return ""
    within = (y - parts.outline.top()) / parts.outline.height()
    for (node, _), end in zip(run.pattern.parts, accumulate(_heights(run.pattern)), strict=True):
        if within < end:
            return node
    return run.pattern.parts[-1][0]


def stretched(lanes: Sequence[Lane], before: Percents, after: Percents) -> tuple[Lane, ...]:
    """Lanes as they would about be with other shares, in per cent: each part grows as its node's share does."""
    return tuple(
        structs.replace(lane, patterns=tuple(_stretch(pattern, before, after) for pattern in lane.patterns))
        for lane in lanes
    )


def _stretch(pattern: Pattern, before: Percents, after: Percents) -> Pattern:
    nodes = {NodeId(node) for node, _ in pattern.parts}
    if pattern.form not in SHARED or any(not before.get(node) or node not in after for node in nodes):
        return pattern
    grown = [(node, share * after[NodeId(node)] / before[NodeId(node)]) for node, share in pattern.parts]
    total = sum(share for _, share in grown)
    return structs.replace(pattern, parts=tuple((node, share / total) for node, share in grown)) if total else pattern


def _is_of(pattern: Pattern, group: Sequence[str]) -> bool:
    return pattern.form in SHARED and tuple(node for node, _ in pattern.parts) == tuple(group)


def _inner(pattern: Pattern) -> list[float]:
    """Where one part ends and the next begins, 0 to 1."""
    return list(accumulate(share for _, share in pattern.parts))[:-1]


def _heights(pattern: Pattern) -> list[float]:
    if pattern.form in SHARED:
        return [share for _, share in pattern.parts]
    return [1 / len(pattern.parts)] * len(pattern.parts)
