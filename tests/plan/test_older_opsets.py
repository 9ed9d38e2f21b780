"""What a partition adds to a model of an old operator set computes the same as in a new one."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import helper

from core.plan.older_opsets import in_opset
from core.plan.program import Constant, Op

X = np.random.default_rng(0).standard_normal((1, 4, 6)).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


CASES: list[tuple[str, dict[str, np.ndarray], dict[str, Any], int, tuple[int, ...]]] = [
    ("Slice", {"starts": ints(1), "ends": ints(3), "axes": ints(1)}, {}, 1, (7, 9, 10, 13, 18)),
    ("Slice", {"s": ints(1, 0), "e": ints(3, 2), "a": ints(1, 2), "t": ints(1, 1)}, {}, 1, (7, 10, 18)),
    ("Split", {"split": ints(1, 3)}, {"axis": 1}, 2, (7, 11, 13, 18)),
    ("Split", {}, {"axis": 1, "num_outputs": 2}, 2, (7, 13, 18)),
    ("Squeeze", {"axes": ints(0)}, {}, 1, (7, 11, 13, 18)),
    ("Unsqueeze", {"axes": ints(1)}, {}, 1, (7, 11, 13, 18)),
    ("ReduceSum", {"axes": ints(2)}, {"keepdims": 0}, 1, (7, 11, 13, 18)),
    ("ReduceMean", {"axes": ints(1)}, {"keepdims": 1}, 1, (7, 11, 13, 17, 18)),
    ("Pad", {"pads": ints(0, 1, 0, 0, 0, 2), "value": np.array(2.0, np.float32)}, {}, 1, (7, 10, 11, 18)),
    ("Clip", {"min": np.array(-0.5, np.float32), "max": np.array(0.5, np.float32)}, {}, 1, (7, 10, 11, 18)),
]


def run(op: Op, constants: dict[str, Constant], opset: int) -> list[np.ndarray]:
    node = onnx.NodeProto(op_type=op.type, input=op.inputs, output=op.outputs)
    node.attribute.extend(ir.to_proto(attribute) for attribute in op.attributes.values())
    graph = helper.make_graph(
        [node],
        "added",
        [helper.make_tensor_value_info("x", 1, X.shape)],
        [onnx.ValueInfoProto(name=name) for name in op.outputs],
        [onnx.numpy_helper.from_array(constants[name].numpy(), name) for name in op.inputs if name in constants],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return [np.asarray(array) for array in session.run(None, {"x": X})]


@pytest.mark.parametrize(
    ("kind", "inputs", "attributes", "outputs", "opsets"), CASES, ids=[f"{case[0]}-{i}" for i, case in enumerate(CASES)]
)
def test_the_same_in_every_set(
    kind: str, inputs: dict[str, np.ndarray], attributes: dict[str, Any], outputs: int, opsets: tuple[int, ...]
) -> None:
    constants = {name: Constant(ir.Tensor(array)) for name, array in inputs.items()}
    held = {attr.name: attr for attr in ir.convenience.convert_attributes(attributes)}
    op = Op(kind, ("x", *inputs), tuple(f"y{i}" for i in range(outputs)), held)
    assert in_opset(op, 18, constants) is op
    expected = run(op, constants, 18)
    for opset in opsets:
        for want, got in zip(expected, run(in_opset(op, opset, constants), constants, opset), strict=True):
            np.testing.assert_array_equal(want, got)


def test_what_is_computed_stays_an_input() -> None:
    op = Op("Unsqueeze", ("x", "axes"), ("y",))
    assert in_opset(op, 11, {}) is op


def test_steps_have_no_older_form() -> None:
    constants = {name: Constant(ir.Tensor(ints(value))) for name, value in zip("seat", (0, 4, 1, 2), strict=True)}
    op = Op("Slice", ("x", "s", "e", "a", "t"), ("y",))
    assert in_opset(op, 9, constants) is op
