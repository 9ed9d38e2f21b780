"""The tables of all stages against what the chain counts for single ones."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from core.cost.chain import chain as played
from core.cost.loads import setting_of
from core.cost.nodes import NodeCost
from core.cost.predict import balanced_cuts
from core.cost.stages import stages_of
from core.cost.tables import tables
from core.cost.types import Profile
from core.model.graph import Model
from core.model.library import open_entry
from tests.plan.models import chain, request, skipping


def even(model: Model) -> Profile:
    count = len(model.layers(2))
    return Profile(model.sha256, 2, 1, tuple(0.001 * (1 + i % 3) for i in range(count)), 1.0, base_bytes=1)


@pytest.mark.parametrize("model", [chain(4), skipping(), open_entry("digits-cnn"), open_entry("lstm")])
def test_stages_are_those_of_the_chain(model: Model) -> None:
    """Two stages at every cut: then nothing is read by several later stages."""
    profile, known = even(model), tables(model, 2)
    found = stages_of(known, profile.layer_seconds, 500)
    ends = [int(position) for position in found.positions]
    for index, cut in list(enumerate(ends))[1:-1]:
        asked = request("pipeline", 2, cuts=(cut,))
        setting = setting_of(profile, model, asked, {}, {})
        for load, stage in zip(played(setting, asked.nodes, (cut,)).loads, ((0, index), (index, -1)), strict=True):
            assert load.compute_s == pytest.approx(found.seconds[stage])
            assert load.handling_s == pytest.approx(found.handling[stage])
            assert load.sent_bytes == found.sent[stage] + found.results[stage]
            held = load.weight_bytes + load.activation_bytes
            assert held == pytest.approx(found.memory[stage], rel=0.01)
            cycle = NodeCost(1.0).cycle_seconds(load.compute_s, load.handling_s)
            assert cycle == pytest.approx(found.cycle_seconds(NodeCost(1.0))[stage])


def test_what_a_middle_stage_receives() -> None:
    model = skipping()
    found, known = stages_of(tables(model, 2), even(model).layer_seconds, 500), tables(model, 2)
    assert list(found.positions) == list(range(7))
    for first, last in combinations(range(1, 6), 2):
        traffic = known.traffic((0, first, last, 6))
        assert found.received[first, last] == traffic.get((0, 1), 0)
        assert found.given[first, last] == traffic.get((-1, 1), 0)
        assert found.results[first, last] == traffic.get((1, -1), 0)
        assert found.sent[first, last] == traffic.get((1, 2), 0)


def test_long_models_have_fewer_positions() -> None:
    model = chain(100, width=8)
    found = stages_of(tables(model, 2), even(model).layer_seconds, 20)
    assert len(found.positions) == 22
    assert np.isfinite(found.memory).all()
    assert len(balanced_cuts(even(model), model, [1.0, 2.0])) == 1
