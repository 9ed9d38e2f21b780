"""What is the line's of a measured link, and what the work at its ends. Pure.

Predictions count the processors' work at both ends by themselves, so it must not be in a link. Each node also measures
the link to itself, which is nothing but that work:

* of a round trip, half of what each of the two ends takes for one with itself is its own, the rest is the way's;
* a stream that is nearly as fast as a node's with itself is as fast as processors allow: the line is said to be
  infinitely fast; and so where a --link-limit explains the rate, which predictions know of each node.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from statistics import fmean
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from core.cluster.evening import evened
from core.cluster.measured import Bound, MeasuredLink, Pair
from core.wire.messages import LinkProbed, LinkSample

_LIMIT_EXPLAINS: Final = 0.15
"""A stream that differs by less from a --link-limit is as fast as that."""
_LOOPBACK_EXPLAINS: Final = 0.5
"""On one machine nothing but the limit is slow: a stream of at least this share of it was only disturbed."""
NEAR: Final = 0.7
"""A stream with at least this share of what a node does with itself is bound by processors: a line that was that much
slower would show."""
WAY_NOISE: Final = 0.3
"""Of round trips: what waking up a thread takes differs more than rates do."""
_LARGE: Final = 64 * 1024


class Ends(Struct, frozen=True):
    """What is known of the two ends of a link."""

    one_machine: bool
    limits: tuple[int, ...] = ()
    """The --link-limit of those that have one, in bit/s."""
    alone: tuple[LinkProbed, ...] = ()
    """What they were measured to do with themselves; of a limited one only the round trip tells anything."""
    alone_limited: tuple[bool, ...] = ()
    """Whether each of those has a limit."""


def meaning_of(found: LinkProbed, ends: Ends, when: float) -> MeasuredLink:
    """One direction of a link; where it leads is for the caller to say."""
    handling = fmean(one.round_trip_s for one in ends.alone) if ends.alone else 0.0
    way = found.round_trip_s - handling
    rate = stream_rate(found.samples)
    return MeasuredLink(
        when=when,
        round_trip_s=found.round_trip_s,
        way_s=0.0 if ends.one_machine or way < WAY_NOISE * handling else way,
        samples=found.samples,
        bytes_per_s=rate,
        bound=_bound(rate, ends),
        loopback=ends.one_machine,
    )


def _bound(rate: float, ends: Ends) -> Bound:
    least = _LOOPBACK_EXPLAINS if ends.one_machine else 1 - _LIMIT_EXPLAINS
    if any(least <= 8 * rate / limit <= 1 + _LIMIT_EXPLAINS for limit in ends.limits):
        return "limit"
    unlimited = [
        stream_rate(one.samples) for one, limited in zip(ends.alone, ends.alone_limited, strict=True) if not limited
    ]
    return "processors" if ends.one_machine or rate >= NEAR * min(unlimited, default=inf) else "line"


def evened_links(measured: Mapping[Pair, MeasuredLink], known: Mapping[Pair, MeasuredLink]) -> dict[Pair, MeasuredLink]:
    """The same figures for links that differ by noise, so that predictions find nodes alike that are."""
    rates = evened(_line_rates(measured), _line_rates(known))
    ways = evened(
        {pair: link.way_s for pair, link in measured.items() if link.way_s > 0},
        {pair: link.way_s for pair, link in known.items() if link.way_s > 0},
        WAY_NOISE,
    )
    return {
        pair: replace(link, bytes_per_s=rates.get(pair, link.bytes_per_s), way_s=ways.get(pair, 0.0))
        for pair, link in measured.items()
    }


def _line_rates(links: Mapping[Pair, MeasuredLink]) -> dict[Pair, float]:
    return {pair: link.bytes_per_s for pair, link in links.items() if link.bound == "line"}


def stream_rate(samples: Sequence[LinkSample]) -> float:
    """Of messages that are large enough for their number not to count, where such were sent: the second best of three
    or more, because to a busy processor answers come in heaps, and a stream then seems faster than its line."""
    large = [sample.bytes_per_s for sample in samples if sample.nbytes >= _LARGE]
    rates = sorted(large or [sample.bytes_per_s for sample in samples])
    return rates[-2] if len(rates) > 2 else rates[-1]
