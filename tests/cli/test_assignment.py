from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from core.commands.assignment import assigned
from core.cost.types import Machine
from core.plan.form import NodeId


def order(nodes: str, speeds: dict[str, float] | None = None, machines: dict[str, str] | None = None) -> str:
    """Nodes, and machines, of one letter."""
    found = assigned(
        [NodeId(node) for node in nodes],
        {NodeId(node): speed for node, speed in (speeds or {}).items()},
        {NodeId(node): Machine(name, 4) for node, name in (machines or {}).items()},
    )
    return "".join(found)


def test_alike_nodes_stay_in_the_order_given() -> None:
    assert order("bacd") == "bacd"
    assert order("bacd", {"a": 1.05, "b": 0.95, "c": 1.1, "d": 0.9}) == "bacd"


def test_equally_fast_nodes_become_neighbours_the_fast_ones_first() -> None:
    assert order("abcd", {"a": 0.5, "b": 2.0, "c": 0.52, "d": 1.9}) == "bdac"


def test_nodes_of_one_machine_stay_together_whatever_their_speed() -> None:
    machines = {"a": "x", "b": "y", "c": "x", "d": "y"}
    assert order("abcd", None, machines) == "acbd"
    assert order("abcd", {"a": 1.0, "b": 4.0, "c": 2.0, "d": 1.0}, machines) == "bdca"


@settings(max_examples=50, derandomize=True, deadline=None)
@given(
    st.permutations("abcdefgh"),
    st.lists(st.floats(0.1, 10), min_size=8, max_size=8),
    st.lists(st.sampled_from("xyz"), min_size=8, max_size=8),
)
def test_every_node_has_one_place_and_machines_are_not_torn_apart(
    nodes: list[str], speeds: list[float], machines: list[str]
) -> None:
    home = dict(zip("abcdefgh", machines, strict=True))
    found = order("".join(nodes), dict(zip("abcdefgh", speeds, strict=True)), home)
    assert sorted(found) == list("abcdefgh")
    changes = sum(home[one] != home[other] for one, other in pairwise(found))
    assert changes == len(set(machines)) - 1
