"""Which micro-batches auto takes, and what is said where none fit."""

from __future__ import annotations

from functools import partial

import pytest

from core.commands.chosen import best_that_fits
from core.commands.planning import Choice
from core.errors import DoesNotFitError, PlacementError


def refused(error: PlacementError, *, latency_bound_s: float | None) -> Choice:
    raise error


def test_of_those_that_do_not_fit_the_nearest_is_told() -> None:
    lacks = {8: 655, 4: 500, 2: 397, 1: 397}
    errors = {size: DoesNotFitError(f"{lack} short.", hint="So.", missed=(lack, 0.0)) for size, lack in lacks.items()}
    with pytest.raises(DoesNotFitError) as raised:
        best_that_fits({size: partial(refused, error) for size, error in errors.items()}, None)
    assert raised.value.message == "397 short. Micro-batches of 2 come nearest to the limits."
    assert raised.value.hint == "So."


def test_who_lacks_memory_is_further_from_it_than_who_is_late() -> None:
    full, late = DoesNotFitError("Full.", missed=(1, 0.0)), PlacementError("Late.", missed=(0, 5.0))
    with pytest.raises(PlacementError, match="Late"):
        best_that_fits({2: partial(refused, full), 1: partial(refused, late)}, 0.1)
    with pytest.raises(PlacementError, match=r"^Late\.$"):
        best_that_fits({2: partial(refused, late), 1: partial(refused, full)}, 0.1)
    with pytest.raises(PlacementError, match="No way"):
        best_that_fits({1: partial(refused, PlacementError("No way."))}, None)
