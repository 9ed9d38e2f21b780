"""onnx's own light models: the graphs of well-known networks, whose weights are fills that the graph computes."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from core.model.reader import open_model
from tests.model.graphs import assert_same, run_file, run_graph

LIGHT = sorted((Path(onnx.__file__).parent / "backend" / "test" / "data" / "light").glob("light_*.onnx"))


@pytest.mark.parametrize("path", LIGHT, ids=lambda path: path.stem)
def test_light_models(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHARDBOARD_HOME", str(tmp_path))
    model = open_model(path)
    before = len(onnx.load(path).graph.node)
    layers = model.layers(1)
    assert len(layers) <= before
    assert all(layer.output_shape is not None for layer in layers)
    assert sum(layer.macs for layer in layers) > 100e6
    assert (model.fixed_batch, model.batchable) == (1, True)
    assert max(len(cut.tensors) for cut in model.cuts(1)) <= 4
    feed = model.random_feed(1)
    assert_same(run_graph(model, feed), run_file(path, feed))
