"""The cluster, its nodes and local agents. Worker threads, unless a function says otherwise."""
# ruff: noqa: PLC0415 - onnx and onnxruntime are imported by the worker: the window is there a second earlier

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from msgspec.structs import replace

from core.plan.form import NodeId
from core.wire.messages import SetLimits

if TYPE_CHECKING:
    from core.cluster.client import Cluster
    from core.cluster.events import ClusterEvent
    from core.cluster.local import LocalAgents
    from core.cluster.measuring import Outcome
    from core.cost.messages import MessageCosts

ANSWER_SECONDS: Final = 10.0
LINKS_SHARE: Final = 0.8
"""Of the time that measuring takes; the rest is for messages."""


class ClusterCall(Protocol):
    """Work that needs the cluster."""

    def __call__(self, cluster: Cluster, /) -> object: ...


def open_cluster(
    addresses: Sequence[tuple[str, int]], on_event: Callable[[ClusterEvent], None], *, measure: bool
) -> Cluster:
    from core.cluster.opening import open_cluster as open_core_cluster

    return open_core_cluster(addresses=addresses, discovery=True, on_event=on_event, measure=measure)


class Found(NamedTuple):
    outcome: Outcome
    messages: MessageCosts | None
    """What they cost this machine; None where that could not be measured."""


def measure(
    cluster: Cluster, nodes: Sequence[NodeId], progress: Callable[[float, str], None], cancel: threading.Event
) -> Found:
    """Everything about ``nodes``, their links, and what messages cost here, whatever is known. Raises Cancelled."""
    from core.run.message_costs import DisturbedError
    from gui.work.timing import measure_messages

    outcome = cluster.measure(
        nodes, anew=True, progress=lambda share, words: progress(LINKS_SHARE * share, words), cancel=cancel
    )

    def reached(share: float) -> None:
        progress(LINKS_SHARE + (1 - LINKS_SHARE) * share, "what messages cost this machine")

    try:
        return Found(outcome, measure_messages(cluster, reached, cancel))
    except DisturbedError as error:
        return Found(replace(outcome, problems=(*outcome.problems, str(error))), None)


def add_address(host: str, port: int, cluster: Cluster, /) -> None:
    cluster.add_address(host, port).result(ANSWER_SECONDS)


def pair(host: str, pairing_port: int, code: str, cluster: Cluster, /) -> None:
    cluster.pair(host, pairing_port, code).result(ANSWER_SECONDS)


def set_limits(node: NodeId, cpu_limit: float | None, link_limit: int | None, cluster: Cluster, /) -> None:
    cluster.request(node, SetLimits(cpu_limit, link_limit)).result(ANSWER_SECONDS)


def measure_speeds(cluster: Cluster, nodes: Sequence[NodeId]) -> dict[NodeId, float]:
    return dict(cluster.measure_speeds(nodes))


def start_local(count: int, first: int, cpu_limits: Sequence[float] | None) -> LocalAgents:
    """Start ``count`` agents on this machine; ``first`` is how many there are already.

    They are announced, as agents on other machines are; where multicast does not work ``make_known`` helps.
    """
    from core.cluster.local import start_local_agents

    names = [f"local-{first + index + 1}" for index in range(count)]
    return start_local_agents(count, cpu_limits=cpu_limits, announce=True, names=names)


def make_known(cluster: Cluster, agents: LocalAgents) -> None:
    """Tell the cluster where they are, in their order; does not wait."""
    for agent in agents.agents:
        cluster.add_known(
            agent.id, agent.host, agent.control_port, "local", pairing_port=agent.pairing_port, name=agent.name
        )
