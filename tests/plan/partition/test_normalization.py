"""Normalization: what it runs along stays whole, the rest is followed with its parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.plan.layouts import REPLICATED, Partial, Split
from core.plan.operators.base import AxisLink
from tests.plan.partition.drawing import SHARES, examples, floats
from tests.plan.partition.held_inputs import cut, scattered, split_outputs
from tests.plan.partition.rule_check import Case

THIRDS = (0.5, 0.3, 0.2)
STATISTICS = {"scale": floats(6), "bias": floats(6) + 1, "mean": floats(6) / 2, "var": floats(6) ** 2 + 1}


def test_batch_normalization_cuts_its_statistics_with_the_channels() -> None:
    case = Case("BatchNormalization", {"x": floats(2, 6, 5, 4)} | STATISTICS, [*STATISTICS], shares=THIRDS)
    channels = Split(1, (((4, 6),), (), ((0, 2), (2, 4))))
    (choice,) = case.check(x=channels)
    assert choice.inputs == (channels, *[Split(0, channels.parts)] * 4)
    for split in (cut(0, 0, 1, 1, 2), cut(2, 0, 3, 4, 5), Split(3, (((0, 3),), ((1, 4),), ()))):
        (choice,) = case.check(x=split)
        assert choice.inputs == (split, *[REPLICATED] * 4)
        assert choice.outputs == (split,)
    assert not case.choices()
    assert [link.parent for link in case.links()] == [("x", axis) for axis in range(4)]


def test_batch_normalization_in_training_is_left_alone() -> None:
    case = Case("BatchNormalization", {"x": floats(2, 6, 5)} | STATISTICS, [*STATISTICS], outputs=3, training_mode=1)
    assert not case.choices(x=cut(1, 0, 3, 6))
    flat = Case("BatchNormalization", {"x": floats(4, 6)} | STATISTICS, [*STATISTICS], opset=7)
    assert flat.check(x=cut(1, 0, 4, 6))[0].inputs[4] == cut(0, 0, 4, 6)


LAYER: list[tuple[str, dict[str, Any], int]] = [
    ("LayerNormalization", {"axis": -1, "epsilon": 1e-3}, 3),
    ("LayerNormalization", {"axis": 2}, 2),
    ("LayerNormalization", {}, 3),
    ("RMSNormalization", {"axis": -1}, 3),
    ("RMSNormalization", {"axis": 2}, 2),
    ("SimplifiedLayerNormalization", {"axis": -1}, 3),
]


@pytest.mark.parametrize(("op_type", "attributes", "first"), LAYER)
def test_layer_normalization_follows_the_axes_before(op_type: str, attributes: dict[str, Any], first: int) -> None:
    shape = (2, 5, 4, 6)
    feed = {"x": floats(*shape), "scale": floats(*shape[first:])}
    if op_type == "LayerNormalization":
        feed["bias"] = floats(*shape[first:]) + 1
    case = Case(op_type, feed, [*feed][1:], shares=THIRDS, **attributes)
    for axis in range(4):
        split = cut(axis, 0, 1, 2, shape[axis])
        found = case.check(x=split)
        assert [choice.outputs[0] for choice in found] == ([split] if axis < first else [])
        assert all(choice.inputs[1:] == (REPLICATED,) * (len(feed) - 1) for choice in found)
    assert [link.child for link in case.links()] == [("out0", axis) for axis in range(first)]
    assert not case.choices(x=Partial((0, 1)))


def test_layer_normalization_with_its_statistics() -> None:
    feed = {"x": floats(4, 5, 6), "scale": floats(6), "bias": floats(6)}
    case = Case("LayerNormalization", feed, ["scale", "bias"], outputs=3)
    (choice,) = case.check(x=cut(1, 0, 2, 5))
    assert choice.outputs == (cut(1, 0, 2, 5),) * 3
    assert AxisLink(("out2", 0), ("x", 0)) in case.links()
    last = Case("SimplifiedLayerNormalization", {"x": floats(4, 5, 6), "s": floats(6)}, ["s"], outputs=2, axis=-1)
    assert last.check(x=cut(0, 0, 3, 4))


@pytest.mark.parametrize("op_type", ["SkipLayerNormalization", "SkipSimplifiedLayerNormalization"])
@pytest.mark.parametrize("skip", [(2, 5, 8), (1, 5, 8), (5, 8)])
def test_skip_layer_normalization(op_type: str, skip: tuple[int, ...]) -> None:
    feed = {"x": floats(2, 5, 8), "skip": floats(*skip) * 2, "gamma": floats(8)}
    names = ["x", "skip", "gamma"]
    if op_type == "SkipLayerNormalization":
        feed["beta"] = floats(8) + 1
        names.append("beta")
    feed["bias"] = floats(8) - 1
    case = Case(op_type, feed, ["gamma", "bias"], inputs=[*names, "bias"], domain="com.microsoft", shares=THIRDS)
    split = cut(1, 0, 2, 2, 5)
    (choice,) = case.check(x=split)
    assert choice.inputs[1] == Split(len(skip) - 2, split.parts)
    assert choice.inputs[2:] == (REPLICATED,) * (len(names) - 1)
    items = cut(0, 0, 1, 1, 2)
    (choice,) = case.check(x=items)
    assert choice.inputs[1] == (items if skip[0] == 2 else REPLICATED)
    assert not case.choices(x=cut(2, 0, 4, 6, 8))
    by_skip = case.check(skip=Split(len(skip) - 2, split.parts))
    assert len(by_skip) == (1 if len(skip) == 3 else 0)


def test_skip_layer_normalization_passes_the_sum_on() -> None:
    feed = {"x": floats(2, 5, 8), "skip": floats(2, 5, 8) * 2, "gamma": floats(8), "beta": floats(8)}
    sums = ("out0", "", "", "sum")
    case = Case("SkipLayerNormalization", feed, ["gamma", "beta"], outputs=sums, domain="com.microsoft")
    (choice,) = case.check(x=cut(1, 0, 3, 5))
    assert choice.outputs == (cut(1, 0, 3, 5),) * 4
    assert {link.child for link in case.links()} == {("out0", 0), ("out0", 1), ("sum", 0), ("sum", 1), ("sum", 2)}


def test_instance_normalization_by_items_and_channels() -> None:
    feed = {"x": floats(3, 6, 4, 5), "scale": floats(6), "bias": floats(6) + 1}
    case = Case("InstanceNormalization", feed, ["scale", "bias"], shares=THIRDS)
    split = Split(1, (((3, 6),), ((0, 2),), ((2, 3),)))
    assert case.check(x=split)[0].inputs == (split, Split(0, split.parts), Split(0, split.parts))
    assert case.check(x=cut(0, 0, 1, 1, 3))[0].inputs[1] == REPLICATED
    assert not case.choices(x=cut(2, 0, 1, 2, 4))


@pytest.mark.parametrize("opset", [18, 21])
def test_group_normalization_keeps_groups_whole(opset: int) -> None:
    size = 3 if opset == 18 else 12
    feed = {"x": floats(2, 12, 3, 3), "scale": floats(size), "bias": floats(size) + 1}
    case = Case("GroupNormalization", feed, ["scale", "bias"], opset=opset, num_groups=3)
    (choice,) = case.check(x=Split(1, (((0, 4), (8, 12)), ((4, 8),))))
    parts = (((0, 1), (2, 3)), ((1, 2),)) if opset == 18 else (((0, 4), (8, 12)), ((4, 8),))
    assert choice.inputs[1:] == (Split(0, parts), Split(0, parts))
    assert choice.shares == pytest.approx((2 / 3, 1 / 3))
    assert case.check(x=cut(0, 0, 1, 2))[0].outputs == (cut(0, 0, 1, 2),)
    assert not case.choices(x=cut(1, 0, 6, 12))
    assert not case.choices(x=cut(2, 0, 1, 3))
    assert AxisLink(("out0", 1), ("x", 1)) in case.links()
    if opset == 18:
        assert AxisLink(("scale", 0), ("x", 1), inner=4) in case.links()


@pytest.mark.parametrize(
    ("op_type", "attributes", "followed"),
    [
        ("LpNormalization", {"axis": 1, "p": 1}, {0, 2, 3}),
        ("LpNormalization", {}, {0, 1, 2}),
        ("LRN", {"size": 3}, {0, 2, 3}),
        ("MeanVarianceNormalization", {}, {1}),
        ("MeanVarianceNormalization", {"axes": [1, 2, 3]}, {0}),
        ("Softmax", {"axis": -1}, {0, 1, 2}),
        ("Softmax", {"axis": 3, "opset": 11}, {0, 1, 2}),
        ("LogSoftmax", {"axis": 3}, {0, 1, 2}),
        ("Softmax", {"axis": 2}, {0, 1, 3}),
        ("Softmax", {"axis": 2, "opset": 11}, {0, 1}),
        ("Hardmax", {"axis": 1, "opset": 11}, {0}),
        ("Hardmax", {"axis": 1}, {0, 2, 3}),
        ("Softmax", {"opset": 11}, {0}),
        ("Softmax", {}, {0, 1, 2}),
    ],
)
def test_axes_that_are_not_normalized(op_type: str, attributes: dict[str, Any], followed: set[int]) -> None:
    shape = (2, 4, 3, 5)
    case = Case(op_type, {"x": floats(*shape)}, **attributes)
    assert {axis for axis in range(4) if case.check(x=cut(axis, 0, 1, shape[axis]))} == followed
    assert {link.child[1] for link in case.links()} == followed


@given(st.data())
@examples(40)
def test_random_parts(data: st.DataObject) -> None:
    shares = data.draw(SHARES)
    shape = tuple(data.draw(st.lists(st.integers(1, 5), min_size=3, max_size=4)))
    axis = data.draw(st.integers(0, len(shape) - 2))
    case = Case("Softmax", {"x": floats(*shape)}, shares=shares, axis=-1)
    split = Split(axis, data.draw(scattered(shape[axis], len(shares))))
    assert split_outputs(case.check(x=split)) == [split]
    feed = {"x": floats(*shape), "scale": np.abs(floats(shape[-1])), "bias": floats(shape[-1])}
    layer = Case("LayerNormalization", feed, ["scale", "bias"], shares=shares)
    assert split_outputs(layer.check(rtol=1e-3, x=split)) == [split]
