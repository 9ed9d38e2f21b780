"""A deployment that is called ready only after its outputs were compared with the whole model's."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy.typing as npt
from msgspec.structs import replace

from core.cluster.client import Cluster
from core.cluster.deployment import Deployment, DeployProgress, deploy
from core.errors import Cancelled, VerificationError
from core.model.graph import Model
from core.plan.compile import CompiledPlan
from core.plan.tolerance import tolerance
from core.plan.verify import Verification, drawn_outputs, verify_outputs

Array = npt.NDArray[Any]


def deploy_and_verify(
    cluster: Cluster,
    compiled: CompiledPlan,
    model: Model,
    *,
    owner: str = "",
    feed: Mapping[str, Array] | None = None,
    progress: Callable[[DeployProgress], None] | None = None,
    cancel: threading.Event | None = None,
) -> tuple[Deployment, Verification]:
    """``deploy``, then run one micro-batch through every replica and compare with onnxruntime on this machine.

    Args:
        model: the one that ``compiled`` was made from, with its processing.
        feed: the micro-batch; None: a random one.

    Raises what ``deploy`` raises, and VerificationError; the nodes are released then.
    """
    last: dict[str, DeployProgress] = {}

    def tell(told: DeployProgress) -> None:
        last[told.node] = told
        if progress is not None and told.phase != "ready":
            progress(told)

    deployment = deploy(cluster, compiled, owner=owner, progress=tell, cancel=cancel)
    try:
        for told in last.values():
            tell(replace(told, phase="verify"))
        verification = verify_deployment(deployment, model, feed=feed, cancel=cancel)
        if not verification.passed:
            raise VerificationError(
                f"The distributed outputs of {model.name} are not the whole model's: {verification.reason}.",
                hint="Nothing was run. Try another strategy or other cuts, and report the model: this is a bug.",
            )
    except BaseException:
        deployment.close()
        raise
    if progress is not None:
        for told in last.values():
            progress(replace(told, phase="ready"))
    return deployment, verification


def verify_deployment(
    deployment: Deployment,
    model: Model,
    *,
    feed: Mapping[str, Array] | None = None,
    cancel: threading.Event | None = None,
) -> Verification:
    """One micro-batch through every replica against the whole model; the worst replica's verdict."""
    sample = feed if feed is not None else model.random_feed(deployment.plan.request.micro_batch)
    reference, rtol = model.reference(), tolerance(model)
    expected = reference(sample)
    drawn = drawn_outputs(model, reference, sample, expected, rtol)
    names = [info.name for info in model.outputs]
    verdicts = []
    for replica in range(deployment.plan.replicas):
        if cancel is not None and cancel.is_set():
            raise Cancelled("The check of the outputs was stopped.")
        outputs = deployment.infer(sample, replica=replica)
        verdicts.append(verify_outputs(expected, [outputs[name] for name in names], rtol, drawn))
    return max(verdicts, key=lambda verdict: (not verdict.passed, verdict.max_abs_error))
