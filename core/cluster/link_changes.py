"""Whether a link still is what it was measured to be, and in which words that is said. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from msgspec import Struct

from core.cluster.measured import MeasuredLink, Pair
from core.cost.links import WORKSTATION
from core.plan.form import NodeId
from core.units import format_rate
from core.wire.messages import LinkProbed
from core.wire.probing import SIZES

SLOWER: Final = 0.7
"""A line that carries less than this share of what was measured became slower; noise stays above it."""
SLOWER_ENDS: Final = 0.4
"""The same where processors had set the pace: how busy they are shows in it."""
FASTER: Final = 1.5
"""A line that carries so many times as much became faster. One that processors keep busy cannot."""
LONGER: Final = 2.0
"""A round trip that takes so many times as long, and a millisecond more, became longer; the inverse, shorter."""
_LEAST_S: Final = 1e-3
_MESSAGE_SECONDS: Final = 0.01
"""A look is at messages that should take about so long."""


class LinkChange(Struct, frozen=True):
    """Of one direction of a link. Of rate and round trip at least one is not None."""

    pair: Pair
    before: MeasuredLink
    bytes_per_s: float | None = None
    """Now, where that differs."""
    round_trip_s: float | None = None
    """Now, where that differs."""


def size_to_send(link: MeasuredLink) -> int:
    """Bytes of the messages that show in a moment whether ``link`` is as fast as it was."""
    sizes = [sample.nbytes for sample in link.samples] or [SIZES[0]]
    fitting = [size for size in sizes if size <= _MESSAGE_SECONDS * link.bytes_per_s]
    return max(fitting, default=sizes[0])


def change_of(pair: Pair, before: MeasuredLink, now: LinkProbed) -> LinkChange | None:
    """What ``now`` shows of a link that was measured as ``before``; None: nothing but noise."""
    known = {sample.nbytes: sample.bytes_per_s for sample in before.samples}
    stream, rate = before.bytes_per_s, now.samples[-1].bytes_per_s
    shares = [sample.bytes_per_s / min(stream, known.get(sample.nbytes, stream)) for sample in now.samples]
    slower = max(shares) < {"line": SLOWER, "processors": SLOWER_ENDS}.get(before.bound, 0.0)
    faster = before.bound == "line" and rate > FASTER * max(stream, known.get(now.samples[-1].nbytes, stream))
    trip, was = now.round_trip_s, before.round_trip_s
    longer, shorter = trip > LONGER * was + _LEAST_S, was > LONGER * trip + _LEAST_S
    if not (slower or faster or longer or shorter):
        return None
    return LinkChange(pair, before, rate if slower or faster else None, trip if longer or shorter else None)


def most_suspect(changes: Iterable[LinkChange]) -> tuple[NodeId, LinkChange] | None:
    """The node with the most changed links, and one of these: that with the workstation if it is among them."""
    found = list(changes)
    ends = [end for change in found for end in change.pair if end != WORKSTATION]
    if not ends:
        return None
    node = max(dict.fromkeys(ends), key=ends.count)
    of_node = [change for change in found if node in change.pair]
    return node, min(of_node, key=lambda change: WORKSTATION not in change.pair)


def changed_words(node: NodeId, change: LinkChange, name: Callable[[NodeId], str]) -> tuple[str, ...]:
    """Clauses for "NAME ...", where that is ``node``, an end of the link."""
    (other,) = (end for end in change.pair if end != node)
    return tuple(_words(change, name(other)))


def _words(change: LinkChange, other: str) -> Iterable[str]:
    before = change.before
    if change.bytes_per_s is not None:
        kind = "slower" if change.bytes_per_s < before.bytes_per_s else "faster"
        now, then = format_rate(8 * change.bytes_per_s), format_rate(8 * before.bytes_per_s)
        yield f"has a {kind} link: {now} between it and {other} now, {then} when that was measured"
    if change.round_trip_s is not None:
        kind = "longer" if change.round_trip_s > before.round_trip_s else "shorter"
        now, then = f"{1000 * change.round_trip_s:.3g} ms", f"{1000 * before.round_trip_s:.3g} ms"
        yield f"has a {kind} way: {now} there and back between it and {other} now, {then} when that was measured"
