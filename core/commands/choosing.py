"""Which nodes a command works with: throw-away agents, given addresses, or what discovery finds."""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import ExitStack, contextmanager
from typing import Final

from core.cluster.client import Cluster
from core.cluster.local import start_local_agents
from core.cluster.node import Node, NodeState
from core.cluster.opening import open_cluster
from core.cluster.reach import parse_address
from core.cluster.words import ready_nodes
from core.commands.output import Progress
from core.errors import Cancelled, NodeOwnedError, NoNodesError, UnreachableError
from core.plan.form import NodeId

LOCAL_SECONDS: Final = 30.0
ADDRESS_SECONDS: Final = 15.0
DISCOVERY_SECONDS: Final = 5.0
SETTLE_SECONDS: Final = 1.5
"""How long to look for further nodes once the first is ready."""
_STEP_SECONDS: Final = 0.1


@contextmanager
def chosen_nodes(
    options: argparse.Namespace, progress: Progress, stop: threading.Event
) -> Iterator[tuple[Cluster, tuple[Node, ...]]]:
    """A cluster and the ready nodes that --local, --node or discovery stand for; all is closed at the end.

    Raises NoNodesError with what was seen and why it is not ready, Cancelled when ``stop`` is set.
    """
    with ExitStack() as stack:
        if options.local:
            progress.step(f"Starting {options.local} agent{'s' if options.local > 1 else ''} on this machine")
            agents = stack.enter_context(start_local_agents(options.local))
            cluster = stack.enter_context(open_cluster(local=agents.agents, discovery=False))
            _await(cluster, options.local, LOCAL_SECONDS, stop)
            cluster.wait_ready(options.local, 0.0)
            nodes = tuple(cluster.node(agent.id) for agent in agents.agents)
        elif options.node:
            progress.step("Connecting to the nodes")
            cluster = stack.enter_context(open_cluster(discovery=False))
            nodes = _by_address(cluster, options.node, stop)
        else:
            progress.step("Looking for nodes")
            cluster = stack.enter_context(open_cluster())
            nodes = _discovered(cluster, stop)
        yield cluster, nodes


def _by_address(cluster: Cluster, addresses: Sequence[str], stop: threading.Event) -> tuple[Node, ...]:
    places = [parse_address(address) for address in addresses]
    ids = tuple(dict.fromkeys(_reached(future, stop) for future in [cluster.add_address(*place) for place in places]))
    _await(cluster, len(ids), ADDRESS_SECONDS, stop)
    nodes = tuple(cluster.node(node_id) for node_id in ids)
    _refuse_held(cluster, nodes)
    if not all(_is_free(cluster, node) for node in nodes):
        cluster.wait_ready(len(ids), 0.0)  # says why
    return nodes


def _reached(future: Future[NodeId], stop: threading.Event) -> NodeId:
    try:
        while not stop.is_set():
            done, _ = wait([future], _STEP_SECONDS)
            if done:
                return future.result()
    except UnreachableError as error:
        raise NoNodesError(error.message, hint=error.hint) from error
    raise Cancelled("Stopped.")


def _discovered(cluster: Cluster, stop: threading.Event) -> tuple[Node, ...]:
    _await(cluster, 1, DISCOVERY_SECONDS, stop)
    if ready_nodes(cluster.nodes()):
        until = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < until and not stop.wait(_STEP_SECONDS):
            pass
    free = tuple(node for node in cluster.nodes() if _is_free(cluster, node))
    if not free:
        _refuse_held(cluster, cluster.nodes())
    return free or cluster.wait_ready(1, 0.0)


def _await(cluster: Cluster, count: int, seconds: float, stop: threading.Event) -> None:
    """Until ``count`` nodes are ready or busy, ``seconds`` at most."""

    def settled(nodes: Sequence[Node]) -> bool:
        return sum(node.state in {NodeState.READY, NodeState.BUSY} for node in nodes) >= count

    until = time.monotonic() + seconds
    while time.monotonic() < until and not cluster.wait_until(settled, _STEP_SECONDS):
        if stop.is_set():
            raise Cancelled("Stopped.")


def _is_free(cluster: Cluster, node: Node) -> bool:
    """Ready, or held by this workstation: perhaps by a program that is gone, which only the node itself can tell."""
    return node.state is NodeState.READY or (node.state is NodeState.BUSY and node.owner == cluster.name)


def _refuse_held(cluster: Cluster, nodes: Sequence[Node]) -> None:
    held = [node for node in nodes if node.state is NodeState.BUSY and not _is_free(cluster, node)]
    if held:
        words = "; ".join(f"{node.name} ({node.address}) is held by {node.owner}" for node in held)
        raise NodeOwnedError(f"{words}.", hint="Wait until it is released, or choose other nodes.")
