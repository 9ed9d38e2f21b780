"""Better plans: the best of all, and the best single change of one. Worker threads."""
# ruff: noqa: PLC0415 - onnx and onnxruntime are imported by the worker: the window is there a second earlier

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from core.cost.links import Links
from core.plan.form import NodeId, PlanRequest
from gui.work.predicting import PlanOrder
from gui.work.timing import timed_prediction

if TYPE_CHECKING:
    from core.cluster.node import Node
    from core.cost.types import Prediction, Profile
    from core.model.graph import Model
    from core.plan.auto import Choice, Objective
    from core.plan.improving import Change
    from gui.improvements import Asked


SEARCH_SHARE: Final = 0.4
"""Of what is told as progress: all plans weighed by sums; the rest is timing the likeliest."""


class SearchOrder(NamedTuple):
    """What the best plan is to be found for."""

    model: Model
    profile: Profile
    candidates: Sequence[NodeId]
    """Nodes that may take part."""
    speeds: Mapping[NodeId, float]
    links: Links
    limits: Mapping[NodeId, int]
    """Bytes that an agent may take; a node without one has room for anything."""
    objective: Objective
    latency_bound_s: float | None
    micro_batch: int
    nodes: Sequence[Node]
    pins: Sequence[tuple[int, NodeId]] = ()
    """(layer, node); only pipelines keep them."""


def search(order: SearchOrder, progress: Callable[[float], None], cancel: threading.Event) -> Choice:
    """The best plan, by what the shards of the likeliest take, and all that were weighed. Raises DoesNotFitError,
    PlanError or Cancelled, as ``best_plan``."""
    from core.cluster.machines import machines_of
    from core.plan.auto import Question, best_for
    from core.plan.auto_timed import best_by_times

    question = Question(
        model=order.model,
        profile=order.profile,
        nodes=tuple(order.candidates),
        speeds=order.speeds,
        machines=machines_of(order.nodes),
        links=order.links,
        limits=order.limits,
        objective=order.objective,
        latency_bound_s=order.latency_bound_s,
        batch=order.micro_batch,
        names={node.id: node.name for node in order.nodes},
        pins=tuple(order.pins),
    )

    def foretell(request: PlanRequest, told: Callable[[float], None]) -> Prediction | None:
        plan = PlanOrder(order.model, order.profile, request, order.speeds, order.nodes, order.links)
        return timed_prediction(plan, progress=told, cancel=cancel)

    found = best_for(question, progress=lambda share: progress(SEARCH_SHARE * share), cancel=cancel)
    return best_by_times(question, found, foretell, lambda share: progress(SEARCH_SHARE + (1 - SEARCH_SHARE) * share))


def improve(asked: Asked, cancel: threading.Event) -> tuple[Change, ...]:
    """The best change of a plan, and another strategy where that brings more. Raises PlanError or Cancelled."""
    from core.cluster.machines import machines_of
    from core.cost.shard_times import time_shards
    from core.plan.auto import Question
    from core.plan.improving import best_changes

    question = Question(
        model=asked.model,
        profile=asked.profile,
        nodes=asked.nodes,
        speeds=dict(zip(asked.nodes, asked.speeds, strict=True)),
        machines=machines_of(asked.known),
        links=asked.links,
        limits={node.id: node.info.memory_limit for node in asked.known if node.info is not None},
        objective=asked.aim.objective,
        latency_bound_s=asked.aim.bound_s,
        batch=asked.request.micro_batch,
        names={node.id: node.name for node in asked.known},
        pins=asked.request.pins,
    )
    timed = partial(time_shards, asked.model, cancel=cancel)
    return best_changes(question, asked.request, others=asked.others, timed=timed, cancel=cancel)
