"""shardboard nodes: who is there, and why somebody is not ready."""

from __future__ import annotations

import argparse
import time

from msgspec import Struct

from core.cluster.node import Node
from core.cluster.opening import open_cluster
from core.commands.output import note, print_json, print_table
from core.commands.stopping import stop_on_interrupt
from core.units import format_bytes


class NodeRow(Struct, frozen=True, kw_only=True):
    id: str
    name: str
    address: str
    state: str
    reason: str
    version: str
    system: str
    cpu: str
    cores: int
    threads: int
    memory_total: int
    memory_limit: int
    cpu_load: float | None
    rtt_ms: float | None
    owner: str


class NodeList(Struct, frozen=True):
    """What ``nodes --json`` prints."""

    nodes: tuple[NodeRow, ...]
    discovery_problem: str | None


def run(options: argparse.Namespace) -> int:
    with stop_on_interrupt() as stop, open_cluster() as cluster:
        until = time.monotonic() + options.wait
        while time.monotonic() < until and not stop.wait(0.1):
            pass
        nodes, problem = cluster.nodes(), cluster.discovery_problem
    if options.json:
        print_json(NodeList(tuple(_row(node) for node in nodes), problem))
        return 0
    if nodes:
        _print(nodes)
    else:
        note("No nodes were found. Start shardboard-agent on other machines; shardboard doctor looks for the cause.")
    if problem:
        note(f"note: {problem}")
    return 0


def _row(node: Node) -> NodeRow:
    info = node.info
    return NodeRow(
        id=node.id,
        name=node.name,
        address=node.address,
        state=node.state,
        reason=node.reason,
        version=info.version if info else "",
        system=info.system if info else "",
        cpu=info.cpu if info else "",
        cores=info.cores if info else 0,
        threads=info.threads if info else 0,
        memory_total=info.memory_total if info else 0,
        memory_limit=info.memory_limit if info else 0,
        cpu_load=node.telemetry.cpu if node.telemetry else None,
        rtt_ms=node.rtt_s * 1000 if node.rtt_s is not None else None,
        owner=node.owner,
    )


def _print(nodes: tuple[Node, ...]) -> None:
    rows = []
    for node in nodes:
        info, load = node.info, node.telemetry
        rows.append(
            (
                node.name,
                node.address,
                str(node.state),
                f"{info.threads} of {info.cores}" if info else "–",
                format_bytes(info.memory_limit) if info else "–",
                f"{load.cpu:.0%}" if load else "–",
                f"{node.rtt_s * 1000:.1f}" if node.rtt_s is not None else "–",
                node.reason,
            )
        )
    print_table(("name", "address", "state", "threads", "memory", "cpu", "ms", ""), rows)
