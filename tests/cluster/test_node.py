from __future__ import annotations

import itertools

import pytest

from core.cluster.node import (
    CONNECTED,
    TRANSITIONS,
    IllegalTransitionError,
    Node,
    NodeEvent,
    NodeState,
    next_state,
)
from core.plan.form import NodeId


@pytest.mark.parametrize(("state", "event"), list(itertools.product(NodeState, NodeEvent)))
def test_every_pair_is_a_row_of_the_table_or_an_error_that_names_both(state: NodeState, event: NodeEvent) -> None:
    if (state, event) in TRANSITIONS:
        assert next_state("pi-1", state, event) is TRANSITIONS[state, event]
        return
    with pytest.raises(IllegalTransitionError) as caught:
        next_state("pi-1", state, event)
    assert all(word in str(caught.value) for word in ("pi-1", state.name, event.name))


def test_every_state_can_be_left_and_reached() -> None:
    assert {state for state, _ in TRANSITIONS} == set(NodeState)
    reached = {after for (before, _), after in TRANSITIONS.items() if before is not after}
    assert reached == set(NodeState)


@pytest.mark.parametrize("state", NodeState)
def test_silence_never_leaves_a_node_usable(state: NodeState) -> None:
    assert next_state("pi-1", state, NodeEvent.SILENT) not in CONNECTED


def test_an_ipv6_address_is_bracketed_in_the_endpoint() -> None:
    node = Node(NodeId("a" * 40), "pi-1", "fe80::1", 7420)
    with pytest.raises(ValueError, match="data port"):
        _ = node.data_endpoint
