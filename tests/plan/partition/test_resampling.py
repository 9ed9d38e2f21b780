"""Rules of Resize, Upsample, DepthToSpace, SpaceToDepth and Pad, against onnxruntime on whole tensors."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.plan.layouts import REPLICATED, Split
from tests.plan.partition.drawing import SHARES, examples, floats, stretches
from tests.plan.partition.rule_check import Case

THREE = (0.5, 0.25, 0.25)
PARTS = (((0, 2), (5, 6)), (), ((2, 5),))


def resize(shape: tuple[int, ...], *, scales: list[float] | None = None, **more: Any) -> Case:
    """By ``scales``, or by ``sizes`` (constant, or computed)."""
    sizes, computed = more.pop("sizes", None), more.pop("computed", False)
    if scales is not None:
        feed: dict[str, Any] = {"x": floats(*shape), "scales": np.array(scales, np.float32)}
        return Case("Resize", feed, ["scales"], inputs=["x", "", "scales"], **more)
    feed = {"x": floats(*shape), "sizes": np.array(sizes, np.int64)}
    return Case("Resize", feed, [] if computed else ["sizes"], inputs=["x", "", "", "sizes"], **more)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("coordinates", ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"])
@pytest.mark.parametrize(
    "target",
    [
        {"scales": [1, 1, 1.5, 2]},
        {"sizes": [6, 6, 5, 9]},
        {"sizes": [6, 6, 5, 9], "computed": True},
        {"sizes": [5, 9], "axes": [2, 3]},
        {"scales": [1.5, 2.0], "axes": [2, 3]},
    ],
)
def test_axes_that_keep_their_size(mode: str, coordinates: str, target: dict[str, Any]) -> None:
    more = {"mode": mode, "coordinate_transformation_mode": coordinates} | target
    case = resize((6, 6, 4, 5), shares=THREE, **more)
    for axis in (0, 1):
        held = Split(axis, PARTS)
        (choice,) = case.check(x=held)
        assert choice.outputs == (held,)
    assert {(link.child[1], link.parent[1]) for link in case.links()} == {(0, 0), (1, 1)}


@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize("by", ["scales", "sizes", "computed"])
@pytest.mark.parametrize(
    ("coordinates", "rounding", "factors"),
    [
        ("asymmetric", "floor", {2, 3, 4}),
        ("asymmetric", "round_prefer_floor", {2}),
        ("asymmetric", "round_prefer_ceil", set()),
        ("half_pixel", "round_prefer_floor", {2, 3, 4}),
        ("half_pixel", "round_prefer_ceil", {2, 3, 4}),
        ("half_pixel", "floor", set()),
        ("half_pixel_symmetric", "round_prefer_floor", {2, 3, 4}),
        ("pytorch_half_pixel", "round_prefer_floor", {2, 3, 4}),
        ("align_corners", "floor", set()),
        ("tf_crop_and_resize", "floor", set()),
    ],
)
def test_nearest_by_whole_factors(factor: int, by: str, coordinates: str, rounding: str, factors: set[int]) -> None:
    more: dict[str, Any] = {"scales": [1, 1, factor, 1.5]} if by == "scales" else {"sizes": [1, 2, 7 * factor, 6]}
    more |= {"mode": "nearest", "coordinate_transformation_mode": coordinates, "nearest_mode": rounding}
    if coordinates == "tf_crop_and_resize":
        feed = {
            "x": floats(1, 2, 7, 4),
            "roi": np.array([0, 0, 0, 0, 1, 1, 1, 1], np.float32),
            "sizes": np.array([1, 2, 14, 8]),
        }
        case = Case(
            "Resize",
            feed,
            ("roi", "sizes"),
            inputs=["x", "roi", "", "sizes"],
            coordinate_transformation_mode=coordinates,
        )
    else:
        more |= {"overlaps": {("out0", 2): (0, 3)}, "shares": (4 / 7, 3 / 7)}
        case = resize((1, 2, 7, 4), computed=by == "computed", **more)
    choices = case.check(x=Split(2, (((0, 4),), ((4, 7),))))
    assert len(choices) == (2 if factor in factors else 0)
    if choices:
        assert choices[0].inputs[0] == Split(2, (((0, 4),), ((4, 7),)))
        assert choices[1].outputs == (Split(2, (((0, 4 * factor + 3),), ((4 * factor - 3, 7 * factor),))),)


@examples(60)
@given(st.data())
def test_enlarging(data: st.DataObject) -> None:
    factor, size = data.draw(st.integers(2, 4)), data.draw(st.integers(2, 12))
    mode = data.draw(st.sampled_from(["linear", "linear", "nearest"]))
    coordinates = data.draw(st.sampled_from(["asymmetric", "half_pixel", "pytorch_half_pixel", "align_corners"]))
    rank = data.draw(st.integers(1, 3))
    at = data.draw(st.integers(0, rank - 1))
    shape = [1, 2, *(size if axis == at else 3 for axis in range(rank))]
    scales = [1.0, 1.0, *(float(factor) if axis == at else 2.0 for axis in range(rank))]
    sizes = [int(n * scale) for n, scale in zip(shape, scales, strict=True)]
    shares = data.draw(SHARES)
    case = resize(
        tuple(shape),
        mode=mode,
        coordinate_transformation_mode=coordinates,
        shares=shares,
        overlaps={("out0", at + 2): (0, data.draw(st.integers(1, 5)))},
        **({"scales": scales} if data.draw(st.booleans()) else {"sizes": sizes}),
    )
    held = Split(at + 2, data.draw(stretches(size, len(shares))))
    choices = case.check(x=held)
    ordered = [part for part in held.parts if part]
    nested = any(one[0][1] > other[0][1] for one, other in pairwise(ordered))
    if len(held.ranks) > 1 and not nested and mode == "linear" and coordinates != "align_corners":
        assert choices
    if coordinates == "align_corners":
        assert not choices


def test_linear_takes_a_row_from_the_neighbour() -> None:
    case = resize((1, 2, 8, 4), scales=[1, 1, 2, 2], mode="linear")
    (choice,) = case.check(x=Split(2, (((0, 4),), ((4, 8),))))
    assert choice.inputs == (Split(2, (((0, 5),), ((3, 8),))), None, REPLICATED)
    assert choice.outputs == (Split(2, (((0, 8),), ((8, 16),))),)


def test_no_rule_for_shrinking_or_antialias_or_cubic() -> None:
    held = Split(2, (((0, 4),), ((4, 8),)))
    assert not resize((1, 1, 8, 4), scales=[1, 1, 0.5, 1], mode="linear").check(x=held)
    assert not resize((1, 1, 8, 4), scales=[1, 1, 2, 2], mode="linear", antialias=1).check(x=held)
    assert not resize((1, 1, 8, 4), scales=[1, 1, 2, 2], mode="cubic").check(x=held)
    assert not resize((1, 1, 8, 4), scales=[1, 1, 1.25, 2], mode="linear").check(x=held)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize(("op", "opset"), [("Upsample", 9), ("Resize", 10)])
def test_early_forms(op: str, opset: int, mode: str) -> None:
    feed = {"x": floats(2, 4, 6, 5), "scales": np.array([1, 1, 2, 3], np.float32)}
    case = Case(op, feed, ["scales"], opset=opset, mode=mode, shares=(1 / 3, 2 / 3))
    rows = Split(2, (((0, 2),), ((2, 6),)))
    (choice,) = case.check(x=rows)
    assert choice.outputs == (Split(2, (((0, 4),), ((4, 12),))),)
    assert case.check(x=Split(1, (((0, 1),), ((1, 4),))))
    if op == "Upsample":
        case = Case(op, {"x": feed["x"]}, opset=7, mode=mode, scales=[1.0, 1.0, 2.0, 3.0])
        assert case.check(x=rows)
        assert case.check(x=Split(1, (((0, 1),), ((1, 4),))))


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space(mode: str) -> None:
    case = Case("DepthToSpace", {"x": floats(2, 24, 4, 5)}, blocksize=2, mode=mode)
    for axis, factor in ((2, 2), (3, 2), (0, 1)):
        size = case.view.shape(0)[axis]
        (choice,) = case.check(x=Split(axis, (((0, 1),), ((1, size),))))
        assert choice.outputs == (Split(axis, (((0, factor),), ((factor, size * factor),))),)
    if mode == "CRD":
        held = Split(1, (((0, 4), (12, 16)), ((4, 12), (16, 24))))
        made = Split(1, (((0, 1), (3, 4)), ((1, 3), (4, 6))))
    else:
        held = Split(1, (((0, 1), (6, 7), (12, 13), (18, 19)), ((1, 6), (7, 12), (13, 18), (19, 24))))
        made = Split(1, (((0, 1),), ((1, 6),)))
    (choice,) = case.check(x=held)
    assert choice.outputs == (made,)
    assert not case.check(x=Split(1, (((0, 5),), ((5, 24),))))
    (_, channels) = case.links()
    assert (channels.outer, channels.inner) == ((1, 4) if mode == "CRD" else (4, 1))


def test_space_to_depth() -> None:
    case = Case("SpaceToDepth", {"x": floats(2, 3, 8, 6)}, blocksize=2, overlaps={("out0", 2): (0, 1)})
    (choice,) = case.check(x=Split(1, (((0, 1), (2, 3)), ((1, 2),))))
    assert choice.outputs == (
        Split(1, (((0, 1), (2, 4), (5, 7), (8, 10), (11, 12)), ((1, 2), (4, 5), (7, 8), (10, 11)))),
    )
    touching, overlapping = case.check(x=Split(2, (((0, 4),), ((4, 8),))))
    assert touching.inputs == (Split(2, (((0, 4),), ((4, 8),))),)
    assert overlapping.inputs == (Split(2, (((0, 6),), ((2, 8),))),)
    assert case.check(x=Split(0, (((0, 1),), ((1, 2),))))
    assert case.check(x=Split(3, (((0, 3),), ((3, 6),))))


def pad(shape: tuple[int, ...], pads: list[int], mode: str = "constant", **more: Any) -> Case:
    feed: dict[str, Any] = {"x": floats(*shape), "pads": np.array(pads, np.int64), "value": np.float32(0.5)}
    inputs = ["x", "pads", "value"]
    if "axes" in more:
        feed["axes"] = np.array(more.pop("axes"), np.int64)
        inputs.append("axes")
    return Case("Pad", feed, inputs[1:], inputs=inputs, mode=mode, **more)


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "wrap"])
def test_axes_that_are_not_padded(mode: str) -> None:
    held = Split(1, PARTS)
    for case in (
        pad((2, 6, 5, 5), [0, 0, 1, 2, 0, 0, 2, 1], mode, shares=THREE),
        pad((2, 6, 5, 5), [1, 2], mode, axes=[-1], shares=THREE),
    ):
        (choice,) = case.check(x=held)
        assert choice.outputs == (held,)
        assert (1, 1) in {(link.child[1], link.parent[1]) for link in case.links()}


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect"])
@pytest.mark.parametrize("axes", [False, True])
def test_padding_belongs_to_the_first_and_last(mode: str, axes: bool) -> None:
    more: dict[str, Any] = {"axes": [3, 2], "pads": [2, 1, 0, 3]} if axes else {"pads": [0, 0, 1, 2, 0, 0, 3, 0]}
    held = Split(2, (((0, 4),), ((4, 8),), ((8, 12),)))
    touching, overlapping = pad((1, 2, 12, 5), mode=mode, shares=THREE, overlaps={("out0", 2): (0, 2)}, **more).check(
        x=held
    )
    assert touching.inputs[0] == held
    assert touching.outputs == (Split(2, (((0, 5),), ((5, 9),), ((9, 16),))),)
    assert overlapping.outputs == (Split(2, (((0, 7),), ((3, 11),), ((7, 16),))),)


def test_padding_that_cannot_be_made_from_the_part() -> None:
    held = Split(2, (((0, 2),), ((2, 12),)))
    assert not pad((1, 2, 12, 5), [0, 0, 2, 0, 0, 0, 0, 0], "reflect").check(x=held)
    assert not pad((1, 2, 12, 5), [0, 0, 2, 0, 0, 0, 0, 0], "wrap").check(x=held)
    assert not pad((1, 2, 12, 5), [0, 0, -1, 0, 0, 0, 0, 0]).check(x=held)
    assert pad((1, 2, 12, 5), [0, 0, 0, -1, 0, 0, 0, 0]).check(x=held)


@examples(30)
@given(st.data())
def test_spatial_padding(data: st.DataObject) -> None:
    mode = data.draw(st.sampled_from(["constant", "edge", "reflect"]))
    axis = data.draw(st.integers(1, 3))
    pads = [data.draw(st.integers(0, 3)) for _ in range(8)]
    shares = data.draw(SHARES)
    if data.draw(st.booleans()):
        case = Case("Pad", {"x": floats(4, 9, 9, 9)}, opset=10, mode=mode, pads=pads, shares=shares)
    else:
        case = pad(
            (4, 9, 9, 9), pads, mode, shares=shares, overlaps={("out0", axis): (0, data.draw(st.integers(1, 3)))}
        )
    held = Split(axis, data.draw(stretches(9, len(shares))))
    assert case.check(x=held) or mode == "reflect" or len(held.ranks) < 2


def test_operators_that_look_anywhere_in_the_image_have_no_rule() -> None:
    grid = np.zeros((1, 4, 4, 2), np.float32)
    assert not Case("GridSample", {"x": floats(1, 2, 6, 6), "grid": grid}).check(x=Split(2, (((0, 3),), ((3, 6),))))
