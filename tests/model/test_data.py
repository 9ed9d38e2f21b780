"""Random inputs a model can run on, and the check of those a person gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from core.errors import SourceError
from core.model.graph import Model
from tests.model.graphs import INT64, constant, mlp, opened, tensor, weight, write


@pytest.fixture(autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHARDBOARD_HOME", str(tmp_path_factory.mktemp("home")))


def language(folder: Path) -> Path:
    """ids pass Cast and Reshape on their way to a table of 7 rows, positions to one of 12; a mask multiplies."""
    nodes = [
        helper.make_node("Cast", ["input_ids"], ["i1"], to=INT64),
        helper.make_node("Unsqueeze", ["i1", "two"], ["i2"]),
        helper.make_node("Squeeze", ["i2", "two"], ["i3"]),
        helper.make_node("Gather", ["words", "i3"], ["w"]),
        helper.make_node("Gather", ["places", "position_ids"], ["p"]),
        helper.make_node("Add", ["w", "p"], ["h"]),
        helper.make_node("Cast", ["attention_mask"], ["m"], to=1),
        helper.make_node("Unsqueeze", ["m", "two"], ["m2"]),
        helper.make_node("Mul", ["h", "m2"], ["y"]),
    ]
    seen = [
        tensor("input_ids", ["n", "s"], TensorProto.INT32), tensor("position_ids", ["n", "s"], INT64),
        tensor("attention_mask", ["n", "s"], INT64),
    ]  # fmt: skip
    weights = [weight("words", 7, 8), weight("places", 12, 8), constant("two", [2])]
    return write(folder, nodes, seen, [tensor("y", ["n", "s", 8])], weights)


def test_ids_masks_and_positions(tmp_path: Path) -> None:
    feed = opened(language(tmp_path)).random_feed(40)
    assert feed["input_ids"].dtype == np.int32
    assert feed["input_ids"].min() == 0
    assert feed["input_ids"].max() == 6
    assert (feed["attention_mask"] == 1).all()
    np.testing.assert_array_equal(feed["position_ids"][0], [*range(12), 11, 11, 11, 11])


def test_the_same_seed_gives_the_same_feed(tmp_path: Path) -> None:
    model = opened(mlp(tmp_path))
    one, same, other = model.random_feed(3, 1), model.random_feed(3, 1), model.random_feed(3, 2)
    np.testing.assert_array_equal(one["x"], same["x"])
    assert not np.array_equal(one["x"], other["x"])
    assert one["x"].dtype == np.float32
    assert one["x"].shape == (3, 4)


def test_pixels(tmp_path: Path) -> None:
    node = helper.make_node("Cast", ["x"], ["y"], to=1)
    inputs = [tensor("x", ["n", 3, 8, 8], TensorProto.UINT8)]
    pixels = opened(write(tmp_path, [node], inputs, [tensor("y", ["n", 3, 8, 8])])).random_feed(4)["x"]
    assert pixels.dtype == np.uint8
    assert pixels.max() > 200
    assert pixels.min() < 50


def refusal(model: Model, feed: dict[str, np.ndarray]) -> str:
    with pytest.raises(SourceError) as caught:
        model.check_feed(feed)
    return str(caught.value)


def floats(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def test_check_counts_items(tmp_path: Path) -> None:
    model = opened(mlp(tmp_path))
    assert model.check_feed({"x": floats(9, 4)}) == 9


@pytest.mark.parametrize(
    ("feed", "words"),
    [
        ({}, "lacks 'x'"),
        ({"z": floats(2, 4)}, "lacks 'x'"),
        ({"x": floats(2, 4), "z": floats(2, 4)}, "no input 'z'"),
        ({"x": np.zeros((2, 4))}, "must be float32; the data is float64"),
        ({"x": floats(2, 5)}, "axis 1 is 5, should be 4"),
        ({"x": floats(4)}, "must have 2 dimensions (items x 4); the data has 1 (4)"),
        ({"x": floats(0, 4)}, "holds no items"),
    ],
)
def test_check_says_what_is_wrong(tmp_path: Path, feed: dict[str, np.ndarray], words: str) -> None:
    assert words in refusal(opened(mlp(tmp_path)), feed)


def test_check_compares_inputs(tmp_path: Path) -> None:
    model = opened(language(tmp_path))
    feed = model.random_feed(3)
    assert model.check_feed(feed) == 3
    short = {**feed, "attention_mask": feed["attention_mask"][:, :5]}
    assert "axis 1 is 5, should be 16 as in 'input_ids'" in refusal(model, short)
    fewer = {**feed, "attention_mask": feed["attention_mask"][:2]}
    assert "holds 2 items, 'input_ids' holds 3" in refusal(model, fewer)


def test_a_fixed_batch_takes_any_number_of_items(tmp_path: Path) -> None:
    model = opened(mlp(tmp_path, batch=2))
    assert model.fixed_batch == 2
    assert model.check_feed({"x": floats(6, 4)}) == 6
    assert model.random_feed(6)["x"].shape == (6, 4)


def test_without_a_batch_the_feed_is_one_item(tmp_path: Path) -> None:
    node = helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)
    model = opened(write(tmp_path, [node], [tensor("x", ["n", 4])], [tensor("y", [])]))
    assert model.check_feed({"x": floats(9, 4)}) == 1


def test_dims_of_a_feed(tmp_path: Path) -> None:
    model = opened(language(tmp_path))
    feed = model.random_feed(3, dims={"s": 5})
    assert model.dims_of(feed) == {"s": 5}
    assert model.shapes(3, model.dims_of(feed))["y"][0] == (3, 5, 8)
    assert model.dims_of({}) == {"s": 16}
