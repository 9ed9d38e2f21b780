"""Where to cut a model so that unequal nodes are equally busy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from types import MappingProxyType
from typing import Final

import numpy as np
from msgspec.structs import replace

from core.cost.links import UNKNOWN, Links, Ways
from core.cost.moving import BYTE_SECONDS
from core.cost.nodes import node_costs
from core.cost.orders import CostTables, Member, best_cuts
from core.cost.stages import Bools, Floats, Stages, stages_of
from core.cost.tables import tables
from core.cost.types import Machine, Profile
from core.errors import PlanError
from core.model.graph import Model
from core.plan.form import NodeId
from core.plan.pins import pinned_layers

NEAR_EQUAL: Final = 1.01
"""Timings repeat no better than this: among cuts no worse the ones that send least are taken."""
MAC_SECONDS: Final = 1 / 25e9
LAYER_SECONDS: Final = 1e-6
"""A common core, for a first guess before anything is measured: a multiply-add, and each layer's call."""
MOST_POSITIONS: Final = 1000
"""Longer models are cut at the narrowest of several neighbouring layers."""


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
    pins: Sequence[tuple[int, NodeId]] = (),
    batch: int | None = None,
) -> tuple[int, ...]:
    """The cuts for which the slowest stage is as fast as can be; ``speeds`` belong to the nodes in stage order.

    A stage takes what its layers, and those it runs again, take on its node, and handling its messages. Where ``nodes``
    are named what their ``links`` carry counts too: the time that a hand-over, or what the workstation gives and gets,
    takes on its line is weighed like a stage's; and ``pins``, (layer, node), are kept. ``batch`` None: the profile's.

    Exact over all legal positions (up to ``MOST_POSITIONS``), by dynamic programming over stages; among cuts within
    ``NEAR_EQUAL`` of the best the ones that send the fewest bytes. PlanError when the model has too few layers, or
    none that would keep the pins.
    """
    if len(speeds) == 1:
        return ()
    if min(speeds) <= 0:
        raise PlanError("A node's speed must be above 0.")
    items = batch if batch is not None else profile.batch
    known = tables(model, items)
    if len(profile.layer_seconds) != known.count:
        raise PlanError(
            f"This profile is of another model: it has {len(profile.layer_seconds)} layers, not {known.count}."
        )
    scale = items / profile.batch if model.batchable and model.fixed_batch is None else 1.0
    layer_seconds = [scale * seconds for seconds in profile.layer_seconds]
    stages = stages_of(known, layer_seconds, MOST_POSITIONS, profile.messages)
    names = tuple(nodes) or tuple(NodeId(f"stage {index}") for index in range(len(speeds)))
    costs = node_costs(names, dict(zip(names, speeds, strict=True)), machines if nodes else {}, profile.messages)
    line = [Member(name, costs[name], inf, pinned_layers(pins, name)) for name in names]
    ways = Ways(links if nodes else UNKNOWN, names, machines)
    pinned = [layer for layer, _ in pins]
    found = CostTables(stages, ways, "pace", pinned=pinned)
    best = best_cuts(found, line).value
    if best == inf:  # more nodes than layers worth a stage: the others get cheap layers
        ends = stages.positions[None, :] > stages.positions[:, None]
        stages = replace(stages, allowed=ends)
        found = CostTables(stages, ways, "pace", pinned=pinned)
        best = best_cuts(found, line).value
    if best == inf:
        kept = " that keep the pins" if pins else ""
        raise PlanError(
            f"The model's {known.count} layers cannot be cut into {len(speeds)} stages{kept}.",
            hint="Take a pin away, or use fewer nodes." if pins else "Use fewer nodes.",
        )
    return evened(found, line, best)


def evened(found: CostTables, line: Sequence[Member], best: float) -> tuple[int, ...]:
    """Of the cuts for which no stage takes longer than ``best`` seconds, or hardly longer, those that send least, and
    of them the ones for which the other stages are about as busy. ``best`` as ``best_cuts`` gives it for the line."""
    around = (None, *(member.node for member in line), None)
    seconds = [found.table(member, around[i], around[i + 2]) for i, member in enumerate(line)]
    return _least_bytes(found.stages, seconds, best * NEAR_EQUAL)


def _least_bytes(stages: Stages, seconds: Sequence[Floats], limit: float) -> tuple[int, ...]:
    """Of all ways to cut whose stages keep within ``limit`` seconds, the one that sends least.

    Where one layer outweighs all others the rest may be cut anywhere: what hardly changes the bytes (less than the
    narrowest cut has) is decided by how even the stages are.
    """
    crossing: Floats = stages.received.max(axis=1)  # a stage up to the end reads all that crosses
    evenness = float(crossing[1:-1].min(initial=np.inf))
    reach = np.full(len(stages.positions), np.inf)
    reach[0] = 0.0
    came_from = []
    for taken in seconds:
        allowed: Bools = taken <= limit
        load = np.where(allowed, taken, 0.0) / limit
        cost = (reach + crossing)[:, None] + (evenness / len(seconds)) * np.square(load)
        step = np.where(allowed, cost, np.inf)
        came_from.append(step.argmin(axis=0))
        reach = step.min(axis=0)
    place = len(reach) - 1
    chosen = []
    for previous in reversed(came_from[1:]):
        place = int(previous[place])
        chosen.append(int(stages.positions[place]))
    return tuple(chosen[::-1])
