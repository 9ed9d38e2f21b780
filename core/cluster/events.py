"""What a cluster tells its listeners. All are delivered on the cluster's own thread, in order."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from core.cluster.measured import Measurements
from core.cluster.node import Node
from core.plan.form import NodeId
from core.wire.messages import Telemetry


class NodeChanged(Struct, frozen=True, tag="node_changed"):
    """A node is new, or anything but its telemetry and round trip time changed."""

    node: Node


class NodeRemoved(Struct, frozen=True, tag="node_removed"):
    """The person forgot the node, or one that never talked to us is announced no longer."""

    id: NodeId


class TelemetryArrived(Struct, frozen=True, tag="telemetry_arrived"):
    id: NodeId
    telemetry: Telemetry


class DiscoveryProblem(Struct, frozen=True, tag="discovery_problem"):
    """Why nodes are not found by themselves; "" when discovery works again."""

    message: str


class MeasurementsChanged(Struct, frozen=True, tag="measurements_changed"):
    """Nodes or links were measured, or benchmarks of earlier days were found not to hold any more."""

    measurements: Measurements
    """All that is known."""
    stale: Mapping[NodeId, tuple[str, ...]]
    """Why benchmarks do not hold any more: clauses for "NAME ..."."""


ClusterEvent = NodeChanged | NodeRemoved | TelemetryArrived | DiscoveryProblem | MeasurementsChanged
