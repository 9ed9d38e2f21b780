"""Rules of Conv, ConvTranspose and their integer forms, against onnxruntime on whole tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.plan.layouts import REPLICATED, Partial, Split
from core.plan.operators.base import Choice
from tests.plan.partition.drawing import SHARES, even, examples, floats, stretches
from tests.plan.partition.rule_check import Case


def conv(
    size: tuple[int, ...] = (12, 9),
    kernel: tuple[int, ...] = (3, 3),
    *,
    channels: int = 4,
    features: int = 6,
    op: str = "Conv",
    items: int = 1,
    bias: bool = True,
    **more: Any,
) -> Case:
    group = more.get("group", 1)
    first, second = (channels, features // group) if op == "ConvTranspose" else (features, channels // group)
    feed = {"x": floats(items, channels, *size), "w": floats(first, second, *kernel)}
    if bias:
        feed["b"] = floats(features)
    return Case(op, feed, tuple(feed)[1:], **more)


def kinds(choices: list[Choice]) -> list[str]:
    return [choice.kind for choice in choices]


def test_output_channels_and_input_channels_are_offered_whatever_is_held() -> None:
    choices = conv(shares=(0.5, 0.25, 0.25), segments={("out0", 1): ((6, 2),)}).check()
    assert kinds(choices) == ["columns", "rows"]
    columns, rows = choices
    parts = (((0, 2),), ((2, 4),), ((4, 6),))
    assert columns.outputs == (Split(1, parts),)
    assert columns.inputs == (REPLICATED, Split(0, parts), Split(0, parts))
    assert columns.shares == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    assert rows.outputs == (Partial((0, 1, 2)),)
    assert rows.inputs == (
        Split(1, (((0, 2),), ((2, 3),), ((3, 4),))),
        Split(1, (((0, 2),), ((2, 3),), ((3, 4),))),
        REPLICATED,
    )
    assert rows.shares == pytest.approx((0.5, 0.25, 0.25))


def test_transposed_convolution_shares_out_the_other_axes_of_its_weights() -> None:
    columns, rows = conv(op="ConvTranspose", strides=[2, 2]).check()
    assert columns.inputs == (REPLICATED, Split(1, (((0, 3),), ((3, 6),))), Split(0, (((0, 3),), ((3, 6),))))
    assert rows.inputs[1] == Split(0, (((0, 2),), ((2, 4),)))


def test_input_channels_as_they_are_held() -> None:
    held = Split(1, (((3, 4), (0, 1)), (), ((1, 3),)))
    for op in ("Conv", "ConvTranspose"):
        choices = conv(op=op, shares=(0.4, 0.3, 0.3)).check(x=held)
        followed = next(choice for choice in choices if choice.kind == "rows")
        assert followed.inputs[0] == held
        assert followed.outputs == (Partial((0, 2)),)
        assert sum(choice.kind == "columns" for choice in choices) == 1


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
@pytest.mark.parametrize(("channels", "features"), [(6, 6), (12, 6), (6, 12), (12, 24)])
def test_whole_groups(op: str, channels: int, features: int) -> None:
    case = conv(op=op, channels=channels, features=features, group=6, shares=(0.6, 0.2, 0.2))
    each = channels // 6
    held = Split(1, (((4 * each, channels), (0, each)), ((each, 2 * each),), ((2 * each, 4 * each),)))
    choices = case.check(x=held)
    assert kinds(choices) == ["groups", "groups"]
    assert choices[0].inputs[0] == held
    assert choices[0].outputs[0] != choices[1].outputs[0]
    assert choices[1].shares == pytest.approx((2 / 3, 1 / 6, 1 / 6))
    if each > 1:
        assert kinds(case.check(x=Split(1, (((0, 1),), ((1, 2),), ((2, channels),))))) == ["groups"]


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
def test_few_groups_are_shared_out_within_each(op: str) -> None:
    choices = conv(op=op, channels=4, features=12, group=2, shares=(0.5, 0.25, 0.25)).check()
    assert kinds(choices) == ["columns", "groups"]
    assert choices[0].outputs == (Split(1, (((0, 3), (6, 9)), ((3, 4), (9, 10)), ((4, 6), (10, 12)))),) or choices[
        0
    ].outputs == (Split(1, (((0, 3), (6, 9)), ((3, 5), (9, 11)), ((5, 6), (11, 12)))),)


def test_groups_that_segments_would_break_stay_whole() -> None:
    choices = conv(channels=8, features=8, group=4, segments={("out0", 1): ((3, 1), (5, 1))}).check()
    assert kinds(choices) == ["groups"]


def test_items() -> None:
    held = Split(0, (((0, 1), (3, 4)), ((1, 3),)))
    for op in ("Conv", "ConvTranspose"):
        assert conv(op=op, items=4).check(x=held)[-1].outputs == (held,)


def test_one_channel_of_output_cannot_be_shared_out() -> None:
    assert kinds(conv(features=1).check()) == ["rows"]
    assert kinds(conv(features=1, channels=1).check()) == []


def spatial(choices: list[Choice]) -> list[Choice]:
    return [choice for choice in choices if not choice.kind]


def test_rows_with_halo() -> None:
    (choice,) = spatial(conv((12, 9), pads=[1, 1, 1, 1]).check(x=Split(2, (((0, 7),), ((7, 12),)))))
    assert choice.inputs == (Split(2, (((0, 8),), ((6, 12),))), REPLICATED, REPLICATED)
    assert choice.outputs == (Split(2, (((0, 7),), ((7, 12),))),)
    assert choice.shares == pytest.approx((7 / 12, 5 / 12))


def test_stride_rounds_boundaries_up_and_wants_no_row_in_vain() -> None:
    case = conv((12, 9), (1, 1), strides=[2, 2], shares=(0.6, 0.4))
    (choice,) = spatial(case.check(x=Split(2, (((0, 7),), ((7, 12),)))))
    assert choice.inputs[0] == Split(2, (((0, 7),), ((8, 11),)))
    assert choice.outputs == (Split(2, (((0, 4),), ((4, 6),))),)


def test_transposed_rows_without_halo() -> None:
    held = Split(3, (((0, 5),), (), ((5, 9),)))
    case = conv((4, 9), (2, 2), op="ConvTranspose", strides=[2, 2], shares=(0.5, 0.2, 0.3))
    choice, afresh = spatial(case.check(x=held))
    assert afresh.outputs == (Split(3, (((0, 9),), ((9, 13),), ((13, 18),))),)
    assert choice.inputs[0] == held
    assert choice.outputs == (Split(3, (((0, 10),), (), ((10, 18),))),)


def test_overlapping_parts_are_used_up_before_the_next_exchange() -> None:
    held = Split(2, (((0, 9),), ((5, 12),)))
    touching, all_that_can_be_made = spatial(conv((12, 9), pads=[1, 1, 1, 1]).check(x=held))
    assert touching.outputs == (Split(2, (((0, 7),), ((7, 12),))),)
    assert all_that_can_be_made.inputs[0] == held
    assert all_that_can_be_made.outputs == (Split(2, (((0, 8),), ((6, 12),))),)
    assert sum(all_that_can_be_made.shares) > 1


def test_rows_computed_twice_for_the_sake_of_what_follows() -> None:
    case = conv((12, 9), pads=[1, 1, 1, 1], overlaps={("out0", 2): (0, 1, 3)})
    choices = spatial(case.check(x=Split(2, (((0, 6),), ((6, 12),)))))
    assert [choice.outputs[0] for choice in choices] == [
        Split(2, (((0, 6),), ((6, 12),))),
        Split(2, (((0, 7),), ((5, 12),))),
        Split(2, (((0, 9),), ((3, 12),))),
    ]
    assert choices[2].inputs[0] == Split(2, (((0, 10),), ((2, 12),)))


def test_rows_in_several_pieces_or_out_of_reach_are_left_alone() -> None:
    assert not spatial(conv().check(x=Split(2, (((0, 2), (8, 12)), ((2, 8),)))))
    assert not spatial(conv((3, 9)).check(x=Split(2, (((0, 2),), ((2, 3),)))))  # one row of output
    in_padding = conv((12, 9), (1, 1), pads=[3, 0, 3, 0], shares=(0.1, 0.9))
    assert not spatial(in_padding.check(x=Split(2, (((0, 1),), ((1, 12),)))))


def test_rows_that_drift_from_the_shares_can_be_shared_out_afresh() -> None:
    patches = conv((32, 8), (4, 4), strides=[4, 4], shares=(0.25, 0.25, 0.5))
    inherited, afresh = spatial(patches.check(x=Split(2, (((0, 10),), ((10, 20),), ((20, 32),)))))
    assert inherited.outputs == (Split(2, (((0, 3),), ((3, 5),), ((5, 8),))),)
    assert afresh.outputs == (Split(2, (((0, 2),), ((2, 4),), ((4, 8),))),)
    assert afresh.inputs[0] == Split(2, (((0, 8),), ((8, 16),), ((16, 32),)))
    assert len(spatial(patches.check(x=Split(2, (((0, 8),), ((8, 16),), ((16, 32),)))))) == 1


def test_no_rank_is_left_without_rows_where_boundaries_fall_together() -> None:
    patches = conv((32, 8), (8, 8), strides=[8, 8], shares=(0.4, 0.2, 0.4))
    (choice,) = spatial(patches.check(x=Split(2, (((0, 13),), ((13, 19),), ((19, 32),)))))
    assert choice.outputs == (Split(2, (((0, 2),), ((2, 3),), ((3, 4),))),)
    assert choice.inputs[0] == Split(2, (((0, 16),), ((16, 24),), ((24, 32),)))
    slow = conv((32, 8), (8, 8), strides=[8, 8], shares=(0.475, 0.05, 0.475))
    (choice,) = spatial(slow.check(x=Split(2, (((0, 14),), ((14, 17),), ((17, 32),)))))
    assert choice.outputs == (Split(2, (((0, 2),), (), ((2, 4),))),)  # a fourth of the image would hold all others up


@examples(70)
@given(st.data())
def test_spatial_conv(data: st.DataObject) -> None:
    rank = data.draw(st.integers(1, 3))
    kernel = tuple(data.draw(st.integers(1, 4)) for _ in range(rank))
    dilations = [data.draw(st.integers(1, 2)) for _ in range(rank)]
    strides = [data.draw(st.integers(1, 3)) for _ in range(rank)]
    group = data.draw(st.sampled_from([1, 2, 4]))
    at = data.draw(st.integers(0, rank - 1))
    size = tuple(data.draw(st.integers(9, 20)) if axis == at else 8 for axis in range(rank))
    more: dict[str, Any] = {}
    mode = data.draw(st.sampled_from(["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    if mode == "NOTSET":
        more["pads"] = [data.draw(st.integers(0, k)) for k in kernel * 2]
    else:
        more["auto_pad"] = mode
        dilations = [1] * rank if mode != "VALID" else dilations
    shares = data.draw(SHARES)
    case = conv(
        size,
        kernel,
        group=group,
        features=4,
        strides=strides,
        dilations=dilations,
        bias=data.draw(st.booleans()),
        shares=shares,
        overlaps={("out0", at + 2): (0, data.draw(st.integers(1, 4)))},
        **more,
    )
    held = Split(at + 2, data.draw(stretches(size[at], len(shares))))
    case.check(x=held)
    in_padding = max(more.get("pads", [0])) >= min(kernel)
    assert spatial(case.check(x=even(size[at], at + 2, len(shares)))) or case.view.out_shape()[at + 2] < 4 or in_padding


@examples(70)
@given(st.data())
def test_spatial_conv_transpose(data: st.DataObject) -> None:
    rank = data.draw(st.integers(1, 2))
    kernel = tuple(data.draw(st.integers(1, 4)) for _ in range(rank))
    dilations = [data.draw(st.integers(1, 2)) for _ in range(rank)]
    strides = [data.draw(st.integers(1, 3)) for _ in range(rank)]
    at = data.draw(st.integers(0, rank - 1))
    size = tuple(data.draw(st.integers(6, 14)) if axis == at else 5 for axis in range(rank))
    full = [(n - 1) * s + (k - 1) * d + 1 for n, s, k, d in zip(size, strides, kernel, dilations, strict=True)]
    more: dict[str, Any] = {}
    behind = [data.draw(st.integers(0, s - 1)) for s in strides]
    mode = data.draw(st.sampled_from(["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID", "shape", "shape upper"]))
    if mode == "NOTSET":
        more = {"pads": [data.draw(st.integers(0, min(k, 2))) for k in kernel * 2], "output_padding": behind}
    elif mode.startswith("shape"):
        more["output_shape"] = [max(1, f - data.draw(st.integers(0, 3))) for f in full]
        if mode == "shape upper":
            more["auto_pad"] = "SAME_UPPER"
    else:
        more["auto_pad"] = mode
    shares = data.draw(SHARES)
    case = conv(
        size,
        kernel,
        op="ConvTranspose",
        group=data.draw(st.sampled_from([1, 2])),
        strides=strides,
        dilations=dilations,
        bias=data.draw(st.booleans()),
        shares=shares,
        overlaps={("out0", at + 2): (0, data.draw(st.integers(1, 4)))},
        **more,
    )
    held = Split(at + 2, data.draw(stretches(size[at], len(shares))))
    case.check(x=held)
    assert spatial(case.check(x=even(size[at], at + 2, len(shares)))) or case.view.out_shape()[at + 2] < 4


@examples(40)
@given(st.data())
def test_channels_and_groups(data: st.DataObject) -> None:
    op = data.draw(st.sampled_from(["Conv", "ConvTranspose"]))
    group = data.draw(st.sampled_from([1, 2, 3, 6]))
    channels, features = (group * data.draw(st.integers(1, 4)) for _ in range(2))
    shares = data.draw(SHARES)
    rank = data.draw(st.integers(1, 3))
    case = conv(
        (5,) * rank,
        (2,) * rank,
        op=op,
        channels=channels,
        features=features,
        group=group,
        shares=shares,
        bias=data.draw(st.booleans()),
        strides=[data.draw(st.integers(1, 2))] * rank,
        pads=[1] * 2 * rank,
    )
    choices = case.check(x=Split(1, data.draw(stretches(channels, len(shares), overlap=False))))
    assert "groups" in kinds(choices) if group > 1 else "columns" in kinds(choices) or features == 1


def quantised() -> dict[str, np.ndarray]:
    random = np.random.default_rng(3)
    return {
        "x": random.integers(0, 255, (1, 4, 10, 8)).astype(np.uint8),
        "x_scale": np.float32(0.02),
        "x_zero": np.uint8(120),
        "w": random.integers(-100, 100, (6, 4, 3, 3)).astype(np.int8),
        "w_scale": random.uniform(0.01, 0.02, 6).astype(np.float32),
        "w_zero": np.zeros(6, np.int8),
        "y_scale": np.float32(0.1),
        "y_zero": np.uint8(128),
        "b": random.integers(-500, 500, 6).astype(np.int32),
    }


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.5, 0.2, 0.3)])
def test_quantised_convolution(shares: tuple[float, ...]) -> None:
    feed = quantised()
    case = Case("QLinearConv", feed, tuple(feed)[1:], shares=shares, pads=[1, 1, 1, 1], strides=[2, 1])
    choices = case.check(x=Split(2, (((0, 5),), ((5, 10),), ())[: len(shares)]))
    assert set(kinds(choices)) == {"columns", ""}  # sums of quantised numbers are not to be had
    assert choices[0].inputs[4] == choices[0].inputs[5] == choices[0].inputs[8] == choices[0].inputs[3]
    assert kinds(case.check(x=Split(1, (((0, 1),), ((1, 4),), ())[: len(shares)]))) == ["columns"]


def test_quantised_depthwise_convolution() -> None:
    feed = quantised()
    feed |= {"w": feed["w"][:4, :1], "w_scale": feed["w_scale"][:4], "w_zero": feed["w_zero"][:4], "b": feed["b"][:4]}
    choices = Case("QLinearConv", feed, tuple(feed)[1:], group=4).check(x=Split(1, (((0, 3),), ((3, 4),))))
    assert kinds(choices) == ["groups", "groups"]


@pytest.mark.parametrize("zero", [False, True])
def test_integer_convolution(zero: bool) -> None:
    feed = {name: array for name, array in quantised().items() if name in {"x", "x_zero", "w"}}
    feed = {"x": feed["x"], "w": feed["w"]} | ({"x_zero": feed["x_zero"], "w_zero": np.int8(3)} if zero else {})
    case = Case("ConvInteger", feed, tuple(feed)[1:], pads=[1, 1, 1, 1], shares=(0.25, 0.25, 0.5))
    choices = case.check(x=Split(2, (((0, 3),), ((3, 6),), ((6, 10),))))
    assert kinds(choices) == ["columns", "rows", ""]


def test_convolution_with_sum_and_activation() -> None:
    feed = {"x": floats(1, 4, 8, 8), "w": floats(6, 4, 3, 3), "b": floats(6), "z": floats(1, 6, 8, 8)}
    more: dict[str, Any] = {"domain": "com.microsoft", "activation": "Relu", "pads": [1, 1, 1, 1]}
    choices = Case("FusedConv", feed, ("w", "b"), **more).check(x=Split(3, (((0, 3),), ((3, 8),))))
    assert kinds(choices) == ["columns", ""]
    assert all(choice.inputs[3] == choice.outputs[0] for choice in choices)


def test_links() -> None:
    def links(**more: Any) -> set[tuple[Any, ...]]:
        return {(one.child, one.parent, one.inner) for one in conv(**more).links()}

    assert links() == {(("x", 0), ("out0", 0), 1), (("w", 0), ("out0", 1), 1)}
    assert (("w", 1), ("out0", 1), 1) in links(op="ConvTranspose")
    groups = ("out0/groups", 0)
    assert {(groups, ("out0", 1), 2), (groups, ("x", 1), 1)} < links(channels=3, features=6, group=3)
    assert {(groups, ("out0", 1), 2), (groups, ("x", 1), 4)} < links(channels=12, features=6, group=3)
