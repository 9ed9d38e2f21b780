"""Divisions of hand-made models, as the report sums them up and as a person reads them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from core.commands.division_report import DivisionReport, division_report
from core.commands.division_words import division_words
from core.model.types import Layer
from core.plan.division import Division, Exchange, LayerDivision, NodePart
from core.plan.form import NodeId

A, B, C, D = (NodeId(letter * 40) for letter in "ABCD")
NAMES = {A: "pi-1", B: "pi-2", C: "pi-3", D: "pi-4"}


def layer(index: int, op: str, macs: int) -> Layer:
    return Layer(
        index=index, name=f"/{op}_{index}", op=op, group="", parameters=0, parameter_bytes=0, macs=macs, outputs=(),
        output_shape=None, output_bytes=0,
    )  # fmt: skip


LAYERS = [
    layer(0, "MatMul", 4000),
    layer(1, "Relu", 0),
    layer(2, "MatMul", 4000),
    layer(3, "Add", 0),
    layer(4, "MatMul", 1900),
    layer(5, "TopK", 100),
]


def halves(first: int, last: int, *nodes: NodeId, replica: int = 0) -> tuple[NodePart, ...]:
    middle = first + (last - first) // 2
    one, other = nodes
    return (
        NodePart(one, replica, 0, 0.5, ((first, middle),)),
        NodePart(other, replica, 0, 0.5, ((middle, last),)),
    )


def all_of_it(*nodes: NodeId, replica: int = 0) -> tuple[NodePart, ...]:
    return tuple(NodePart(node, replica, 0, 1.0) for node in nodes)


def two_nodes() -> Division:
    return Division(
        layers=(
            LayerDivision(0, "columns", 1, halves(0, 3072, A, B)),
            LayerDivision(1, "split", 1, halves(0, 3072, A, B)),
            LayerDivision(2, "rows", None, (NodePart(A, 0, 0, 0.5), NodePart(B, 0, 0, 0.5))),
            LayerDivision(3, "split", 1, halves(0, 768, A, B)),
            LayerDivision(
                4, "columns", 1, (NodePart(A, 0, 0, 0.7, ((0, 7),)), NodePart(B, 0, 0, 0.3, ((7, 9), (9, 10))))
            ),
            LayerDivision(5, "replicated", None, all_of_it(A, B)),
        ),
        exchanges=(
            Exchange("all-reduce", "y", 0, 3, 2048, ((A, B, 1024), (B, A, 1024))),
            Exchange("all-reduce", "z", 0, 4, 2048, ((A, B, 1024), (B, A, 1024))),
            Exchange("all-gather", "z", 0, 5, 512, ((A, B, 256), (B, A, 256))),
            Exchange("input", "x", 0, 0, 100, (("", A, 50), ("", B, 50))),  # type: ignore[arg-type]
            Exchange("output", "top", 0, -1, 40, ((A, "", 40),)),  # type: ignore[arg-type]
        ),
        split_share=0.99,
        without_rule=("TopK",),
        fallbacks=("/TopK_5 (TopK): there is no rule for this operator",),
    )


def report(division: Division, layers: Sequence[Layer] = LAYERS) -> DivisionReport:
    return division_report(division, layers, NAMES)


def test_layers_divided_alike_are_one_row_the_most_work_first() -> None:
    found = report(two_nodes())
    assert [(row.kind, row.layers, row.first, row.last, row.operators) for row in found.manners] == [
        ("columns", 1, 1, 1, ("MatMul",)),
        ("rows", 1, 3, 3, ("MatMul",)),
        ("columns", 1, 5, 5, ("MatMul",)),
        ("split", 2, 2, 4, ("Relu", "Add")),
        ("replicated", 1, 6, 6, ("TopK",)),
    ]
    assert [row.work for row in found.manners] == pytest.approx([0.4, 0.4, 0.19, 0.0, 0.01])
    assert sum(row.layers for row in found.manners) == len(found.layers) == 6
    assert found.manners[3].parts[0].ranges is None, "Relu and Add have different ranges"
    assert found.layers[1].parts[1].ranges == ((1536, 3072),)


def test_collectives_are_counted_without_inputs_outputs_and_hand_overs() -> None:
    found = report(two_nodes())
    assert (found.collectives, found.collective_bytes) == (3, 2048 * 2 + 512)
    assert [(row.kind, row.count, row.nbytes) for row in found.exchanges] == [
        ("all-reduce", 2, 4096),
        ("all-gather", 1, 512),
        ("input", 1, 100),
        ("output", 1, 40),
    ]
    assert {(link.source, link.target): link.nbytes for link in found.links} == {
        ("pi-1", "pi-2"): 1024 + 1024 + 256,
        ("pi-2", "pi-1"): 1024 + 1024 + 256,
        ("workstation", "pi-1"): 50,
        ("workstation", "pi-2"): 50,
        ("pi-1", "workstation"): 40,
    }
    assert msgspec.json.decode(msgspec.json.encode(found), type=DivisionReport) == found


def test_the_words_say_what_is_where() -> None:
    summary, manners, links, without_rule, fallbacks = division_words(report(two_nodes()), ["pi-1", "pi-2"])
    assert summary == (
        "99 % of the multiply-adds are divided; a micro-batch takes 3 collectives, which send 4.50 KiB: "
        "2 all-reduce (4.00 KiB), 1 all-gather (512 B)."
    )
    assert manners.splitlines() == [
        "divided by     layers  operators   work  pi-1    pi-2",
        "columns             1  MatMul      40 %  0-1535  1536-3071",
        "rows                1  MatMul      40 %  50 %    50 %",
        "columns             1  MatMul      19 %  0-6     7-8+9",
        "split               2  Relu, Add    0 %  50 %    50 %",
        "(all on each)       1  TopK       1.0 %  all     all",
    ]
    assert links.splitlines() == [
        "sent for a micro-batch to      pi-1      pi-2  workstation",
        "pi-1                              –  2.25 KiB         40 B",
        "pi-2                       2.25 KiB         –            –",
        "workstation                    50 B      50 B            –",
    ]
    assert without_rule == "no rule yet, so their inputs are gathered: TopK"
    assert fallbacks.splitlines()[1:] == ["  /TopK_5 (TopK): there is no rule for this operator"]


def one_layer(*parts: NodePart, kind: str = "columns", exchanges: tuple[Exchange, ...] = ()) -> DivisionReport:
    return report(Division((LayerDivision(0, kind, 1, parts),), exchanges, 1.0), LAYERS[:1])


def words(found: DivisionReport) -> str:
    return "\n\n".join(division_words(found, list(NAMES.values())))


def test_replicas_that_divide_alike_are_one_line_and_others_one_each() -> None:
    alike = one_layer(*halves(0, 8, A, B), *halves(0, 8, C, D, replica=1))
    assert words(alike).splitlines()[2:] == [
        "divided by  layers  operators   work  nodes                    rank 1  rank 2",
        "columns          1  MatMul     100 %  pi-1, pi-2 / pi-3, pi-4     0-3     4-7",
    ]
    unlike = one_layer(*halves(0, 8, A, B), *halves(0, 6, C, D, replica=1))
    assert words(unlike).splitlines()[2:] == [
        "divided by  layers  operators   work  nodes       rank 1  rank 2",
        "columns          1  MatMul     100 %  pi-1, pi-2     0-3     4-7",
        "                                      pi-3, pi-4     0-2     3-5",
    ]


def test_collectives_are_those_of_one_replica() -> None:
    exchanges = tuple(
        Exchange("halo", "x", replica, 0, 10, ((one, other, 10),))
        for replica, (one, other) in enumerate([(A, B), (C, D)])
    )
    found = one_layer(*halves(0, 8, A, B), *halves(0, 8, C, D, replica=1), exchanges=exchanges)
    assert (found.collectives, found.collective_bytes) == (1, 10)
    assert "a micro-batch (in each replica) takes 1 collective, which sends 10 B: 1 halo (10 B)." in words(found)


def test_many_ranks_are_told_by_the_first_and_the_last() -> None:
    nodes = [NodeId(str(index) * 40) for index in range(9)]
    parts = tuple(NodePart(node, 0, 0, 1 / 9, ((index, index + 1),)) for index, node in enumerate(nodes))
    links = tuple((one, other, 100) for one in nodes for other in nodes if one != other)
    division = Division((LayerDivision(0, "heads", 1, parts),), (Exchange("all-reduce", "x", 0, 0, 7200, links),), 1.0)
    names = {node: f"pi-{index}" for index, node in enumerate(nodes)}
    found = division_report(division, LAYERS[:1], names)
    _, manners, told = division_words(found, list(names.values()))
    assert manners.splitlines() == [
        "divided by  layers  operators   work  pi-0  pi-1  …  pi-8",
        "heads            1  MatMul     100 %     0     1  …     8",
    ]
    assert told == "sent for a micro-batch: 7.03 KiB over 72 links between nodes, 100 B at most over one, see --json"


def test_a_plan_that_divides_no_layer_has_no_such_words() -> None:
    assert words(one_layer(*all_of_it(A), kind="whole")) == ""
    assert words(one_layer(NodePart(A, 0, 0, 1.0), NodePart(B, 1, 0, 1.0), kind="whole")) == ""


def test_a_long_model_stays_a_short_table() -> None:
    layers = [layer(index, "Conv", 100) for index in range(50)]
    divided = tuple(LayerDivision(index, "columns", 1, halves(0, 2 * index + 2, A, B)) for index in range(50))
    fallbacks = tuple(f"/Conv_{index} (Conv): too few channels" for index in range(20))
    found = report(Division(divided, (), 1.0, (), fallbacks), layers)
    text = words(found)
    assert len(text.splitlines()) < 30
    assert "and 38 layers with 76 % of the work in other ways, see --json" in text
    assert "and 14 more, see --json" in text
    assert len(found.layers) == 50
    assert len(found.fallbacks) == 20


def test_stages_that_divide_alike_are_one_line() -> None:
    def staged(stage: int, one: NodeId, other: NodeId) -> tuple[NodePart, ...]:
        return NodePart(one, 0, stage, 0.5, ((0, 4),)), NodePart(other, 0, stage, 0.5, ((4, 8),))

    division = Division(
        (LayerDivision(0, "columns", 1, staged(0, A, B)), LayerDivision(1, "columns", 1, staged(1, C, D))), (), 1.0
    )
    found = report(division, [layer(0, "MatMul", 100), layer(1, "Conv", 100)])
    assert len(found.manners) == 2
    assert words(found).splitlines()[2:] == [
        "divided by  layers  operators      work  nodes                    rank 1  rank 2",
        "columns          2  MatMul, Conv  100 %  pi-1, pi-2 / pi-3, pi-4     0-3     4-7",
    ]


def test_shares_without_ranges_are_told_as_their_mean() -> None:
    divided = tuple(
        LayerDivision(index, "rows", None, (NodePart(A, 0, 0, share), NodePart(B, 0, 0, 1 - share)))
        for index, share in enumerate((0.51, 0.53))
    )
    found = report(Division(divided, (), 1.0), [layer(0, "MatMul", 100), layer(1, "MatMul", 100)])
    (row,) = found.manners
    assert [part.share for part in row.parts] == pytest.approx([0.52, 0.48])
