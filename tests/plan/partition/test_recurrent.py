"""RNN, GRU and LSTM, divided by directions and by items."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.plan.layouts import REPLICATED, Split
from tests.plan.partition.rule_check import Array, Case
from tests.plan.partition.rule_inputs import EXAMPLES, SHARES, floats, some_parts

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
STEPS, ITEMS, FEATURES, HIDDEN = 5, 4, 3, 6


def layer(op_type: str, directions: int, full: bool) -> tuple[dict[str, Array], list[str], int]:
    """Inputs, their names in order, and how many outputs; ``full``: with all optional ones."""
    gates = GATES[op_type]
    feed: dict[str, Array] = {
        "x": floats(STEPS, ITEMS, FEATURES),
        "w": floats(directions, gates * HIDDEN, FEATURES, seed=1),
        "r": floats(directions, gates * HIDDEN, HIDDEN, seed=2) * np.float32(0.5),
    }
    if full:
        feed["b"] = floats(directions, 2 * gates * HIDDEN, seed=3)
        feed["lengths"] = np.array([5, 2, 4, 1], np.int32)
        feed["h"] = floats(directions, ITEMS, HIDDEN, seed=4)
        if op_type == "LSTM":
            feed["c"] = floats(directions, ITEMS, HIDDEN, seed=5)
            feed["p"] = floats(directions, 3 * HIDDEN, seed=6)
    return feed, [name for name in feed if name in "wrbp"], 3 if op_type == "LSTM" else 2


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.9, 0.1), (0.2, 0.5, 0.3), (0.2,) * 5])
@pytest.mark.parametrize("op_type", ["RNN", "GRU", "LSTM"])
@pytest.mark.parametrize("full", [True, False])
def test_each_of_the_two_fastest_runs_one_direction(op_type: str, full: bool, shares: tuple[float, ...]) -> None:
    feed, weights, outputs = layer(op_type, 2, full)
    attributes: dict[str, Any] = {"hidden_size": HIDDEN, "direction": "bidirectional"}
    case = Case(op_type, feed, weights, outputs=outputs, shares=shares, **attributes)
    (one,) = case.check()
    assert one.kind == "directions"
    assert one.inputs[0] == REPLICATED
    first, second = (1, 2) if shares == (0.2, 0.5, 0.3) else (0, 1)
    parts = tuple({first: ((0, 1),), second: ((1, 2),)}.get(rank, ()) for rank in range(len(shares)))
    assert one.outputs == (Split(1, parts), Split(0, parts), Split(0, parts))[:outputs]
    assert one.shares[first] == one.shares[second] == 0.5
    if full:
        assert one.inputs[3:6] == (Split(0, parts), REPLICATED, Split(0, parts))


ACTIVATIONS: list[tuple[str, list[str], list[float], list[float]]] = [
    ("RNN", ["LeakyRelu", "HardSigmoid"], [0.1, 0.3], [0.4]),
    ("RNN", ["Tanh", "ScaledTanh"], [0.7], [1.2]),
    ("GRU", ["HardSigmoid", "Tanh", "Sigmoid", "Affine"], [0.3, 0.8], [0.5, 0.1]),
    ("LSTM", ["Sigmoid", "LeakyRelu", "Tanh", "HardSigmoid", "Tanh", "Elu"], [0.2, 0.3, 0.9], [0.45]),
]


@pytest.mark.parametrize(("op_type", "names", "alpha", "beta"), ACTIVATIONS)
def test_activations_go_with_their_direction(
    op_type: str, names: list[str], alpha: list[float], beta: list[float]
) -> None:
    feed, weights, outputs = layer(op_type, 2, True)
    attributes: dict[str, Any] = {"hidden_size": HIDDEN, "direction": "bidirectional", "clip": 3.0}
    attributes |= {"activations": names, "activation_alpha": alpha, "activation_beta": beta}
    assert len(Case(op_type, feed, weights, outputs=outputs, **attributes).check()) == 1


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_one_direction_is_not_divided(direction: str) -> None:
    feed, weights, outputs = layer("LSTM", 1, True)
    assert Case("LSTM", feed, weights, outputs=outputs, hidden_size=HIDDEN, direction=direction).choices() == []


def test_computed_weights_are_not_divided() -> None:
    feed, _, outputs = layer("GRU", 2, False)
    assert Case("GRU", feed, [], outputs=outputs, hidden_size=HIDDEN, direction="bidirectional").choices() == []


@EXAMPLES
@given(st.data(), SHARES, st.sampled_from(["RNN", "GRU", "LSTM"]), st.booleans(), st.booleans())
def test_items_are_followed(
    data: st.DataObject, shares: tuple[float, ...], op_type: str, both: bool, full: bool
) -> None:
    feed, weights, outputs = layer(op_type, 2 if both else 1, full)
    direction = "bidirectional" if both else data.draw(st.sampled_from(["forward", "reverse"]))
    case = Case(op_type, feed, weights, outputs=outputs, shares=shares, hidden_size=HIDDEN, direction=direction)
    layout = data.draw(some_parts(ITEMS, len(shares), 1))
    found = case.check(x=layout)
    assert sorted(choice.kind for choice in found) == ["", "directions"][: 1 + both]
    assert found[0].inputs[0] == layout
    assert found[0].outputs == (Split(2, layout.parts), layout, layout)[:outputs]
    assert all(choice.inputs[0] == REPLICATED for choice in case.choices(x=Split(0, (((0, 2),), ((2, STEPS),)))))
