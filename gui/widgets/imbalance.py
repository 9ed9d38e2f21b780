"""How evenly the nodes of a plan are loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from core.wire.messages import Telemetry

QUIET = 0.02
"""Below this share of busy time a node counts as having nothing to do."""


def busy_shares(telemetry: Mapping[str, Telemetry], nodes: Iterable[str]) -> dict[str, float]:
    """Share of the last interval that each of ``nodes`` spent in its shards, 0..1."""
    return {n: min(1.0, sum(load.busy for load in telemetry[n].shards)) for n in nodes if n in telemetry}


def imbalance(shares: Mapping[str, float]) -> tuple[float, str] | None:
    """(how much less than the busiest the mean node does, 0..1; the busiest node), or None while nothing runs."""
    if not shares:
        return None
    busiest = max(shares, key=lambda node: shares[node])
    highest = shares[busiest]
    if highest < QUIET:
        return None
    return 1.0 - sum(shares.values()) / len(shares) / highest, busiest
