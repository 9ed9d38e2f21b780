"""Cleaning a graph: what goes, what stays, and that the results are the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from core.model.graph import Model
from core.model.reader import open_model
from tests.model.graphs import FLOAT, INT64, constant, mlp, opened, tensor, weight, write


@pytest.fixture(autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHARDBOARD_HOME", str(tmp_path_factory.mktemp("home")))


def operators(model: Model) -> list[str]:
    return [layer.op for layer in model.layers(2)]


def node(op: str, inputs: list[str], outputs: list[str], **attributes: object) -> onnx.NodeProto:
    return helper.make_node(op, inputs, outputs, **attributes)


def test_constant_nodes_become_initializers(tmp_path: Path) -> None:
    one = helper.make_node("Constant", [], ["one"], value_float=1.0)
    path = write(tmp_path, [one, node("Add", ["x", "one"], ["y"])], [tensor("x", ["n", 4])], [tensor("y", ["n", 4])])
    assert operators(opened(path)) == ["Add"]


def test_constant_arithmetic_is_worked_out(tmp_path: Path) -> None:
    nodes = [node("Mul", ["a", "b"], ["ab"]), node("Neg", ["ab"], ["c"]), node("Add", ["x", "c"], ["y"])]
    weights = [weight("a", 4), weight("b", 4, seed=1)]
    assert operators(opened(write(tmp_path, nodes, [tensor("x", ["n", 4])], [tensor("y", ["n", 4])], weights))) == [
        "Add"
    ]


def test_a_large_computed_weight_stays_computed(tmp_path: Path) -> None:
    """A fill of a megabyte is a few bytes in the file, and stays so."""
    nodes = [
        node("Relu", ["x"], ["r"]),
        node("ConstantOfShape", ["shape"], ["w"], value=helper.make_tensor("v", FLOAT, [1], [0.5])),
        node("MatMul", ["r", "w"], ["y"]),
    ]
    path = write(tmp_path, nodes, [tensor("x", ["n", 512])], [tensor("y", ["n", 512])], [constant("shape", [512, 512])])
    model = opened(path)
    assert operators(model) == ["Relu", "ConstantOfShape", "MatMul"]
    assert [cut.tensors for cut in model.cuts(2)] == [("r",), ("r",)]
    assert model.cuts(2)[1].recomputed == (1,)


def test_a_computed_weight_sinks_to_its_first_user(tmp_path: Path) -> None:
    fill = helper.make_tensor("v", FLOAT, [1], [0.01])
    nodes = [
        node("ConstantOfShape", ["shape"], ["w"], value=fill),
        node("Transpose", ["w"], ["t"]),
        node("Relu", ["x"], ["r"]),
        node("MatMul", ["r", "w"], ["m"]),
        node("MatMul", ["m", "t"], ["y"]),
    ]
    path = write(tmp_path, nodes, [tensor("x", ["n", 256])], [tensor("y", ["n", 256])], [constant("shape", [256, 256])])
    assert operators(opened(path)) == ["Relu", "ConstantOfShape", "MatMul", "Transpose", "MatMul"]


def test_quantized_weights_are_not_blown_up(tmp_path: Path) -> None:
    nodes = [node("DequantizeLinear", ["q", "s"], ["w"]), node("MatMul", ["x", "w"], ["y"])]
    weights = [constant("q", np.ones((4, 4)), np.int8), constant("s", 0.5, np.float32)]
    model = opened(write(tmp_path, nodes, [tensor("x", ["n", 4])], [tensor("y", ["n", 4])], weights))
    assert operators(model) == ["DequantizeLinear", "MatMul"]


def test_identity_dropout_and_needless_casts_go(tmp_path: Path) -> None:
    nodes = [
        node("Identity", ["x"], ["a"]),
        node("Dropout", ["a"], ["b"]),
        node("Cast", ["b"], ["c"], to=FLOAT),
        node("Concat", ["c"], ["d"], axis=0),
        node("Relu", ["d"], ["e"]),
        node("Identity", ["e"], ["y"]),
    ]
    model = opened(write(tmp_path, nodes, [tensor("x", ["n", 4])], [tensor("y", ["n", 4])]))
    assert operators(model) == ["Relu"]
    assert model.outputs[0].name == "y"


def test_identities_that_carry_names_stay(tmp_path: Path) -> None:
    """An input that is an output, one value under two output names, a weight as an output."""
    nodes = [
        node("Identity", ["x"], ["same"]),
        node("Relu", ["x"], ["r"]),
        node("Identity", ["r"], ["one"]),
        node("Identity", ["r"], ["two"]),
        node("Add", ["x", "w"], ["z"]),
        node("Identity", ["w"], ["held"]),
    ]
    outputs = [tensor(name, ["n", 4]) for name in ("same", "one", "two", "z")]
    path = write(tmp_path, nodes, [tensor("x", ["n", 4])], [*outputs, tensor("held", [4])], [weight("w", 4)])
    assert [o.name for o in opened(path).outputs] == ["same", "one", "two", "z", "held"]


def test_training_dropout_stays(tmp_path: Path) -> None:
    nodes = [node("Dropout", ["x", "ratio", "train"], ["y"])]
    weights = [constant("ratio", 0.0, np.float32), constant("train", True, np.bool_)]
    path = write(tmp_path, nodes, [tensor("x", ["n", 4])], [tensor("y", ["n", 4])], weights)
    assert operators(opened(path)) == ["Dropout"]


def test_unused_nodes_and_weights_go(tmp_path: Path) -> None:
    nodes = [node("Relu", ["x"], ["y"]), node("MatMul", ["x", "w"], ["dead"]), node("Relu", ["dead"], ["deader"])]
    path = write(tmp_path, nodes, [tensor("x", ["n", 4])], [tensor("y", ["n", 4])], [weight("w", 4, 4)])
    model = opened(path)
    assert operators(model) == ["Relu"]
    assert not model.ir.graph.initializers


def test_an_unused_input_stays_an_input(tmp_path: Path) -> None:
    inputs = [tensor("x", ["n", 4]), tensor("ignored", ["n", 2])]
    model = opened(write(tmp_path, [node("Relu", ["x"], ["y"])], inputs, [tensor("y", ["n", 4])]))
    assert [info.name for info in model.inputs] == ["x", "ignored"]


def test_initializers_that_are_listed_as_inputs(tmp_path: Path) -> None:
    """As IR version 3 wants it."""
    inputs = [tensor("x", [1, 4]), tensor("w", [4, 3])]
    nodes = [node("MatMul", ["x", "w"], ["y"])]
    path = write(tmp_path, nodes, inputs, [tensor("y", [1, 3])], [weight("w", 4, 3)], opset=7, ir_version=3)
    model = opened(path)
    assert [info.name for info in model.inputs] == ["x"]
    assert (model.fixed_batch, model.opset) == (1, 7)


def test_functions_are_inlined(tmp_path: Path) -> None:
    twice = helper.make_function(
        "own", "Twice", ["a"], ["b"], [node("Add", ["a", "a"], ["t"]), node("Relu", ["t"], ["b"])],
        [helper.make_opsetid("", 17)],
    )  # fmt: skip
    nodes = [node("Twice", ["x"], ["m"], domain="own"), node("Twice", ["m"], ["y"], domain="own")]
    path = write(
        tmp_path, nodes, [tensor("x", ["n", 4])], [tensor("y", ["n", 4])], domains={"own": 1}, functions=[twice]
    )
    model = opened(path)
    assert operators(model) == ["Add", "Relu", "Add", "Relu"]


def test_names_are_unique_and_order_is_kept(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="same"),
        helper.make_node("Neg", ["a"], ["b"], name="same"),
        helper.make_node("Abs", ["b"], ["y"]),
    ]
    model = open_model(write(tmp_path, nodes, [tensor("x", ["n", 4])], [tensor("y", ["n", 4])]))
    feed = model.random_feed(2)
    np.testing.assert_allclose(model.reference(1)(feed)[0], np.maximum(feed["x"], 0))  # onnxruntime refuses the file
    names = [layer.name for layer in model.layers(1)]
    assert operators(model) == ["Relu", "Neg", "Abs"]
    assert names[:2] == ["same", "same_2"]
    assert len(set(names)) == 3
    assert all(names)


def attention_reshapes() -> list[onnx.NodeProto]:
    """View as exporters write it: the target comes from the shape of the tensor itself."""
    return [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "zero"], ["b"]),
        node("Unsqueeze", ["b", "axis"], ["b1"]),
        node("Concat", ["b1", "rest"], ["target"], axis=0),
        node("Reshape", ["x", "target"], ["h"]),
        node("Transpose", ["h"], ["t"], perm=[0, 2, 1, 3]),
        node("Reshape", ["t", "target2"], ["f"]),
        node("Relu", ["f"], ["y"]),
    ]


@pytest.mark.parametrize("batch", ["n", 2])
def test_reshape_targets_with_a_dynamic_batch(tmp_path: Path, batch: str | int) -> None:
    constants = [constant("zero", 0), constant("axis", [0]), constant("rest", [6, 2, 4]), constant("target2", [0, 48])]
    path = write(tmp_path, attention_reshapes(), [tensor("x", [batch, 6, 8])], [tensor("y", [batch, 48])], constants)
    assert operators(opened(path)) == ["Reshape", "Transpose", "Reshape", "Relu"]


def test_reshape_target_with_two_dynamic_dims_reads_the_input(tmp_path: Path) -> None:
    """x [n, s, 8] -> [n, s, 2, 4]: both open elements are dims of the tensor itself."""
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Slice", ["s", "from", "to"], ["ns"]),
        node("Concat", ["ns", "rest"], ["target"], axis=0),
        node("Reshape", ["x", "target"], ["y"]),
    ]
    constants = [constant("from", [0]), constant("to", [2]), constant("rest", [2, 4])]
    path = write(tmp_path, nodes, [tensor("x", ["n", "s", 8])], [tensor("y", ["n", "s", 2, 4])], constants)
    model = opened(path)
    assert operators(model) == ["Reshape"]
    assert model.outputs[0].dims == ("n", "s", 2, 4)


def test_expand_to_the_batch(tmp_path: Path) -> None:
    """A class token repeated for every item: the batch must still come from the input."""
    nodes = [
        node("Shape", ["x"], ["s"], start=0, end=1),
        node("Concat", ["s", "rest"], ["target"], axis=0),
        node("Expand", ["token", "target"], ["t"]),
        node("Concat", ["t", "x"], ["y"], axis=1),
    ]
    path = write(
        tmp_path, nodes, [tensor("x", ["n", 5, 8])], [tensor("y", ["n", 6, 8])],
        [weight("token", 1, 1, 8), constant("rest", [1, 8])],
    )  # fmt: skip
    opened(path)


def test_division_of_dims_rounds_as_onnx_does(tmp_path: Path) -> None:
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "one"], ["width"]),
        node("Div", ["width", "two"], ["half"]),
        node("Unsqueeze", ["half", "axis"], ["end"]),
        node("Slice", ["x", "start", "end", "one1"], ["y"]),
    ]
    constants = [
        constant("one", 1),
        constant("two", 2),
        constant("axis", [0]),
        constant("start", [0]),
        constant("one1", [1]),
    ]
    model = opened(write(tmp_path, nodes, [tensor("x", ["n", 7])], [tensor("y", ["n", 3])], constants))
    assert operators(model) == ["Slice"]


def test_dims_of_activations_are_read_from_integer_inputs(tmp_path: Path) -> None:
    """The shape of a hidden state is that of the ids it came from: nothing must cross a cut for it."""
    nodes = [
        node("Gather", ["table", "ids"], ["h"]),
        node("Relu", ["h"], ["r"]),
        node("Shape", ["r"], ["s"]),
        node("Gather", ["s", "one"], ["length"]),
        node("Range", ["zero", "length", "one"], ["line"]),
        node("Gather", ["positions", "line"], ["p"]),
        node("Add", ["r", "p"], ["y"]),
    ]
    constants = [
        weight("table", 5000, 8),
        weight("positions", 5000, 8, seed=1),
        constant("one", 1),
        constant("zero", 0),
    ]
    path = write(tmp_path, nodes, [tensor("ids", ["n", "s"], INT64)], [tensor("y", ["n", "s", 8])], constants)
    model = opened(path)
    last = model.cuts(2)[-1]
    assert set(last.tensors) <= {"r", "p"}


def test_if_branches_keep_their_captures(tmp_path: Path) -> None:
    then = helper.make_graph([node("MatMul", ["r", "w"], ["t"])], "then", [], [tensor("t", ["n", 4])])
    other = helper.make_graph(
        [node("Identity", ["r"], ["u"]), helper.make_node("Add", ["u", "c"], ["e"])],
        "else", [], [tensor("e", ["n", 4])], [constant("c", [1, 2, 3, 4], np.float32)],
    )  # fmt: skip
    nodes = [
        node("Relu", ["x"], ["r"]),
        node("ReduceMax", ["r"], ["m"], keepdims=0),
        node("Greater", ["m", "limit"], ["big"]),
        node("If", ["big"], ["y"], then_branch=then, else_branch=other),
    ]
    weights = [weight("w", 4, 4), constant("limit", 0.5, np.float32)]
    model = opened(write(tmp_path, nodes, [tensor("x", ["n", 4])], [tensor("y", ["n", 4])], weights))
    assert operators(model)[-1] == "If"
    assert set(model.cuts(3)[2].tensors) == {"r", "big"}
    assert model.layers(3)[-1].parameters == 16 + 4


def test_half_precision(tmp_path: Path) -> None:
    values = np.ones((4, 4), np.float16)
    path = write(
        tmp_path, [node("MatMul", ["x", "w"], ["y"])], [tensor("x", ["n", 4], TensorProto.FLOAT16)],
        [tensor("y", ["n", 4], TensorProto.FLOAT16)], [constant("w", values, np.float16)],
    )  # fmt: skip
    assert opened(path).inputs[0].dtype == "float16"


def test_opening_twice_gives_the_same_graph(tmp_path: Path) -> None:
    path = mlp(tmp_path)
    assert [n.name for n in opened(path).ir.graph] == [n.name for n in opened(path).ir.graph]
