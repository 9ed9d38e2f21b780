"""Balanced cuts against every way to cut a small model."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.cost.balance import NEAR_EQUAL, balanced_cuts, estimated_profile
from core.cost.messages import SEND_SECONDS
from core.cost.types import Profile
from core.errors import PlanError
from core.model.graph import Model
from tests.plan.models import chain, skipping

CHAIN = chain(5)


def profile(model: Model, seconds: list[float], batch: int = 2) -> Profile:
    return Profile(model.sha256, batch, 1, tuple(seconds), sum(seconds))


def slowest(model: Model, known: Profile, speeds: list[float], cuts: tuple[int, ...]) -> float:
    nbytes = {cut.position: cut.nbytes for cut in model.cuts(known.batch)} | {0: 0, len(known.layer_seconds): 0}
    bounds = (0, *cuts, len(known.layer_seconds))
    return max(
        (sum(known.layer_seconds[a:b]) + SEND_SECONDS * (nbytes[a] + nbytes[b])) / speed
        for (a, b), speed in zip(pairwise(bounds), speeds, strict=True)
    )


@settings(max_examples=60, deadline=None)
@given(
    seconds=st.lists(st.floats(1e-4, 1.0), min_size=10, max_size=10),
    speeds=st.lists(st.floats(0.1, 8.0), min_size=2, max_size=4),
)
def test_no_way_to_cut_is_clearly_better(seconds: list[float], speeds: list[float]) -> None:
    known = profile(CHAIN, seconds)
    chosen = slowest(CHAIN, known, speeds, balanced_cuts(known, CHAIN, speeds))
    best = min(slowest(CHAIN, known, speeds, cuts) for cuts in combinations(range(1, 10), len(speeds) - 1))
    assert chosen <= best * NEAR_EQUAL * (1 + 1e-9)


def test_a_node_twice_as_fast_gets_twice_the_work() -> None:
    assert balanced_cuts(profile(chain(6), [0.01] * 12), chain(6), [2.0, 1.0]) == (8,)


def test_among_near_equals_the_narrowest_is_taken() -> None:
    model = skipping()  # a cut in the middle sends two tensors, one behind the first product only one
    known = profile(model, [1.0, 0.001, 0.001, 0.001, 0.99, 0.001])
    (cut,) = balanced_cuts(known, model, [1.0, 1.0])
    widths = {entry.position: entry.nbytes for entry in model.cuts(2)}
    assert widths[cut] == min(widths[position] for position in (1, 2, 3, 4))


def test_where_one_layer_outweighs_all_others_the_rest_is_even() -> None:
    model = chain(6)
    cuts = balanced_cuts(profile(model, [*[0.01] * 11, 10.0]), model, [1.0, 1.0, 1.0])
    assert cuts in {(5, 11), (6, 11)}


def test_one_node_needs_no_cut() -> None:
    assert balanced_cuts(profile(CHAIN, [1.0] * 10), CHAIN, [1.0]) == ()


def test_too_many_nodes() -> None:
    with pytest.raises(PlanError, match="10 layers cannot be cut into 11 stages"):
        balanced_cuts(profile(CHAIN, [1.0] * 10), CHAIN, [1.0] * 11)


def test_a_profile_of_another_model() -> None:
    with pytest.raises(PlanError, match="another model"):
        balanced_cuts(profile(CHAIN, [1.0] * 9), CHAIN, [1.0, 1.0])


def test_a_first_guess_needs_no_measurement() -> None:
    guess = estimated_profile(CHAIN, 4)
    products = np.array(guess.layer_seconds)[0::2]
    assert len(guess.layer_seconds) == 10
    assert guess.total_seconds == pytest.approx(sum(guess.layer_seconds))
    assert (products > np.array(guess.layer_seconds)[1::2]).all()
