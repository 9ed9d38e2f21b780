"""Every strategy over real agents, on models as people have them, against onnxruntime on the whole model."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from core.model.graph import Model
from core.model.library import resolve_model
from core.model.reader import open_model
from core.plan.verify import verify_outputs
from core.run.runner import run_job
from core.run.sink import MemorySink
from core.run.source import FeedSource
from tests.exports import NAMES, export, missing
from tests.run.conftest import Bed

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
SPREADS = (("single", 1), ("replicate", 2), ("pipeline", 2), ("pipeline", 3))


def check(bed: Bed, model: Model, feed: dict[str, onnx.numpy_helper.np.ndarray]) -> None:
    expected = model.reference(threads=1)(feed)
    for strategy, nodes in SPREADS:
        if nodes > len(model.layers(1)):
            continue
        sink = MemorySink()
        with bed.deployed(model, strategy, nodes, micro_batch=2) as deployment:
            run_job(deployment, FeedSource(model, feed), sink)
        verdict = verify_outputs(expected, [sink.outputs[info.name] for info in model.outputs])
        assert verdict.passed, (strategy, nodes, verdict.reason)


@pytest.mark.parametrize("key", ["digits-cnn", "digits-mlp", "linear-regression", "logistic-regression", "rnn", "lstm"])
def test_bundled_models(three: Bed, key: str) -> None:
    model, _ = resolve_model(key)
    check(three, model, dict(model.random_feed(5)))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["light_resnet50", "light_densenet121", "light_inception_v2", "light_shufflenet"])
def test_onnx_light_models(three: Bed, name: str) -> None:
    model = open_model(LIGHT / f"{name}.onnx")
    check(three, model, dict(model.random_feed(1)))


@pytest.mark.exports
@pytest.mark.slow
@pytest.mark.skipif(bool(missing()), reason=missing())
@pytest.mark.parametrize("name", [name for name in NAMES if not name.endswith("-old")])
def test_exports(three: Bed, name: str, exports_folder: Path) -> None:
    exported = export(name, exports_folder)
    check(three, open_model(exported.path), exported.feed)
