"""Rules of pooling, against onnxruntime on whole tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.plan.layouts import REPLICATED, Partial, Split
from tests.plan.partition.drawing import SHARES, even, examples, floats, stretches
from tests.plan.partition.rule_check import Case

THREE = (0.5, 0.25, 0.25)


@pytest.mark.parametrize(
    "op", ["MaxPool", "AveragePool", "LpPool", "GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool"]
)
def test_channels_and_items(op: str) -> None:
    more: dict[str, Any] = {} if op.startswith("Global") else {"kernel_shape": [2, 2], "strides": [2, 2]}
    case = Case(op, {"x": floats(4, 6, 8, 8)}, shares=THREE, opset=20, **more)
    for held in (Split(1, (((0, 1), (4, 6)), (), ((1, 4),))), Split(0, (((0, 2),), ((3, 4),), ((2, 3),)))):
        (choice,) = case.check(x=held)
        assert choice.inputs == choice.outputs == (held,)
    assert not case.check()


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool", "LpPool"])
def test_rows_that_fit_the_stride_need_no_halo(op: str) -> None:
    held = Split(2, (((0, 6),), (), ((6, 9),)))
    choice, afresh = Case(op, {"x": floats(1, 2, 9, 8)}, shares=THREE, kernel_shape=[2, 2], strides=[2, 2]).check(
        x=held
    )
    assert afresh.outputs == (Split(2, (((0, 2),), ((2, 3),), ((3, 4),))),)
    assert choice.inputs == (Split(2, (((0, 6),), (), ((6, 8),))),)
    assert choice.outputs == (Split(2, (((0, 3),), (), ((3, 4),))),)
    assert choice.shares == pytest.approx((0.75, 0, 0.25))


def test_last_window_that_reaches_beyond_the_image() -> None:
    case = Case("AveragePool", {"x": floats(1, 2, 8, 8)}, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    (choice,) = case.check(x=Split(2, (((0, 5),), ((5, 8),))))
    assert choice.inputs == (Split(2, (((0, 5),), ((4, 8),))),)
    assert choice.outputs == (Split(2, (((0, 2),), ((2, 4),))),)


def test_overlapping_parts() -> None:
    case = Case(
        "MaxPool", {"x": floats(1, 2, 12, 8)}, kernel_shape=[3, 3], pads=[1] * 4, overlaps={("out0", 2): (0, 1, 2)}
    )
    choices = case.check(x=Split(2, (((0, 8),), ((4, 12),))))
    assert [choice.outputs[0].parts for choice in choices if isinstance(choice.outputs[0], Split)] == [
        (((0, 6),), ((6, 12),)),
        (((0, 7),), ((5, 12),)),
        (((0, 8),), ((4, 12),)),
    ]


@examples(90)
@given(st.data())
def test_spatial_pooling(data: st.DataObject) -> None:
    op = data.draw(st.sampled_from(["MaxPool", "AveragePool", "LpPool"]))
    rank = data.draw(st.integers(1, 3))
    kernel = [data.draw(st.integers(1, 4)) for _ in range(rank)]
    at = data.draw(st.integers(0, rank - 1))
    size = [data.draw(st.integers(8, 20)) if axis == at else 8 for axis in range(rank)]
    more: dict[str, Any] = {"kernel_shape": kernel, "strides": [data.draw(st.integers(1, 3)) for _ in range(rank)]}
    mode = data.draw(st.sampled_from(["NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    if mode == "NOTSET":
        more["pads"] = [data.draw(st.integers(0, k // 2)) for k in kernel * 2]
        more["dilations"] = [data.draw(st.integers(1, 2)) for _ in range(rank)]
    else:
        more["auto_pad"] = mode
        more["strides"] = [min(pair) for pair in zip(more["strides"], kernel, strict=True)]
    if mode in {"NOTSET", "VALID"}:
        more["ceil_mode"] = data.draw(st.integers(0, 1))
    if op == "AveragePool":
        more["count_include_pad"] = data.draw(st.integers(0, 1))
    if op == "LpPool":
        more["p"] = data.draw(st.integers(1, 3))
    shares = data.draw(SHARES)
    overlaps = {("out0", at + 2): (0, data.draw(st.integers(1, 3)))}
    case = Case(op, {"x": floats(1, 2, *size)}, shares=shares, overlaps=overlaps, **more)
    held = Split(at + 2, data.draw(stretches(size[at], len(shares))))
    case.check(x=held)
    made = case.view.out_shape()[at + 2]
    assert case.check(x=even(size[at], at + 2, len(shares))) or made < 4


def test_mean_over_the_image_is_a_sum_of_weighted_means() -> None:
    case = Case("GlobalAveragePool", {"x": floats(2, 3, 9, 4)}, shares=THREE)
    held = Split(2, (((0, 2), (8, 9)), (), ((2, 8),)))
    (choice,) = case.check(x=held)
    assert choice.inputs == (held,)
    assert choice.outputs == (Partial((0, 2)),)
    (choice,) = case.check(x=Split(3, (((0, 3),), ((1, 4),), ())))  # rows held twice would count twice
    assert choice.inputs == (Split(3, (((0, 2),), ((2, 4),), ())),)
    half = Case("GlobalAveragePool", {"x": floats(2, 3, 9, 4).astype(np.float16)})
    assert half.check(2e-3, x=Split(2, (((0, 2),), ((2, 9),))))


@pytest.mark.parametrize("op", ["GlobalMaxPool", "GlobalLpPool"])
def test_no_sum_gives_the_maximum_over_the_image(op: str) -> None:
    assert not Case(op, {"x": floats(2, 3, 8, 4)}, opset=20).check(x=Split(2, (((0, 4),), ((4, 8),))))


def test_terms_of_a_sum_are_averaged_each() -> None:
    terms = Partial((0, 1))
    for op, more in (("AveragePool", {"kernel_shape": [2, 2]}), ("GlobalAveragePool", {})):
        (choice,) = Case(op, {"x": floats(1, 2, 6, 6)}, **more).check(1e-3, x=terms)
        assert choice.outputs == (terms,)
    assert not Case("MaxPool", {"x": floats(1, 2, 6, 6)}, kernel_shape=[2, 2]).check(x=terms)


def test_indices_of_maxima_count_through_the_whole_tensor() -> None:
    case = Case("MaxPool", {"x": floats(1, 4, 6, 6)}, outputs=2, kernel_shape=[2, 2])
    assert not case.check(x=Split(1, (((0, 2),), ((2, 4),))))


def quantised(op: str, last: int = 0, **more: Any) -> Case:
    x = np.random.default_rng(5).integers(0, 255, (2, 4, 8, 6)).astype(np.uint8)
    feed = {"x": x, "a": np.float32(0.02), "b": np.uint8(100), "c": np.float32(0.01), "d": np.uint8(120)}
    return Case(op, feed, tuple(feed)[1:], domain="com.microsoft", channels_last=last, **more)


def test_quantised_pooling() -> None:
    channels, rows = Split(1, (((0, 1),), ((1, 4),))), Split(2, (((0, 4),), ((4, 8),)))
    windows = quantised("QLinearAveragePool", kernel_shape=[3, 3], pads=[1] * 4)
    (choice,) = windows.check(x=channels)
    assert choice.inputs == (channels, *[REPLICATED] * 4)
    assert windows.check(x=rows)[0].outputs == (rows,)
    (choice,) = quantised("QLinearGlobalAveragePool").check(x=channels)
    assert choice.outputs == (channels,)
    assert not quantised("QLinearGlobalAveragePool").check(x=rows)
    assert not quantised("QLinearGlobalAveragePool", 1).check(x=channels)


def test_links() -> None:
    links = Case("MaxPool", {"x": floats(1, 4, 6, 6)}, kernel_shape=[1, 1]).links()
    assert {(link.child, link.parent) for link in links} == {(("x", 0), ("out0", 0)), (("x", 1), ("out0", 1))}
