"""Real exports by PyTorch, cut in several places, against onnxruntime on the whole model."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from core.model.reader import open_model
from core.plan.compile import compile_plan, micro_batch_for
from core.plan.verify import verify_outputs
from tests.exports import NAMES, export, missing
from tests.plan.in_process import InProcessPlan
from tests.plan.models import request

pytestmark = [pytest.mark.exports, pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=missing())]


@pytest.mark.parametrize("name", NAMES)
def test_every_way_to_cut_an_export(name: str, exports_folder: Path) -> None:
    exported = export(name, exports_folder)
    model = open_model(exported.path)
    batch = micro_batch_for(model, 3)
    layers = len(model.layers(batch))
    expected = model.reference(threads=1)(exported.feed)
    chance = random.Random(name)
    asked = [request("single", 1, batch)]
    for wanted_stages in (2, 2, 3, 5):
        stages = min(wanted_stages, layers)
        anywhere = tuple(sorted(chance.sample(range(1, layers), stages - 1)))
        asked += [request("pipeline", stages, batch, cuts) for cuts in (None, anywhere)]
    for wanted in asked:
        compiled = compile_plan(model, wanted)
        results = InProcessPlan(compiled).infer(exported.feed)
        verdict = verify_outputs(expected, [results[info.name] for info in model.outputs])
        assert verdict.passed, (compiled.plan.request.cuts, verdict.reason)
