"""The latency of a run is predicted with as many micro-batches under way as the run has: real agents."""

from __future__ import annotations

import pytest

from core.cost.balance import estimated_profile
from core.cost.dataflow import predict_outline
from core.plan.compile import compile_plan
from core.run.credit import default_in_flight
from core.run.report import RunProgress
from core.run.runner import run_job
from core.run.sink import CallbackSink
from core.run.source import RandomSource
from tests.plan.models import chain
from tests.run.conftest import Bed

MODEL = chain(8, width=256)
BATCH = 128
"""Some milliseconds of products, against which messages are small."""


@pytest.mark.parametrize("asked", [None, 1, 9])
def test_what_is_under_way_is_what_was_predicted_to_be(three: Bed, asked: int | None) -> None:
    """Counted by the job itself, however fast or busy this machine is."""
    seen: list[RunProgress] = []
    with three.deployed(MODEL, "pipeline", 2, BATCH) as deployment:
        plan = deployment.plan
        outline = compile_plan(MODEL, plan.request).outline
        expected = default_in_flight(plan) if asked is None else asked
        told = predict_outline(estimated_profile(MODEL, BATCH), outline, MODEL, {}, in_flight=expected)
        source, sink = RandomSource(MODEL, 60 * BATCH), CallbackSink(lambda *_: None)
        run = run_job(deployment, source, sink, in_flight=asked, progress=seen.append)
    assert (run.in_flight, told.in_flight) == (expected, expected)
    assert told.throughput * told.loaded_latency_s / BATCH == pytest.approx(expected)
    assert {one.in_flight for one in seen if one.items_total - one.items_done >= expected * BATCH} == {expected}
    assert seen[-1].in_flight == 0
