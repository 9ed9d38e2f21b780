"""The ONNX nodes of pre- and postprocessing in the form that each opset from 7 to the newest wants them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import onnx_ir as ir

OLDEST_OPSET: Final = 7
"""The first with broadcasting as numpy does it."""


class NodeWriter:
    """Makes nodes one after the other in a graph; they stay in ``nodes`` until the caller places them.

    Every method takes a value and gives the value that the new node makes. Names of nodes, values and weights are
    unique in the graph.
    """

    def __init__(self, graph: ir.Graph, opset: int) -> None:
        self.nodes: list[ir.Node] = []
        self._graph = graph
        self._opset = opset
        self._names = _names(graph)

    def unique(self, name: str) -> str:
        """``name``, with a number behind it where the graph has that name already; taken from now on."""
        candidate, count = name, 1
        while candidate in self._names:
            count += 1
            candidate = f"{name}.{count}"
        self._names.add(candidate)
        return candidate

    def cast(self, value: ir.Value, dtype: ir.DataType, name: str) -> ir.Value:
        if value.dtype == dtype:
            return value
        return self._node("Cast", name, [value], dtype, {"to": int(dtype)})

    def transpose(self, value: ir.Value, perm: Sequence[int], name: str) -> ir.Value:
        return self._node("Transpose", name, [value], value.dtype, {"perm": list(perm)})

    def slice(
        self, value: ir.Value, axes: Sequence[int], starts: Sequence[int], ends: Sequence[int], name: str
    ) -> ir.Value:
        bounds = {"starts": list(starts), "ends": list(ends), "axes": list(axes)}
        if self._opset < 10:
            return self._node("Slice", name, [value], value.dtype, bounds)
        weights = [self._weight(f"{name}.{key}", np.array(numbers, np.int64)) for key, numbers in bounds.items()]
        return self._node("Slice", name, [value, *weights], value.dtype)

    def resize(self, value: ir.Value, before: tuple[int, int], after: tuple[int, int], name: str) -> ir.Value:
        """Bilinear, pixel centres aligned as Pillow and OpenCV have them; float (items, channels, height, width)."""
        if self._opset < 11:
            # the older forms cannot shrink (Upsample) or align corners instead of centres (Resize 10)
            rows, columns = _interpolation(before[0], after[0]), _interpolation(before[1], after[1])
            value = self._node(
                "MatMul", f"{name}.rows", [self._weight(f"{name}.rows.weight", rows), value], value.dtype
            )
            weight = self._weight(f"{name}.columns.weight", np.ascontiguousarray(columns.T))
            return self._node("MatMul", f"{name}.columns", [value, weight], value.dtype)
        scales = np.array([1, 1, _scale(before[0], after[0]), _scale(before[1], after[1])], np.float32)
        roi = self._weight(f"{name}.roi", np.zeros(0, np.float32)) if self._opset < 13 else None
        attributes = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
        inputs = [value, roi, self._weight(f"{name}.scales", scales)]
        return self._node("Resize", name, inputs, value.dtype, attributes)

    def affine(self, value: ir.Value, factor: np.ndarray, offset: np.ndarray, name: str) -> ir.Value:
        """value · factor + offset; what would change nothing is left out."""
        if np.any(factor != 1):
            weight = self._weight(f"{name}.scale", factor.astype(np.float32))
            value = self._node("Mul", f"{name}.mul", [value, weight], value.dtype)
        if np.any(offset != 0):
            weight = self._weight(f"{name}.offset", offset.astype(np.float32))
            value = self._node("Add", f"{name}.add", [value, weight], value.dtype)
        return value

    def softmax(self, value: ir.Value, rank: int, name: str) -> ir.Value:
        """Over the last axis: there the meanings before and since opset 13 agree."""
        return self._node("Softmax", name, [value], value.dtype, {"axis": rank - 1})

    def argmax(self, value: ir.Value, rank: int, name: str) -> ir.Value:
        """Over the last axis, which goes away; int64."""
        return self._node("ArgMax", name, [value], ir.DataType.INT64, {"axis": rank - 1, "keepdims": 0})

    def top_k(self, value: ir.Value, rank: int, k: int, name: str) -> tuple[ir.Value, ir.Value]:
        """The k largest over the last axis, largest first: values, and int64 indices."""
        attributes: dict[str, Any] = {"axis": rank - 1}
        inputs = [value]
        if self._opset < 10:
            attributes["k"] = k
        else:
            inputs.append(self._weight(f"{name}.k", np.array([k], np.int64)))
        outputs = [
            ir.Value(name=self.unique(f"{name}_{part}"), type=ir.TensorType(dtype))
            for part, dtype in (("values", value.dtype or ir.DataType.FLOAT), ("indices", ir.DataType.INT64))
        ]
        node = ir.node("TopK", inputs, attributes, outputs=outputs, name=self.unique(name))
        self.nodes.append(node)
        return outputs[0], outputs[1]

    def _node(
        self,
        op: str,
        name: str,
        inputs: Sequence[ir.Value | None],
        dtype: ir.DataType | None,
        attributes: dict[str, Any] | None = None,
    ) -> ir.Value:
        name = self.unique(name)
        output = ir.Value(name=name, type=ir.TensorType(dtype or ir.DataType.FLOAT))
        self.nodes.append(ir.node(op, inputs, attributes or {}, outputs=[output], name=name))
        return output

    def _weight(self, name: str, array: np.ndarray) -> ir.Value:
        name = self.unique(name)
        tensor = ir.Tensor(array, name=name)
        value = ir.Value(name=name, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
        self._graph.register_initializer(value)
        return value


def _names(graph: ir.Graph) -> set[str]:
    """Every name in use: a value and a node may share one, which is allowed but confuses people."""
    names = {value.name for value in (*graph.inputs, *graph.outputs) if value.name}
    names.update(graph.initializers)
    for node in graph.all_nodes():
        names.update(value.name for value in node.outputs if value.name)
        if node.name:
            names.add(node.name)
    return names


def _scale(before: int, after: int) -> np.float32:
    """The float32 by which Resize makes exactly ``after`` pixels of ``before``: it rounds the product down."""
    scale = np.float32(after / before)
    while int(np.floor(np.float32(before) * scale)) < after:
        scale = np.nextafter(scale, np.float32(np.inf))
    return scale


def _interpolation(before: int, after: int) -> np.ndarray:
    """The matrix (after, before) of bilinear interpolation along one axis, pixel centres aligned."""
    position = np.clip((np.arange(after) + 0.5) * (before / after) - 0.5, 0, before - 1)
    low = np.floor(position).astype(int)
    high = np.minimum(low + 1, before - 1)
    share = position - low
    matrix = np.zeros((after, before), np.float32)
    np.add.at(matrix, (np.arange(after), low), 1 - share)
    np.add.at(matrix, (np.arange(after), high), share)
    return matrix
