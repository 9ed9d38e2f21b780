"""What a plan would miss: memory that its nodes lack, and the latency asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from core.cost.types import Prediction
from core.plan.auto_types import Question
from core.plan.bottleneck import milliseconds
from core.plan.form import NodeId
from core.units import format_bytes

MOST_NAMES: Final = 3


def lacking(prediction: Prediction, limits: Mapping[NodeId, int]) -> dict[NodeId, int]:
    """Bytes by which nodes miss their memory limits; a node without one has room for anything."""
    over = {use.node: use.memory_bytes - limits.get(use.node, use.memory_bytes) for use in prediction.nodes}
    return {node: nbytes for node, nbytes in over.items() if nbytes > 0}


def lacking_words(prediction: Prediction, limits: Mapping[NodeId, int], names: Mapping[NodeId, str]) -> str:
    """Which limit is missed by how much on which node, the worst first, without a full stop; "" where none is."""
    use = {one.node: one.memory_bytes for one in prediction.nodes}
    worst = sorted(lacking(prediction, limits).items(), key=lambda item: -item[1])
    told = [
        f"{names.get(node, node[:8])} would need {format_bytes(use[node])}, {format_bytes(nbytes)} more than its limit "
        f"of {format_bytes(limits[node])}"
        for node, nbytes in worst[:MOST_NAMES]
    ]
    others = len(worst) - MOST_NAMES
    if others > 0:
        told.append(f"and {others} more would need more than {'they have' if others > 1 else 'it has'}")
    return "; ".join(told)


def missed(question: Question, prediction: Prediction) -> tuple[str, ...]:
    """The memory limits that a plan would not keep, and the latency bound, in sentences."""
    found = []
    if words := lacking_words(prediction, question.limits, question.names):
        found.append(f"{words}.")
    bound = question.latency_bound_s
    if bound is not None and prediction.latency_s > bound:
        found.append(
            f"It answers in {milliseconds(prediction.latency_s)} ms, not within the {milliseconds(bound)} ms asked for."
        )
    return tuple(found)
