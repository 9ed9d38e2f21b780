"""How fast is a node? Fixed graphs, timed there and here.

``speed_graph`` mixes all kinds of work, for a quick answer; ``kernels`` are one kind each, for a benchmark.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Final

import numpy as np
import onnxruntime as ort
from msgspec import Struct
from onnx import NodeProto, TensorProto, checker, helper, numpy_helper

from core.cost.clock import compute_clock, timed_runs
from core.plan.form import Port

CHANNELS: Final = 64
IMAGE: Final = 56
WIDTH: Final = 512
ROWS: Final = 256


def speed_graph() -> tuple[bytes, tuple[Port, ...]]:
    """A self-contained ONNX model whose run mixes what real models spend their time on, and its inputs.

    About equal parts of convolution (3x3 on 64 channels), matrix product (256 x 512 x 512) and elementwise work
    bound by memory; 10 to 50 ms on one core of a common machine. Always the same bytes. Weights are written as
    constants of a shape, which the runtime folds when it loads the graph: a message of 3 KB instead of 9 MB.
    """
    weights: list[TensorProto] = []
    nodes: list[NodeProto] = []

    def add_weight(name: str, *shape: int) -> None:
        weights.append(numpy_helper.from_array(np.array(shape, np.int64), f"{name}.shape"))
        value = numpy_helper.from_array(np.array([1e-3], np.float32))
        nodes.append(helper.make_node("ConstantOfShape", [f"{name}.shape"], [name], value=value))

    for step in range(4):
        add_weight(f"conv{step}.weight", CHANNELS, CHANNELS, 3, 3)
        source = "image" if step == 0 else f"relu{step - 1}"
        nodes += [
            helper.make_node("Conv", [source, f"conv{step}.weight"], [f"conv{step}"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", [f"conv{step}"], [f"relu{step}"]),
        ]
    for step in range(8):
        add_weight(f"product{step}.weight", WIDTH, WIDTH)
        source = "rows" if step == 0 else f"tanh{step - 1}"
        nodes += [
            helper.make_node("MatMul", [source, f"product{step}.weight"], [f"product{step}"]),
            helper.make_node("Tanh", [f"product{step}"], [f"tanh{step}"]),
        ]
    nodes += [
        helper.make_node("Softmax", ["tanh7"], ["row_result"], axis=-1),
        helper.make_node("GlobalAveragePool", ["relu3"], ["image_result"]),
    ]
    graph = helper.make_graph(
        nodes,
        "speed",
        [
            helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, CHANNELS, IMAGE, IMAGE]),
            helper.make_tensor_value_info("rows", TensorProto.FLOAT, [ROWS, WIDTH]),
        ],
        [
            helper.make_tensor_value_info("image_result", TensorProto.FLOAT, [1, CHANNELS, 1, 1]),
            helper.make_tensor_value_info("row_result", TensorProto.FLOAT, [ROWS, WIDTH]),
        ],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    checker.check_model(model)
    inputs = (
        Port("image", "float32", (1, CHANNELS, IMAGE, IMAGE)),
        Port("rows", "float32", (ROWS, WIDTH)),
    )
    return model.SerializeToString(deterministic=True), inputs


class Kernel(Struct, frozen=True):
    """One kind of work: a self-contained ONNX model, its inputs, and how much a run of it does."""

    graph: bytes
    inputs: tuple[Port, ...]
    amount: float
    """Floating point operations, or bytes read and written."""


def gemm_kernel() -> Kernel:
    """Matrix products as of a transformer of 128 positions, their weights larger than most caches next to a core."""
    writer = _Writer("gemm")
    value, amount = "x", 0.0
    for inner, outer in ((768, 768), (768, 1536), (1536, 768), (768, 768)):
        weight = writer.weight(inner, outer)
        value = writer.add("MatMul", value, weight)
        amount += 2 * 128 * inner * outer
    return writer.kernel({"x": (128, 768)}, value, (128, 768), amount)


def convolution_kernel() -> Kernel:
    """Convolutions as of a residual network: 3x3 and 1x1, at two resolutions."""
    writer = _Writer("convolution")
    value, amount = "x", 0.0
    for channels, filters, size, side in ((64, 64, 3, 56), (64, 256, 1, 56), (256, 64, 1, 56), (64, 128, 3, 28)):
        weight = writer.weight(filters, channels, size, size)
        pad, stride = size // 2, 2 if side == 28 else 1
        value = writer.add("Conv", value, weight, pads=[pad] * 4, strides=[stride] * 2)
        amount += 2 * side * side * filters * channels * size * size
    return writer.kernel({"x": (1, 64, 56, 56)}, value, (1, 128, 28, 28), amount)


def elementwise_kernel() -> Kernel:
    """Additions, products and rectifiers on tensors of 12 MiB, as between the layers of a micro-batch of 8 items."""
    return _elementwise("elementwise", 4 * 64 * 112 * 112, 1)


def memory_kernel(nbytes: int) -> Kernel:
    """The same on tensors of ``nbytes``, which should be more than a cache holds; takes about twice the memory."""
    return _elementwise("memory", nbytes // 4, 1)


def _elementwise(name: str, elements: int, rounds: int) -> Kernel:
    """``x`` is one number, so that nothing of the tensors has to be sent; one number comes out."""
    writer = _Writer(name)
    other = writer.weight(elements)
    value = writer.add("Add", other, "x")
    amount = 2 * 4 * elements
    for _ in range(rounds):
        value = writer.add("Add", value, other)
        value = writer.add("Relu", value)
        value = writer.add("Mul", value, other)
        amount += (3 + 2 + 3) * 4 * elements
    first, last = writer.integers([0]), writer.integers([1])
    return writer.kernel({"x": (1,)}, writer.add("Slice", value, first, last), (1,), amount)


class _Writer:
    """Weights are written as constants of a shape, which the runtime folds when it loads the graph."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes: list[NodeProto] = []
        self._constants: list[TensorProto] = []

    def integers(self, values: Sequence[int]) -> str:
        name = f"constant{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def weight(self, *shape: int) -> str:
        value = numpy_helper.from_array(np.array([1e-3], np.float32))
        return self.add("ConstantOfShape", self.integers(shape), value=value)

    def add(self, kind: str, *inputs: str, **attributes: object) -> str:
        name = f"value{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def kernel(self, inputs: dict[str, tuple[int, ...]], output: str, shape: tuple[int, ...], amount: float) -> Kernel:
        graph = helper.make_graph(
            self._nodes,
            self._name,
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, given) for name, given in inputs.items()],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)],
            self._constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        checker.check_model(model)
        ports = tuple(Port(name, "float32", given) for name, given in inputs.items())
        return Kernel(model.SerializeToString(deterministic=True), ports, amount)


def local_speed_seconds(threads: int = 1, repeats: int = 7) -> float:
    """Median seconds of one run of ``speed_graph`` on zeros on this machine, after one run to warm up."""
    graph, inputs = speed_graph()
    session, feed = _session(graph, inputs, threads)
    clock = compute_clock(threads)
    session.run(None, feed)
    seconds = []
    for _ in range(repeats):
        begun = clock()
        session.run(None, feed)
        seconds.append(clock() - begun)
    return statistics.median(seconds)


def local_rate(kernel: Kernel, threads: int, repeats: int, seconds: float) -> float:
    """What this machine does of ``kernel`` in a second, undisturbed (see ``timed_runs``)."""
    session, feed = _session(kernel.graph, kernel.inputs, threads)
    return kernel.amount / timed_runs(lambda: session.run(None, feed), repeats, threads, seconds).quiet


def _session(graph: bytes, inputs: Sequence[Port], threads: int) -> tuple[ort.InferenceSession, dict[str, np.ndarray]]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return session, {port.name: np.zeros([dim or 1 for dim in port.shape or ()], port.dtype) for port in inputs}
