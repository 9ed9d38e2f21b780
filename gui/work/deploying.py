"""Deployment, and the proof that its outputs are right. Worker threads."""
# ruff: noqa: PLC0415 - onnx and onnxruntime are imported by the worker: the window is there a second earlier

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from core.cost.links import UNKNOWN, Links
from core.errors import VerificationError
from core.plan.form import NodeId, PlanRequest

if TYPE_CHECKING:
    from core.cluster.client import Cluster
    from core.cluster.deployment import Deployment, DeployProgress
    from core.cluster.node import Node
    from core.cost.types import Profile
    from core.model.graph import Model
    from core.plan.compile import CompiledPlan
    from core.plan.verify import Verification


class DeploySteps(NamedTuple):
    compiled: Callable[[CompiledPlan], None]
    progress: Callable[[DeployProgress], None]


class Deployed(NamedTuple):
    deployment: Deployment
    verification: Verification


class DeployOrder(NamedTuple):
    """What is deployed, and what the planner balances it by."""

    model: Model
    request: PlanRequest
    profile: Profile | None
    speeds: Mapping[NodeId, float]
    nodes: Sequence[Node]
    links: Links = UNKNOWN


def deploy(
    cluster: Cluster, order: DeployOrder, old: Deployment | None, steps: DeploySteps, cancel: threading.Event
) -> Deployed:
    """Release what was deployed before, compile, ship, load, and prove on sample input that the outputs are right."""
    from core.cluster.deployment import deploy as core_deploy
    from core.cluster.machines import machines_of
    from core.plan.compile import compile_plan

    if old is not None:
        old.close()
    compiled = compile_plan(
        order.model,
        order.request,
        profile=order.profile,
        speeds=order.speeds,
        machines=machines_of(order.nodes),
        links=order.links,
    )
    steps.compiled(compiled)
    deployment = core_deploy(cluster, compiled, progress=steps.progress, cancel=cancel)
    try:
        return Deployed(deployment, verify(deployment, order.model, steps))
    except BaseException:
        deployment.close()
        raise


def verify(deployment: Deployment, model: Model, steps: DeploySteps) -> Verification:
    """Compare the outputs of every replica with the whole model's on random input. Raises VerificationError.

    Returns the worst of the comparisons.
    """
    from core.cluster.deployment import DeployProgress
    from core.plan.tolerance import tolerance
    from core.plan.verify import drawn_outputs, verify_outputs

    plan = deployment.plan
    feed = model.random_feed(plan.request.micro_batch)
    reference, rtol = model.reference(), tolerance(model)
    expected = reference(feed)
    drawn = drawn_outputs(model, reference, feed, expected, rtol)
    found = []
    for replica in range(plan.replicas):
        nodes = dict.fromkeys(shard.node for shard in plan.shards if shard.replica == replica)
        for node in nodes:
            steps.progress(DeployProgress(node, "verify", 0, 0))
        outputs = deployment.infer(feed, replica=replica)
        found.append(verify_outputs(expected, [outputs[info.name] for info in model.outputs], rtol, drawn))
        for node in nodes:
            steps.progress(DeployProgress(node, "ready", 0, 0))
    deployment.detach()
    worst = max(found, key=lambda one: (not one.passed, one.max_abs_error))
    if not worst.passed:
        raise VerificationError(
            f"The plan's outputs differ from the whole model's by up to {worst.max_abs_error:.3g}.",
            hint="Choose other cuts or another strategy for this model.",
        )
    return worst
