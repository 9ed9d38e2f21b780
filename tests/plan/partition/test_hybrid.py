"""Levels inside levels on whole models: right numbers, one leaf for each node, and words where it cannot be."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from core.errors import PlanError
from core.model.graph import Model
from core.plan.division import Division, LayerDivision
from core.plan.draft import Costs
from core.plan.form import PlanRequest
from core.plan.hybrid import nested
from core.plan.outline import Partition
from core.plan.part_stages import cut_program
from core.plan.verify import verify_outputs
from tests.plan.models import build, node_ids, to_model
from tests.plan.partition.joined import run_partition
from tests.plan.partition.programs import floats, node, program

WIDTH, HEADS = 32, 4


def weight(name: str, *shape: int) -> onnx.TensorProto:
    return numpy_helper.from_array(floats(*shape, scale=shape[0] ** -0.5), name)


def ints(name: str, *values: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def transformer(heads: int = HEADS) -> Model:
    """Two blocks on [items, 6, 32]."""
    nodes, held, x = [], [], "x"
    for block in "ab":
        b = f"{block}."
        nodes += [node("LayerNormalization", f"{x} {b}g {b}z", f"{b}n")]
        held += [weight(f"{b}g", WIDTH), weight(f"{b}z", WIDTH)]
        held += [ints(f"{b}shape", 0, 6, heads, WIDTH // heads), ints(f"{b}back", 0, 6, WIDTH)]
        for part in "qkv":
            perm = [0, 2, 3, 1] if part == "k" else [0, 2, 1, 3]
            held.append(weight(f"{b}w{part}", WIDTH, WIDTH))
            nodes += [
                node("MatMul", f"{b}n {b}w{part}", f"{b}{part}0"),
                node("Reshape", f"{b}{part}0 {b}shape", f"{b}{part}1"),
                node("Transpose", f"{b}{part}1", f"{b}{part}", perm=perm),
            ]
        nodes += [
            node("MatMul", f"{b}q {b}k", f"{b}scores"),
            node("Softmax", f"{b}scores", f"{b}p", axis=-1),
            node("MatMul", f"{b}p {b}v", f"{b}c"),
            node("Transpose", f"{b}c", f"{b}c1", perm=[0, 2, 1, 3]),
            node("Reshape", f"{b}c1 {b}back", f"{b}c2"),
            node("MatMul", f"{b}c2 {b}wo", f"{b}o"),
            node("Add", f"{x} {b}o", f"{b}r"),
            node("MatMul", f"{b}r {b}up", f"{b}1"),
            node("Relu", f"{b}1", f"{b}2"),
            node("MatMul", f"{b}2 {b}down", f"{b}3"),
            node("Add", f"{b}r {b}3", f"{b}y"),
        ]
        held += [weight(f"{b}wo", WIDTH, WIDTH), weight(f"{b}up", WIDTH, 96), weight(f"{b}down", 96, WIDTH)]
        x = f"{b}y"
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 6, WIDTH])
    made = helper.make_tensor_value_info("b.y", TensorProto.FLOAT, ["N", 6, WIDTH])
    return to_model(build(nodes, [given], [made], held), "transformer")


def pictures() -> Model:
    """Three convolutions and a classifier, on [items, 3, 16, 16]."""
    nodes = [
        node("Conv", "x w", "a", pads=[1, 1, 1, 1]),
        node("Relu", "a", "b"),
        node("MaxPool", "b", "c", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", "c v", "d", pads=[1, 1, 1, 1]),
        node("Relu", "d", "e"),
        node("Conv", "e u", "f", pads=[1, 1, 1, 1]),
        node("Add", "c f", "g"),
        node("GlobalAveragePool", "g", "h"),
        node("Flatten", "h", "i"),
        node("Gemm", "i t", "y"),
    ]
    held = [weight("w", 8, 3, 3, 3), weight("v", 12, 8, 3, 3), weight("u", 8, 12, 3, 3), weight("t", 8, 10)]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 16, 16])
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 10])
    return to_model(build(nodes, [given], [made], held), "pictures")


def partition(
    model: Model, strategy: str, nodes: int, batch: int = 2, speeds: list[float] | None = None, **asked: object
) -> Partition:
    names = node_ids(nodes)
    request = PlanRequest(strategy, names, batch, **asked)  # type: ignore[arg-type]
    return nested(model, request, Costs(None, dict(zip(names, speeds or [1.0] * nodes, strict=True))))


def check(model: Model, strategy: str, nodes: int, batch: int = 2, **asked: object) -> Partition:
    made = partition(model, strategy, nodes, batch, **asked)  # type: ignore[arg-type]
    assert [leaf.node for leaf in made.leaves] == list(node_ids(nodes))
    feed = model.random_feed(batch, seed=3)
    results = run_partition(model, made, feed)
    verdict = verify_outputs(model.reference(1)(feed), [results[info.name] for info in model.outputs])
    assert verdict.passed, verdict.reason
    assert len(made.division.layers) == len(model.layers(batch))
    for layer in made.division.layers:
        for replica in {part.replica for part in layer.parts}:
            shares = [part.share for part in layer.parts if part.replica == replica]
            assert sum(shares) >= 1 - 1e-6
            assert len(shares) == len({part.node for part in layer.parts if part.replica == replica})
    return made


def layer_of(model: Model, division: Division, output: str) -> LayerDivision:
    index = next(layer.index for layer in model.layers(2) if output in layer.outputs)
    return division.layers[index]


# ---------------------------------------------------------------- right numbers


@pytest.mark.parametrize(
    ("strategy", "nodes"),
    [
        ("tensor", 3),
        ("spatial", 3),
        ("replicate(2) > tensor(2)", 4),
        ("pipeline(2) > tensor(2)", 4),
        ("tensor(2) > pipeline(2)", 4),
        ("tensor(2) > replicate(2)", 4),
        ("tensor(2) > tensor(2)", 4),
        ("spatial(2) > tensor(2)", 4),
        ("tensor(2) > spatial(2)", 4),
        ("tensor(2) > spatial(2) > tensor(2)", 8),
        ("replicate(2) > pipeline(2) > tensor(2)", 8),
        ("pipeline(2) > tensor(2) > spatial(2)", 8),
        ("tensor(2) > pipeline(2) > tensor(2)", 8),
    ],
)
@pytest.mark.parametrize("build_model", [transformer, pictures])
def test_nestings(build_model: type, strategy: str, nodes: int) -> None:
    check(build_model(), strategy, nodes)


@pytest.mark.parametrize("strategy", ["tensor", "spatial", "tensor(2) > tensor(2)", "pipeline(2) > spatial(2)"])
def test_nodes_of_any_speed(strategy: str) -> None:
    for model in (transformer(), pictures()):
        check(model, strategy, 4, speeds=[2.0, 0.3, 1.0, 0.05])


def test_names_never_collide_in_a_leaf() -> None:
    """Every leaf's values have names of their own: what it receives, makes, and holds."""
    made = check(transformer(), "tensor(2) > spatial(2) > tensor(2)", 8)
    for leaf in made.leaves:
        names = [name for op in leaf.program.ops for name in op.outputs if name]
        names += [*leaf.program.inputs, *leaf.program.constants]
        assert len(names) == len(set(names))
        received = {t.name for t in made.transfers if t.target >= 0 and made.leaves[t.target] is leaf}
        assert received == set(leaf.program.inputs)


def test_the_same_request_gives_the_same_partition() -> None:
    one, other = (partition(transformer(), "tensor(2) > tensor(2)", 4) for _ in range(2))
    assert one.transfers == other.transfers
    assert one.division == other.division
    for a, b in zip(one.leaves, other.leaves, strict=True):
        assert [(op.type, op.inputs, op.outputs) for op in a.program.ops] == [
            (op.type, op.inputs, op.outputs) for op in b.program.ops
        ]


# ---------------------------------------------------------------- what people are told


def test_kinds_of_layers() -> None:
    model = transformer()
    division = check(model, "tensor", 2).division
    assert layer_of(model, division, "a.q0").kind == "columns"
    assert layer_of(model, division, "a.scores").kind == "heads"
    assert layer_of(model, division, "a.scores").axis == 1
    assert layer_of(model, division, "a.o").kind == "rows"
    assert layer_of(model, division, "a.o").axis is None
    assert layer_of(model, division, "a.2").kind == "split"
    assert layer_of(model, division, "a.2").parts[1].ranges == ((48, 96),)
    assert division.split_share > 0.99


def test_kinds_of_image_layers() -> None:
    model = pictures()
    rows = check(model, "spatial", 2).division
    assert {layer_of(model, rows, name).kind for name in "abcdefg"} == {"image rows"}
    columns = check(model, "spatial", 2, spatial_axis="columns").division
    assert layer_of(model, columns, "a").kind == "image columns"
    assert layer_of(model, columns, "a").axis == 3
    both = check(model, "tensor(2) > spatial(2)", 4).division
    assert layer_of(model, both, "a").kind == "columns + image rows"
    assert layer_of(model, both, "a").axis is None
    items = check(model, "pipeline(2) > replicate(2)", 4).division
    assert layer_of(model, items, "a").kind == "items"


def test_attention_scores_of_a_sequence_are_no_image_rows() -> None:
    model = transformer()
    division = check(model, "spatial", 2).division
    assert layer_of(model, division, "a.scores").kind == "positions"
    assert layer_of(model, division, "a.scores").parts[0].ranges == ((0, 3),)


def test_patches_of_an_image_become_positions() -> None:
    nodes = [
        node("Conv", "x w", "a", strides=[4, 4], kernel_shape=[4, 4]),
        node("Reshape", "a shape", "b"),
        node("Transpose", "b", "c", perm=[0, 2, 1]),
        node("MatMul", "c v", "y"),
    ]
    held = [weight("w", 8, 3, 4, 4), ints("shape", 0, 8, 16), weight("v", 8, 24)]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 16, 16])
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 16, 24])
    model = to_model(build(nodes, [given], [made], held))
    division = check(model, "spatial", 2).division
    assert [layer_of(model, division, name).kind for name in "abcy"] == ["image rows", *["positions"] * 3]


def test_parts_follow_shares() -> None:
    model = transformer()
    division = check(model, "tensor", 2, shares=(0.75, 0.25)).division
    assert layer_of(model, division, "a.1").parts[0].ranges == ((0, 72),)
    assert [part.share for part in layer_of(model, division, "a.scores").parts] == [0.75, 0.25]


def test_what_is_not_divided_is_told_once_and_why() -> None:
    nodes = [
        node("MatMul", "x w", "a"),
        node("ReverseSequence", "a lengths", "b", batch_axis=0, time_axis=1),
        node("MatMul", "b v", "y"),
    ]
    held = [weight("w", 20, 20), weight("v", 20, 20), ints("lengths", 9)]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 20])
    model = to_model(build(nodes, [given], ["y"], held))
    division = check(model, "tensor(2) > tensor(2)", 4, 1).division
    assert division.without_rule == ("ReverseSequence",)
    assert division.fallbacks == ("b (ReverseSequence): there is no rule for this operator",)


# ---------------------------------------------------------------- words


def plain() -> Model:
    """A model with nothing to divide among ranks."""
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])
    return to_model(build([node("Softmax", "x", "p"), node("Exp", "p", "y")], [given], ["y"]))


@pytest.mark.parametrize(
    ("asked", "words", "hint"),
    [
        ({"strategy": "tensor", "spatial_axis": "rows"}, "strategy tensor has no spatial level", "Use spatial"),
        ({"strategy": "spatial", "tensor_axis": "rows"}, "strategy spatial has no tensor level", "Use tensor"),
        ({"strategy": "tensor", "tensor_axis": "heads"}, "There is no tensor axis 'heads'", "rows or columns"),
        ({"strategy": "tensor", "cuts": (3,)}, "Strategy tensor has no cuts", "pipeline"),
        ({"strategy": "tensor", "shares": (0.5,)}, "1 share is given for 2 nodes", "each node"),
        ({"strategy": "tensor", "shares": (1.5, -0.5)}, "A share must be above 0", "Leave out"),
        ({"strategy": "tensor", "shares": (0.5, 0.4)}, "The shares of a group add up to 0.9, not 1", "add up"),
        ({"strategy": "tensor", "shares": (0.5, float("nan"))}, "A share must be above 0", "Leave out"),
    ],
)
def test_requests_that_make_no_sense(asked: dict[str, object], words: str, hint: str) -> None:
    with pytest.raises(PlanError, match=words) as error:
        partition(transformer(), nodes=2, **asked)  # type: ignore[arg-type]
    assert hint in (error.value.hint or "")


def test_shares_are_those_of_each_group() -> None:
    check(transformer(), "pipeline(2) > tensor(2)", 4, shares=(0.6, 0.4, 0.25, 0.75))
    with pytest.raises(PlanError, match=r"add up to 1\.1"):
        partition(transformer(), "pipeline(2) > tensor(2)", 4, shares=(0.6, 0.5, 0.25, 0.65))


def test_more_nodes_than_heads_is_told() -> None:
    made = check(transformer(heads=2), "tensor", 3)
    assert made.notes == (
        "a.q0 and 5 more, divided by columns: there is a part for 2 of 3 nodes, the others wait.",
        "a.o and 1 more, divided by rows: there is a part for 2 of 3 nodes, the others wait.",
    )
    assert partition(transformer(), "tensor", 3).notes == ()


def test_one_node_takes_a_forced_axis() -> None:
    check(transformer(), "tensor", 1, tensor_axis="rows")


def test_nothing_to_divide() -> None:
    with pytest.raises(PlanError, match="Nothing of this model can be divided by tensor over 2 nodes") as error:
        partition(plain(), "tensor", 2)
    assert error.value.hint


def test_a_model_that_cannot_be_divided_as_forced_says_which_layer_and_why() -> None:
    scale, zero = np.float32(0.1), np.uint8(7)
    held = [numpy_helper.from_array(np.arange(200, dtype=np.uint8).reshape(20, 10), "w")]
    held += [numpy_helper.from_array(np.asarray(value), name) for value, name in ((scale, "s"), (zero, "z"))]
    given = helper.make_tensor_value_info("x", TensorProto.UINT8, ["N", 20])
    made = helper.make_tensor_value_info("y", TensorProto.UINT8, ["N", 10])
    model = to_model(build([node("QLinearMatMul", "x s z w s z s z", "y")], [given], [made], held))
    words = r"tensor by rows over 2 nodes. y \(QLinearMatMul\): it can be divided by columns only"
    with pytest.raises(PlanError, match=words) as error:
        partition(model, "tensor", 2, tensor_axis="rows")
    assert error.value.hint == "Use the other axis, or none."
    check(model, "tensor", 2)


def test_cuts_that_do_not_fit() -> None:
    with pytest.raises(PlanError, match=r"Cuts \[5, 3\] do not divide \d+ layers among 2 stages"):
        partition(transformer(), "pipeline(2) > tensor(2)", 4, cuts=(5, 3))


def test_more_stages_than_operators() -> None:
    whole = program([node("Neg", "x", "a"), node("Exp", "a", "y")], {"x": floats(2)}, "y")
    with pytest.raises(PlanError, match="A part of 2 operators cannot be cut into 4 stages"):
        cut_program(whole, [1.0] * 4, lambda _: 1.0)


def test_cuts_are_those_asked_for() -> None:
    made = check(transformer(), "pipeline(2) > tensor(2)", 4, cuts=(12,))
    assert made.cuts == (12,)
    assert made.leaves[0].label == "layers 1-12"
    assert {leaf.stage for leaf in made.leaves} == {0, 1}
