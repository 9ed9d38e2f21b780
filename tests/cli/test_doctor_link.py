from __future__ import annotations

from core.cluster.node import Node, NodeState
from core.commands.doctor_nodes import check_link
from core.commands.findings import Verdict
from core.plan.form import NodeId


def node(rtt_s: float | None) -> Node:
    return Node(NodeId("A" * 40), "pi-1", "h", 1, state=NodeState.READY, rtt_s=rtt_s)


def test_a_slow_link_is_told_for_strategies_that_exchange_data_layer_by_layer() -> None:
    (found,) = check_link(node(0.012))
    assert (found.step, found.verdict) == ("pi-1: link", Verdict.NOTE)
    assert "answers take 12 ms" in found.words
    assert "by cable" in found.mend


def test_a_cable_is_no_matter() -> None:
    assert check_link(node(0.0004)) == check_link(node(None)) == []
