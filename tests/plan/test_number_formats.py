"""Weights and tensors in other formats than float32, and how far apart right answers may be."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from core.cost.tables import tables
from core.plan.compile import compile_plan
from core.plan.tolerance import FULL_PRECISION, HALF_PRECISION, QUANTISED, tolerance
from core.plan.verify import verify_outputs
from tests.plan.in_process import InProcessPlan
from tests.plan.models import build, matrix, request, rows, to_model

WIDE = 64
RANDOM = np.random.default_rng(0)
make = helper.make_node


def scalar(name: str, value: object) -> TensorProto:
    return numpy_helper.from_array(np.asarray(value), name)


def four_bits() -> onnx.ModelProto:
    weight = numpy_helper.from_array(RANDOM.integers(-8, 7, (WIDE, WIDE)).astype(ml_dtypes.int4), "w")
    nodes = [make("DequantizeLinear", ["w", "s"], ["f"]), make("MatMul", ["x", "f"], ["m"]), make("Relu", ["m"], ["y"])]
    proto = build(nodes, [rows("x", WIDE)], ["y"], [weight, scalar("s", np.float32(0.1))], opset=21)
    proto.ir_version = 10
    return proto


def half() -> onnx.ModelProto:
    weight = numpy_helper.from_array((RANDOM.random((WIDE, WIDE)) / WIDE).astype(np.float16), "w")
    nodes = [
        make("Cast", ["x"], ["h"], to=TensorProto.FLOAT16),
        make("MatMul", ["h", "w"], ["m"]),
        make("Relu", ["m"], ["r"]),
        make("Cast", ["r"], ["y"], to=TensorProto.FLOAT),
    ]
    return build(nodes, [rows("x", WIDE)], ["y"], [weight])


def bfloat() -> onnx.ModelProto:
    weight = numpy_helper.from_array(RANDOM.random((WIDE, WIDE)).astype(ml_dtypes.bfloat16), "w")
    nodes = [
        make("Cast", ["w"], ["f"], to=TensorProto.FLOAT),
        make("MatMul", ["x", "f"], ["m"]),
        make("Relu", ["m"], ["y"]),
    ]
    return build(nodes, [rows("x", WIDE)], ["y"], [weight])


def eight_bits() -> onnx.ModelProto:
    """As a quantising tool writes it: every weight is decompressed at the very beginning."""
    weights = [
        numpy_helper.from_array(RANDOM.integers(-100, 100, (WIDE, WIDE)).astype(np.int8), f"w{i}") for i in (0, 1)
    ]
    nodes = [
        make("DequantizeLinear", ["w0", "s", "z"], ["f0"]),
        make("DequantizeLinear", ["w1", "s", "z"], ["f1"]),
        make("QuantizeLinear", ["x", "s", "z"], ["q"]),
        make("DequantizeLinear", ["q", "s", "z"], ["d"]),
        make("MatMul", ["d", "f0"], ["m"]),
        make("QuantizeLinear", ["m", "t", "z"], ["p"]),
        make("DequantizeLinear", ["p", "t", "z"], ["e"]),
        make("MatMul", ["e", "f1"], ["y"]),
    ]
    constants = [scalar("s", np.float32(0.02)), scalar("t", np.float32(0.2)), scalar("z", np.int8(0))]
    return build(nodes, [rows("x", WIDE)], ["y"], [*weights, *constants])


def dynamic() -> onnx.ModelProto:
    weight = numpy_helper.from_array(RANDOM.integers(-100, 100, (WIDE, WIDE)).astype(np.int8), "w")
    nodes = [
        make("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        make("MatMulInteger", ["q", "w", "z"], ["i"]),
        make("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
        make("Mul", ["f", "s"], ["y"]),
    ]
    return build(nodes, [rows("x", WIDE)], ["y"], [weight])


def plain() -> onnx.ModelProto:
    return build([make("MatMul", ["x", "w"], ["m"]), make("Relu", ["m"], ["y"])], [rows("x")], ["y"], [matrix("w")])


@pytest.mark.parametrize(
    ("proto", "expected"),
    [
        (plain(), FULL_PRECISION),
        (half(), HALF_PRECISION),
        (four_bits(), QUANTISED),
        (eight_bits(), QUANTISED),
        (dynamic(), QUANTISED),
    ],
    ids=["plain", "half", "four bits", "eight bits", "dynamic"],
)
def test_the_tolerance_suits_the_format(proto: onnx.ModelProto, expected: float) -> None:
    assert tolerance(to_model(proto)) == expected


@pytest.mark.parametrize("proto", [plain(), half(), bfloat(), four_bits(), eight_bits(), dynamic()])
def test_every_cut_is_right(proto: onnx.ModelProto) -> None:
    model = to_model(proto)
    feed = model.random_feed(2)
    expected = model.reference(threads=1)(feed)
    for position in range(1, len(model.layers(2))):
        compiled = compile_plan(model, request("pipeline", 2, cuts=(position,)))
        results = InProcessPlan(compiled).infer(feed)
        verdict = verify_outputs(expected, [results[info.name] for info in model.outputs], tolerance(model))
        assert verdict.passed, verdict.reason


def test_compressed_weights_go_to_the_stage_that_reads_them() -> None:
    """What is decompressed from constants is not sent with each micro-batch, and its weight is held by one node."""
    model = to_model(eight_bits())
    layers = model.layers(2)
    middle = next(layer.index for layer in layers if layer.op == "QuantizeLinear" and "p" in layer.outputs)
    asked = request("pipeline", 2, cuts=(middle,))
    compiled = compile_plan(model, asked)
    plan = compiled.plan
    assert [[weight.name for weight in shard.weights] for shard in plan.shards] == [["w0"], ["w1"]]
    assert [port.name for port in plan.shards[1].inputs] == ["m"]
    known = tables(model, 2)
    for shard, (first, last) in zip(plan.shards, ((0, middle), (middle, len(layers))), strict=True):
        assert 0 <= known.weight_bytes(first, last) - shard.weight_bytes < 20  # scales stay in the graph
    assert [one.nbytes for one in compiled.outline.division.exchanges if one.kind == "hand-over"] == [2 * WIDE * 4]
