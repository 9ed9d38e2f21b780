"""Which measured speeds count as equal, and which as unchanged."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from core.cluster.evening import evened
from core.plan.form import NodeId


def found(measured: dict[str, float], known: dict[str, float] | None = None) -> dict[str, float]:
    """Nodes of one letter."""
    before = {NodeId(node): speed for node, speed in (known or {}).items()}
    return {str(k): v for k, v in evened({NodeId(node): speed for node, speed in measured.items()}, before).items()}


def test_speeds_that_differ_by_noise_become_equal_and_others_stay() -> None:
    measured = {"a": 1.00, "b": 0.52, "c": 0.98, "d": 0.50}
    assert found(measured) == {"a": 0.99, "b": 0.51, "c": 0.99, "d": 0.51}
    assert list(found(measured)) == list(measured)
    assert found({"a": 1.0, "b": 0.9}) == {"a": 1.0, "b": 0.9}
    assert found({}) == {}


def test_a_group_is_within_the_noise_of_its_fastest() -> None:
    speeds = found({"a": 1.0, "b": 0.97, "c": 0.94, "d": 0.91})
    assert speeds["a"] == speeds["b"] > speeds["c"] == speeds["d"]


def test_a_known_speed_stays_until_it_clearly_changes() -> None:
    assert found({"a": 1.04}, {"a": 1.0}) == {"a": 1.0}
    assert found({"a": 0.96}, {"a": 1.0}) == {"a": 1.0}
    assert found({"a": 0.8}, {"a": 1.0}) == {"a": 0.8}
    assert found({"a": 1.2, "b": 1.22}, {"a": 1.0, "b": 1.0}) == {"a": 1.21, "b": 1.21}


def test_a_new_node_is_as_fast_as_a_known_one_from_which_it_cannot_be_told_apart() -> None:
    assert found({"b": 1.03}, {"a": 1.0}) == {"b": 1.0}
    assert found({"c": 1.03}, {"a": 1.0, "b": 1.04}) == {"c": 1.04}
    assert found({"b": 1.3}, {"a": 1.0}) == {"b": 1.3}


def test_a_second_measurement_of_equal_nodes_changes_nothing() -> None:
    first = found({"a": 1.0, "b": 0.97})
    assert found({"a": 0.96, "b": 1.01}, first) == first


NAMES = "abcdef"
SPEEDS = st.dictionaries(st.sampled_from(NAMES), st.floats(0.05, 20))


@settings(max_examples=80, derandomize=True, deadline=None)
@given(SPEEDS, SPEEDS, st.permutations(NAMES))
def test_no_speed_moves_by_more_than_noise_whatever_the_order(
    measured: dict[str, float], known: dict[str, float], order: list[str]
) -> None:
    speeds = found(measured, known)
    assert list(speeds) == list(measured)
    for node, speed in speeds.items():
        assert 0.949 <= speed / measured[node] <= 1 / 0.949
    turned = {node: measured[node] for node in order if node in measured}
    assert found(turned, {node: known[node] for node in order if node in known}) == speeds
    assert found(speeds, speeds) == speeds
