"""An ONNX graph that random networks are built in, operator by operator."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 21
MOST_ELEMENTS = 20_000
"""Of one value: larger ones make the tests slow, and find nothing more."""


class Network:
    """An ONNX graph while it grows. Axis 0 of every value is the batch."""

    def __init__(self, seed: int) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.kinds: dict[str, int] = {}
        """Element types of values that are not float."""
        self.inputs: list[onnx.ValueInfoProto] = []
        self._random = np.random.default_rng(seed)
        self._made = 0

    def input(self, *shape: int, ids: int | None = None) -> str:
        """Without its batch axis; ``ids``: integers below that."""
        name = f"x{len(self.inputs)}"
        kind = TensorProto.FLOAT if ids is None else TensorProto.INT64
        if ids is not None:
            self.kinds[name] = kind
        self.inputs.append(helper.make_tensor_value_info(name, kind, ["batch", *shape]))
        self.shapes[name] = shape
        return name

    def weight(self, *shape: int) -> str:
        name = f"w{len(self.constants)}"
        scale = 1 / np.sqrt(max(1, prod(shape[1:])))
        array = (self._random.standard_normal(shape) * scale).astype(np.float32)
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def numbers(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def constant(self, array: np.ndarray) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def op(
        self,
        op_type: str,
        inputs: list[str],
        shape: tuple[int, ...],
        *,
        kind: int = TensorProto.FLOAT,
        **attributes: Any,
    ) -> str:
        """``shape`` of the output, without its batch axis; ``kind``: its element type."""
        self._made += 1
        name = f"v{self._made}"
        if kind != TensorProto.FLOAT:
            self.kinds[name] = kind
        self.nodes.append(helper.make_node(op_type, inputs, [name], name=f"{op_type}_{self._made}", **attributes))
        self.shapes[name] = shape
        return name

    def several(
        self, op_type: str, inputs: list[str], shapes: list[tuple[int, ...]], **attributes: object
    ) -> list[str]:
        self._made += 1
        names = [f"v{self._made}_{index}" for index in range(len(shapes))]
        self.nodes.append(helper.make_node(op_type, inputs, names, name=f"{op_type}_{self._made}", **attributes))
        self.shapes.update(zip(names, shapes, strict=True))
        return names

    def model(self) -> onnx.ModelProto:
        """Every value that nobody reads is an output."""
        read = {name for node in self.nodes for name in node.input}
        made = [name for node in self.nodes for name in node.output if name and name not in read]
        outputs = [
            helper.make_tensor_value_info(name, self.kinds.get(name, TensorProto.FLOAT), ["batch", *self.shapes[name]])
            for name in made
        ]
        used = [value for value in self.inputs if value.name in read]
        graph = helper.make_graph(self.nodes, "random", used, outputs, self.constants)
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
        onnx.checker.check_model(proto, full_check=True)
        return proto
