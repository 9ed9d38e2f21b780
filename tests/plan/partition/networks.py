"""Random networks of the operators that real models are made of: images, sequences and feature vectors."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import onnx
from hypothesis import strategies as st
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
        self, op_type: str, inputs: list[str], shape: tuple[int, ...], *, kind: int = TensorProto.FLOAT, **attributes: Any
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
        made = [name for node in self.nodes for name in node.output if name not in read]
        outputs = [
            helper.make_tensor_value_info(name, self.kinds.get(name, TensorProto.FLOAT), ["batch", *self.shapes[name]])
            for name in made
        ]
        used = [value for value in self.inputs if value.name in read]
        graph = helper.make_graph(self.nodes, "random", used, outputs, self.constants)
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
        onnx.checker.check_model(proto, full_check=True)
        return proto


@st.composite
def image_networks(draw: st.DrawFn) -> onnx.ModelProto:
    """Convolutions of every kind, pooling, normalisation, skip connections, resizing; at last, often, a classifier."""
    net = Network(draw(st.integers(0, 1000)))
    values = [net.input(draw(st.sampled_from([1, 3, 4])), draw(st.integers(5, 14)), draw(st.integers(5, 14)))]
    for _ in range(draw(st.integers(2, 8))):
        value = draw(st.sampled_from(values[-3:]))
        made = _image_step(draw, net, value, values)
        if made is not None and prod(net.shapes[made]) <= MOST_ELEMENTS:
            values.append(made)
    if draw(st.booleans()):
        _classifier(draw, net, values[-1])
    if not net.nodes:
        net.op("Relu", [values[0]], net.shapes[values[0]])
    return net.model()


def _image_step(draw: st.DrawFn, net: Network, value: str, values: list[str]) -> str | None:  # noqa: PLR0912  a list
    channels, height, width = net.shapes[value]
    kind = draw(
        st.sampled_from(
            [
                "conv",
                "conv",
                "depthwise",
                "transposed",
                "pool",
                "norm",
                "unary",
                "add",
                "concat",
                "resize",
                "scale",
                "split",
                "pad",
                "squeeze",
            ]
        )
    )
    match kind:
        case "conv" | "depthwise":
            groups = (
                channels if kind == "depthwise" else draw(st.sampled_from([g for g in (1, 2) if channels % g == 0]))
            )
            out = groups * draw(st.integers(1, 8 if groups == 1 else 3))
            size, stride, dilation = (
                draw(st.sampled_from([1, 2, 3, 5])),
                draw(st.integers(1, 2)),
                draw(st.integers(1, 2)),
            )
            pads = [draw(st.integers(0, size - 1)) for _ in range(4)]
            reach = (size - 1) * dilation + 1
            high = (height + pads[0] + pads[2] - reach) // stride + 1
            wide = (width + pads[1] + pads[3] - reach) // stride + 1
            if high < 1 or wide < 1:
                return None
            inputs = [value, net.weight(out, channels // groups, size, size)]
            inputs += [net.weight(out)] if draw(st.booleans()) else []
            return net.op(
                "Conv",
                inputs,
                (out, high, wide),
                group=groups,
                kernel_shape=[size] * 2,
                strides=[stride] * 2,
                dilations=[dilation] * 2,
                pads=pads,
            )
        case "transposed":
            out, size, stride = draw(st.integers(1, 6)), draw(st.integers(2, 3)), draw(st.integers(1, 2))
            pad = draw(st.integers(0, 1))
            high, wide = ((n - 1) * stride + size - 2 * pad for n in (height, width))
            inputs = [value, net.weight(channels, out, size, size), net.weight(out)]
            return net.op(
                "ConvTranspose",
                inputs,
                (out, high, wide),
                kernel_shape=[size] * 2,
                strides=[stride] * 2,
                pads=[pad] * 4,
            )
        case "pool":
            size, stride = draw(st.integers(2, 3)), draw(st.integers(1, 2))
            high, wide = ((n - size) // stride + 1 for n in (height, width))
            if high < 1 or wide < 1:
                return None
            op = draw(st.sampled_from(["MaxPool", "AveragePool"]))
            return net.op(op, [value], (channels, high, wide), kernel_shape=[size] * 2, strides=[stride] * 2)
        case "norm":
            inputs = [value, *(net.weight(channels) for _ in range(3))]
            variance = net.op("Abs", [net.weight(channels)], (channels,))
            return net.op("BatchNormalization", [*inputs, variance], net.shapes[value], epsilon=0.1)
        case "unary":
            return net.op(draw(st.sampled_from(["Relu", "Sigmoid", "HardSwish", "Tanh"])), [value], net.shapes[value])
        case "add":
            alike = [other for other in values if net.shapes[other] == net.shapes[value]]
            return net.op(
                draw(st.sampled_from(["Add", "Mul", "Sub"])), [value, draw(st.sampled_from(alike))], net.shapes[value]
            )
        case "concat":
            alike = [other for other in values if net.shapes[other][1:] == (height, width)]
            other = draw(st.sampled_from(alike))
            return net.op("Concat", [value, other], (channels + net.shapes[other][0], height, width), axis=1)
        case "resize":
            scales = f"s{len(net.constants)}"
            net.constants.append(numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), scales))
            mode = draw(st.sampled_from(["nearest", "linear"]))
            return net.op(
                "Resize",
                [value, "", scales],
                (channels, 2 * height, 2 * width),
                mode=mode,
                coordinate_transformation_mode=draw(st.sampled_from(["asymmetric", "half_pixel"])),
                nearest_mode="floor",
            )
        case "scale":
            pooled = net.op("GlobalAveragePool", [value], (channels, 1, 1))
            return net.op("Mul", [value, net.op("Sigmoid", [pooled], (channels, 1, 1))], net.shapes[value])
        case "split":
            if channels < 2:
                return None
            first = draw(st.integers(1, channels - 1))
            shapes = [(first, height, width), (channels - first, height, width)]
            left, right = net.several("Split", [value, net.numbers(first, channels - first)], shapes, axis=1)
            return net.op("Concat", [right, left], net.shapes[value], axis=1)
        case "pad":
            shape = (channels, height + 1, width + 3)
            half = f"p{len(net.constants)}"  # not 0: onnxruntime would fuse it into pooling that allows no such padding
            net.constants.append(numpy_helper.from_array(np.array(0.5, np.float32), half))
            return net.op("Pad", [value, net.numbers(0, 0, 1, 1, 0, 0, 0, 2), half], shape)
        case "squeeze":
            mean = net.op("ReduceMean", [value, net.numbers(2, 3)], (channels, 1, 1), keepdims=1)
            return net.op("Sub", [value, mean], net.shapes[value])
    raise AssertionError(kind)


def _classifier(draw: st.DrawFn, net: Network, value: str) -> None:
    channels, height, width = net.shapes[value]
    if draw(st.booleans()):
        pooled = net.op("GlobalAveragePool", [value], (channels, 1, 1))
        flat, features = net.op("Flatten", [pooled], (channels,)), channels
    else:
        features = channels * height * width
        flat = net.op("Reshape", [value, net.numbers(0, -1)], (features,))
    hidden = draw(st.integers(1, 12))
    first = net.op("Gemm", [flat, net.weight(hidden, features), net.weight(hidden)], (hidden,), transB=1)
    last = net.op("MatMul", [net.op("Relu", [first], (hidden,)), net.weight(hidden, 5)], (5,))
    net.op("Softmax", [last], (5,), axis=-1)
