"""Measures what this workstation's interface carries when it talks to several machines at once.

Links are measured one by one, which does not tell whether they share a line at the workstation: one with a fast
interface feeds two slow nodes twice as fast as one, one with a slow interface does not. So all are used at once, and
what comes through is compared with their sum. Each way for itself, and the worse one counts.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from core.cluster.link_changes import size_to_send
from core.cluster.link_probes import LinkProbes
from core.cluster.link_rounds import any_known, groups_of
from core.cluster.machines import THIS_MACHINE, machines_of
from core.cluster.measured import MeasuredInterface, MeasuredLink, Pair
from core.cluster.measuring_steps import is_usable
from core.cost.links import WORKSTATION
from core.errors import Cancelled, ShardboardError
from core.plan.form import NodeId

if TYPE_CHECKING:
    from core.cluster.client import Cluster

SECONDS: Final = 1.5
"""Each way."""
BEGIN: Final = 0.3
"""Of that time, which does not count: connections are made, and buffers filled."""
MOST_PEERS: Final = 8
SHARED: Final = 0.85
"""What comes through at once is less than this share of what came through one by one: the interface sets the pace."""


class Peer(Struct, frozen=True):
    """A machine whose link with the workstation is as fast as its line."""

    node: NodeId
    out: MeasuredLink
    back: MeasuredLink


def measure_interface(
    cluster: Cluster,
    nodes: Sequence[NodeId],
    links: Mapping[Pair, MeasuredLink],
    cancel: threading.Event | None = None,
) -> MeasuredInterface | None:
    """None where ``links`` tell it already, or it cannot be measured now. Three seconds. Raises Cancelled."""
    stop = cancel or threading.Event()
    usable = [node for node in dict.fromkeys(nodes) if is_usable(cluster, node, None)]
    peers = _peers(cluster, usable, links)
    if len(peers) < 2:
        return None
    out, back = [peer.out for peer in peers], [peer.back for peer in peers]
    try:
        with LinkProbes(cluster, usable, stop, {}) as probes:
            ways = [
                interface_of(_together(probes, peers, singly, stop, pull=pull), singly)
                for singly, pull in ((out, False), (back, True))
            ]
    except Cancelled:
        raise
    except ShardboardError:
        return None
    return min(ways, key=lambda way: (not way.shared, way.bytes_per_s))


def interface_of(rate: float, singly: Sequence[MeasuredLink]) -> MeasuredInterface:
    """``rate``: bytes per second of all these links at once."""
    fastest, every = max(one.bytes_per_s for one in singly), sum(one.bytes_per_s for one in singly)
    return MeasuredInterface(time.time(), max(rate, fastest), rate < SHARED * every)


def _peers(cluster: Cluster, nodes: Sequence[NodeId], links: Mapping[Pair, MeasuredLink]) -> list[Peer]:
    """The fastest ones; none where a link that processors hold back shows that the interface is faster than lines."""
    machines = machines_of(map(cluster.node, nodes))
    names = {WORKSTATION: THIS_MACHINE} | {node: machine.name for node, machine in machines.items()}
    here, *others = groups_of(map(cluster.node, nodes), names)
    found: list[Peer] = []
    for other in others:
        out, back = any_known(here.nodes, other.nodes, links), any_known(other.nodes, here.nodes, links)
        if other.limited or other.machine == here.machine or out is None or back is None:
            continue
        if out.bound == "processors":
            return []
        if out.bound == back.bound == "line":
            found.append(Peer(other.speaker, out, back))
    return sorted(found, key=lambda peer: -peer.out.bytes_per_s)[:MOST_PEERS]


def _together(
    probes: LinkProbes, peers: Sequence[Peer], singly: Sequence[MeasuredLink], stop: threading.Event, *, pull: bool
) -> float:
    """Bytes per second to (or from) all peers at once."""
    begun = time.perf_counter()

    def stream(peer: Peer, link: MeasuredLink) -> tuple[int, list[float]]:
        size = size_to_send(link)
        return size, probes.stream(peer.node, size, SECONDS, pull=pull)

    with ThreadPoolExecutor(len(peers), thread_name_prefix="links") as pool:
        told = [task.result() for task in [pool.submit(stream, *one) for one in zip(peers, singly, strict=True)]]
    if stop.is_set():
        raise Cancelled("Measuring was stopped.")
    first, last = begun + BEGIN * SECONDS, begun + SECONDS
    return sum(size * sum(first <= at < last for at in arrivals) for size, arrivals in told) / (last - first)
