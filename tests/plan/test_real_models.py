"""Models as people have them, cut in several places, against onnxruntime on the whole model."""

from __future__ import annotations

import random
from pathlib import Path

import onnx
import pytest

from core.model import reference
from core.model.graph import Model
from core.model.reader import open_model
from core.plan.compile import CompiledPlan, compile_plan, micro_batch_for
from core.plan.verify import Verification, verify_outputs
from tests.plan.in_process import InProcessPlan
from tests.plan.models import request

BUNDLED = sorted((Path(__file__).parents[2] / "resources" / "models").glob("*.onnx"))
LIGHT = sorted((Path(onnx.__file__).parent / "backend" / "test" / "data" / "light").glob("light_*.onnx"))


def plans(model: Model, stages: int) -> list[CompiledPlan]:
    """A pipeline with balanced cuts and one with cuts anywhere."""
    batch = micro_batch_for(model, 2)
    layers = len(model.layers(batch))
    stages = min(stages, layers)
    anywhere = tuple(sorted(random.Random(model.name).sample(range(1, layers), stages - 1)))
    return [compile_plan(model, request("pipeline", stages, batch, cuts)) for cuts in (None, anywhere)]


def compare(model: Model, compiled: list[CompiledPlan]) -> list[Verification]:
    feed = model.random_feed(compiled[0].plan.request.micro_batch)
    expected = model.reference(threads=1)(feed)
    verdicts = []
    for plan in compiled:
        results = InProcessPlan(plan).infer(feed)
        verdicts.append(verify_outputs(expected, [results[info.name] for info in model.outputs]))
    return verdicts


@pytest.mark.parametrize("path", BUNDLED, ids=lambda path: path.stem)
def test_bundled_models(path: Path) -> None:
    model = open_model(path)
    batch = micro_batch_for(model, 2)
    compiled = [compile_plan(model, request("single", 1, batch)), compile_plan(model, request("replicate", 2, batch))]
    if len(model.layers(batch)) > 1:
        compiled += plans(model, 3)
    assert all(verdict.passed for verdict in compare(model, compiled))


@pytest.mark.slow
@pytest.mark.parametrize("path", LIGHT, ids=lambda path: path.stem)
def test_onnx_light_models(path: Path) -> None:
    model = open_model(path)
    assert all(verdict.passed for verdict in compare(model, plans(model, 4)))


@pytest.mark.slow
@pytest.mark.parametrize("key", ["resnet50", "mobilenetv2", "bert-base", "gpt2"])
def test_reference_models(key: str, tmp_path: Path) -> None:
    model = open_model(reference.build(key, tmp_path / f"{key}.onnx"))
    assert all(verdict.passed for verdict in compare(model, plans(model, 4)))
