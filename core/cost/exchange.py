"""What a group's exchanges cost, in seconds for one micro-batch: pure functions for the search over layouts.

Every rank has one network interface and one core that encrypts and copies. So what counts is what one rank sends *and*
receives: in an exchange in which everybody sends to everybody, ``ranks - 1`` messages out and as many in, one after the
other; and what its line carries meanwhile, both ways at once. To that comes one hop for each round in which a rank must
wait for what another made in the round before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import permutations
from types import MappingProxyType
from typing import Final, Literal

from msgspec import Struct, structs

from core.cost.links import Links, Ways
from core.cost.messages import HOP_SECONDS, MESSAGE_SECONDS, RUN_SECONDS, SEND_SECONDS, TYPICAL, MessageCosts
from core.cost.types import Machine
from core.plan.form import NodeId

AllReduce = Literal["direct", "scatter", "ring"]
LEAST_RING: Final = 4
"""Ranks: with fewer a ring is the two rounds of "scatter", one message at a time."""


class LinkCost(Struct, frozen=True):
    """Between any two ranks of a group."""

    message_s: float = MESSAGE_SECONDS
    """For each message, at each end."""
    byte_s: float = SEND_SECONDS
    """For each byte, at each end."""
    hop_s: float = HOP_SECONDS + RUN_SECONDS
    """For each round: on the way, beside the work at both ends, and for the run of the shard that waited."""
    trunk_byte_s: float = 0.0
    """For each byte, each way, on a line that the first half of the ranks shares on its way to the second half: two
    switches, or two machines with several agents each. 0: there is none, every rank has its own way to every other."""
    wire_byte_s: float = 0.0
    """For each byte, each way, on a rank's own line. 0: only its ends cost anything."""


MEASURED: Final = LinkCost()


def searched(messages: MessageCosts) -> MessageCosts:
    """What the search over layouts reckons with: as measured, but no less than is typical.

    It does not count what ranks wait for one another, so with cheaper messages it would exchange too often: MobileNetV2
    by rows over three nodes took 45 % longer at a quarter of the typical costs, for the same throughput.
    """
    pairs = zip(structs.astuple(messages), structs.astuple(TYPICAL), strict=True)
    return MessageCosts(*(max(measured, typical) for measured, typical in pairs))


def link_cost(
    nodes: Sequence[NodeId],
    links: Links,
    machines: Mapping[NodeId, Machine] = MappingProxyType({}),
    messages: MessageCosts = TYPICAL,
) -> LinkCost:
    """Of a group of these nodes, in the order of its ranks: every rank is taken to be as far away as the farthest, and
    to have as much of a line to itself as it gets on the most crowded one. ``messages``: what they take at speed 1."""
    ways = Ways(links, nodes, machines)
    if len(nodes) < 2 or ways.plain:
        return LinkCost(messages.message_s, messages.byte_s, messages.hop_s + messages.run_s)
    crossing: Counter[str] = Counter()
    byte_s: dict[str, float] = {}
    ends: dict[str, set[tuple[int, int]]] = {}
    hop = 0.0
    for one, other in permutations(range(len(nodes)), 2):
        way = ways.way(nodes[one], nodes[other])
        hop = max(hop, way.hop_s)
        for line, seconds in way.lines:
            crossing[line] += 1
            byte_s[line] = seconds
            ends.setdefault(line, set()).add((one, other))
    half, ranks = len(nodes) // 2, range(len(nodes))
    between = [{(a, b) for a in ranks for b in ranks if a < half <= b}]
    between.append({(b, a) for a, b in between[0]})
    trunks = {line for line, pairs in ends.items() if len(nodes) >= LEAST_RING and pairs in between}
    wire = max((byte_s[line] * crossing[line] / (len(nodes) - 1) for line in byte_s if line not in trunks), default=0.0)
    return LinkCost(
        messages.message_s,
        messages.byte_s,
        hop_s=hop - HOP_SECONDS + messages.hop_s + messages.run_s,
        trunk_byte_s=max((byte_s[line] for line in trunks), default=0.0),
        wire_byte_s=wire,
    )


def all_gather_seconds(nbytes: int, ranks: int, link: LinkCost = MEASURED) -> float:
    """Split → Replicated: each rank sends its part of a tensor of ``nbytes`` in all to every other."""
    return _round(nbytes / max(ranks, 1), ranks, link)


def reduce_scatter_seconds(nbytes: int, ranks: int, link: LinkCost = MEASURED) -> float:
    """Partial → Split: each rank sends to every other that one's part of its own term, which has ``nbytes``."""
    return _round(nbytes / max(ranks, 1), ranks, link)


def all_to_all_seconds(nbytes: int, ranks: int, link: LinkCost = MEASURED) -> float:
    """Split → Split along another axis, of a tensor of ``nbytes`` in all: every rank holds a part of what every other
    needs."""
    return _round(nbytes / max(ranks, 1) ** 2, ranks, link)


def all_reduce_seconds(nbytes: int, ranks: int, link: LinkCost = MEASURED) -> float:
    """Partial → Replicated, for terms of ``nbytes`` each, in the way that is cheapest."""
    return _all_reduce_seconds(cheapest_all_reduce(nbytes, ranks, link), nbytes, ranks, link)


def cheapest_all_reduce(nbytes: int, ranks: int, link: LinkCost = MEASURED) -> AllReduce:
    """How to add up terms of ``nbytes`` so that every rank has the sum.

    direct: every rank sends its whole term to every other, and each adds up all of them. One round; a rank handles
    2 (n-1) messages of b bytes.
    scatter: a reduce-scatter, then an all-gather of the sums. Two rounds; a rank handles 4 (n-1) messages of b/n bytes.
    ring: the same bytes and messages as scatter, but each rank sends to the next one only, in 2 (n-1) rounds.

    direct is cheapest for small tensors: scatter costs one hop and 2 (n-1) messages more and spares
    2 (n-1) (1 - 2/n) b bytes. With two ranks it spares none, so they always exchange directly.
    Where every rank has its own way to every other a ring never pays: it handles what scatter handles, and waits
    2 (n-2) hops longer. It pays from 4 ranks up where half of them share one line to the other half: scatter sends
    floor(n/2) ceil(n/2) 2b/n bytes over it each way, a ring 2 (n-1) b/n, which for 8 ranks is 1.75 b instead of 4 b.
    """
    ways: tuple[AllReduce, ...] = ("direct", "scatter", "ring") if ranks >= LEAST_RING else ("direct", "scatter")
    return min(ways, key=lambda way: _all_reduce_seconds(way, nbytes, ranks, link))


def is_added_outside(nbytes: int, ranks: int, link: LinkCost = MEASURED) -> bool:
    """Whether the terms of a result, of ``nbytes`` each, are better added up by the client than by a rank.

    That spares the way of the last term to the rank that adds; the client takes all terms in instead of one sum.
    """
    more = (ranks - 1) * (link.message_s + nbytes * (link.byte_s + link.wire_byte_s))
    return more <= fetch_seconds(nbytes, link)


def halo_seconds(nbytes: int, link: LinkCost = MEASURED, *, neighbours: int = 2) -> float:
    """Rows from the neighbours, and rows for them: ``nbytes`` is what one rank receives from all its neighbours
    together; it sends as much."""
    if nbytes <= 0 or neighbours < 1:
        return 0.0
    ends = 2 * (neighbours * link.message_s + nbytes * link.byte_s)
    return link.hop_s + max(ends, ends / neighbours + nbytes * link.wire_byte_s)


def fetch_seconds(nbytes: int, link: LinkCost = MEASURED) -> float:
    """One message of ``nbytes`` from one node to another."""
    if nbytes <= 0:
        return 0.0
    return link.hop_s + 2 * (link.message_s + nbytes * link.byte_s) + nbytes * link.wire_byte_s


def _all_reduce_seconds(way: AllReduce, nbytes: int, ranks: int, link: LinkCost) -> float:
    if nbytes <= 0 or ranks < 2:
        return 0.0
    if way == "direct":
        return _round(nbytes, ranks, link)
    part = nbytes / ranks
    if way == "scatter":
        return 2 * _round(part, ranks, link)
    ends = 2 * (link.message_s + part * link.byte_s) + part * link.wire_byte_s
    return 2 * (ranks - 1) * (link.hop_s + max(ends, part * link.trunk_byte_s))


def _round(nbytes: float, ranks: int, link: LinkCost) -> float:
    """Every rank sends a message of ``nbytes`` to every other; a line carries one while the ends handle the next."""
    if nbytes <= 0 or ranks < 2:
        return 0.0
    message = 2 * (link.message_s + nbytes * link.byte_s)
    wire = (ranks - 1) * nbytes * link.wire_byte_s
    trunk = (ranks // 2) * (ranks - ranks // 2) * nbytes * link.trunk_byte_s
    return link.hop_s + max((ranks - 1) * message, message + wire, trunk)
