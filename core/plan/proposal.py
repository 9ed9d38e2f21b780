"""A change of a plan that is worth a look: the request it makes, and what a person would do for it, in words."""

from __future__ import annotations

from msgspec import Struct

from core.plan.form import PlanRequest

MOVE, SHARES, SWAP, LEAVE_OUT, USE_OTHER, BATCH, STRATEGY = range(7)
"""How much of a plan a change changes."""


class Proposal(Struct, frozen=True):
    request: PlanRequest
    words: str
    """What to do: "Leave out pi-3"."""
    effort: int
    """The smaller, the less is changed."""
