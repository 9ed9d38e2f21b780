"""Multiply-adds, parameters and groups of layers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from tests.model.graphs import constant, mlp, opened, tensor, weight, write


@pytest.fixture(autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHARDBOARD_HOME", str(tmp_path_factory.mktemp("home")))


def test_products_of_matrices(tmp_path: Path) -> None:
    layers = opened(mlp(tmp_path)).layers(5)
    assert [layer.macs for layer in layers] == [5 * 4 * 8, 5 * 8, 5 * 8 * 3, 5 * 3]
    assert [layer.parameters for layer in layers] == [4 * 8 + 8, 0, 8 * 3, 3]
    assert [layer.parameter_bytes for layer in layers] == [160, 0, 96, 12]
    assert [layer.output_shape for layer in layers] == [(5, 8), (5, 8), (5, 3), (5, 3)]
    assert [layer.op for layer in layers] == ["Gemm", "Relu", "MatMul", "Add"]


def test_convolutions(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["h"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Conv", ["h", "b"], ["d"], group=8),
        helper.make_node("ConvTranspose", ["d", "c"], ["y"], strides=[2, 2]),
    ]
    weights = [weight("a", 8, 3, 3, 3), weight("b", 8, 1, 1, 1), weight("c", 8, 2, 2, 2)]
    path = write(tmp_path, nodes, [tensor("x", ["n", 3, 8, 8])], [tensor("y", ["n", 2, 8, 8])], weights)
    assert [layer.macs for layer in opened(path).layers(2)] == [
        2 * 8 * 4 * 4 * 3 * 9,
        2 * 8 * 4 * 4,
        2 * 8 * 4 * 4 * 2 * 4,
    ]


def test_recurrence(tmp_path: Path) -> None:
    node = helper.make_node("LSTM", ["x", "w", "r"], ["", "y"], hidden_size=4, layout=0)
    weights = [weight("w", 1, 16, 3), weight("r", 1, 16, 4)]
    path = write(tmp_path, [node], [tensor("x", [5, 2, 3])], [tensor("y", [1, 2, 4])], weights)
    assert opened(path).layers(1)[0].macs == 5 * 2 * (16 * 3 + 16 * 4)


def test_quantized_products(tmp_path: Path) -> None:
    node = helper.make_node("MatMulInteger", ["x", "w"], ["y"])
    x, y = tensor("x", ["n", 4], 2), tensor("y", ["n", 3], 6)
    path = write(tmp_path, [node], [x], [y], [constant("w", np.ones((4, 3)), np.int8)])
    assert opened(path).layers(2)[0].macs == 2 * 4 * 3


def test_attention(tmp_path: Path) -> None:
    node = helper.make_node("Attention", ["q", "k", "v"], ["y"])
    inputs = [tensor(name, ["n", 2, 6, 8]) for name in "qkv"]
    path = write(tmp_path, [node], inputs, [tensor("y", ["n", 2, 6, 8])], opset=23, ir_version=11)
    assert opened(path).layers(3)[0].macs == 2 * 3 * 2 * 6 * 6 * 8


def test_einsum(tmp_path: Path) -> None:
    node = helper.make_node("Einsum", ["x", "w"], ["y"], equation="bij,jk->bik")
    path = write(tmp_path, [node], [tensor("x", ["n", 4, 5])], [tensor("y", ["n", 4, 6])], [weight("w", 5, 6)])
    assert opened(path).layers(2)[0].macs == 2 * 4 * 5 * 6


def test_a_shared_weight_counts_once(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("MatMul", ["h", "w"], ["y"])]
    path = write(tmp_path, nodes, [tensor("x", ["n", 4])], [tensor("y", ["n", 4])], [weight("w", 4, 4)])
    assert [layer.parameters for layer in opened(path).layers(1)] == [16, 0]


def test_groups(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="/layer1/layer1.0/relu/Relu"),
        helper.make_node("Relu", ["a"], ["b"], name="node_relu_1"),
        helper.make_node("Relu", ["b"], ["c"], name="plain"),
        helper.make_node("Relu", ["c"], ["y"], name="node_relu_2"),
    ]
    nodes[1].metadata_props.add(
        key="pkg.torch.onnx.name_scopes", value="['', 'layer1', 'layer1.0', 'layer1.0.relu', 'relu_1']"
    )
    nodes[3].metadata_props.add(key="namespace", value=": net.Net/layer2: net.Block/relu_2: aten.relu.default")
    path = write(tmp_path, nodes, [tensor("x", ["n", 4])], [tensor("y", ["n", 4])])
    assert [layer.group for layer in opened(path).layers(1)] == [
        "layer1/layer1.0/relu",
        "layer1/layer1.0/relu",
        "",
        "layer2",
    ]
