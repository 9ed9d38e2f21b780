"""Shapes as values are those of the whole tensor, wherever they are read."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from core.plan.compile import compile_plan
from core.plan.layouts import REPLICATED, Partial, Split
from core.plan.operators.shapes import reshape_target
from core.plan.verify import verify_outputs
from tests.plan.in_process import InProcessPlan
from tests.plan.models import build, matrix, request, to_model
from tests.plan.partition.drawing import SHARES, examples, floats
from tests.plan.partition.held_inputs import cut, scattered
from tests.plan.partition.rule_check import Case


@pytest.mark.parametrize(("start", "end"), [(None, None), (1, None), (-2, -1), (0, 2), (2, 9), (3, 1)])
def test_the_shape_of_a_part_is_told_as_that_of_the_whole(start: int | None, end: int | None) -> None:
    bounds = {name: value for name, value in (("start", start), ("end", end)) if value is not None}
    case = Case("Shape", {"x": floats(4, 5, 6)}, shares=(0.5, 0.3, 0.2), **bounds)
    for axis, size in enumerate((4, 5, 6)):
        (choice,) = case.check(x=cut(axis, 0, 1, 3, size))
        assert choice.outputs == (REPLICATED,)
        assert choice.shares == (1, 1, 1)
    assert case.check(x=Split(1, (((0, 3),), ((1, 4),), ((3, 5),))))
    assert case.check(x=Partial((0, 1, 2)))[0].outputs == (REPLICATED,)
    assert not case.choices()


def test_who_holds_nothing_cannot_tell_a_shape() -> None:
    for op_type in ("Shape", "Size"):
        case = Case(op_type, {"x": floats(4, 5)}, shares=(0.5, 0.3, 0.2))
        assert not case.choices(x=cut(0, 0, 2, 2, 4))
        assert not case.choices(x=Partial((0, 2)))


def test_another_batch_has_another_shape() -> None:
    split = cut(1, 0, 2, 6)
    (choice,) = Case("Shape", {"x": floats(4, 6)}).check(x=split)
    Case("Shape", {"x": floats(9, 6)}).play(choice)
    (choice,) = Case("Size", {"x": floats(4, 6)}).check(x=split)
    Case("Size", {"x": floats(9, 6)}).play(choice)


@given(st.data())
@examples(40)
def test_random_parts(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=4)))
    shares = data.draw(SHARES)
    axis = data.draw(st.integers(0, len(shape) - 1))
    split = Split(axis, data.draw(scattered(shape[axis], len(shares))))
    for op_type in ("Shape", "Size"):
        found = Case(op_type, {"x": floats(*shape)}, shares=shares).check(x=split)
        assert len(found) == (1 if len(split.ranks) == len(shares) else 0)


def test_targets_of_reshapes() -> None:
    assert reshape_target((2, 12, 64), (False, False, False), None) == [2, 12, 64]
    assert reshape_target((2, 12, 64), (True, False, False), (0, 0, -1)) == [-1, 12, 64]
    assert reshape_target((2, 12, 64), (True, True, False), (0, -1, 64)) == [0, -1, 64]
    assert reshape_target((2, 12, 64), (True, True, False), None) == [None, None, 64]
    assert np.prod([entry or 0 for entry in reshape_target((3, 4), (False, False), (0, -1))]) == 12


@pytest.mark.parametrize("strategy", ["pipeline", "tensor"])
def test_sizes_sent_as_values_may_be_others_than_when_it_was_planned(strategy: str) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["a"]),
        helper.make_node("Concat", ["size", "one"], ["sizes"], axis=0),
        helper.make_node("Tile", ["a", "sizes"], ["b"]),
        helper.make_node("MatMul", ["b", "w1"], ["c"]),
        helper.make_node("Tanh", ["c"], ["d"]),
        helper.make_node("MatMul", ["d", "w2"], ["y"]),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 20])]
    inputs.append(helper.make_tensor_value_info("size", TensorProto.INT64, [1]))
    weights = [numpy_helper.from_array(np.array([1]), "one"), *(matrix(f"w{i}", i) for i in range(3))]
    model = to_model(build(nodes, inputs, ["y"], weights))
    plan = InProcessPlan(compile_plan(model, request(strategy, 2, 1)))
    for items in (1, 3, 11):
        feed = model.random_feed(1) | {"size": np.array([items])}
        verdict = verify_outputs(model.reference(threads=1)(feed), [plan.infer(feed)["y"]])
        assert verdict.passed, verdict.reason
