"""Shapes, dynamic dimensions, and what counts as the batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from core.errors import ModelError
from core.model import dims
from core.model.reader import open_model
from tests.model.graphs import INT64, constant, mlp, opened, run_graph, tensor, weight, write


@pytest.fixture(autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHARDBOARD_HOME", str(tmp_path_factory.mktemp("home")))


def add(folder: Path, one: list[int | str | None], other: list[int | str | None], out: list[int | str | None]) -> Path:
    node = helper.make_node("Add", ["a", "b"], ["y"])
    return write(folder, [node], [tensor("a", one), tensor("b", other)], [tensor("y", out)])


def test_shapes_at_a_batch(tmp_path: Path) -> None:
    model = opened(mlp(tmp_path))
    shapes = model.shapes(7)
    assert shapes["h"] == ((7, 8), "float32")
    assert shapes["w1"] == ((4, 8), "float32")
    assert shapes["y"] == ((7, 3), "float32")
    assert model.varying("h") == (None, 8)
    assert model.varying("w1") == (4, 8)


def test_stale_declared_shapes_are_ignored(tmp_path: Path) -> None:
    path = mlp(tmp_path, batch="n")
    proto = onnx.load(path)
    proto.graph.value_info.append(tensor("h", [1, 8]))
    proto.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 1
    path.write_bytes(proto.SerializeToString())
    model = open_model(path)
    assert model.shapes(5)["h"][0] == (5, 8)
    assert model.outputs[0].dims == ("n", 3)


@pytest.mark.parametrize(
    ("one", "other", "batchable", "fixed"),
    [
        (["n", 4], ["n", 4], True, None),
        (["s31", 4], ["s80", 4], True, None),
        (["s18", 4], ["s18 + s46", 4], True, None),
        (["", 4], ["", 4], True, None),
        ([2, 4], [2, 4], True, 2),
        ([2, 4], [1, 4], False, None),
        (["n", 4], [2, 4], False, None),
        (["n", "n"], ["n", "n"], False, None),
        (["sequence", 4], ["sequence", 4], False, None),
        (["n", 4], [], False, None),
    ],
)
def test_what_counts_as_the_batch(
    tmp_path: Path, one: list[int | str | None], other: list[int | str | None], batchable: bool, fixed: int | None
) -> None:
    blank = [[None if dim == "" else dim for dim in dims] for dims in (one, other)]
    model = open_model(add(tmp_path, blank[0], blank[1], [None] * max(len(one), len(other))))
    assert (model.batchable, model.fixed_batch) == (batchable, fixed)
    if batchable:
        assert run_graph(model, model.random_feed(2))["y"].shape == model.shapes(2)["y"][0]


def test_an_output_that_is_no_list_of_items(tmp_path: Path) -> None:
    node = helper.make_node("ReduceMean", ["x"], ["y"], keepdims=0)
    model = opened(write(tmp_path, [node], [tensor("x", ["n", 4])], [tensor("y", [])]))
    assert not model.batchable
    assert model.inputs[0].batched is False
    assert model.default_dims() == {"n": 16}


def test_a_recurrence_along_axis_0_is_no_batch(tmp_path: Path) -> None:
    """RNN's X is [time, batch, features]: its dynamic axis 0 counts steps."""
    node = helper.make_node("RNN", ["x", "w", "r"], ["y", ""], hidden_size=4)
    weights = [weight("w", 1, 4, 3), weight("r", 1, 4, 4)]
    model = opened(write(tmp_path, [node], [tensor("x", ["n", 2, 3])], [tensor("y", ["n", 1, 2, 4])], weights))
    assert not model.batchable


def test_a_scalar_input(tmp_path: Path) -> None:
    model = opened(add(tmp_path, ["n", 4], [], ["n", 4]))
    assert model.check_feed(model.random_feed(1)) == 1


def test_an_input_without_rank(tmp_path: Path) -> None:
    path = write(tmp_path, [helper.make_node("Relu", ["x"], ["y"])], [tensor("x", None)], [tensor("y", None)])
    with pytest.raises(ModelError, match="'x' has no shape"):
        open_model(path)


def test_no_inputs_at_all(tmp_path: Path) -> None:
    node = helper.make_node("RandomNormal", [], ["y"], shape=[2, 3])
    model = open_model(write(tmp_path, [node], [], [tensor("y", [2, 3])]))
    assert not model.batchable
    assert model.shapes(1)["y"][0] == (2, 3)


def test_other_dynamic_dims_have_defaults_and_can_be_set(tmp_path: Path) -> None:
    nodes = [helper.make_node("Gather", ["table", "ids"], ["h"])]
    path = write(
        tmp_path, nodes, [tensor("ids", ["batch", "sequence"], INT64)], [tensor("h", ["batch", "sequence", 8])],
        [weight("table", 30, 8)],
    )  # fmt: skip
    model = opened(path)
    assert model.default_dims() == {"sequence": 16}
    assert model.shapes(2)["h"][0] == (2, 16, 8)
    assert model.shapes(2, {"sequence": 5})["h"][0] == (2, 5, 8)
    assert model.layers(2, {"sequence": 5})[0].output_bytes == 2 * 5 * 8 * 4
    assert model.random_feed(3, dims={"sequence": 5})["ids"].shape == (3, 5)
    assert model.outputs[0].dims == ("batch", "sequence", 8)


def test_unnamed_dims_get_names(tmp_path: Path) -> None:
    path = write(
        tmp_path, [helper.make_node("Relu", ["x"], ["y"])], [tensor("x", [None, None])], [tensor("y", [None, None])]
    )
    model = opened(path)
    assert model.inputs[0].dims == ("x.0", "x.1")
    assert model.default_dims() == {"x.1": 16}


def test_what_inference_does_not_know_is_measured(tmp_path: Path) -> None:
    """An operator of onnxruntime's own: ONNX has no shape rule for it."""
    nodes = [
        helper.make_node("FusedMatMul", ["x", "w"], ["h"], domain="com.microsoft", transB=1),
        helper.make_node("Relu", ["h"], ["y"]),
    ]
    path = write(
        tmp_path, nodes, [tensor("x", ["n", 4])], [tensor("y", ["n", 6])], [weight("w", 6, 4)],
        domains={"com.microsoft": 1},
    )  # fmt: skip
    model = opened(path)
    assert model.shapes(5)["h"] == ((5, 6), "float32")
    assert model.varying("h") == (None, 6)
    assert model.batchable


def test_sizes_that_hang_on_the_data_vary(tmp_path: Path) -> None:
    nodes = [helper.make_node("NonZero", ["x"], ["where"]), helper.make_node("Relu", ["x"], ["y"])]
    outputs = [tensor("where", [2, None], INT64), tensor("y", ["n", 4])]
    model = opened(write(tmp_path, nodes, [tensor("x", ["n", 4])], outputs))
    assert model.varying("where") == (None, None)
    assert not model.batchable


def test_sizes_that_are_sent_as_values_vary(tmp_path: Path) -> None:
    """Lengths, or the size of the picture wanted: a part of the model must take whatever comes of them."""
    nodes = [
        helper.make_node("Add", ["size", "one"], ["more"]),
        helper.make_node("Tile", ["x", "more"], ["h"]),
        helper.make_node("Relu", ["h"], ["y"]),
        helper.make_node("Shape", ["x"], ["own"]),
        helper.make_node("Reshape", ["x", "own"], ["z"]),
    ]
    inputs = [tensor("x", [1, 4]), tensor("size", [2], INT64)]
    outputs = [tensor("y", [None, None]), tensor("z", [1, 4])]
    model = opened(write(tmp_path, nodes, inputs, outputs, [constant("one", [1, 1])]))
    assert model.varying("h") == model.varying("y") == (None, None)
    assert model.varying("z") == (1, 4)


@pytest.mark.parametrize(
    ("dim", "size"),
    [
        ("s18 + s46", 12),
        ("2*s18", 10),
        ("s46 - 1", 6),
        ("s46 // 2", 3),
        ("other", None),
        ("a b", None),
        (4, 4),
        (None, None),
    ],
)
def test_dimensions_that_are_expressions(dim: int | str | None, size: int | None) -> None:
    assert dims.evaluate(dim, {"s18": 5, "s46": 7}) == size


def test_names_with_odd_characters_are_names() -> None:
    assert dims.evaluate("batch-size?", {"batch-size?": 3}) == 3
    assert dims.symbols("past.0 len") == {"past.0 len"}


def test_images_have_room(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        [helper.make_node("Relu", ["x"], ["y"])],
        [tensor("x", ["n", 3, "h", "w"])],
        [tensor("y", ["n", 3, "h", "w"])],
    )
    assert open_model(path).default_dims() == {"h": 64, "w": 64}


def test_element_types(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Greater", ["f", "half"], ["y"]),
    ]
    inputs, outputs = [tensor("x", ["n", 4], TensorProto.UINT8)], [tensor("y", ["n", 4], TensorProto.BOOL)]
    model = opened(write(tmp_path, nodes, inputs, outputs, [constant("half", 0.5, np.float32)]))
    assert (model.inputs[0].dtype, model.outputs[0].dtype) == ("uint8", "bool")
    assert model.shapes(2)["f"] == ((2, 4), "float32")
    assert model.layers(2)[1].output_bytes == 8
