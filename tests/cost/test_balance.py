"""Balanced cuts against every way to cut a small model."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.cost.balance import NEAR_EQUAL, balanced_cuts, estimated_profile
from core.cost.links import UNKNOWN, WORKSTATION, Link, Links
from core.cost.predict import predict
from core.cost.types import Profile
from core.errors import PlanError
from core.model.graph import Model
from core.plan.form import PlanRequest
from tests.plan.models import chain, node_ids, skipping

CHAIN = chain(5)


def profile(model: Model, seconds: list[float], batch: int = 2) -> Profile:
    return Profile(model.sha256, batch, 1, tuple(seconds), sum(seconds))


SLOW = [Link(), Link(1e-4, 125e6), Link(3e-4, 12.5e6), Link(2e-3, 1e6), Link(5e-4, 2e5)]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    model=st.sampled_from([CHAIN, skipping()]),
    seconds=st.lists(st.floats(1e-5, 1e-2), min_size=10, max_size=10),
    speeds=st.lists(st.floats(0.1, 8.0), min_size=2, max_size=4),
    found=st.lists(st.sampled_from(SLOW), min_size=10, max_size=10),
    plain=st.booleans(),
    batch=st.sampled_from([2, 8]),
)
def test_no_way_to_cut_is_better(
    model: Model, seconds: list[float], speeds: list[float], found: list[Link], plain: bool, batch: int
) -> None:
    """By the predictions, which play the messages on their lines; the profile's batch need not be the plan's."""
    known = profile(model, seconds[: len(model.layers(2))])
    nodes = node_ids(len(speeds))
    pairs = combinations((WORKSTATION, *nodes), 2)
    links = UNKNOWN if plain else Links(dict(zip(pairs, found, strict=False)))
    by_node = dict(zip(nodes, speeds, strict=True))

    def throughput(cuts: tuple[int, ...]) -> float:
        asked = PlanRequest("pipeline", nodes, batch, cuts)
        try:
            return predict(known, model, asked, by_node, links=links).throughput
        except PlanError:
            return 0.0  # a stage would have nothing to do

    chosen = balanced_cuts(known, model, speeds, nodes=nodes, links=links, batch=batch)
    every = combinations(range(1, len(known.layer_seconds)), len(speeds) - 1)
    assert throughput(chosen) >= max(map(throughput, every)) / NEAR_EQUAL * (1 - 1e-9)


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
