"""What is asked of the planner, what it weighs, and how candidates compare."""

from __future__ import annotations

from collections.abc import Mapping
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
    match objective:
        case "latency":
            return one.prediction.latency_s
        case "memory":
            return one.memory_bytes
        case "throughput":
            return -one.prediction.throughput


def rank(question: Question, one: Candidate) -> tuple[float, float, float]:
    """Less is better: first what nodes lack, then by how much the latency is missed."""
    late = max(0.0, one.prediction.latency_s - question.latency_bound_s) if question.latency_bound_s else 0.0
    return sum(one.lacking.values()), late, badness(one, question.objective)
