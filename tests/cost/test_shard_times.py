"""Real shards of small models, timed with onnxruntime."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from core.cost import shard_times
from core.cost.dataflow import predict_outline
from core.cost.profile import profile_model
from core.cost.shard_times import time_shards
from core.errors import Cancelled
from core.model.graph import Model
from core.model.library import open_entry
from core.plan.compile import outline_plan
from core.plan.outline import Outline
from tests.plan.models import build, matrix, request, rows, to_model


@pytest.fixture(scope="module")
def model() -> Model:
    return open_entry("digits-cnn")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_times, "cache_dir", lambda: tmp_path)


def divided(model: Model, strategy: str, nodes: int = 2) -> Outline:
    return outline_plan(model, request(strategy, nodes, 4))


@pytest.mark.parametrize("strategy", ["single", "replicate", "pipeline", "tensor", "spatial"])
def test_every_shard_has_its_time(model: Model, strategy: str) -> None:
    outline = divided(model, strategy, 1 if strategy == "single" else 2)
    found = time_shards(model, outline)
    assert found.keys() == {part.id for part in outline.parts}
    assert all(0 < seconds < 0.1 for seconds in found.values())


def test_shards_that_reshape_to_sizes_from_another_shard_have_their_times() -> None:
    """The first shard reads batch and length off the input; after the exchange the next one reshapes by them too."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "turned"], ["sizes"]),
        helper.make_node("Concat", ["sizes", "heads"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["z"]),
        helper.make_node("MatMul", ["x", "w0"], ["a"]),
        helper.make_node("MatMul", ["a", "w1"], ["b"]),
        helper.make_node("Tanh", ["b"], ["c"]),
        helper.make_node("Reshape", ["c", "target"], ["y"]),
    ]
    numbers = {"turned": [1, 0], "heads": [4, 5]}
    constants = [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in numbers.items()]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", "length", 20])
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["length", "n", 4, 5]) for name in ("z", "y")]
    whole = to_model(build(nodes, [x], outputs, [matrix("w0"), matrix("w1", 1), *constants]))
    outline = outline_plan(whole, request("tensor", 2, 1))
    assert any(part.program.types[name].dtype == "int64" for part in outline.parts for name in part.program.inputs)
    assert time_shards(whole, outline).keys() == {part.id for part in outline.parts}


def test_a_shard_that_does_not_run_on_made_up_inputs_has_no_time() -> None:
    node = helper.make_node("Reshape", ["x", "target"], ["y"])
    inputs = [rows("x"), helper.make_tensor_value_info("target", TensorProto.INT64, [3])]
    whole = to_model(build([node], inputs, [rows("y")]))
    assert time_shards(whole, outline_plan(whole, request("single", 1, 1))) == {}


def test_what_was_timed_is_kept(model: Model) -> None:
    outline = divided(model, "tensor")
    assert time_shards(model, outline) == time_shards(model, divided(model, "tensor"))
    told: list[float] = []
    time_shards(model, outline, progress=told.append)
    assert told[-1] == 1


def test_replicas_that_are_alike_have_one_time(model: Model) -> None:
    outline = divided(model, "replicate", 3)
    assert len(set(time_shards(model, outline).values())) == 1


def test_a_damaged_file_is_measured_anew(model: Model, tmp_path: Path) -> None:
    outline = divided(model, "single", 1)
    time_shards(model, outline)
    (kept,) = (tmp_path / "shards").glob("*.json")
    kept.write_text("{")
    assert time_shards(model, outline)
    assert kept.read_text() != "{"


def test_it_can_be_stopped(model: Model) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Cancelled):
        time_shards(model, divided(model, "tensor"), cancel=stop)


def test_a_prediction_takes_them(model: Model) -> None:
    outline = divided(model, "tensor")
    profile = profile_model(model, 4)
    slow = dict.fromkeys((part.id for part in outline.parts), 0.01)
    found = predict_outline(profile, outline, model, {}, shard_seconds=slow)
    shards = [sum(part.node == node.node for part in outline.parts) for node in found.nodes]
    for node, count in zip(found.nodes, shards, strict=True):
        assert node.compute_s == pytest.approx(count * (0.01 + profile.messages.call_seconds(0.01)))
