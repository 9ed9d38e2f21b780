"""Rows held beyond a part: how many are wanted, and that windows that follow then need no exchange."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.plan.layouts import Split, within
from core.plan.operators.base import Choice
from core.plan.overlaps import overlaps
from core.plan.program import Constant, Op, Program, TensorType
from tests.plan.partition.drawing import examples, floats
from tests.plan.partition.rule_check import Array, Case


class Layer(NamedTuple):
    op: str
    weights: tuple[Array, ...] = ()
    attributes: Mapping[str, Any] = MappingProxyType({})


def conv(kernel: int, stride: int = 1, *, op: str = "Conv", **more: Any) -> Layer:
    return Layer(op, (floats(2, 2, kernel, 1),), {"strides": [stride, 1], **more})


def same(kernel: int, stride: int = 1) -> Layer:
    return conv(kernel, stride, pads=[kernel // 2, 0, kernel // 2, 0])


def pool(kernel: int, stride: int, **more: Any) -> Layer:
    return Layer("MaxPool", (), {"kernel_shape": [kernel, 1], "strides": [stride, 1], **more})


RELU = Layer("Relu")
TWICE = Layer("Resize", (np.array([], np.float32), np.array([1, 1, 2, 1], np.float32)), {"mode": "nearest"})


Known = dict[tuple[str, int], tuple[int, ...]]


def chain(layers: list[Layer], size: int, known: Known | None = None, ranks: int = 2) -> list[Case]:
    """One case for each layer, on what the one before gives; ``known``: overlaps of v0 (the image), v1, ..."""
    x, cases = floats(1, 2, size, 3), []
    for index, layer in enumerate(layers):
        names = ["x", *(f"w{i}" for i in range(len(layer.weights)))]
        feed = dict(zip(names, (x, *layer.weights), strict=True))
        found = {("out0", axis): (known or {}).get((f"v{index + 1}", axis), (0,)) for axis in (2, 3)}
        cases.append(Case(layer.op, feed, names[1:], shares=(1 / ranks,) * ranks, overlaps=found, **layer.attributes))
        x = cases[-1].whole["out0"]
    return cases


def wanted(layers: list[Layer], size: int) -> dict[tuple[str, int], tuple[int, ...]]:
    cases = chain(layers, size)
    ops, types, constants = [], {}, {}
    for index, case in enumerate(cases):
        names = [f"v{index}", *(f"v{index}.{name}" for name in case.op.inputs[1:])]
        ops.append(Op(case.op.type, tuple(names), (f"v{index + 1}",), case.op.attributes, layer=index))
        for name, array in zip(names, case.feed.values(), strict=True):
            types[name] = TensorType(array.dtype.name, array.shape, (False,) * array.ndim)
        constants |= {n: Constant(ir.Tensor(a)) for n, a in zip(names[1:], list(case.feed.values())[1:], strict=True)}
    last = cases[-1].whole["out0"]
    types[f"v{len(cases)}"] = TensorType(last.dtype.name, last.shape, (False,) * last.ndim)
    return overlaps(Program(tuple(ops), ("v0",), (f"v{len(cases)}",), types, constants), 20)


def test_three_convolutions() -> None:
    found = wanted([same(3), RELU, same(5), RELU, same(3)], 40)
    assert found == {
        ("v0", 2): (0, 1, 3, 4),
        ("v1", 2): (0, 2, 3),
        ("v2", 2): (0, 2, 3),
        ("v3", 2): (0, 1),
        ("v4", 2): (0, 1),
    }


def test_strides_make_halos_grow() -> None:
    assert wanted([same(7, 2), pool(3, 2, pads=[1, 0, 1, 0]), same(3)], 64)["v0", 2] == (0, 3, 5, 9)


def test_windows_that_do_not_overlap_count_for_nothing() -> None:
    found = wanted([pool(2, 2), same(3), conv(2, 2, op="ConvTranspose"), TWICE, same(3)], 40)
    assert found["v0", 2] == (0, 2, 4)
    assert found["v3", 2] == (0, 1)
    assert wanted([conv(1), RELU], 20) == {}


def test_many_windows() -> None:
    found = wanted([same(3)] * 9, 60)
    assert found["v0", 2] == (0, 1, 4, 9)
    assert wanted([same(3)] * 9, 12)["v0", 2] == (0, 1, 2, 4)  # nine rows beyond would be all there are
    assert all(len(numbers) <= 4 and sorted(set(numbers)) == list(numbers) for numbers in found.values())


def test_nothing_is_wanted_across_a_break() -> None:
    found = wanted([same(3), Layer("GlobalAveragePool"), same(3)], 20)
    assert found == {("v0", 2): (0, 1)}
    assert wanted([RELU, Layer("InstanceNormalization", (floats(2), floats(2))), same(3)], 20) == {("v2", 2): (0, 1)}


def follow(case: Case, held: Split, made: Split | None = None) -> Choice:
    """What can be made of ``held`` without an exchange, as much as possible."""
    choices = [
        choice
        for choice in case.check(x=held)
        if not choice.kind
        and isinstance(choice.inputs[0], Split)
        and all(within(mine, theirs) for mine, theirs in zip(choice.inputs[0].parts, held.parts, strict=True))
    ]
    assert choices, f"{case.op.type} needs an exchange of {held}"
    return max(choices, key=lambda choice: sum(choice.shares))


def walk(layers: list[Layer], size: int, cuts: list[int]) -> None:
    """The image is given out with as much overlap as is wanted for all windows; then no operator needs an exchange."""
    known = wanted(layers, size)
    extra = known.get(("v0", 2), (0,))[-1]
    bounds = [0, *cuts, size]
    held = Split(2, tuple(((max(0, a - extra), min(size, b + extra)),) for a, b in pairwise(bounds)))
    for case in chain(layers, size, known, len(cuts) + 1):
        if case.op.type == "Relu":  # element by element: the parts stay what they are
            continue
        output = follow(case, held).outputs[0]
        assert isinstance(output, Split)
        held = output


def test_chains_without_any_exchange() -> None:
    walk([same(3), RELU, same(3), RELU, pool(2, 2), same(3), RELU, same(3), pool(2, 2), same(3)], 96, [32, 64])
    walk([same(7, 2), pool(3, 2, pads=[1, 0, 1, 0]), same(3), same(3), same(3, 2)], 128, [64])
    walk([same(3), pool(2, 2), same(3), conv(2, 2, op="ConvTranspose"), same(3)], 64, [24, 40])
    walk([same(5), TWICE, same(3), same(3), conv(4, 2, op="ConvTranspose", pads=[1, 0, 1, 0])], 48, [24])


@examples(25)
@given(st.data())
def test_any_chain(data: st.DataObject) -> None:
    layers = data.draw(
        st.lists(
            st.one_of(
                st.builds(same, st.sampled_from([1, 3, 5, 7]), st.integers(1, 2)),
                st.builds(conv, st.sampled_from([2, 3, 4]), st.just(1)),
                st.builds(pool, st.just(3), st.integers(1, 2)),
                st.just(TWICE),
                st.just(conv(4, 2, op="ConvTranspose", pads=[1, 0, 1, 0])),
            ),
            min_size=1,
            max_size=4,
        )
    )
    size = 120
    walk(layers, size, [data.draw(st.integers(55, 65))])


def test_of_two_branches_the_wider_counts() -> None:
    image = TensorType("float32", (1, 2, 30, 30), (False,) * 4)
    weights = TensorType("float32", (2, 2, 3, 3), (False,) * 4)
    wide = TensorType("float32", (2, 2, 5, 5), (False,) * 4)

    def convolution(x: str, w: str, y: str, pad: int) -> Op:
        pads = ir.convenience.convert_attribute("pads", [pad] * 4)
        return Op("Conv", (x, w), (y,), {"pads": pads})

    ops = (
        convolution("x", "w3", "a", 1),
        convolution("x", "w5", "b", 2),
        Op("Add", ("a", "b"), ("c",)),
        convolution("c", "w3", "d", 1),
    )
    types = {"w3": weights, "w5": wide, **dict.fromkeys("xabcd", image)}
    found = overlaps(Program(ops, ("x",), ("d",), types, {}), 20)
    assert found["x", 2] == found["x", 3] == (0, 2, 3)
    assert found["a", 2] == found["b", 2] == found["c", 2] == (0, 1)


@pytest.mark.parametrize("shape", [None, (1, 2)])
def test_values_that_are_no_images(shape: tuple[int, ...] | None) -> None:
    kind = TensorType("float32", shape, None)
    program = Program(
        (Op("Relu", ("x",), ("y",)), Op("Conv", ("y", "w"), ("z",))), ("x",), ("z",), dict.fromkeys("xywz", kind), {}
    )
    assert overlaps(program, 20) == {}
