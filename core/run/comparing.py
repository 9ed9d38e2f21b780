"""What a deployed plan does beside what it was predicted to do."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from core.cost.types import NodePrediction, Prediction
from core.plan.form import NodeId
from core.run.observing import Observation


class Beside(Struct, frozen=True):
    """One figure; None: not known (yet)."""

    predicted: float | None
    measured: float | None = None

    @property
    def error(self) -> float | None:
        """(measured - predicted) / predicted; None where one is missing or nothing was predicted."""
        if self.measured is None or not self.predicted:
            return None
        return self.measured / self.predicted - 1.0

    @property
    def difference(self) -> float | None:
        """For shares, where a part of a part says nothing."""
        if self.measured is None or self.predicted is None:
            return None
        return self.measured - self.predicted


class NodeComparison(Struct, frozen=True):
    """Per micro-batch that the node handles: seconds and bytes."""

    node: NodeId
    compute_s: Beside
    wait: Beside
    """Part of the time in which it does not compute, 0..1."""
    sent_bytes: Beside
    received_bytes: Beside
    memory_bytes: Beside
    """Resident bytes."""


class Comparison(Struct, frozen=True):
    throughput: Beside
    """Items per second."""
    latency_s: Beside
    """Median under load, of the run and as predicted with as many micro-batches under way."""
    nodes: tuple[NodeComparison, ...]
    """Of the nodes that have anything to do, in the order of the prediction."""


def compare(
    prediction: Prediction,
    observations: Mapping[NodeId, Observation],
    throughput: float | None,
    latency_s: float | None,
) -> Comparison:
    """``throughput`` and the median ``latency_s``: of the run, None while there is none. ``prediction`` is of as many
    micro-batches in flight as the run has."""
    return Comparison(
        throughput=Beside(prediction.throughput, throughput),
        latency_s=Beside(prediction.loaded_latency_s or None, latency_s),
        nodes=tuple(_node(node, observations.get(node.node)) for node in prediction.nodes if node.compute_s > 0),
    )


def _node(predicted: NodePrediction, seen: Observation | None) -> NodeComparison:
    wait = max(0.0, 1.0 - predicted.compute_s / predicted.period_s) if predicted.period_s > 0 else None
    return NodeComparison(
        node=predicted.node,
        compute_s=Beside(predicted.compute_s, seen.compute_s if seen else None),
        wait=Beside(wait, seen.wait if seen else None),
        sent_bytes=Beside(predicted.sent_bytes, seen.sent_bytes if seen else None),
        received_bytes=Beside(predicted.received_bytes, seen.received_bytes if seen else None),
        memory_bytes=Beside(predicted.memory_bytes, seen.memory_bytes if seen else None),
    )
