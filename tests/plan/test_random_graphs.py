"""Random graphs, random cuts: whatever is compiled gives what the whole model gives."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from core.errors import PlanError
from core.plan.compile import compile_plan
from core.plan.verify import verify_outputs
from tests.plan.in_process import InProcessPlan
from tests.plan.models import WIDTH, build, matrix, request, rows, to_model

OPERATIONS = ("relu", "add", "product", "bias", "halves", "reshape", "integers", "mask", "size")


@st.composite
def graphs(draw: st.DrawFn) -> onnx.ModelProto:
    """Values are float rows of one width; among them integer and shape computations as exporters write them."""
    values = [f"x{i}" for i in range(draw(st.integers(1, 3)))]
    inputs = [rows(name) for name in values] + [rows("ids", WIDTH, TensorProto.INT64)]
    nodes: list[onnx.NodeProto] = []
    read: set[str] = set()
    for step in range(draw(st.integers(4, 16))):
        operation = draw(st.sampled_from(OPERATIONS))
        a, b = draw(st.sampled_from(values)), draw(st.sampled_from(values))
        nodes += _operation(operation, step, a, b, draw(st.integers(0, 2)))
        read |= {a, b} if operation in ("add", "reshape") else {a}
        values.append(f"v{step}")
    made = [value for value in values if value.startswith("v")]
    outputs = [value for value in made if value not in read]
    more = [value for value in (*values, "w0", "c0") if value not in outputs]
    outputs += draw(st.lists(st.sampled_from(more), unique=True, max_size=3))
    constants = [
        *(matrix(f"w{i}", i) for i in range(3)),
        numpy_helper.from_array(np.linspace(-1, 1, WIDTH, dtype=np.float32), "c0"),
        numpy_helper.from_array(np.array([1, WIDTH], np.int64), "row"),
        numpy_helper.from_array(np.array([0], np.int64), "zero"),
    ]
    used = {name for node in nodes for name in node.input} | set(outputs)
    return build(
        nodes,
        [info for info in inputs if info.name in used],
        [rows(name) if name.startswith("x") else name for name in outputs],
        [tensor for tensor in constants if tensor.name in used],
    )


def _operation(operation: str, step: int, a: str, b: str, which: int) -> list[onnx.NodeProto]:
    out, make = f"v{step}", helper.make_node
    match operation:
        case "relu":
            return [make("Relu", [a], [out])]
        case "add":
            return [make("Add", [a, b], [out])]
        case "product":
            return [make("MatMul", [a, f"w{which}"], [out])]
        case "bias":
            return [make("Add", [a, "c0"], [out])]
        case "halves":
            return [
                make("Split", [a], [f"{out}l", f"{out}r"], axis=1),
                make("Concat", [f"{out}r", f"{out}l"], [out], axis=1),
            ]
        case "reshape":
            return [make("Shape", [b], [f"{out}s"]), make("Reshape", [a, f"{out}s"], [out])]
        case "integers":
            return [
                make("Cast", [a], [f"{out}i"], to=TensorProto.INT32),
                make("Cast", [f"{out}i"], [out], to=TensorProto.FLOAT),
            ]
        case "mask":
            return [
                make("Cast", ["ids"], [f"{out}m"], to=TensorProto.FLOAT),
                make("Mul", [a, f"{out}m"], [out]),
            ]
        case "size":
            return [
                make("Shape", ["ids"], [f"{out}s"]),
                make("Gather", [f"{out}s", "zero"], [f"{out}n"]),
                make("Cast", [f"{out}n"], [f"{out}f"], to=TensorProto.FLOAT),
                make("Div", [a, f"{out}f"], [out]),
            ]
    raise AssertionError(operation)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(proto=graphs(), data=st.data(), items=st.integers(1, 4))
def test_any_cut_of_any_graph_gives_the_whole_models_output(
    proto: onnx.ModelProto, data: st.DataObject, items: int
) -> None:
    model = to_model(proto)
    batch = 3 if model.batchable else 1
    layers = len(model.layers(batch))
    assume(layers > 1)
    places = data.draw(st.lists(st.integers(1, layers - 1), unique=True, min_size=1, max_size=min(4, layers - 1)))
    cuts = tuple(sorted(places))
    compiled = compile_plan(model, request("pipeline", len(cuts) + 1, batch, cuts))
    feed = model.random_feed(items, seed=items)
    expected = model.reference(threads=1)(feed)
    results = InProcessPlan(compiled).infer(feed)
    actual = [results[info.name] for info in model.outputs]
    event(f"{len(cuts) + 1} stages, batchable {model.batchable}, again {any(n for n in compiled.plan.notes)}")
    verdict = verify_outputs(expected, actual)
    assert verdict.passed, verdict.reason


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(proto=graphs(), stages=st.integers(2, 4))
def test_balanced_cuts_always_compile(proto: onnx.ModelProto, stages: int) -> None:
    model = to_model(proto)
    batch = 3 if model.batchable else 1
    if len(model.layers(batch)) < stages:
        with pytest.raises(PlanError, match=f"cannot be cut into {stages} stages"):
            compile_plan(model, request("pipeline", stages, batch))
        return
    compiled = compile_plan(model, request("pipeline", stages, batch))
    cuts = compiled.plan.request.cuts
    assert cuts is not None
    assert len(cuts) == stages - 1
    assert all(before < after for before, after in pairwise(cuts))
