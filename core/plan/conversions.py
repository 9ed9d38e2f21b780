"""What it takes to bring a value from the layout in which a group holds it into the one that an operator wants."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from msgspec import Struct

from core.cost import exchange as price
from core.cost.exchange import LinkCost
from core.plan.layouts import REPLICATED, Layout, Partial, Replicated, Split, covers, length, merged, within
from core.plan.program import Program, TensorType


class External(Struct, frozen=True):
    """State of an input that no rank has fetched yet. Each fetches what it wants of it, then and later: an input is
    not passed on within the group."""


EXTERNAL: Final = External()
State = Layout | External


class Conversions:
    """Seconds for the values of one program; each is worked out once."""

    def __init__(
        self, program: Program, ranks: int, link: LinkCost, added_outside: Collection[str], moving_s: float
    ) -> None:
        """``moving_s``: for each byte that a rank cuts out of a tensor it holds."""
        self._types = program.types
        self._inputs = frozenset(program.inputs)
        self._ranks = ranks
        self._link = link
        self._added_outside = added_outside
        self._moving_s = moving_s
        self._known: dict[tuple[str, State, Layout], tuple[float, State]] = {}

    def to(self, want: Layout, name: str, state: State) -> tuple[float, State]:
        """Seconds, and how the value is held then."""
        key = (name, state, want)
        found = self._known.get(key)
        if found is None:
            seconds, after = self._priced(name, state, want)
            if isinstance(after, Split) and not covers(after, (self._types[name].shape or ())[after.axis]):
                after = state  # what is left out may be wanted later
            found = self._known[key] = seconds, after
        return found

    def fetched(self, name: str, want: Split) -> float:
        """An input, from outside."""
        return price.fetch_seconds(self._part_bytes(name, want), self._link)

    def owed(self, name: str, state: State) -> float:
        """What must come yet, at least: terms will have to be added up."""
        if not isinstance(state, Partial) or name in self._added_outside:
            return 0.0
        return price.reduce_scatter_seconds(self._types[name].nbytes, self._ranks, self._link)

    def _priced(self, name: str, state: State, want: Layout) -> tuple[float, State]:
        if state == want:
            return 0.0, state
        nbytes = self._types[name].nbytes
        if name in self._inputs and not isinstance(state, Replicated):
            wanted = self._part_bytes(name, want) if isinstance(want, Split) else nbytes
            return price.fetch_seconds(wanted, self._link), want
        assert not isinstance(state, External), "only inputs are fetched"
        if isinstance(state, Replicated):
            return (self._moving_s * self._part_bytes(name, want) if isinstance(want, Split) else 0.0), state
        if isinstance(state, Partial):
            if isinstance(want, Split):
                return price.reduce_scatter_seconds(nbytes, self._ranks, self._link), want
            return price.all_reduce_seconds(nbytes, self._ranks, self._link), REPLICATED
        if not isinstance(want, Split):
            return price.all_gather_seconds(nbytes, self._ranks, self._link), REPLICATED
        if want.axis != state.axis:
            return price.all_to_all_seconds(nbytes, self._ranks, self._link), want
        missing = self._missing_bytes(name, state, want)
        if missing == 0:
            return self._moving_s * self._part_bytes(name, want), state
        return price.halo_seconds(missing, self._link), want if _within_all(state, want) else state

    def _part_bytes(self, name: str, split: Split) -> int:
        """Of the largest part."""
        return _row_bytes(self._types[name], split.axis) * max(split.sizes)

    def _missing_bytes(self, name: str, held: Split, want: Split) -> int:
        """What the rank that lacks most must fetch."""
        most = 0
        for have, wanted in zip(held.parts, want.parts, strict=True):
            if have != wanted:
                most = max(most, length(merged((*have, *wanted))) - length(merged(have)))
        return most * _row_bytes(self._types[name], held.axis)


def _within_all(inner: Split, outer: Split) -> bool:
    """Whether every rank's part of ``inner`` lies in its part of ``outer``."""
    return all(within(small, large) for small, large in zip(inner.parts, outer.parts, strict=True))


def _row_bytes(held: TensorType, axis: int) -> int:
    assert held.shape is not None
    return held.nbytes // max(1, held.shape[axis])
