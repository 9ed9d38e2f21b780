"""What PyTorch's two exporters write is opened, folded and cut, and still computes the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.model.graph import Model
from core.model.reader import open_model
from tests.exports import NAMES, Export, export, missing
from tests.model.graphs import assert_same, run_file, run_graph, run_in_two

pytestmark = [pytest.mark.exports, pytest.mark.skipif(bool(missing()), reason=missing())]


@pytest.fixture(params=NAMES)
def exported(request: pytest.FixtureRequest, exports_folder: Path) -> Export:
    return export(request.param, exports_folder)


@pytest.fixture
def model(exported: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    monkeypatch.setenv("SHARDBOARD_HOME", str(tmp_path))
    return open_model(exported.path)


def test_export(exported: Export, model: Model) -> None:
    wanted = run_file(exported.path, exported.feed)
    assert_same(run_graph(model, exported.feed), wanted)
    random = model.random_feed(5, seed=3)
    model.check_feed(random)
    assert_same(run_graph(model, random), run_file(exported.path, random))
    stateful = exported.name.startswith("lstm-state")
    assert model.batchable is not stateful
    assert model.check_feed(exported.feed) == (1 if stateful else 3)
    layers = model.layers(3)
    assert all(layer.output_shape is not None for layer in layers)
    assert len({layer.group for layer in layers}) > (1 if not stateful else 0)
    cuts = model.cuts(3)
    assert len(cuts) == len(layers) - 1
    for position in np.linspace(1, len(layers) - 1, 6).astype(int):
        assert_same(run_in_two(model, int(position), exported.feed), wanted)


def test_few_values_cross_in_the_middle(model: Model) -> None:
    """Between two blocks the hidden state travels, skip connections and a few numbers: no masks, no shared targets."""
    cuts = model.cuts(3)
    middle = cuts[len(cuts) // 3 : 2 * len(cuts) // 3]
    best = min(middle, key=lambda cut: cut.nbytes)
    large = [name for name in best.tensors if model.shapes(3)[name][1].startswith("float")]
    assert len(large) <= 3
    assert len(best.tensors) <= 5
