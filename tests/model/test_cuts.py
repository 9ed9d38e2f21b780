"""Cuts: what crosses is what the second side needs, no less and no more."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import NodeProto, helper

from core.model.reader import open_model
from tests.model.graphs import (
    FLOAT,
    INT64,
    assert_same,
    constant,
    mlp,
    opened,
    run_file,
    run_in_two,
    tensor,
    weight,
    write,
)


@pytest.fixture(autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHARDBOARD_HOME", str(tmp_path_factory.mktemp("home")))


def test_a_chain(tmp_path: Path) -> None:
    model = opened(mlp(tmp_path))
    cuts = model.cuts(5)
    assert [(cut.position, cut.tensors, cut.nbytes) for cut in cuts] == [
        (1, ("h",), 5 * 8 * 4),
        (2, ("r",), 5 * 8 * 4),
        (3, ("m",), 5 * 3 * 4),
    ]
    assert model.cuts(5) is cuts


def test_a_skip_connection(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Neg", ["a"], ["b"]),
        helper.make_node("Exp", ["b"], ["c"]),
        helper.make_node("Add", ["a", "c"], ["y"]),
    ]
    model = opened(write(tmp_path, nodes, [tensor("x", ["n", 4])], [tensor("y", ["n", 4])]))
    assert [cut.tensors for cut in model.cuts(1)] == [("a",), ("a", "b"), ("a", "c")]


def test_an_output_that_nobody_uses_later_does_not_cross(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["early"]), helper.make_node("Neg", ["x"], ["late"])]
    model = opened(
        write(tmp_path, nodes, [tensor("x", ["n", 4])], [tensor("early", ["n", 4]), tensor("late", ["n", 4])])
    )
    assert model.cuts(1)[0].tensors == ()


def masked(folder: Path) -> Path:
    """Hidden states from a big table, and a float mask made of an integer input, used at the very end."""
    nodes = [
        helper.make_node("Cast", ["mask"], ["m1"], to=FLOAT),
        helper.make_node("Sub", ["one", "m1"], ["m2"]),
        helper.make_node("Mul", ["m2", "low"], ["m3"]),
        helper.make_node("Unsqueeze", ["m3", "axis"], ["m4"]),
        helper.make_node("Gather", ["table", "ids"], ["h"]),
        helper.make_node("Add", ["h", "m4"], ["a"]),
        helper.make_node("MatMul", ["a", "w"], ["b"]),
        helper.make_node("Add", ["b", "m4"], ["y"]),
    ]
    weights = [
        weight("table", 4000, 16), weight("w", 16, 16), constant("axis", [2]),
        constant("one", 1, np.float32), constant("low", -100, np.float32),
    ]  # fmt: skip
    ids = [tensor("ids", ["n", "s"], INT64), tensor("mask", ["n", "s"], INT64)]
    return write(folder, nodes, ids, [tensor("y", ["n", "s", 16])], weights)


def test_a_mask_is_made_on_both_sides(tmp_path: Path) -> None:
    model = opened(masked(tmp_path))
    after_matmul = model.cuts(2)[6]
    assert after_matmul.tensors == ("b",)
    assert after_matmul.recomputed == (0, 1, 2, 3)
    feed = model.random_feed(3)
    for position in range(1, 8):
        assert_same(run_in_two(model, position, feed), run_file(tmp_path / "model.onnx", feed))


def test_before_the_first_real_layer_something_crosses(tmp_path: Path) -> None:
    """Else the first side would have nothing to do."""
    model = opened(masked(tmp_path))
    assert [cut.tensors for cut in model.cuts(2)[:4]] == [("m1",), ("m2",), ("m3",), ("m4",)]


def test_large_tables_are_not_made_again(tmp_path: Path) -> None:
    model = opened(masked(tmp_path))
    assert model.cuts(2)[4].tensors == ("h",)


def test_a_mask_of_the_length_of_a_float_input_is_made_of_one_number(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "one"], ["length"]),
        helper.make_node("Range", ["zero", "length", "one"], ["line"]),
        helper.make_node("Cast", ["line"], ["scale"], to=FLOAT),
        helper.make_node("Unsqueeze", ["scale", "axis"], ["wide"]),
        helper.make_node("Tile", ["wide", "times"], ["bias"]),
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Add", ["h", "bias"], ["y"]),
    ]
    weights = [
        weight("w", 32, 32),
        constant("one", 1),
        constant("zero", 0),
        constant("axis", [1]),
        constant("times", [1, 32]),
    ]
    path = write(tmp_path, nodes, [tensor("x", ["n", "s", 32])], [tensor("y", ["n", "s", 32])], weights)
    model = opened(path)
    last = model.cuts(2)[-1]
    assert last.tensors == ("h", "length")
    feed = model.random_feed(3)
    for position in range(1, len(model.layers(3))):
        assert_same(run_in_two(model, position, feed), run_file(path, feed))


def test_sequences_never_cross(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("SplitToSequence", ["r", "size"], ["parts"], axis=1),
        helper.make_node("SequenceAt", ["parts", "zero"], ["a"]),
        helper.make_node("SequenceAt", ["parts", "one"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["y"]),
    ]
    path = write(
        tmp_path, nodes, [tensor("x", ["n", 8])], [tensor("y", ["n", 4])],
        [constant("size", 4), constant("zero", 0), constant("one", 1)],
    )  # fmt: skip
    model = opened(path)
    assert [cut.tensors for cut in model.cuts(3)] == [("r",), ("r",), ("r", "a"), ("a", "b")]
    feed = model.random_feed(3)
    for position in range(1, 5):
        assert_same(run_in_two(model, position, feed), run_file(path, feed))


UNARY = ("Relu", "Neg", "Tanh", "Sigmoid", "Abs")
BINARY = ("Add", "Mul", "Sub", "Max")


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[NodeProto], list[str]]:
    """A random graph over two inputs of one shape: its nodes, and which values are outputs."""
    count = draw(st.integers(2, 9))
    values, nodes = ["x", "z"], []
    for index in range(count):
        name = f"v{index}"
        pick = st.sampled_from(values)
        kind = draw(st.integers(0, 2))
        if kind == 0:
            nodes.append(helper.make_node(draw(st.sampled_from(UNARY)), [draw(pick)], [name]))
        elif kind == 1:
            nodes.append(helper.make_node(draw(st.sampled_from(BINARY)), [draw(pick), draw(pick)], [name]))
        else:
            nodes.append(helper.make_node("MatMul", [draw(pick), "w"], [name]))
        values.append(name)
    outputs = draw(st.lists(st.sampled_from(values[2:]), unique=True, max_size=2))
    return nodes, sorted({*outputs, values[-1]})


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(graph=graphs(), seed=st.integers(0, 9))
def test_random_graphs_cut_anywhere(
    graph: tuple[list[NodeProto], list[str]], seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    nodes, names = graph
    folder = tmp_path_factory.mktemp("random")
    inputs = [tensor("x", ["n", 4]), tensor("z", ["n", 4])]
    path = write(folder, nodes, inputs, [tensor(name, ["n", 4]) for name in names], [weight("w", 4, 4)])
    model = open_model(path)
    feed = model.random_feed(3, seed=seed)
    wanted = run_file(path, feed)
    layers = model.layers(3)
    for position in range(1, len(layers)):
        assert_same(run_in_two(model, position, feed), wanted)
        cut = model.cuts(3)[position - 1]
        before = {name for layer in layers[:position] for name in layer.outputs}
        after = {v.name for n in list(model.ir.graph)[position:] for v in n.inputs if v is not None}
        assert set(cut.tensors) == before & after
        assert cut.nbytes == 3 * 4 * 4 * len(cut.tensors)
