"""What a plan would do, before anything is deployed: throughput, latency, memory and traffic.

Here for the strategies whose nodes follow one another or stand side by side, by sums over ranges of layers that are
kept with the model; ``core.cost.dataflow`` does it for any plan, by simulation. Each layer's measured time, divided by
the node's speed, plus what a node spends on each message and its bytes. Links count as fast.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import Final

from msgspec.structs import replace

from core.cost.balance import balanced_cuts
from core.cost.chain import chain
from core.cost.loads import Replica, Setting, setting_of
from core.cost.types import Machine, Prediction, Profile
from core.cost.verdict import prediction
from core.errors import PlanError
from core.model.graph import Model
from core.plan.form import NodeId, PlanRequest

__all__ = ["balanced_cuts", "predict"]


def predict(
    profile: Profile,
    model: Model,
    request: PlanRequest,
    speeds: Mapping[NodeId, float],
    machines: Mapping[NodeId, Machine] = MappingProxyType({}),
) -> Prediction:
    """What ``request`` would do on nodes of these speeds (1.0: this workstation with one thread, also where unknown).

    ``machines`` says which nodes share the cores of one machine; a node that is not named has a machine to itself.

    Fast enough to follow a mouse: sums over ranges of layers are kept with the model. PlanError when the request makes
    no sense for the model; cuts left open are balanced first.
    """
    rule = _RULES.get(request.strategy)
    if rule is None:
        raise PlanError(f"There is no strategy {request.strategy!r}.", hint=f"Choose from {', '.join(_RULES)}.")
    setting = setting_of(profile, model, request, speeds, machines)
    if request.strategy == "pipeline" and request.cuts is None:
        in_order = [speeds.get(node, 1.0) for node in request.nodes]
        setting = replace(setting, request=replace(request, cuts=balanced_cuts(profile, model, in_order)))
    return prediction(setting, rule(setting))


def _replicas(setting: Setting) -> list[Replica]:
    """Every node takes micro-batches as it is free."""
    return [chain(setting, [node]) for node in setting.request.nodes]


def _stages(setting: Setting) -> list[Replica]:
    """Stages follow one another; the slowest is always busy, the others wait for it."""
    request, count = setting.request, setting.known.count
    cuts = request.cuts or ()
    if len(cuts) != len(request.nodes) - 1 or any(b <= a for a, b in pairwise((0, *cuts, count))):
        raise PlanError(f"Cuts {list(cuts)} do not divide {count} layers among {len(request.nodes)} nodes.")
    return [chain(setting, request.nodes, cuts)]


_RULES: Final[Mapping[str, Callable[[Setting], list[Replica]]]] = MappingProxyType(
    {"single": _replicas, "replicate": _replicas, "pipeline": _stages}
)
