"""After a recalibration the plan that was run is predicted nearer to the run than before, or nothing is changed."""

from __future__ import annotations

from collections.abc import Mapping
from math import log

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from core.cost.dataflow import predict_outline
from core.cost.types import Prediction, Profile
from core.plan.form import NodeId
from core.plan.outline import Outline
from core.run.calibration import SAME
from core.run.observing import Observation
from core.run.recalibrating import Correction, correction
from tests.cost.outlines import joined, part
from tests.plan.models import chain, node_ids

MODEL = chain(2)
"""Four layers."""
KB: int = 1000

ALONE = joined(1, [part(0, 0, dict.fromkeys(range(4), 1.0))], [(-1, 0, 4 * KB), (0, -1, KB)], strategy="single")
LINE = joined(
    2,
    [part(0, 0, {0: 1, 1: 1}), part(1, 1, {2: 1, 3: 1}, stage=1)],
    [(-1, 0, 4 * KB), (0, 1, 90 * KB), (1, -1, KB)],
    strategy="pipeline",
)
GROUP = joined(
    2,
    [*(part(rank, rank, {0: 0.5, 1: 0.5}) for rank in range(2)), *(part(2 + r, r, {2: 0.5, 3: 0.5}) for r in range(2))],
    [(-1, 0, KB), (-1, 1, KB), *((a, 2 + b, 40 * KB) for a in range(2) for b in range(2)), (2, -1, KB), (3, -1, KB)],
)
PLANS = {"single": ALONE, "pipeline": LINE, "tensor": GROUP}


class World:
    """Nodes and messages as a plan is predicted with them, and as they are."""

    def __init__(self, outline: Outline, layer: float) -> None:
        self.outline = outline
        self.nodes = node_ids(len(outline.request.nodes))
        self.profile = Profile(MODEL.sha256, 1, 1, (layer,) * 4, 4 * layer)
        self.asked = 0

    def predict(self, speeds: Mapping[NodeId, float], factor: float) -> Prediction:
        self.asked += 1
        profile = replace(self.profile, messages=self.profile.messages.scaled(factor))
        return predict_outline(profile, self.outline, MODEL, speeds)

    def ran(self, told: Prediction, rate: float = 1.0) -> Correction:
        """What is made of a run that went as ``told`` says, at ``rate`` times its pace."""
        known = dict.fromkeys(self.nodes, 1.0)
        seen = {node.node: Observation(node.node, node.compute_s, 0.9, 0, 0, 0, 1.0, 3.0) for node in told.nodes}
        return correction(
            self.predict,
            self.predict(known, 1.0),
            seen,
            known,
            told.throughput * rate,
            told.loaded_latency_s / rate,
        )


def off(predicted: float, measured: float) -> float:
    return abs(log(predicted / measured))


@pytest.mark.parametrize("plan", PLANS)
def test_where_computing_is_all_only_speeds_are_corrected(plan: str) -> None:
    world = World(PLANS[plan], layer=0.02)
    found = world.ran(world.predict(dict.fromkeys(world.nodes, 0.6), 1.0))
    assert found.messages == pytest.approx(1.0, abs=0.5), "messages take a hundredth of the time"
    assert {change.node: change.after for change in found.changes} == pytest.approx(dict.fromkeys(world.nodes, 0.6))
    assert off(found.after, found.measured) < SAME < off(found.before, found.measured)


@pytest.mark.parametrize("plan", PLANS)
def test_where_messages_are_all_they_are_corrected(plan: str) -> None:
    """Layers of a microsecond: what runs take was foretold, and yet a micro-batch takes more than twice as long."""
    world = World(PLANS[plan], layer=1e-6)
    found = world.ran(world.predict(dict.fromkeys(world.nodes, 1.0), 2.5))
    assert found.changes == ()
    assert found.messages == pytest.approx(2.5, rel=0.1)
    assert off(found.after, found.measured) < SAME


def test_speeds_alone_would_make_it_worse() -> None:
    """Nodes compute faster than was foretold, and yet the run is slower, as with small models on shared cores."""
    world = World(LINE, layer=1e-4)
    truth = world.predict(dict.fromkeys(world.nodes, 1.6), 5.0)
    found = world.ran(truth)
    worse = world.predict({change.node: change.after for change in found.changes}, 1.0)
    assert off(worse.throughput, truth.throughput) > off(found.before, truth.throughput)
    assert off(found.after, truth.throughput) < SAME
    assert found.messages > 2


@given(
    plan=st.sampled_from(sorted(PLANS)),
    layer=st.floats(-6, -2).map(lambda power: 10**power),
    speeds=st.lists(st.floats(0.3, 3), min_size=2, max_size=2),
    messages=st.floats(0.3, 5),
    rate=st.sampled_from([1.0, 1.0, 0.7, 1.3, 0.1]),
)
@settings(max_examples=40, derandomize=True, deadline=None)
def test_what_is_corrected_comes_nearer(
    plan: str, layer: float, speeds: list[float], messages: float, rate: float
) -> None:
    """Whatever was measured: speeds and messages as they may be, and paces that neither of them explains."""
    world = World(PLANS[plan], layer)
    found = world.ran(world.predict(dict(zip(world.nodes, speeds, strict=False)), messages), rate)
    assert world.asked <= 30
    if found.empty:
        assert found.reason
        assert found.after == found.before
        return
    assert not found.reason
    known = dict.fromkeys(world.nodes, 1.0) | {change.node: change.after for change in found.changes}
    assert world.predict(known, found.messages).throughput == pytest.approx(found.after)
    assert off(found.after, found.measured) < max(SAME, off(found.before, found.measured))


def test_a_run_that_was_not_kept_busy_says_nothing() -> None:
    """A camera gave a third of what the nodes could have done; each micro-batch met idle nodes."""
    world = World(LINE, layer=0.01)
    known = dict.fromkeys(world.nodes, 1.0)
    told = world.predict(known, 1.0)
    seen = {node.node: Observation(node.node, node.compute_s / 2, 0.3, 0, 0, 0, 1.0, 3.0) for node in told.nodes}
    found = correction(world.predict, told, seen, known, told.throughput / 3, told.latency_s)
    assert (found.reason, found.empty) == ("idle", True)


def test_what_was_as_predicted_stays() -> None:
    world = World(GROUP, layer=0.01)
    assert world.ran(world.predict(dict.fromkeys(world.nodes, 1.0), 1.0)).reason == "same"


def test_what_nothing_in_the_profile_explains_stays() -> None:
    """Messages take next to nothing here, so no factor of theirs makes the plan three times as fast."""
    world = World(ALONE, layer=0.02)
    found = world.ran(world.predict(dict.fromkeys(world.nodes, 1.0), 1.0), rate=3.0)
    assert (found.reason, found.empty) == ("unexplained", True)
