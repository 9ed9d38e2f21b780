"""Small models for the tests of sources."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper

from core.model.graph import Model
from core.model.reader import open_model

Dims = list[int | str]


def negation(path: Path, dtype: int = TensorProto.FLOAT, **inputs: Dims) -> Model:
    """A model that gives -x as "NAME.out" for each of its inputs."""
    nodes = [helper.make_node("Neg", [name], [f"{name}.out"], name=f"neg_{name}") for name in inputs]
    graph = helper.make_graph(
        nodes,
        "negation",
        [helper.make_tensor_value_info(name, dtype, dims) for name, dims in inputs.items()],
        [helper.make_tensor_value_info(f"{name}.out", dtype, dims) for name, dims in inputs.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, path)
    return open_model(path)
