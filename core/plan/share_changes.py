"""Other shares of the work for the nodes of a group, by what each of them was predicted to take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from msgspec.structs import replace

from core.plan.auto_types import Candidate, Question
from core.plan.proposal import SHARES, Proposal

HARDLY: Final = 0.02
"""Shares that change by less stay as they are."""


def shifted(question: Question, now: Candidate, group: int) -> Iterator[Proposal]:
    """For groups of so many nodes: so that all of a group take equally long, and so that they compute equally long."""
    nodes = now.request.nodes
    uses = {use.node: use for use in now.prediction.nodes}
    if group == 1 or any(uses[node].compute_s <= 0 for node in nodes):
        return
    old = _shares(question, now, group)
    told: list[list[float]] = []
    for messages in (True, False):
        new: list[float] = []
        for first in range(0, len(nodes), group):
            own = [uses[node] for node in nodes[first : first + group]]
            each = [use.compute_s / share for use, share in zip(own, old[first : first + group], strict=True)]
            fixed = [(use.receive_s + use.send_s) * messages for use in own]
            together = (1 + sum(f / e for f, e in zip(fixed, each, strict=True))) / sum(1 / e for e in each)
            new += _whole([max((together - f) / e, HARDLY) for f, e in zip(fixed, each, strict=True)])
        changed = max(abs(after - before) for after, before in zip(new, old, strict=True))
        if changed >= HARDLY and new not in told:
            told.append(new)
            yield _with_shares(question, now, old, new)


def _with_shares(question: Question, now: Candidate, old: Sequence[float], new: Sequence[float]) -> Proposal:
    nodes = now.request.nodes
    changed = {node: after - before for node, before, after in zip(nodes, old, new, strict=True)}
    percent = {node: f"{100 * share:.0f} %" for node, share in zip(nodes, new, strict=True)}
    most, least = max(nodes, key=changed.__getitem__), min(nodes, key=changed.__getitem__)
    more, less = (question.names.get(node, node[:8]) for node in (most, least))
    words = f"Shift work from {less} to {more} ({less} {percent[least]}, {more} {percent[most]})"
    return Proposal(replace(now.request, shares=tuple(new)), words, SHARES)


def _shares(question: Question, now: Candidate, group: int) -> Sequence[float]:
    """As they are: by speed, where none were asked for."""
    if now.request.shares is not None:
        return now.request.shares
    speeds = [question.speeds.get(node, 1.0) for node in now.request.nodes]
    totals = [sum(speeds[first : first + group]) for first in range(0, len(speeds), group)]
    return [speed / totals[place // group] for place, speed in enumerate(speeds)]


def _whole(parts: Sequence[float]) -> list[float]:
    """Of 1, in thousandths."""
    rounded = [round(part / sum(parts), 3) for part in parts]
    return [round(1 - sum(rounded[1:]), 3), *rounded[1:]]
