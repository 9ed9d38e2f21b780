"""Scales and zero points stay with what they belong to."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from onnxruntime.quantization import QuantFormat, quantize_dynamic, quantize_static
from onnxruntime.quantization.calibrate import CalibrationDataReader

from core.errors import PlanError
from core.model.reader import open_model
from core.plan.compile import compile_plan
from core.plan.form import PlanRequest
from core.plan.layouts import REPLICATED, Partial, Split
from core.plan.operators.base import AxisLink
from core.plan.verify import verify_outputs
from tests.plan.in_process import InProcessPlan
from tests.plan.models import build, node_ids, rows
from tests.plan.partition.rule_check import Array, Case
from tests.plan.partition.rule_inputs import EXAMPLES, SHARES, bytes_of, floats, some_parts

HALVES = (((0, 1),), ((1, 4),))


def scaled(op_type: str, dtype: str, shape: tuple[int, ...], like: tuple[int, ...], zeros: bool) -> dict[str, Array]:
    x = floats(*shape) if op_type == "QuantizeLinear" else bytes_of(dtype, *shape)
    feed = {"x": x, "scale": np.abs(floats(*like, seed=1)) + np.float32(0.05)}
    if zeros:
        feed["zero"] = bytes_of(dtype, *like, seed=2)
    return feed


@EXAMPLES
@given(
    st.data(),
    SHARES,
    st.sampled_from(["QuantizeLinear", "DequantizeLinear"]),
    st.sampled_from(["int8", "uint8"]),
    st.booleans(),
    st.sampled_from(["tensor", "one", "axis", "block", "ragged"]),
)
def test_linear(
    data: st.DataObject, shares: tuple[float, ...], op_type: str, dtype: str, zeros: bool, grain: str
) -> None:
    shape, axis = (4, 6, 8), data.draw(st.sampled_from([0, 1, 2, -1]))
    size = shape[axis]
    block = {"block": 2, "ragged": size - 1}.get(grain, 0)
    like: dict[str, tuple[int, ...]] = {"tensor": (), "one": (1,), "axis": (size,)}
    blocked = [-(-size // block) if i == axis % 3 else s for i, s in enumerate(shape)] if block else []
    feed = scaled(op_type, dtype, shape, like.get(grain, tuple(blocked)), zeros or grain == "tensor")
    attributes: dict[str, Any] = {"axis": axis} | ({"block_size": block} if block else {})
    case = Case(op_type, feed, [name for name in feed if name != "x"], shares=shares, **attributes)
    assert case.choices() == []
    cut = data.draw(st.integers(0, 2))
    layout = data.draw(some_parts(shape[cut], len(shares), cut, unit=2 if grain == "block" else 1))
    found = case.check(x=layout)
    if grain == "ragged" and cut == axis % 3:
        assert found == []
        return
    (one,) = found
    assert (one.inputs[0], one.outputs) == (layout, (layout,))
    along = grain == "axis" and cut == axis % 3
    assert isinstance(one.inputs[1], Split) == (along or bool(block))
    if along:
        assert one.inputs[1] == Split(0, layout.parts)


def test_blocks_are_not_torn() -> None:
    feed = scaled("DequantizeLinear", "int8", (4, 6), (2, 6), True)
    case = Case("DequantizeLinear", feed, ["scale", "zero"], axis=0, block_size=2)
    assert case.choices(x=Split(0, (((0, 1),), ((1, 4),)))) == []
    assert len(case.check(x=Split(0, (((0, 2),), ((2, 4),))))) == 1
    assert AxisLink(("scale", 0), ("x", 0), inner=2) in case.links()


def test_terms_are_scaled_where_there_is_no_zero_point() -> None:
    sums = np.arange(-6, 6, dtype=np.int32).reshape(3, 4)
    case = Case("DequantizeLinear", {"x": sums, "scale": np.float32(0.5)}, ["scale"])
    assert [choice.outputs for choice in case.check(x=Partial((0, 1)))] == [(Partial((0, 1)),)]
    feed = {"x": bytes_of("int8", 3, 4), "scale": np.float32(0.5), "zero": np.array(3, np.int8)}
    assert Case("DequantizeLinear", feed, ["scale", "zero"]).choices(x=Partial((0, 1))) == []
    feed |= {"x": sums, "zero": np.array(0, np.int32)}
    assert Case("DequantizeLinear", feed, ["scale", "zero"]).choices(x=Partial((0, 1))) == []


@pytest.mark.parametrize("op_type", ["QuantizeLinear", "DequantizeLinear"])
def test_onnxruntimes_own_form(op_type: str) -> None:
    feed = scaled(op_type, "int8", (3, 4), (4,), True)
    case = Case(op_type, feed, ["scale", "zero"], domain="com.microsoft", axis=1)
    (one,) = case.check(x=Split(1, HALVES))
    assert one.inputs == (Split(1, HALVES), Split(0, HALVES), Split(0, HALVES))


def quantised(name: str, *shape: int) -> dict[str, Array]:
    x = bytes_of("uint8", *shape, seed=len(name))
    return {name: x, f"{name}_scale": np.array(0.02, np.float32), f"{name}_zero": np.array(120, np.uint8)}


def result() -> dict[str, Array]:
    return {"y_scale": np.array(0.03, np.float32), "y_zero": np.array(110, np.uint8)}


@EXAMPLES
@given(
    st.data(),
    SHARES,
    st.sampled_from(["QLinearAdd", "QLinearMul"]),
    st.sampled_from([(2, 5, 4), (5, 4), (2, 1, 4), (1,)]),
)
def test_two_quantised_inputs(
    data: st.DataObject, shares: tuple[float, ...], op_type: str, other: tuple[int, ...]
) -> None:
    case = Case(
        op_type, quantised("a", 2, 5, 4) | quantised("b", *other) | result(), domain="com.microsoft", shares=shares
    )
    axis = data.draw(st.integers(0, 2))
    layout = data.draw(some_parts((2, 5, 4)[axis], len(shares), axis))
    (one,) = case.check(a=layout)
    at = axis - 3 + len(other)
    follows = at >= 0 and other[at] > 1
    assert one.inputs[3] == (Split(at, layout.parts) if follows else REPLICATED)


@EXAMPLES
@given(st.data(), SHARES, st.sampled_from(["QLinearSigmoid", "QLinearLeakyRelu", "QLinearGlobalAveragePool"]))
def test_one_quantised_input(data: st.DataObject, shares: tuple[float, ...], op_type: str) -> None:
    case = Case(op_type, quantised("x", 3, 4, 5, 2) | result(), domain="com.microsoft", shares=shares)
    axis = data.draw(st.integers(0, 3))
    layout = data.draw(some_parts((3, 4, 5, 2)[axis], len(shares), axis))
    assert len(case.check(x=layout)) == int(op_type != "QLinearGlobalAveragePool" or axis < 2)


@pytest.mark.parametrize(("opset", "axis", "free"), [(13, 1, [0, 2]), (13, -1, [0, 1]), (12, 1, [0]), (12, 2, [0, 1])])
def test_softmax_of_quantised_values(opset: int, axis: int, free: list[int]) -> None:
    more = {"axis": axis, "opset": opset}
    feed = quantised("x", 4, 4, 4) | result()
    case = Case("QLinearSoftmax", feed, domain="com.microsoft", more_attributes=more)
    assert [cut for cut in range(3) if case.check(x=Split(cut, HALVES))] == free


def test_joined_quantised_values() -> None:
    feed = result() | quantised("a", 4, 3, 4) | quantised("bc", 4, 2, 4)
    case = Case("QLinearConcat", feed, domain="com.microsoft", axis=1)
    (one,) = case.check(bc=Split(2, HALVES))
    assert one.inputs[2] == one.inputs[5] == Split(2, HALVES)
    assert case.choices(a=Split(1, (((0, 1),), ((1, 3),)))) == []


# Whole networks, as onnxruntime quantises them

WIDTHS = (32, 96, 96, 12)


class Samples(CalibrationDataReader):
    def __init__(self) -> None:
        self._left = [{"x": floats(4, WIDTHS[0], seed=seed)} for seed in range(3)]

    def get_next(self) -> dict[str, Array] | None:
        return self._left.pop() if self._left else None


def mlp(path: Path) -> Path:
    nodes, weights, value = [], [], "x"
    for layer, (before, after) in enumerate(pairwise(WIDTHS)):
        scale = np.float32(before**-0.5)
        weights += [
            numpy_helper.from_array(floats(before, after, seed=layer) * scale, f"w{layer}"),
            numpy_helper.from_array(floats(after, seed=layer), f"b{layer}"),
        ]
        nodes.append(helper.make_node("MatMul", [value, f"w{layer}"], [f"product{layer}"], name=f"product{layer}"))
        nodes.append(helper.make_node("Add", [f"product{layer}", f"b{layer}"], [f"sum{layer}"], name=f"sum{layer}"))
        nodes.append(helper.make_node("Relu", [f"sum{layer}"], [f"value{layer}"], name=f"value{layer}"))
        value = f"value{layer}"
    onnx.save(build(nodes, [rows("x", WIDTHS[0])], [rows(value, WIDTHS[-1])], weights), path)
    return path


@pytest.mark.parametrize("form", ["dynamic", "each column", "QDQ", "QOperator"])
@pytest.mark.parametrize("along", ["columns", "rows"])
def test_a_network_that_onnxruntime_quantised(form: str, along: str, tmp_path: Path) -> None:
    """Products are divided; integers are added up as integers, which no order of adding changes."""
    source, path = mlp(tmp_path / "mlp.onnx"), tmp_path / "quantised.onnx"
    if form in ("dynamic", "each column"):
        quantize_dynamic(source, path, per_channel=form == "each column")
    else:
        quantize_static(source, path, Samples(), quant_format=getattr(QuantFormat, form))
    model, nodes = open_model(path), node_ids(3)
    request = PlanRequest("tensor", nodes, 4, tensor_axis=along)
    if (form, along) == ("QOperator", "rows"):
        with pytest.raises(PlanError, match="columns only"):
            compile_plan(model, request)
        return
    compiled = compile_plan(model, request, speeds=dict(zip(nodes, (1.0, 0.5, 0.7), strict=True)))
    feed = model.random_feed(4, seed=1)
    results = InProcessPlan(compiled).infer(feed)
    verdict = verify_outputs(model.reference(threads=1)(feed), [results[info.name] for info in model.outputs])
    assert verdict.passed, verdict.reason
    division = compiled.outline.division
    assert division is not None
    products = {"MatMul", "MatMulInteger", "QLinearMatMul"}
    numbers = {index for index, node in enumerate(model.ir.graph) if node.op_type in products}
    assert {layer.kind for layer in division.layers if layer.layer in numbers} == {along}
    sums = {exchange.tensor for exchange in division.exchanges if exchange.kind in ("all-reduce", "reduce-scatter")}
    assert bool(sums) == (along == "rows")
    assert form == "QDQ" or all("quant" in name for name in sums)


def test_terms_of_integers_are_not_cast() -> None:
    """Beyond 2**24 a term would be rounded that the sum may not need; and there is no exchange to be saved."""
    case = Case("Cast", {"x": bytes_of("uint8", 3, 4).astype(np.int32)}, to=1)
    assert case.check(x=Partial((0, 1))) == []
    assert len(case.check(x=Split(1, HALVES))) == 1
