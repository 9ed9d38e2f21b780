"""What lies between nodes: round trips, bandwidths, and which messages share a line.

A message crosses the interface of its sender's machine, perhaps further lines, and the interface of its receiver's
machine. Each of these carries messages one after the other, both ways at once. What encrypting and copying a message
costs the processors at its ends is not counted here but in ``core.cost.messages``: a link's bandwidth is that of a
stream of messages, where those overlap.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import permutations
from math import inf
from typing import Final, NamedTuple

from msgspec import Struct

from core.cost.messages import HOP_SECONDS
from core.cost.types import Machine
from core.plan.form import NodeId

WORKSTATION: Final = NodeId("")
"""As one end of a link."""


class Link(Struct, frozen=True):
    """Between two nodes; the defaults are what was measured over loopback: no bandwidth but that of the two ends."""

    round_trip_s: float = 2 * HOP_SECONDS
    """Of a small message, beside the work at both ends."""
    bytes_per_s: float = inf
    """Each way."""


LOOPBACK: Final = Link()
_WORKSTATION_LINE: Final = "the workstation"
OUT_OF_WORKSTATION: Final = f"out of {_WORKSTATION_LINE}"
"""The name of its line, in a ``Way``."""


class Line(Struct, frozen=True):
    """What all messages between these nodes and all others share: an interface, a radio channel, a trunk."""

    nodes: tuple[NodeId, ...]
    bytes_per_s: float | None = None
    """Each way; None: as fast as the fastest known link that crosses it."""


class Links(Struct, frozen=True):
    """All that is known of a network. The workstation is the node ""."""

    known: Mapping[tuple[NodeId, NodeId], Link] = {}
    """By pair, in either order; both orders may differ."""
    lines: tuple[Line, ...] = ()
    """Beside one interface for each machine, whose nodes share it; one of the same nodes takes its place."""
    default: Link = LOOPBACK
    """Of nodes of different machines where nothing is known; those of one machine have loopback."""


UNKNOWN: Final = Links()
"""Nothing was measured."""


class Way(NamedTuple):
    """From one node to another."""

    hop_s: float
    """Of any message, beside its bytes and the work at both ends."""
    lines: tuple[tuple[str, float], ...] = ()
    """(name, seconds for each byte) of the lines that it crosses and that are not infinitely fast, each way of a line
    for itself."""
    leaves: str = ""
    """The one of them that is a limit which the sender keeps to."""
    enters: str = ""
    """The same of the receiver: it takes a message only when it would have all of it."""

    @property
    def byte_s(self) -> float:
        """On the slowest line."""
        return max((seconds for _, seconds in self.lines), default=0.0)


class Ways:
    """The ways between nodes, worked out as they are asked for. Never changes what it was made from."""

    def __init__(self, links: Links, nodes: Iterable[NodeId], machines: Mapping[NodeId, Machine]) -> None:
        """``nodes`` are those whose interfaces matter; the workstation is always among them."""
        self._links = links
        self._interface = {node: _interface(node, machines) for node in (WORKSTATION, *nodes)}
        limits = {node: machines[node].link_limit / 8 for node in self._interface if node in machines}
        self._limits = {frozenset({node}): limit for node, limit in limits.items() if limit > 0}
        """Bytes per second that nodes keep to by themselves."""
        self._found: dict[tuple[NodeId, NodeId], Way] = {}
        self._lines = self._all_lines()

    def way(self, source: NodeId, target: NodeId) -> Way:
        found = self._found.get((source, target))
        if found is None:
            found = self._found[source, target] = self._way(source, target)
        return found

    def same_interface(self, one: NodeId, other: NodeId) -> bool:
        return self._interface[one] == self._interface[other]

    def look(self, nodes: Sequence[NodeId]) -> tuple[object, ...]:
        """The same for nodes that are, in their order, as far from each other and share lines in the same way."""
        if self.plain:
            return ()
        place: dict[str, int] = {}
        return tuple(
            (way.hop_s, tuple((place.setdefault(name, len(place)), byte_s) for name, byte_s in way.lines))
            for one, other in permutations(nodes, 2)
            for way in (self.way(one, other),)
        )

    @property
    def plain(self) -> bool:
        """Whether no line has a limit, and all ways are alike."""
        return not self._links.known and not self._lines and self._links.default == LOOPBACK

    def _way(self, source: NodeId, target: NodeId) -> Way:
        link = self._between(source, target)
        crossed = [
            (f"{'out of' if source in nodes else 'into'} {name}", 1 / rate)
            for name, nodes, rate in self._lines
            if (source in nodes) != (target in nodes)
        ]
        if link.bytes_per_s < min((1 / seconds for _, seconds in crossed), default=inf):
            crossed.append((f"{source or 'workstation'} to {target or 'workstation'}", 1 / link.bytes_per_s))
        leaves, enters = (self._limit(way, node) for way, node in (("out of", source), ("into", target)))
        return Way(link.round_trip_s / 2, tuple(crossed), leaves, enters)

    def _limit(self, way: str, node: NodeId) -> str:
        """The name of the line that stands for a node's own limit; "" where it has none."""
        own = frozenset({node})
        if own not in self._limits:
            return ""
        return next((f"{way} {name}" for name, nodes, _ in self._lines if nodes == own), "")

    def _between(self, source: NodeId, target: NodeId) -> Link:
        known = self._links.known
        found = known.get((source, target)) or known.get((target, source))
        if found is not None:
            return found
        return LOOPBACK if self.same_interface(source, target) else self._links.default

    def _all_lines(self) -> list[tuple[str, frozenset[NodeId], float]]:
        members: dict[str, set[NodeId]] = {}
        for node, name in self._interface.items():
            members.setdefault(name, set()).add(node)
        known = {frozenset(self._interface.keys() & {*line.nodes}): line for line in self._links.lines}
        named = [(name, frozenset(nodes)) for name, nodes in members.items()]
        there = [frozenset(), *(nodes for _, nodes in named)]
        given = [nodes for nodes in known if nodes not in there]
        named += [("+".join(sorted(node or "workstation" for node in nodes)), nodes) for nodes in given]
        there += given
        named += [(f"limit of {min(nodes)}", nodes) for nodes in self._limits if nodes not in there]
        lines = []
        for name, nodes in named:
            told = known[nodes].bytes_per_s if nodes in known else None
            rate = told if told is not None else self._fastest_out_of(nodes)
            rate = min(rate, self._limits.get(nodes, inf))
            if rate < inf:
                lines.append((name, nodes, rate))
        return lines

    def _fastest_out_of(self, nodes: frozenset[NodeId]) -> float:
        links = self._links
        crossing = [link.bytes_per_s for ends, link in links.known.items() if len(nodes.intersection(ends)) == 1]
        return max(crossing, default=links.default.bytes_per_s)


def _interface(node: NodeId, machines: Mapping[NodeId, Machine]) -> str:
    """Its name: nodes of one machine share one, and those of the workstation's machine share the workstation's."""
    machine = machines.get(node)
    if node == WORKSTATION or (machine is not None and machine.here):
        return _WORKSTATION_LINE
    return machine.name if machine is not None else f"node {node}"
