"""How fast is a node? One fixed graph, timed there and here, gives its speed relative to this workstation."""

from __future__ import annotations

import statistics
from typing import Final

import numpy as np
import onnxruntime as ort
from onnx import NodeProto, TensorProto, checker, helper, numpy_helper

from core.cost.clock import compute_clock
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


def local_speed_seconds(threads: int = 1, repeats: int = 7) -> float:
    """Median seconds of one run of ``speed_graph`` on zeros on this machine, after one run to warm up."""
    graph, inputs = speed_graph()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    feed = {port.name: np.zeros([dim or 1 for dim in port.shape or ()], port.dtype) for port in inputs}
    session.run(None, feed)
    clock = compute_clock(threads)
    seconds = []
    for _ in range(repeats):
        begun = clock()
        session.run(None, feed)
        seconds.append(clock() - begun)
    return statistics.median(seconds)
