from __future__ import annotations

import pytest

from core.cluster.node import Node, NodeState
from core.commands.wanted import Wanted, comparable, placed, wanted
from core.cost.types import Machine
from core.errors import PlanError
from core.model.graph import Model
from core.model.library import open_entry
from core.plan.form import NodeId, PlanRequest

SPEEDS = {NodeId("A"): 1.0, NodeId("B"): 0.5, NodeId("C"): 1.0, NodeId("D"): 0.5}
NODES = [Node(id=node, name=f"pi-{node.lower()}", host="h", control_port=1, state=NodeState.READY) for node in SPEEDS]


@pytest.fixture(scope="module")
def model() -> Model:
    return open_entry("digits-mlp")


def request(asked: Wanted, model: Model, nodes: int = 4, machines: dict[NodeId, Machine] | None = None) -> PlanRequest:
    return placed(asked, model, 8, NODES[:nodes], SPEEDS, machines or {})


def test_one_kind_takes_all_nodes_in_their_order(model: Model) -> None:
    for kind in ("replicate", "pipeline", "tensor", "spatial"):
        assert request(wanted(kind), model) == PlanRequest(kind, tuple(SPEEDS), 8)


def test_single_takes_the_fastest_or_the_one_that_is_named(model: Model) -> None:
    assert request(wanted("single"), model).nodes == ("A",)
    assert request(wanted("single @ pi-b"), model).nodes == ("B",)


def test_a_pipeline_leaves_out_nodes_that_would_have_no_layer(model: Model) -> None:
    many = [Node(id=NodeId(f"{i}"), name=f"n{i}", host="h", control_port=1) for i in range(99)]
    found = placed(wanted("pipeline"), model, 8, many, {}, {})
    assert len(found.nodes) == len(model.layers(8))


def test_a_nesting_puts_nodes_of_equal_speed_into_a_group(model: Model) -> None:
    found = request(wanted("Replicate > tensor( 2 )"), model)
    assert (found.strategy, found.nodes) == ("replicate(2) > tensor(2)", ("A", "C", "B", "D"))


def test_a_nesting_puts_nodes_of_a_machine_into_a_group(model: Model) -> None:
    machines = {NodeId(node): Machine("lab" if node in "AD" else "attic", 4) for node in "ABCD"}
    assert request(wanted("replicate(2) > tensor(2)"), model, machines=machines).nodes == ("A", "D", "C", "B")


def test_named_nodes_keep_the_order_of_their_names(model: Model) -> None:
    found = request(wanted("replicate(2) > tensor(2) @ pi-d, pi-a, PI-B, pi-c"), model)
    assert (found.strategy, found.nodes) == ("replicate(2) > tensor(2)", ("D", "A", "B", "C"))
    assert request(wanted("tensor(pi-c, pi-a)"), model).nodes == ("C", "A")


def test_shares_belong_to_the_nodes_in_the_order_given(model: Model) -> None:
    found = request(wanted("replicate(2) > tensor(2)", shares=(80, 20, 30, 70)), model)
    assert (found.nodes, found.shares) == (tuple(SPEEDS), (0.8, 0.2, 0.3, 0.7))
    found = request(wanted("tensor @ pi-b, pi-a", shares=(25, 75)), model)
    assert (found.nodes, found.shares) == (("B", "A"), (0.25, 0.75))


def test_axes_are_passed_on(model: Model) -> None:
    found = request(wanted("tensor(2) > spatial", tensor_axis="rows", spatial_axis="columns"), model)
    assert (found.tensor_axis, found.spatial_axis) == ("rows", "columns")


def test_levels_that_divide_nothing_are_left_out(model: Model) -> None:
    assert request(wanted("replicate(1) > tensor"), model).strategy == "tensor"


@pytest.mark.parametrize(
    ("text", "more", "words"),
    [
        (
            "pipeline",
            {"tensor_axis": "rows"},
            "--tensor-axis is for a strategy with a tensor level; 'pipeline' has none",
        ),
        (
            "tensor",
            {"spatial_axis": "rows"},
            "--spatial-axis is for a strategy with a spatial level; 'tensor' has none",
        ),
        ("replicate", {"shares": (50, 50)}, "--shares is for a strategy with a tensor or spatial level"),
    ],
)
def test_what_does_not_go_with_a_strategy_is_refused(text: str, more: dict[str, str], words: str) -> None:
    with pytest.raises(PlanError) as caught:
        wanted(text, **more)  # type: ignore[arg-type]
    assert words in caught.value.message


def test_shares_need_a_group(model: Model) -> None:
    with pytest.raises(PlanError, match="needs a group of nodes"):
        request(wanted("tensor(2) > pipeline(2)", shares=(25, 25, 25, 25)), model)


def test_strategies_worth_a_comparison_follow_the_number_of_nodes() -> None:
    assert comparable(1) == ("single",)
    simple = ("single", "replicate", "pipeline", "tensor", "spatial")
    assert comparable(2) == comparable(3) == comparable(5) == simple
    assert comparable(4) == (*simple, "replicate(2) > tensor(2)", "pipeline(2) > tensor(2)")
    assert comparable(9)[-1] == "pipeline(3) > tensor(3)"
