"""Which layers run where, on graphs written as lists of names."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from core.errors import PlanError
from core.plan.extract import LayerGraph, stages, whole


def graph(layers: Sequence[str], inputs: str, outputs: str, constants: str = "") -> LayerGraph:
    """A layer is written "a b > c d"."""
    needs = tuple(tuple(layer.split(">")[0].split()) for layer in layers)
    makes = tuple(tuple(layer.split(">")[1].split()) for layer in layers)
    producer = {name: index for index, names in enumerate(makes) for name in names}
    return LayerGraph(
        needs, makes, tuple(inputs.split()), tuple(outputs.split()), frozenset(constants.split()), producer
    )


CHAIN = graph(["x w > a", "a > b", "b v > c", "c > y"], "x", "y", "w v")


def test_a_chain() -> None:
    first, second = stages(CHAIN, (0, 2, 4), ((), ()))
    assert (first.layers, first.inputs, first.outputs, first.constants) == ((0, 1), ("x",), ("b",), ("w",))
    assert (second.layers, second.inputs, second.outputs, second.constants) == ((2, 3), ("b",), ("y",), ("v",))


def test_the_whole() -> None:
    fragment = whole(CHAIN)
    assert fragment.layers == (0, 1, 2, 3)
    assert (fragment.inputs, fragment.outputs) == (("x",), ("y",))


def test_a_tensor_over_several_stages_is_asked_of_its_maker() -> None:
    skip = graph(["x > a", "a > b", "b > c", "c a > y"], "x", "y")
    fragments = stages(skip, (0, 1, 2, 3, 4), ((),) * 4)
    assert fragments[0].outputs == ("a",)
    assert fragments[1].inputs == ("a",)
    assert fragments[1].outputs == ("b",)
    assert fragments[2].inputs == ("b",)
    assert fragments[3].inputs == ("a", "c")


def test_cheap_layers_run_again_where_they_are_needed() -> None:
    shared = graph(["m > s", "x s > a", "a s > b", "b s > y"], "x m", "y")
    fragments = stages(shared, (0, 2, 3, 4), ((), (0,), (0,)))
    assert [fragment.layers for fragment in fragments] == [(0, 1), (0, 2), (0, 3)]
    assert [fragment.recomputed for fragment in fragments] == [(), (0,), (0,)]
    assert [fragment.inputs for fragment in fragments] == [("x", "m"), ("m", "a"), ("m", "b")]


def test_what_need_not_run_again_does_not() -> None:
    shared = graph(["m > s", "x s > a", "a > b", "b s > y"], "x m", "y")
    fragments = stages(shared, (0, 2, 3, 4), ((), (0,), (0,)))
    assert fragments[1].layers == (2,)
    assert fragments[1].inputs == ("a",)


def test_a_stage_that_would_be_idle_sends_its_results() -> None:
    shared = graph(["m > s", "x s > a", "a s > y"], "x m", "y")
    fragments = stages(shared, (0, 1, 2, 3), ((), (0,), (0,)))
    assert [fragment.layers for fragment in fragments] == [(0,), (1,), (2,)]
    assert fragments[0].outputs == ("s",)
    assert fragments[2].inputs == ("s", "a")


def test_a_stage_that_nobody_needs() -> None:
    dead = graph(["x > a", "a > dead", "a > y"], "x", "y")
    with pytest.raises(PlanError, match=r"Stage 2 \(layers 2-2\) would have nothing to do"):
        stages(dead, (0, 1, 2, 3), ((), (), ()))


def test_a_stage_without_layers() -> None:
    with pytest.raises(PlanError, match="Stage 2 would have no layers"):
        stages(CHAIN, (0, 2, 2, 4), ((), (), ()))


def test_outputs_leave_from_the_stage_that_makes_them() -> None:
    both = graph(["x > a", "a > b", "b > y"], "x", "a y")
    first, second = stages(both, (0, 1, 3), ((), ()))
    assert first.outputs == ("a",)
    assert second.outputs == ("y",)


def test_outputs_that_no_layer_makes_leave_from_the_last_stage() -> None:
    odd = graph(["x w > a", "a > y"], "x z", "y z w", "w")
    first, second = stages(odd, (0, 1, 2), ((), ()))
    assert first.outputs == ("a",)
    assert set(second.outputs) == {"y", "z", "w"}
    assert second.inputs == ("z", "a")
    assert second.constants == ("w",)


def test_a_stage_that_needs_nothing_waits_for_the_first_input() -> None:
    free = graph(["w > noise", "x noise > y"], "x", "y", "w")
    first, second = stages(free, (0, 1, 2), ((), ()))
    assert first.inputs == ("x",)
    assert second.inputs == ("x", "noise")
