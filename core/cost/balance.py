"""Where to cut a model so that unequal nodes are equally busy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import Final

import numpy as np
import numpy.typing as npt

from core.cost.links import UNKNOWN, Links, Ways
from core.cost.messages import SEND_SECONDS
from core.cost.tables import Tables, tables
from core.cost.types import Machine, Profile
from core.errors import PlanError
from core.model.graph import Model
from core.plan.form import NodeId

NEAR_EQUAL: Final = 1.02
"""Timings repeat to about 2 %: among cuts no worse than this the one that sends least is taken."""
MAC_SECONDS: Final = 1 / 25e9
BYTE_SECONDS: Final = 1 / 5e9
LAYER_SECONDS: Final = 1e-6
"""A common core, for a first guess without any measurement: multiply-adds, bytes written, and each layer's call."""
MOST_POSITIONS: Final = 2000
"""Longer models are cut at the narrowest of several neighbouring layers."""

Floats = npt.NDArray[np.float64]


def estimated_profile(model: Model, batch: int) -> Profile:
    """A profile from multiply-adds and bytes alone, without running the model; good for proportions only."""
    seconds = tuple(
        MAC_SECONDS * layer.macs
        + BYTE_SECONDS * (layer.output_bytes + min(layer.parameter_bytes, 4 * layer.macs))  # a table is not read whole
        + LAYER_SECONDS
        for layer in model.layers(batch)
    )
    return Profile(model.sha256, batch, 1, seconds, sum(seconds))


def balanced_cuts(
    profile: Profile,
    model: Model,
    speeds: Sequence[float],
    *,
    nodes: Sequence[NodeId] = (),
    links: Links = UNKNOWN,
    machines: Mapping[NodeId, Machine] = MappingProxyType({}),
) -> tuple[int, ...]:
    """The cuts for which the slowest stage is as fast as can be; ``speeds`` belong to the nodes in stage order.

    Where ``nodes`` are named what their ``links`` carry counts too: the time that a hand-over takes on its line is
    weighed like a stage's.

    Exact over all legal positions (up to ``MOST_POSITIONS``), by dynamic programming over stages; among cuts within
    ``NEAR_EQUAL`` of the best the ones that send the fewest bytes. PlanError when the model has too few layers.
    """
    if len(speeds) == 1:
        return ()
    if min(speeds) <= 0:
        raise PlanError("A node's speed must be above 0.")
    known = tables(model, profile.batch)
    positions = _positions(known, len(speeds))
    head, tail = _stage_costs(profile, known, positions)
    stage_seconds = head[:, None] + tail[None, :]
    essential = known.essential[positions]
    may_follow = essential[None, :] > essential[:, None]
    crossing = np.array([0.0 if p in (0, known.count) else known.crossing[p - 1] for p in positions])
    stage = _Stage(stage_seconds, speeds, _lines(nodes, links, machines), crossing)
    best = _least_slowest(stage, may_follow)
    if not np.isfinite(best):  # more nodes than layers worth a stage: the others get cheap layers
        may_follow = positions[None, :] > positions[:, None]
        best = _least_slowest(stage, may_follow)
    if not np.isfinite(best):
        raise PlanError(
            f"The model's {known.count} layers cannot be cut into {len(speeds)} stages.", hint="Use fewer nodes."
        )
    chosen = _least_bytes(stage, may_follow, best * NEAR_EQUAL)
    return tuple(int(positions[index]) for index in chosen)


def _positions(known: Tables, stages: int) -> npt.NDArray[np.int64]:
    """0, the positions that may be cut, and the end."""
    legal = np.flatnonzero(known.legal) + 1
    if legal.size > MOST_POSITIONS:
        groups = np.array_split(legal, max(MOST_POSITIONS, 2 * stages))
        legal = np.array([group[np.argmin(known.crossing[group - 1])] for group in groups])
    return np.concatenate([[0], legal, [known.count]]).astype(np.int64)


def _stage_costs(profile: Profile, known: Tables, positions: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
    """A stage from position a to b takes ``head[a] + tail[b]``, each as (seconds at speed 1)."""
    layer_seconds = profile.layer_seconds
    if len(layer_seconds) != known.count:
        raise PlanError(f"This profile is of another model: it has {len(layer_seconds)} layers, not {known.count}.")
    prefix = np.concatenate([[0.0], np.cumsum(layer_seconds)])
    again = np.zeros(len(positions))
    sending = np.zeros(len(positions))
    for index, position in enumerate(positions):
        if 0 < position < known.count:
            cut = known.cuts[position - 1]
            again[index] = sum(layer_seconds[layer] for layer in cut.recomputed)
            sending[index] = SEND_SECONDS * cut.nbytes
    head = again - prefix[positions] + sending
    tail = prefix[positions] + sending
    return head, tail


class _Stage:
    """Seconds of stage i from each position to each other: of its node, or of the lines before and behind it."""

    def __init__(self, seconds: Floats, speeds: Sequence[float], lines: Sequence[float], crossing: Floats) -> None:
        self.count = len(speeds)
        self.crossing = crossing
        self._seconds = seconds
        self._speeds = speeds
        self._lines = lines

    def seconds(self, stage: int) -> Floats:
        taken: Floats = self._seconds / self._speeds[stage]
        if 0 < stage <= len(self._lines):
            taken = np.maximum(taken, self._lines[stage - 1] * self.crossing[:, None])
        if stage < len(self._lines):
            taken = np.maximum(taken, self._lines[stage] * self.crossing[None, :])
        return taken


def _lines(nodes: Sequence[NodeId], links: Links, machines: Mapping[NodeId, Machine]) -> list[float]:
    """Seconds for each byte on the way from each stage to the next; empty where no line takes any."""
    ways = Ways(links, nodes, machines)
    return [] if ways.plain else [ways.way(one, other).byte_s for one, other in pairwise(nodes)]


def _least_slowest(stage: _Stage, may_follow: npt.NDArray[np.bool_]) -> float:
    """The least time of the slowest stage over all ways to cut."""
    reach = np.full(may_follow.shape[0], np.inf)
    reach[0] = 0.0
    for index in range(stage.count):
        step = np.where(may_follow, np.maximum(reach[:, None], stage.seconds(index)), np.inf)
        reach = step.min(axis=0)
    return float(reach[-1])


def _least_bytes(stage: _Stage, may_follow: npt.NDArray[np.bool_], limit: float) -> list[int]:
    """Of all ways to cut whose stages keep within ``limit`` seconds, the one that sends least; indices of its cuts.

    Where one layer outweighs all others the rest may be cut anywhere: what hardly changes the bytes (less than the
    narrowest cut has) is decided by how even the stages are.
    """
    evenness = float(stage.crossing[1:-1].min(initial=np.inf))
    reach = np.full(may_follow.shape[0], np.inf)
    reach[0] = 0.0
    came_from = []
    for index in range(stage.count):
        load = stage.seconds(index) / limit
        cost = (reach + stage.crossing)[:, None] + (evenness / stage.count) * np.square(load)
        step = np.where(may_follow & (load <= 1), cost, np.inf)
        came_from.append(step.argmin(axis=0))
        reach = step.min(axis=0)
    place = len(reach) - 1
    chosen = []
    for previous in reversed(came_from[1:]):
        place = int(previous[place])
        chosen.append(place)
    return chosen[::-1]
