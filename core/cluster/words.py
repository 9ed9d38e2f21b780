"""What people are told when nodes are not ready."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from core.cluster.node import Node, NodeState


def ready_nodes(nodes: Iterable[Node]) -> tuple[Node, ...]:
    return tuple(node for node in nodes if node.state is NodeState.READY)


def not_ready_words(
    nodes: Sequence[Node], count: int, discovery_problem: str | None, address_problems: Mapping[str, str]
) -> str:
    """Why there are fewer than ``count`` ready nodes, naming each that was seen and each address that failed."""
    ready = len(ready_nodes(nodes))
    wanted = "No node is ready" if ready == 0 else f"{count} nodes are needed and {ready} ready"
    seen = [f"{n.name} ({n.address}): {n.reason or n.state}" for n in nodes if n.state is not NodeState.READY]
    seen += [f"{address}: {problem.rstrip('.')}" for address, problem in address_problems.items()]
    if seen:
        return f"{wanted}. {'; '.join(seen)}."
    if discovery_problem and not nodes:
        return f"{wanted}: none was found. {discovery_problem}"
    return f"{wanted}: {'none was' if ready == 0 else 'no others were'} found."


def not_ready_hint(nodes: Sequence[Node]) -> str:
    if not nodes:
        return "Start shardboard-agent on the other machines, or try --local 2; shardboard doctor looks for the cause."
    return "shardboard doctor looks for the cause."
