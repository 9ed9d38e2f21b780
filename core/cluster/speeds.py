"""How fast nodes are, measured by one graph that runs there and here."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from core.cluster.evening import evened
from core.cost.speed import local_speed_seconds, speed_graph
from core.errors import ProtocolError
from core.plan.form import NodeId
from core.wire.messages import Measure, Measured

if TYPE_CHECKING:
    from core.cluster.client import Cluster

REPEATS: Final = 5
MEASURE_SECONDS: Final = 60.0


def measure_speeds(cluster: Cluster, nodes: Sequence[NodeId]) -> dict[NodeId, float]:
    """Speed of each node under its CPU limit; 1.0 is this workstation with one thread. Noise is taken out: see
    ``core.cluster.evening``.

    Agents on one machine share its cores, so they take turns; machines work side by side. This workstation is measured
    before and after, and its better time counts. Raises what ``Cluster.request`` raises.
    """
    before = local_speed_seconds()
    turns: dict[str, list[NodeId]] = {}
    for node in nodes:
        turns.setdefault(cluster.node(node).host, []).append(node)
    if not turns:
        return {}
    with ThreadPoolExecutor(len(turns), thread_name_prefix="measure") as pool:
        machines = list(pool.map(lambda group: [_seconds(cluster, node) for node in group], turns.values()))
    measured = zip(
        [n for group in turns.values() for n in group], [s for group in machines for s in group], strict=True
    )
    here = min(before, local_speed_seconds())
    unlimited = evened({node: here / seconds for node, seconds in measured}, _known(cluster))
    speeds = {node: speed * _cpu_limit(cluster, node) for node, speed in unlimited.items()}
    cluster.set_speeds(speeds)
    return speeds


def _known(cluster: Cluster) -> dict[NodeId, float]:
    """Speeds measured earlier, as they would be without the nodes' CPU limits."""
    nodes = cluster.nodes()
    return {node.id: node.speed / _cpu_limit(cluster, node.id) for node in nodes if node.speed is not None}


def _cpu_limit(cluster: Cluster, node: NodeId) -> float:
    """A limited node rests after each run of a shard, but not within a measurement."""
    info = cluster.node(node).info
    return info.cpu_limit if info is not None else 1.0


def _seconds(cluster: Cluster, node: NodeId) -> float:
    graph, inputs = speed_graph()
    reply = cluster.request(node, Measure(graph, inputs, REPEATS), MEASURE_SECONDS).result()
    if not isinstance(reply, Measured) or not reply.seconds > 0:
        raise ProtocolError(f"{cluster.node(node).name} answered a measurement with {reply!r}.")
    return reply.seconds
