"""Parts of the work that a person gives the nodes: read as per cent, checked group by group, used as fractions."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Final

from core.errors import PlanError
from core.plan.strategy_text import Levels, format_strategy

WHOLE: Final = 100.0
ROUNDED: Final = 0.11
"""Per cent that rounded figures may miss: 33.3 three times is meant as a whole."""


def parse_shares(text: str) -> tuple[float, ...]:
    """Per cent in "60,40" or "60%, 40%". Raises PlanError for what is no share; sums are checked by ``fractions``."""
    return tuple(_share(part, text) for part in text.split(","))


def _share(part: str, text: str) -> float:
    try:
        share = float(part.strip().removesuffix("%"))
    except ValueError:
        words = f"'{part.strip()}' in '{text}' is not a number" if part.strip() else f"A share is missing in '{text}'"
        raise PlanError(f"{words}.", hint="Give one number for each node, in per cent: 60,40.") from None
    if not isfinite(share) or share <= 0:
        raise PlanError(f"A share is more than 0 per cent, not {part.strip()}.", hint="Leave out a node without work.")
    return share


def fractions(shares: Sequence[float], levels: Levels, names: Sequence[str] = ()) -> tuple[float, ...]:
    """Of 1 for each group, from per cent in the order of the nodes. Raises PlanError where they do not fit ``levels``.

    ``names``: of the nodes, for the words.
    """
    if len(shares) != levels.count:
        raise PlanError(
            f"{format_strategy(Levels(levels.levels))} runs on {levels.count} node{'s' if levels.count != 1 else ''}; "
            f"{_count(len(shares), 'share')} given.",
            hint="Give one for each node, in their order.",
        )
    found: list[float] = []
    for first in range(0, levels.count, levels.group):
        group = shares[first : first + levels.group]
        total = sum(group)
        if abs(total - WHOLE) > ROUNDED:
            of = f" of {_listed(names[first : first + levels.group])}" if levels.count > levels.group and names else ""
            each = " in each group" if levels.count > levels.group else ""
            hint = f"Shares are per cent{each}" + (", not fractions." if abs(total - 1.0) < 0.01 else ".")
            raise PlanError(f"The shares{of} add up to {total:g}, not 100.", hint=hint)
        found += [share / total for share in group]
    return tuple(found)


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)


def _count(number: int, noun: str) -> str:
    return f"1 {noun} is" if number == 1 else f"{number} {noun}s are"
