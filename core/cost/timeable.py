"""Pieces of a model as graphs that a node can time without the model: weights are made up where they are read."""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx
from msgspec import Struct
from onnx import TensorProto, helper, numpy_helper

from core.model.graph import Model
from core.plan.extract import Fragment, layer_graph
from core.plan.form import Port
from core.plan.graphs import shard_graph
from core.plan.passing import passing
from core.plan.program import program_of

SMALL: Final = 1e-3
"""Every element of a weight: sums over it neither overflow nor become denormal."""


class Timeable(Struct, frozen=True):
    graph: bytes
    """A self-contained ModelProto."""
    inputs: tuple[Port, ...]
    """With the sizes of the micro-batch."""
    weight_bytes: int
    """That it makes up when it is loaded."""


def timeable(model: Model, fragment: Fragment, batch: int) -> Timeable:
    """``fragment`` for micro-batches of ``batch`` items. PlanError where a value at its ends cannot travel.

    Weights that a shard's graph would not hold become constants of a shape, which the runtime folds when it loads the
    graph: what they hold does not change how long products take, and a few KB travel instead of gigabytes. What the
    model computes with, sizes and indices, is small and stays as it is.
    """
    program, _ = passing(program_of(model, layer_graph(model), fragment, batch))
    written = shard_graph(model, program)
    proto = onnx.load_from_string(written.data)
    kept: list[TensorProto] = []
    made: list[onnx.NodeProto] = []
    for held in proto.graph.initializer:
        if held.data_location != TensorProto.EXTERNAL:
            kept.append(held)
            continue
        dtype = helper.tensor_dtype_to_np_dtype(held.data_type)
        kept.append(numpy_helper.from_array(np.array(held.dims, np.int64), f"{held.name}.shape"))
        element = numpy_helper.from_array(np.array([SMALL]).astype(dtype))
        made.append(helper.make_node("ConstantOfShape", [f"{held.name}.shape"], [held.name], value=element))
    nodes = [*made, *proto.graph.node]
    del proto.graph.node[:], proto.graph.initializer[:]
    proto.graph.node.extend(nodes)
    proto.graph.initializer.extend(kept)
    ports = tuple(Port(port.name, port.dtype, program.types[port.name].shape) for port in written.inputs)
    return Timeable(
        proto.SerializeToString(deterministic=True), ports, sum(weight.nbytes for weight in written.weights)
    )
