"""The doctor's checks of the nodes: seen, reachable port by port, same version, trusted, right clock."""

from __future__ import annotations

import time
from collections.abc import Sequence
from threading import Event
from typing import Final

from core.cluster.client import Cluster
from core.cluster.events import ClusterEvent, TelemetryArrived
from core.cluster.node import CONNECTED, Node, NodeState
from core.cluster.opening import open_cluster
from core.cluster.reach import parse_address, probe_tcp
from core.commands.findings import Finding, bad, good, remark
from core.errors import InputError, UnreachableError

CLOCK_SECONDS: Final = 2.0
SLOW_ANSWER_SECONDS: Final = 0.005
"""A tensor or spatial group exchanges data for most layers: then every item waits for several answers."""
_FIREWALL: Final = "Let the ports of shardboard-agent (7420 to 7422 by default) through that machine's firewall."


class _Clocks:
    """Smallest difference between a node's clock and ours, over its telemetry; its way here only adds to it."""

    def __init__(self) -> None:
        self.offsets: dict[str, float] = {}

    def take(self, event: ClusterEvent) -> None:
        if isinstance(event, TelemetryArrived):
            offset = time.time() - event.telemetry.time
            self.offsets[event.id] = min(offset, self.offsets.get(event.id, offset), key=abs)


def check_nodes(seconds: float, addresses: Sequence[str], cancel: Event | None = None) -> list[Finding]:
    """Look for ``seconds``, or until ``cancel``; also try the addresses that were given."""
    clocks = _Clocks()
    with open_cluster(on_event=clocks.take) as cluster:
        reached = [_check_address(cluster, address) for address in addresses]
        _look(cluster, seconds, cancel or Event())
        nodes = cluster.nodes()
        problem = cluster.discovery_problem
        findings = [_seen(nodes, problem), *(found for found in reached if found is not None)]
        usable = any(node.state in CONNECTED for node in nodes)
        for node in nodes:
            findings += _check_node(node, clocks, others_work=usable)
    return findings


def _look(cluster: Cluster, seconds: float, cancel: Event) -> None:
    """All the time given, unless discovery has failed already: a node may answer late."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and not cancel.is_set():
        cluster.wait_until(lambda _: False, min(0.1, max(0.0, until - time.monotonic())))


def _seen(nodes: Sequence[Node], problem: str | None) -> Finding:
    if nodes:
        return good("nodes", f"{len(nodes)} seen: {', '.join(node.name for node in nodes)}")
    words = "none was seen" + (f"; {problem}" if problem else "")
    return bad(
        "nodes",
        words,
        "Start shardboard-agent on the other machines, in the same network (not a guest Wi-Fi or another VLAN). "
        "If it runs there, look at its address: shardboard doctor --node HOST:PORT",
    )


def _check_address(cluster: Cluster, address: str) -> Finding | None:
    step = f"address {address}"
    try:
        host, port = parse_address(address)
        cluster.add_address(host, port).result()
    except (UnreachableError, InputError) as error:
        return bad(step, error.message, error.hint)
    return None


def _check_node(node: Node, clocks: _Clocks, *, others_work: bool) -> list[Finding]:
    findings = _check_ports(node)
    if any(found.mend for found in findings):
        return findings
    if node.state is NodeState.INCOMPATIBLE:
        mend = "Install the same Shardboard on both machines."
        return [*findings, bad(f"{node.name}: version", f"{node.address} {node.reason}", mend)]
    if node.state not in CONNECTED:
        mend = "Its shardboard-agent prints the code when it starts."
        untrusted = remark if others_work else bad  # it may be another workstation's: no fault of this one
        return [*findings, untrusted(f"{node.name}: trust", node.reason or str(node.state), mend)]
    findings += [good(f"{node.name}: trust", _trusted_words(node)), *check_link(node)]
    offset = clocks.offsets.get(node.id)
    if offset is not None and abs(offset) > CLOCK_SECONDS:
        words = f"its clock is {abs(offset):.1f} s {'behind' if offset > 0 else 'ahead'}"
        findings.append(bad(f"{node.name}: clock", words, "Set the clocks of both machines by the network (NTP)."))
    return findings


def check_link(node: Node) -> list[Finding]:
    """A remark where the link is too slow for strategies that exchange data layer by layer."""
    if node.rtt_s is None or node.rtt_s <= SLOW_ANSWER_SECONDS:
        return []
    words = f"answers take {node.rtt_s * 1000:.0f} ms, as over Wi-Fi: tensor and spatial wait for many of them"
    return [remark(f"{node.name}: link", words, "Connect it by cable, or use replicate or pipeline with it.")]


def _trusted_words(node: Node) -> str:
    rtt = f", answers in {node.rtt_s * 1000:.1f} ms" if node.rtt_s is not None else ""
    state = f"held by {node.owner}" if node.state is NodeState.BUSY else str(node.state)
    return f"paired and {state}{rtt}, version {node.info.version if node.info else 'unknown'}"


def _check_ports(node: Node) -> list[Finding]:
    """One line when all answer; otherwise one for each that does not."""
    ports = {"control": node.control_port}
    if node.pairing_port is not None:
        ports["pairing"] = node.pairing_port
    if node.info is not None:
        ports["data"] = node.info.data_port
    failed = []
    for name, port in ports.items():
        try:
            probe_tcp(node.host, port)
        except UnreachableError as error:
            mend = f"{_FIREWALL} {error.hint}"
            failed.append(bad(f"{node.name}: {name} port {port}", error.message, mend))
    if failed:
        return failed
    said = ", ".join(f"{name} {port}" for name, port in ports.items())
    return [good(f"{node.name}: ports", f"{node.host} takes connections: {said}")]
