"""What can be told of a pipeline at once is never worse than what is predicted of it."""

from __future__ import annotations

from itertools import combinations
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.cost.joint import Joint
from core.cost.links import UNKNOWN, WORKSTATION, Link, Links
from core.cost.loads import setting_of
from core.cost.orders import Member
from core.cost.predict import predict
from core.cost.stages import stages_of
from core.cost.types import Machine, Profile
from core.errors import PlanError
from core.model.graph import Model
from core.plan.form import PlanRequest
from tests.plan.models import chain, node_ids, skipping

NODES = node_ids(4)
LINKS = [Link(), Link(1e-4, 125e6), Link(3e-4, 12.5e6), Link(2e-3, 1e6)]


@given(
    st.sampled_from([chain(4), skipping()]),
    st.lists(st.floats(1e-5, 3e-3), min_size=8, max_size=8),
    st.lists(st.sampled_from([0.2, 0.5, 1.0, 1.7]), min_size=4, max_size=4),
    st.lists(st.sampled_from(LINKS), min_size=10, max_size=10),
    st.booleans(),
    st.sampled_from([None, 1, 2]),
    st.permutations(NODES),
)
@settings(max_examples=25, derandomize=True, deadline=None)
def test_no_prediction_is_better(
    model: Model, seconds: list[float], speeds: list[float], links: list[Link], plain: bool, cores: int | None,
    order: list[str],
) -> None:  # fmt: skip
    taken = tuple(seconds[: len(model.layers(2))])
    profile = Profile(model.sha256, 2, 1, taken, sum(taken), base_bytes=1 << 20)
    known = UNKNOWN if plain else Links(dict(zip(combinations((WORKSTATION, *NODES), 2), links, strict=True)))
    machines = {node: Machine("lab", cores) for node in NODES[:2]} if cores is not None else {}
    by_node = dict(zip(NODES, speeds, strict=True))
    for size, replicas in ((2, 1), (3, 1), (2, 2)):
        nodes = tuple(order[: size * replicas])
        text = "pipeline" if replicas == 1 else f"replicate({replicas}) > pipeline({size})"
        setting = setting_of(profile, model, PlanRequest(text, nodes, 2), by_node, machines, known)
        stages = stages_of(setting.known, setting.layer_seconds, 500, setting.messages)
        joint = Joint(stages, setting.ways, setting.messages)
        row = [Member(node, setting.costs[node], inf) for node in nodes]
        rows = [row[first : first + size] for first in range(0, len(row), size)]
        for places in combinations(range(1, len(stages.positions) - 1), size - 1):
            cuts = tuple(int(stages.positions[place]) for place in places)
            try:
                told = predict(profile, model, PlanRequest(text, nodes, 2, cuts), by_node, machines, known)
            except PlanError:
                continue  # a stage would have nothing to do
            least = joint.least(rows, places)
            played = 1.05 if machines else 1 + 1e-9  # a rate that is counted over a while
            assert told.throughput <= 2 * least.rate * played
            assert told.latency_s >= least.latency_s * (1 - 1e-9)
            assert max(node.memory_bytes for node in told.nodes) >= least.memory


def test_a_bound_that_is_reached() -> None:
    """Nothing is counted but the slowest stage, which is all that counts."""
    model, nodes = chain(4), NODES[:2]
    profile = Profile(model.sha256, 2, 1, (0.01,) * 8, 0.08)
    setting = setting_of(profile, model, PlanRequest("pipeline", nodes, 2), {}, {})
    stages = stages_of(setting.known, setting.layer_seconds, 500, setting.messages)
    joint = Joint(stages, setting.ways, setting.messages)
    place = [int(position) for position in stages.positions].index(4)
    least = joint.least([[Member(node, setting.costs[node], inf) for node in nodes]], (place,))
    told = predict(profile, model, PlanRequest("pipeline", nodes, 2, (4,)), {})
    assert told.throughput == pytest.approx(2 * least.rate)
