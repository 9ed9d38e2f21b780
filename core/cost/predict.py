"""What a plan would do, before anything is deployed: throughput, latency, memory and traffic.

Here for the strategies whose nodes follow one another or stand side by side, by sums over ranges of layers that are
kept with the model; ``core.cost.dataflow`` does it for any plan, by simulation. Each layer's measured time, divided by
the node's speed, plus what a node spends on each message and its bytes, against what its links carry.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import Final

from msgspec.structs import replace

from core.cost.balance import balanced_cuts
from core.cost.chain import chain
from core.cost.links import UNKNOWN, WORKSTATION, Links
from core.cost.loads import Setting, setting_of
from core.cost.types import Machine, Prediction, Profile
from core.cost.verdict import Alone, each_alone, prediction
from core.errors import PlanError
from core.model.graph import Model
from core.plan.form import NodeId, PlanRequest
from core.plan.pins import check_pins
from core.plan.strategy_text import PIPELINE, REPLICATE, SINGLE

__all__ = ["Predictor", "balanced_cuts", "is_predicted", "predict"]


def predict(
    profile: Profile,
    model: Model,
    request: PlanRequest,
    speeds: Mapping[NodeId, float],
    machines: Mapping[NodeId, Machine] = MappingProxyType({}),
    links: Links = UNKNOWN,
    *,
    in_flight: int | None = None,
) -> Prediction:
    """What ``request`` would do on nodes of these speeds (1.0: this workstation with one thread, also where unknown).

    ``machines`` says which nodes share the cores of one machine; a node that is not named has a machine to itself.
    ``links`` are the ways between them; what is not known of them counts as loopback.
    ``in_flight`` micro-batches may be unfinished in each replica; None: as many as the runner allows by itself.

    Fast enough to follow a mouse: sums over ranges of layers are kept with the model. PlanError when the request makes
    no sense for the model; cuts left open are balanced first.
    """
    return Predictor(profile, model, speeds, machines, links).predict(request, in_flight)


class Predictor:
    """Predicts many plans for one model and the same nodes: what does not depend on the cuts is worked out once.

    Not for several threads at once.
    """

    def __init__(
        self,
        profile: Profile,
        model: Model,
        speeds: Mapping[NodeId, float],
        machines: Mapping[NodeId, Machine] = MappingProxyType({}),
        links: Links = UNKNOWN,
    ) -> None:
        self._profile = profile
        self._model = model
        self._speeds = speeds
        self._machines = machines
        self._links = links
        self._known: dict[tuple[frozenset[NodeId], int], Setting] = {}
        """By nodes in any order, and micro-batch."""
        self._alone: dict[object, Alone] = {}
        """By all that it depends on."""

    def predict(self, request: PlanRequest, in_flight: int | None = None) -> Prediction:
        """As the function of this name."""
        setting, alone = self._setting(request)
        check_pins(self._model, request)
        if request.strategy in _ALIKE:
            return prediction(setting, [chain(setting, [node], (), in_flight) for node in request.nodes], alone)
        replicas = _pipelines(request)
        size = len(request.nodes) // replicas
        if size > 1 and request.cuts is None:
            setting = replace(setting, request=replace(request, cuts=self._balanced(request, size)))
        _check(setting, size)
        members = [request.nodes[first : first + size] for first in range(0, len(request.nodes), size)]
        cuts = setting.request.cuts or ()
        return prediction(setting, [chain(setting, own, cuts, in_flight) for own in members], alone)

    def _setting(self, request: PlanRequest) -> tuple[Setting, tuple[Alone, ...]]:
        key = frozenset(request.nodes), request.micro_batch
        found = self._known.get(key)
        if found is None or not request.nodes:
            found = setting_of(self._profile, self._model, request, self._speeds, self._machines, self._links)
            self._known[key] = found
        return replace(found, request=request), tuple(self._node_alone(found, node) for node in request.nodes)

    def _node_alone(self, setting: Setting, node: NodeId) -> Alone:
        ways = setting.ways.way(WORKSTATION, node), setting.ways.way(node, WORKSTATION)
        key = node, setting.request.micro_batch, setting.costs[node], *ways
        found = self._alone.get(key)
        if found is None:
            (found,) = each_alone(replace(setting, request=replace(setting.request, nodes=(node,))))
            self._alone[key] = found
        return found

    def _balanced(self, request: PlanRequest, size: int) -> tuple[int, ...]:
        return balanced_cuts(
            self._profile,
            self._model,
            [self._speeds.get(node, 1.0) for node in request.nodes[:size]],
            nodes=request.nodes[:size],
            links=self._links,
            machines=self._machines,
            pins=request.pins,
            batch=request.micro_batch,
        )


def is_predicted(strategy: str) -> bool:
    """Whether ``predict`` knows a strategy: those whose nodes follow one another or stand side by side."""
    return strategy in _ALIKE or strategy == PIPELINE or _NESTED.fullmatch(strategy) is not None


def _pipelines(request: PlanRequest) -> int:
    """How many pipelines stand side by side."""
    if request.strategy == PIPELINE:
        return 1
    nested = _NESTED.fullmatch(request.strategy)
    if nested is None:
        known = ", ".join((*_ALIKE, PIPELINE, "replicate(2) > pipeline(2)"))
        raise PlanError(f"There is no strategy {request.strategy!r} that sums foretell.", hint=f"Choose from {known}.")
    replicas, stages = int(nested[1]), int(nested[2])
    if not replicas or replicas * stages != len(request.nodes):
        raise PlanError(f"{request.strategy} needs {replicas * stages} nodes; {len(request.nodes)} are given.")
    return replicas


def _check(setting: Setting, stages: int) -> None:
    cuts, count = setting.request.cuts or (), setting.known.count
    if len(cuts) != stages - 1 or any(b <= a for a, b in pairwise((0, *cuts, count))):
        raise PlanError(f"Cuts {list(cuts)} do not divide {count} layers among {stages} nodes.")


_ALIKE: Final = (SINGLE, REPLICATE)
"""Every node runs the whole model and takes micro-batches as it is free."""
_NESTED: Final = re.compile(r"replicate\((\d{1,6})\) > pipeline\((\d{1,6})\)")
"""Stages follow one another in each; all are cut at the same places."""
