"""What a person wants of a plan, and which of several plans meets that best. Pure functions."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from core.cost.types import Prediction

if TYPE_CHECKING:
    from core.plan.auto import Objective

THROUGHPUT: Final = "throughput"
LATENCY: Final = "latency"
MEMORY: Final = "memory"
BOUNDED: Final = "bounded"
"""Throughput, but no micro-batch takes longer than a bound."""
KINDS: Final = (THROUGHPUT, LATENCY, MEMORY, BOUNDED)
SAME: Final = 0.03
"""Predictions closer to each other than this are called the same; the simpler plan is then the better."""


class Aim(Struct, frozen=True):
    kind: str = THROUGHPUT
    bound_ms: int = 500
    """Of one micro-batch through an idle cluster; it counts only where the kind is BOUNDED."""

    @property
    def objective(self) -> Objective:
        """As the planner calls it."""
        return "latency" if self.kind == LATENCY else "memory" if self.kind == MEMORY else "throughput"

    @property
    def bound_s(self) -> float | None:
        return self.bound_ms / 1000 if self.kind == BOUNDED else None

    def meets(self, prediction: Prediction) -> bool:
        """Whether the bound is kept, where there is one."""
        return self.bound_s is None or prediction.latency_s <= self.bound_s

    def badness(self, prediction: Prediction) -> float:
        """Less is better; above 0."""
        match self.kind:
            case "latency":
                return prediction.latency_s
            case "memory":
                return max(node.memory_bytes for node in prediction.nodes)
            case _:
                return 1 / max(prediction.throughput, 1e-9)


class Ranking(Struct, frozen=True):
    order: tuple[str, ...]
    """The best first; what misses the bound, does not fit or is not known comes last, in that order."""
    best: str = ""
    """The first, if it fits and keeps the bound; "" where none does."""


def ranked(
    names: Sequence[str], predictions: Mapping[str, Prediction | None], full: Collection[str], aim: Aim
) -> Ranking:
    """``names`` by their predictions, simpler ones first; ``full``: those whose nodes lack the memory."""
    known = {name: told for name in names if (told := predictions.get(name)) is not None}
    good = [name for name, told in known.items() if name not in full and aim.meets(told)]
    late = [name for name, told in known.items() if name not in full and not aim.meets(told)]
    order = _by_worth(good, {name: aim.badness(known[name]) for name in good})
    order += sorted(late, key=lambda name: known[name].latency_s)
    order += sorted((name for name in known if name in full), key=lambda name: aim.badness(known[name]))
    order += [name for name in names if name not in known]
    return Ranking(tuple(order), order[0] if good else "")


def _by_worth(names: Sequence[str], badness: Mapping[str, float]) -> list[str]:
    """The simplest of those that are as good as the best comes first; the others follow by their worth."""
    left, order = list(names), []
    while left:
        limit = min(badness[name] for name in left) * (1 + SAME)
        first = next(name for name in left if badness[name] <= limit)
        order.append(first)
        left.remove(first)
    return order
