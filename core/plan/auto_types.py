"""What is asked of the planner, what it weighs, and how candidates compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from msgspec import Struct

from core.cost.links import Links
from core.cost.types import Machine, Prediction, Profile
from core.model.graph import Model
from core.plan.form import NodeId, PlanRequest

Objective = Literal["throughput", "latency", "memory"]


class Candidate(Struct, frozen=True):
    request: PlanRequest
    prediction: Prediction
    lacking: Mapping[NodeId, int] = {}
    """Bytes by which nodes miss their memory limits."""

    @property
    def memory_bytes(self) -> int:
        """Of the node that needs most."""
        return max(node.memory_bytes for node in self.prediction.nodes)


class Choice(Struct, frozen=True):
    request: PlanRequest
    prediction: Prediction
    candidates: tuple[Candidate, ...]
    """All that were weighed, the best by the objective first; those that do not fit come last."""
    words: str
    """Why this one."""


class Question(Struct, frozen=True):
    """What is asked; names are for words."""

    model: Model
    profile: Profile
    nodes: tuple[NodeId, ...]
    speeds: Mapping[NodeId, float]
    machines: Mapping[NodeId, Machine]
    links: Links
    limits: Mapping[NodeId, int]
    objective: Objective
    latency_bound_s: float | None
    batch: int
    names: Mapping[NodeId, str]
    pins: tuple[tuple[int, NodeId], ...] = ()
    """(layer, node): only pipelines keep them."""


def badness(one: Candidate, objective: Objective) -> float:
    """Less is better."""
    return badness_of(one.prediction, objective)


def badness_of(told: Prediction, objective: Objective) -> float:
    """The same of what is told of a plan."""
    match objective:
        case "latency":
            return told.latency_s
        case "memory":
            return max(node.memory_bytes for node in told.nodes)
        case "throughput":
            return -told.throughput


def family(request: PlanRequest) -> tuple[str, int]:
    """Plans that look alike: sums over layers are off by about as much for all of one."""
    return request.strategy, len(request.nodes)


def size_of(one: Candidate) -> tuple[int, int, str, tuple[NodeId, ...]]:
    """Less is simpler."""
    return len(one.request.nodes), one.request.strategy.count(">"), one.request.strategy, one.request.nodes


def simplest(fitting: Sequence[Candidate], objective: Objective, near: float) -> Candidate:
    """Of those that are as good as the best by this factor the one with fewest nodes, then the simplest."""
    best = min(badness(one, objective) for one in fitting)
    limit = best / near if best < 0 else best * near
    equal = [one for one in fitting if badness(one, objective) <= limit]
    if objective == "memory":  # several are equal, where the runtime's own part outweighs all
        return min(equal, key=lambda one: (len(one.request.nodes), -one.prediction.throughput, size_of(one)))
    return min(equal, key=lambda one: (size_of(one)[:2], badness(one, objective), size_of(one)))


def most_even(best: Candidate, fitting: Sequence[Candidate], objective: Objective, near: float) -> Candidate:
    """Of the plans of its family that are cut and as fast by this factor, the one that would gain most if its busiest
    node took less than sums say: they hold for whole models, and a shard may take much less."""
    if objective != "throughput" or best.request.cuts is None:
        return best
    limit, own = best.prediction.throughput / near, family(best.request)
    alike = [one for one in fitting if one.prediction.throughput >= limit and family(one.request) == own]
    even = min(alike, key=second_busiest, default=best)
    return even if second_busiest(even) < second_busiest(best) - (near - 1) else best


def second_busiest(one: Candidate) -> float:
    """Busy share, 0..1, of the node that would set the pace next."""
    return sorted(node.share for node in one.prediction.nodes)[-2:][0]


def rank(question: Question, one: Candidate) -> tuple[float, float, float]:
    """Less is better: first what nodes lack, then by how much the latency is missed."""
    late = max(0.0, one.prediction.latency_s - question.latency_bound_s) if question.latency_bound_s else 0.0
    return sum(one.lacking.values()), late, badness(one, question.objective)
