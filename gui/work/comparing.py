"""Every strategy on the same inputs. Worker threads."""
# ruff: noqa: PLC0415 - onnx and onnxruntime are imported by the worker: the window is there a second earlier

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from core.cost.links import Links
from core.plan.form import NodeId, PlanRequest

if TYPE_CHECKING:
    from core.cluster.client import Cluster
    from core.cluster.deployment import Deployment
    from core.cluster.node import Node
    from core.commands.comparison import BenchReport, BenchRow, Refusal
    from core.cost.types import Profile
    from core.model.graph import Model


class CompareOrder(NamedTuple):
    """What strategies are compared on."""

    model: Model
    batch: int
    profile: Profile | None
    """None: the layers are timed first."""
    nodes: Sequence[Node]
    speeds: Mapping[NodeId, float]
    links: Links
    seconds: float
    """Of each strategy, about."""


class CompareSteps(NamedTuple):
    """Called on the worker."""

    begins: Callable[[str], None]
    """Words for what is done now."""
    share: Callable[[float], None]
    """Of all, 0 to 1."""
    ran: Callable[[BenchRow, PlanRequest], None]
    refused: Callable[[Refusal], None]


def compare(
    cluster: Cluster, order: CompareOrder, old: Deployment | None, steps: CompareSteps, cancel: threading.Event
) -> BenchReport:
    """Release what is deployed; then deploy and run every strategy that so many nodes can take."""
    from core.cluster.machines import machines_of
    from core.commands.comparison import Steps, compare_strategies, every_strategy
    from core.commands.planning import Costs
    from core.cost.profile import profile_model as core_profile

    if old is not None:
        old.close()
    asked = every_strategy(len(order.nodes))
    begun: list[str] = []

    def begins(text: str) -> None:
        begun.append(text)
        steps.begins(text)
        steps.share((len(begun) - 1) / len(asked))

    profile = order.profile or core_profile(order.model, order.batch, cancel=cancel)
    limits = {node.id: node.info.memory_limit for node in order.nodes if node.info is not None}
    costs = Costs(profile, order.speeds, machines_of(order.nodes), order.links, limits)
    told = Steps(
        begins=begins,
        share=lambda done: steps.share((len(begun) - 1 + done) / len(asked)),
        ran=steps.ran,
        refused=steps.refused,
    )
    return compare_strategies(cluster, order.model, asked, order.batch, order.nodes, costs, order.seconds, told, cancel)
