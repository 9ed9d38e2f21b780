"""Models for the benchmarks that are built here, with seeded weights, and files to keep them in."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from core.model.graph import Model
from core.model.library import resolve_model
from core.model.reader import open_model

WIDTHS = (4096, 4096, 4096)
BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3))
"""(channels, convolutions) between two poolings, as in VGG."""


def bench_model(name: str, folder: Path) -> Model:
    """ "mlp", "vgg", or a model as the command line takes it."""
    build = {"mlp": mlp, "vgg": vgg}.get(name)
    if build is None:
        return resolve_model(name)[0]
    path = folder / f"{name}.onnx"
    onnx.save(build(), path)
    return open_model(path)


def bench_part(name: str, parts: int, folder: Path) -> Path | None:
    """A file with what one of ``parts`` equal ranks of a tensor group has of a model, without what travels; None for
    models of which no such file is made."""
    if name != "mlp":
        return None
    path = folder / f"{name}-part.onnx"
    onnx.save(mlp((WIDTHS[0], WIDTHS[1] // parts, WIDTHS[2])), path)
    return path


def mlp(widths: Sequence[int] = WIDTHS) -> onnx.ModelProto:
    """Matrices with a ReLU between them."""
    rng = np.random.default_rng(0)
    nodes, weights, value = [], [], "x"
    for number, (rows, columns) in enumerate(pairwise(widths)):
        weights.append(_weight(rng, f"w{number}", (rows, columns), rows))
        weights.append(_weight(rng, f"b{number}", (columns,), 1))
        last = number == len(widths) - 2
        made = "y" if last else f"h{number}"
        nodes.append(helper.make_node("Gemm", [value, f"w{number}", f"b{number}"], [made], name=f"gemm{number}"))
        value = made
        if not last:
            nodes.append(helper.make_node("Relu", [made], [f"r{number}"], name=f"relu{number}"))
            value = f"r{number}"
    return _model("mlp", nodes, weights, ["n", widths[0]], ["n", widths[-1]])


def vgg(size: int = 224) -> onnx.ModelProto:
    """3x3 convolutions with ReLUs, a pooling after each block, and a mean over the image at the end."""
    rng = np.random.default_rng(0)
    nodes, weights, value, channels = [], [], "x", 3
    for block, (wanted, count) in enumerate(BLOCKS):
        for number in range(count):
            name = f"{block}_{number}"
            weights.append(_weight(rng, f"w{name}", (wanted, channels, 3, 3), 9 * channels))
            weights.append(_weight(rng, f"b{name}", (wanted,), 1))
            inputs, channels = [value, f"w{name}", f"b{name}"], wanted
            nodes.append(
                helper.make_node("Conv", inputs, [f"c{name}"], name=f"conv{name}", kernel_shape=[3, 3], pads=[1] * 4)
            )
            nodes.append(helper.make_node("Relu", [f"c{name}"], [f"r{name}"], name=f"relu{name}"))
            value = f"r{name}"
        pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
        nodes.append(helper.make_node("MaxPool", [value], [f"p{block}"], name=f"pool{block}", **pool))
        value = f"p{block}"
    nodes.append(helper.make_node("GlobalAveragePool", [value], ["g"], name="mean"))
    nodes.append(helper.make_node("Flatten", ["g"], ["y"], name="flat"))
    return _model("vgg", nodes, weights, ["n", 3, size, size], ["n", channels])


def _weight(rng: np.random.Generator, name: str, shape: Sequence[int], fan_in: int) -> onnx.TensorProto:
    values = rng.standard_normal(tuple(shape), np.float32) * np.float32((2 / fan_in) ** 0.5)
    return numpy_helper.from_array(values, name)


def _model(
    name: str,
    nodes: Sequence[onnx.NodeProto],
    weights: Sequence[onnx.TensorProto],
    inputs: Sequence[int | str],
    outputs: Sequence[int | str],
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        name,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, inputs)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, outputs)],
        list(weights),
    )
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return model
