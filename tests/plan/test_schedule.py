"""Leaves and transfers written by hand into shards and routes, and what those compute."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from core.errors import PlanError
from core.model.graph import Model
from core.plan import schedule
from core.plan.compile import CompiledPlan, compile_outline, outline_plan
from core.plan.division import Division
from core.plan.extract import layer_graph, whole
from core.plan.form import CLIENT, Slice
from core.plan.outline import OUTSIDE, Leaf, Outline, Partition, Transfer
from core.plan.program import Constant, Op, Program, TensorType, program_of
from core.plan.schedule import outline
from core.plan.verify import verify_outputs
from tests.plan.in_process import InProcessPlan
from tests.plan.models import build, matrix, node_ids, request, rows, to_model
from tests.plan.test_random_graphs import graphs

BATCH = 2
WIDTH = 36
"""A third of a matrix of this width has 1728 bytes: it travels as a blob."""
make = helper.make_node


def floats(*shape: int) -> TensorType:
    return TensorType("float32", shape, (True, *(False for _ in shape[1:])))


def op(
    kind: str, reads: str, makes: str, layer: int = -1, share: float = 1.0, bundle: int = -1, **attributes: int
) -> Op:
    held = {attr.name: attr for attr in ir.convenience.convert_attributes(attributes)}
    return Op(
        kind, tuple(reads.split()), tuple(makes.split()), held, name=makes, layer=layer, share=share, bundle=bundle
    )


def program(
    ops: Sequence[Op],
    inputs: str,
    outputs: str,
    types: Mapping[str, TensorType],
    constants: Mapping[str, Constant] | None = None,
) -> Program:
    held = constants or {}
    known = dict(types) | {n: TensorType(c.dtype, c.shape, (False,) * len(c.shape)) for n, c in held.items()}
    return Program(tuple(ops), tuple(inputs.split()), tuple(outputs.split()), known, held)


def planned(model: Model, leaves: Sequence[Leaf], transfers: Sequence[Transfer], batch: int = BATCH) -> Outline:
    nodes = len({leaf.node for leaf in leaves})
    return outline(model, request("tensor", nodes, batch), Partition(tuple(leaves), tuple(transfers), EMPTY))


EMPTY = Division((), (), 0.0)


def assert_right(model: Model, found: Outline, items: int = BATCH) -> CompiledPlan:
    compiled = compile_outline(model, found)
    feed = model.random_feed(items)
    expected = model.reference(threads=1)(feed)
    results = InProcessPlan(compiled).infer(feed)
    verdict = verify_outputs(expected, [results[info.name] for info in model.outputs])
    assert verdict.passed, verdict.reason
    return compiled


def blocks(count: int, width: int = WIDTH) -> Model:
    """x -> (MatMul, Relu, MatMul, Add of the block's input) as often as ``count`` says -> y."""
    nodes, weights, value = [], [], "x"
    for i in range(count):
        out = "y" if i == count - 1 else f"x{i + 1}"
        weights += [matrix(f"a{i}", 2 * i, width), matrix(f"b{i}", 2 * i + 1, width)]
        nodes += [
            make("MatMul", [value, f"a{i}"], [f"h{i}"]),
            make("Relu", [f"h{i}"], [f"r{i}"]),
            make("MatMul", [f"r{i}", f"b{i}"], [f"p{i}"]),
            make("Add", [f"p{i}", value], [out]),
        ]
        value = out
    return to_model(build(nodes, [rows("x", width)], [rows("y", width)], weights))


def ranks_of(model: Model, count: int, ranks: int, width: int = WIDTH) -> tuple[list[Leaf], list[Transfer]]:
    """``blocks`` by columns and rows: an all-reduce after each block, each rank sends its term to all others."""
    bounds = [width * r // ranks for r in range(ranks + 1)]
    leaves, transfers = [], []
    tensors = {name: value.const_value for name, value in model.ir.graph.initializers.items()}
    for rank, node in enumerate(node_ids(ranks)):
        part = ((bounds[rank], bounds[rank + 1]),)
        own = bounds[rank + 1] - bounds[rank]
        ops: list[Op] = []
        types = {"x": floats(BATCH, width)}
        constants = {}
        inputs = ["x"]
        transfers.append(Transfer(OUTSIDE, "x", rank, "x", kind="input"))
        value = "x"
        for i in range(count):
            out = "y" if i == count - 1 else f"x{i + 1}"
            constants[f"a{i}"] = Constant(tensors[f"a{i}"], ((1, part),))
            constants[f"b{i}"] = Constant(tensors[f"b{i}"], ((0, part),))
            others = [r for r in range(ranks) if r != rank]
            names = [f"p{i}" if r == rank else f"p{i}/{r}" for r in range(ranks)]
            inputs += [f"p{i}/{r}" for r in others]
            ops += [
                op("MatMul", f"{value} a{i}", f"h{i}", 4 * i, 1 / ranks),
                op("Relu", f"h{i}", f"r{i}", 4 * i + 1, 1 / ranks),
                op("MatMul", f"r{i} b{i}", f"p{i}", 4 * i + 2, 1 / ranks),
                op("Sum", " ".join(names), f"s{i}", bundle=i),
                op("Add", f"s{i} {value}", out, 4 * i + 3, bundle=i),
            ]
            types |= {f"h{i}": floats(BATCH, own), f"r{i}": floats(BATCH, own), out: floats(BATCH, width)}
            types |= {name: floats(BATCH, width) for name in names}
            transfers += [
                Transfer(r, f"p{i}", rank, f"p{i}/{r}", kind="all-reduce", tensor=f"p{i}", layer=4 * i + 3)
                for r in others
            ]
            value = out
        leaves.append(Leaf(node, program(ops, " ".join(inputs), "y", types, constants), f"rank {rank + 1}", rank=rank))
    return leaves, transfers


def routes(found: Outline) -> set[tuple[int, str, int, str]]:
    return {(route.producer, route.tensor, route.consumer, route.target) for route in found.routes}


@pytest.fixture
def every_level(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small models are divided as large ones are."""
    monkeypatch.setattr(schedule, "TRIFLE_MACS", -1.0)


@pytest.mark.usefixtures("every_level")
class TestGroups:
    @pytest.mark.parametrize("ranks", [2, 3])
    def test_an_all_reduce_divides_each_rank_where_it_waits(self, ranks: int) -> None:
        model = blocks(2)
        leaves, transfers = ranks_of(model, 2, ranks)
        found = planned(model, leaves, [*transfers, Transfer(0, "y", OUTSIDE, "y", kind="output")])
        shards = Counter(part.rank for part in found.parts)
        assert shards == {0: 3} | dict.fromkeys(range(1, ranks), 2)  # only rank 0 adds up what leaves the model
        compiled = assert_right(model, found)
        weights = [{w.name: w.shape for w in shard.weights} for shard in compiled.plan.shards]
        own = WIDTH // ranks
        assert weights[:3] == [{f"a{i}": (WIDTH, own), f"b{i}": (own, WIDTH)} for i in range(2)] + [{}]
        assert [part.label for part in found.parts[:3]] == [
            "layers 1-3, rank 1",
            "layers 4-7, rank 1",
            "layer 8, rank 1",
        ]

    def test_work_and_bytes_are_told(self) -> None:
        model = blocks(1)
        leaves, transfers = ranks_of(model, 1, 2)
        found = planned(model, leaves, [*transfers, Transfer(1, "y", OUTSIDE, "y")])
        assert found.parts[0].work == ((0, 0.5), (1, 0.5), (2, 0.5))
        assert found.parts[-1].work == ((3, 1.0),)
        row = BATCH * WIDTH * 4
        assert found.route_bytes == (row,) * len(found.routes)
        exchanges = {one.kind: one for one in found.division.exchanges}
        assert sorted(exchanges) == ["all-reduce", "input", "output"]
        zero, one = node_ids(2)
        assert exchanges["all-reduce"].links == ((zero, one, row),)  # rank 1 alone gives the output
        assert exchanges["input"].nbytes == 2 * row
        assert exchanges["output"].links == ((one, "", row),)

    def test_pieces_of_an_output(self) -> None:
        model = blocks(1)
        leaves, transfers = ranks_of(model, 1, 2)
        pieces = [
            Transfer(r, "y", OUTSIDE, "y", (Slice(1, *ends),), (Slice(1, *ends),))
            for r, ends in enumerate(((0, 10), (10, WIDTH)))
        ]
        found = planned(model, leaves, [*transfers, *pieces])
        assert [n for r, n in zip(found.routes, found.route_bytes, strict=True) if r.consumer == CLIENT] == [80, 208]
        compiled = assert_right(model, found)
        assert [route.at for route in compiled.plan.routes if route.consumer == CLIENT] == [p.at for p in pieces]

    def test_a_group_that_gathers_only_at_the_end_still_runs_side_by_side(self) -> None:
        """Each rank's own columns do not wait for those of the others, though nothing ever comes back to rank 1."""
        model = to_model(build([make("MatMul", ["x", "w0"], ["y"])], [rows("x", 20)], [rows("y", 20)], [matrix("w0")]))
        tensor = model.ir.graph.initializers["w0"].const_value
        assert tensor is not None
        leaves = []
        for rank, node in enumerate(node_ids(2)):
            ops = [op("MatMul", "x w0", "mine", 0, 0.5)]
            ops += [op("Concat", "mine other", "y", axis=1)] if rank == 0 else []
            types = {"x": floats(2, 20), "mine": floats(2, 10), "other": floats(2, 10), "y": floats(2, 20)}
            constants = {"w0": Constant(tensor, ((1, ((10 * rank, 10 * rank + 10),)),))}
            leaves.append(Leaf(node, program(ops, "x other", "y", types, constants), "", rank=rank))
        transfers = [
            *(Transfer(OUTSIDE, "x", rank, "x") for rank in range(2)),
            Transfer(1, "mine", 0, "other"),
            Transfer(0, "y", OUTSIDE, "y"),
        ]
        found = planned(model, leaves, transfers)
        assert [(part.rank, [one.type for one in part.program.ops]) for part in found.parts] == [
            (0, ["MatMul"]),
            (0, ["Concat"]),
            (1, ["MatMul"]),
        ]
        assert_right(model, found)

    def test_replicas_that_are_alike_share_their_programs(self) -> None:
        model = blocks(1)
        leaves, transfers = ranks_of(model, 1, 2)
        transfers.append(Transfer(0, "y", OUTSIDE, "y"))
        others = [
            msgspec.structs.replace(leaf, node=node, replica=1)
            for leaf, node in zip(leaves, node_ids(4)[2:], strict=True)
        ]
        moved = [
            msgspec.structs.replace(
                t,
                source=t.source if t.source == OUTSIDE else t.source + 2,
                target=t.target if t.target == OUTSIDE else t.target + 2,
            )
            for t in transfers
        ]
        found = planned(model, [*leaves, *others], [*transfers, *moved])
        half = len(found.parts) // 2
        assert all(a.program is b.program for a, b in zip(found.parts[:half], found.parts[half:], strict=True))
        assert [part.replica for part in found.parts] == [0] * half + [1] * half
        compiled = compile_outline(model, found)
        feed = model.random_feed(2)
        running = InProcessPlan(compiled)
        np.testing.assert_array_equal(running.infer(feed, 0)["y"], running.infer(feed, 1)["y"])


class TestStages:
    def test_a_skip_over_a_stage_does_not_divide_those_it_joins(self) -> None:
        model = blocks(3)
        graph = layer_graph(model)
        whole_program = program_of(model, graph, whole(graph), BATCH)
        bounds = (0, 3, 7, 12)
        leaves, made = [], {}
        transfers = []
        for stage in range(3):
            ops = whole_program.ops[bounds[stage] : bounds[stage + 1]]
            made |= {name: stage for one in ops for name in one.outputs}
            reads = dict.fromkeys(name for one in ops for name in one.reads if name not in whole_program.constants)
            inputs = [name for name in reads if made.get(name, OUTSIDE) != stage]
            transfers += [Transfer(made.get(name, OUTSIDE), name, stage, name) for name in inputs]
            one = Program(ops, tuple(inputs), (), whole_program.types, whole_program.constants)
            leaves.append(Leaf(node_ids(3)[stage], one, f"layers {stage}", stage=stage))
        found = planned(model, leaves, [*transfers, Transfer(2, "y", OUTSIDE, "y")])
        assert [part.stage for part in found.parts] == [0, 1, 2]
        assert (CLIENT, "x", 1, "x") in routes(found)
        assert_right(model, found)

    def test_stages_that_need_one_another_are_divided_after_all(self) -> None:
        model = blocks(2)
        found = planned(model, *back_and_forth(model))
        assert [part.stage for part in found.parts] == [0, 0, 1]
        assert_right(model, found)


def back_and_forth(model: Model) -> tuple[list[Leaf], list[Transfer]]:
    """Layers 1-3 and 6-8 on one node, 4 and 5 on the other."""
    graph = layer_graph(model)
    base = program_of(model, graph, whole(graph), BATCH)
    first = Program((*base.ops[:3], *base.ops[5:]), ("x", "h1", "x1"), ("p0", "y"), base.types, base.constants)
    second = Program(base.ops[3:5], ("x", "p0"), ("h1", "x1"), base.types, base.constants)
    nodes = node_ids(2)
    transfers = [
        Transfer(OUTSIDE, "x", 0, "x"),
        Transfer(OUTSIDE, "x", 1, "x"),
        Transfer(0, "p0", 1, "p0"),
        Transfer(1, "h1", 0, "h1"),
        Transfer(1, "x1", 0, "x1"),
        Transfer(0, "y", OUTSIDE, "y"),
    ]
    return [Leaf(nodes[0], first, "", stage=0), Leaf(nodes[1], second, "", stage=1)], transfers


class TestWhatIsLeftOut:
    def test_what_nobody_needs(self) -> None:
        model = blocks(1)
        leaves, transfers = ranks_of(model, 1, 2)
        idle = op("Relu", "x", "nothing", 1)
        held = leaves[1].program
        leaves[1] = msgspec.structs.replace(leaves[1], program=msgspec.structs.replace(held, ops=(*held.ops, idle)))
        dead = Transfer(1, "nothing", 0, "unread")
        found = planned(model, leaves, [*transfers, dead, Transfer(0, "y", OUTSIDE, "y")])
        ops = {name for part in found.parts for one in part.program.ops for name in one.outputs}
        assert "nothing" not in ops
        assert not any("unread" in (route.target, route.tensor) for route in found.routes)
        assert not any(route.target == "p0/0" for route in found.routes)  # rank 1 adds nothing up
        assert "unread" not in {one.tensor for one in found.division.exchanges}

    def test_a_node_that_nobody_needs(self) -> None:
        model = blocks(1)
        leaves, transfers = ranks_of(model, 1, 2)
        alone = [t for t in transfers if t.source == OUTSIDE or t.target == 1]
        summed = leaves[0].program
        ops = tuple(one for one in summed.ops if one.type != "Sum")
        ops = (*ops[:-1], op("Add", "p0 x", "y", 3))
        leaves[0] = msgspec.structs.replace(leaves[0], program=msgspec.structs.replace(summed, ops=ops))
        with pytest.raises(PlanError, match="Rank 2 would have nothing to do") as refused:
            planned(model, leaves, [*alone, Transfer(0, "y", OUTSIDE, "y")])
        assert "fewer nodes" in refused.value.hint


@pytest.mark.usefixtures("every_level")
class TestInside:
    def test_operators_that_come_unsorted(self) -> None:
        model = blocks(2)
        leaves, transfers = ranks_of(model, 2, 2)
        leaves = [
            msgspec.structs.replace(
                leaf, program=msgspec.structs.replace(leaf.program, ops=tuple(reversed(leaf.program.ops)))
            )
            for leaf in leaves
        ]
        assert_right(model, planned(model, leaves, [*transfers, Transfer(0, "y", OUTSIDE, "y")]))

    def test_operators_that_wait_for_one_another(self) -> None:
        model = blocks(1)
        leaves, transfers = ranks_of(model, 1, 2)
        ops = (op("Relu", "q", "p"), op("Relu", "p", "q"), op("Add", "q x", "y"))
        leaves[0] = msgspec.structs.replace(leaves[0], program=msgspec.structs.replace(leaves[0].program, ops=ops))
        with pytest.raises(ValueError, match="wait for one another"):
            planned(model, leaves, [transfers[0], Transfer(0, "y", OUTSIDE, "y")])

    def test_a_bundle_stays_together(self) -> None:
        """Its first operator could run at once, but what it makes has no type and cannot be handed over."""
        model = to_model(
            build(
                [make("Relu", ["x"], ["r"]), make("Abs", ["x"], ["a"]), make("Add", ["r", "a"], ["y"])],
                [rows("x", 20)],
                [rows("y", 20)],
            )
        )
        types = {name: floats(2, 20) for name in ("x", "r", "a", "y", "sent")}
        zero = program(
            [op("Neg", "x", "sent"), op("Relu", "x", "r0", 0, bundle=7), op("Add", "r0 a", "y", 2, bundle=7)],
            "x a",
            "y",
            types,
        )
        one = program([op("Neg", "sent", "n"), op("Abs", "n", "a", 1)], "sent", "a", types | {"n": floats(2, 20)})
        leaves = [
            Leaf(node, held, "", rank=i) for i, (node, held) in enumerate(zip(node_ids(2), (zero, one), strict=True))
        ]
        transfers = [
            Transfer(OUTSIDE, "x", 0, "x"),
            Transfer(0, "sent", 1, "sent"),
            Transfer(1, "a", 0, "a"),
            Transfer(0, "y", OUTSIDE, "y"),
        ]
        found = planned(model, leaves, transfers)
        assert [[o.type for o in part.program.ops] for part in found.parts] == [
            ["Neg", "Identity"],
            ["Relu", "Add"],
            ["Neg", "Abs"],
        ]
        assert_right(model, found)

    def test_what_several_shards_need_crosses_the_network_once(self) -> None:
        model = blocks(2)
        leaves, transfers = ranks_of(model, 2, 2)
        found = planned(model, leaves, [*transfers, Transfer(0, "y", OUTSIDE, "y")])
        taken = [route for route in found.routes if route.target == "x"]
        assert sum(route.producer == CLIENT for route in taken) == 2
        assert (0, "x/passed_on", 1, "x") in routes(found)
        assert (0, 0) not in {(route.producer, route.consumer) for route in taken}
        assert_right(model, found)

    def test_weights_that_are_worked_out_are_repeated(self) -> None:
        """Both shards of rank 0 read the transposed weight: each transposes it, nothing is handed over."""
        nodes = [
            make("Transpose", ["w"], ["t"]),
            make("MatMul", ["x", "t"], ["m"]),
            make("Relu", ["m"], ["r"]),
            make("MatMul", ["r", "t"], ["y"]),
        ]
        model = to_model(build(nodes, [rows("x", 20)], [rows("y", 20)], [matrix("w")]))
        tensor = matrix("w")
        types = {name: floats(2, 20) for name in ("x", "m", "r", "y")} | {
            "t": TensorType("float32", (20, 20), (False,) * 2)
        }
        weight = {"w": Constant(ir.serde.deserialize_tensor(tensor))}
        zero = program(
            [op("Transpose", "w", "t"), op("MatMul", "x t", "m", 0), op("MatMul", "r t", "y", 2)],
            "x r",
            "y",
            types,
            weight,
        )
        one = program([op("Relu", "m", "r", 1)], "m", "r", types)
        leaves = [
            Leaf(node, held, "", rank=i) for i, (node, held) in enumerate(zip(node_ids(2), (zero, one), strict=True))
        ]
        transfers = [
            Transfer(OUTSIDE, "x", 0, "x"),
            Transfer(0, "m", 1, "m"),
            Transfer(1, "r", 0, "r"),
            Transfer(0, "y", OUTSIDE, "y"),
        ]
        found = planned(model, leaves, transfers)
        assert [[o.type for o in part.program.ops] for part in found.parts] == [
            ["Transpose", "MatMul"],
            ["Transpose", "MatMul"],
            ["Relu"],
        ]
        assert all(list(part.program.constants) == ["w"] for part in found.parts[:2])
        assert not any(route.tensor == "t" for route in found.routes)
        assert_right(model, found)

    def test_a_sequence_is_made_again_where_it_is_needed(self) -> None:
        """It cannot travel, not even from one shard of a node to another."""
        nodes = [
            make("SplitToSequence", ["x"], ["s"], axis=1, keepdims=1),
            make("SequenceAt", ["s", "zero"], ["first"]),
            make("Size", ["first"], ["r"]),
            make("SequenceAt", ["s", "r"], ["second"]),
            make("Add", ["first", "second"], ["y"]),
        ]
        model = to_model(build(nodes, [rows("x", 20)], ["y"], [numpy_helper.from_array(np.int64(0), "zero")]))
        graph = layer_graph(model)
        base = program_of(model, graph, whole(graph), BATCH)
        at = {o.outputs[0]: o for o in base.ops}
        zero = Program(tuple(at[n] for n in ("s", "first", "second", "y")), ("x", "r"), (), base.types, base.constants)
        one = Program((at["r"],), ("first",), (), base.types, {})
        leaves = [
            Leaf(node, held, "", rank=i) for i, (node, held) in enumerate(zip(node_ids(2), (zero, one), strict=True))
        ]
        transfers = [
            Transfer(OUTSIDE, "x", 0, "x"),
            Transfer(0, "first", 1, "first"),
            Transfer(1, "r", 0, "r"),
            Transfer(0, "y", OUTSIDE, "y"),
        ]
        batch = 2 if model.batchable else 1
        found = planned(model, leaves, transfers, batch)
        assert sum(o.type == "SplitToSequence" for part in found.parts for o in part.program.ops) == 2
        assert_right(model, found, batch)

    @pytest.mark.parametrize("opset", [7, 12])
    def test_what_is_added_suits_a_model_of_an_old_set(self, opset: int) -> None:
        """Slice and Unsqueeze take their axes as inputs only in newer sets; FastGelu is of a domain of its own."""
        nodes = [make("Relu", ["x"], ["r"]), make("Add", ["r", "one"], ["y"])]
        one = numpy_helper.from_array(np.ones(20, np.float32), "one")
        model = to_model(build(nodes, [rows("x", 20)], [rows("y", 20)], [one], opset=opset))
        assert model.opset == opset
        numbers = {"zero": [0], "ten": [10], "end": [20], "last": [1]}
        constants = {name: Constant(ir.Tensor(np.array(value, np.int64))) for name, value in numbers.items()}
        constants["one"] = Constant(ir.serde.deserialize_tensor(one))
        gelu = msgspec.structs.replace(op("FastGelu", "x", "unread", bundle=1), domain="com.microsoft")
        halves = [
            op("Slice", "x zero ten last", "a"),
            op("Slice", "x ten end last", "b"),
            gelu,
            op("Mul", "unread nought", "none", bundle=1),
            op("Concat", "a b", "whole", axis=1),
            op("Sum", "whole none", "x2"),
            op("Relu", "x2", "r", 0),
            op("Unsqueeze", "r zero", "deep"),
            op("Squeeze", "deep zero", "flat"),
            op("Add", "flat one", "y", 1),
        ]
        constants["nought"] = Constant(ir.Tensor(np.zeros((1, 1), np.float32)))
        types = {name: floats(2, 20) for name in ("x", "whole", "none", "x2", "r", "flat", "y")}
        held = program(halves, "x", "y", types, constants)
        transfers = [Transfer(OUTSIDE, "x", 0, "x"), Transfer(0, "y", OUTSIDE, "y")]
        assert_right(model, planned(model, [Leaf(node_ids(1)[0], held, "")], transfers))

    def test_a_value_goes_through_a_node(self) -> None:
        """An input that a leaf hands on leaves it under another name: a graph's output must be made by the graph."""
        model = blocks(1)
        leaves, transfers = ranks_of(model, 1, 2)
        transfers = [t for t in transfers if (t.source, t.target) != (OUTSIDE, 1)] + [Transfer(0, "x", 1, "x")]
        found = planned(model, leaves, [*transfers, Transfer(1, "y", OUTSIDE, "y")])
        assert (0, "x/passed_on", 1, "x") in routes(found)
        assert_right(model, found)


class TestTrifles:
    def test_little_work_that_sends_nothing_waits_for_the_next_shard(self) -> None:
        """Rank 0 of a group that gathers at the end makes its own columns only when the others' have come."""
        model = blocks(2)
        leaves, transfers = ranks_of(model, 2, 2)
        found = planned(model, leaves, [*transfers, Transfer(0, "y", OUTSIDE, "y")])
        assert Counter(part.rank for part in found.parts) == {0: 2, 1: 2}
        assert [o.type for o in found.parts[1].program.ops] == ["Sum", "Add", "MatMul", "Relu", "MatMul", "Sum", "Add"]
        assert_right(model, found)


@pytest.mark.usefixtures("every_level")
class TestOverlap:
    WIDE = 256
    ITEMS = 64

    def model_and_leaves(self) -> tuple[Model, list[Leaf], list[Transfer]]:
        """Rank 0 sends a cheap value at once, then works on something large while rank 1 works on the value."""
        nodes = [
            make("Relu", ["x"], ["small"]),
            make("MatMul", ["x", "w0"], ["large"]),
            make("MatMul", ["small", "w1"], ["other"]),
            make("Add", ["large", "other"], ["y"]),
        ]
        constants = [matrix("w0", 0, self.WIDE), matrix("w1", 1, self.WIDE)]
        model = to_model(build(nodes, [rows("x", self.WIDE)], [rows("y", self.WIDE)], constants))
        graph = layer_graph(model)
        base = program_of(model, graph, whole(graph), self.ITEMS)
        at = {o.outputs[0]: o for o in base.ops}
        zero = Program(tuple(at[n] for n in ("small", "large", "y")), ("x", "other"), (), base.types, base.constants)
        one = Program((at["other"],), ("small",), (), base.types, base.constants)
        leaves = [
            Leaf(node, held, "", rank=i) for i, (node, held) in enumerate(zip(node_ids(2), (zero, one), strict=True))
        ]
        transfers = [
            Transfer(OUTSIDE, "x", 0, "x"),
            Transfer(0, "small", 1, "small"),
            Transfer(1, "other", 0, "other"),
            Transfer(0, "y", OUTSIDE, "y"),
        ]
        return model, leaves, transfers

    def test_what_others_do_not_wait_for_runs_while_they_work(self) -> None:
        model, leaves, transfers = self.model_and_leaves()
        found = planned(model, leaves, transfers, self.ITEMS)
        assert [[o.type for o in part.program.ops] for part in found.parts] == [
            ["Relu", "Identity"],
            ["MatMul"],
            ["Add"],
            ["MatMul"],
        ]
        assert_right(model, found, self.ITEMS)

    def test_a_stage_is_one_shard_though_the_next_does_not_wait_for_all_of_it(self) -> None:
        nodes = [
            make("Relu", ["x"], ["small"]),
            make("MatMul", ["x", "w0"], ["large"]),
            make("MatMul", ["small", "w1"], ["y"]),
        ]
        constants = [matrix("w0", 0, self.WIDE), matrix("w1", 1, self.WIDE)]
        outputs = [rows(name, self.WIDE) for name in ("large", "y")]
        model = to_model(build(nodes, [rows("x", self.WIDE)], outputs, constants))
        found = outline_plan(model, request("pipeline", 2, self.ITEMS, cuts=(2,)))
        assert len(found.parts) == 2
        assert_right(model, found, self.ITEMS)

    def test_little_work_is_not_worth_a_shard(self) -> None:
        model, leaves, transfers = self.model_and_leaves()
        found = planned(model, leaves, transfers, 1)
        assert len(found.parts) == 3
        assert_right(model, found, 1)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(proto=graphs(), data=st.data(), divided=st.booleans())
def test_operators_anywhere_give_the_whole_models_output(
    proto: onnx.ModelProto, data: st.DataObject, divided: bool
) -> None:
    """Each operator of a random graph on a random rank of a random stage."""
    model = to_model(proto)
    batch = 3 if model.batchable else 1
    graph = layer_graph(model)
    base = program_of(model, graph, whole(graph), batch)
    assume(len(base.ops) > 1)
    ranks = data.draw(st.integers(2, 3))
    home = data.draw(st.lists(st.integers(0, ranks - 1), min_size=len(base.ops), max_size=len(base.ops)))
    assume(len(set(home)) == ranks)
    stages = data.draw(st.lists(st.integers(0, 1), min_size=ranks, max_size=ranks))
    made = {name: rank for one, rank in zip(base.ops, home, strict=True) for name in one.outputs}
    leaves, transfers = [], []
    for rank in range(ranks):
        ops = tuple(one for one, place in zip(base.ops, home, strict=True) if place == rank)
        reads = dict.fromkeys(n for one in ops for n in one.reads if n not in base.constants and made.get(n) != rank)
        transfers += [Transfer(made.get(name, OUTSIDE), name, rank, name) for name in reads]
        held = Program(ops, tuple(reads), (), base.types, base.constants)
        leaves.append(Leaf(node_ids(ranks)[rank], held, "", stage=stages[rank], rank=rank))
    for info in model.outputs:
        source = made.get(info.name, 0)
        if info.name not in made and info.name in base.inputs and info.name not in leaves[0].program.inputs:
            transfers.append(Transfer(OUTSIDE, info.name, 0, info.name))
            first = leaves[0].program
            leaves[0] = msgspec.structs.replace(
                leaves[0], program=msgspec.structs.replace(first, inputs=(*first.inputs, info.name))
            )
        transfers.append(Transfer(source, info.name, OUTSIDE, info.name))
    with pytest.MonkeyPatch.context() as patch:
        if divided:
            patch.setattr(schedule, "LATER_MACS", 0.0)
            patch.setattr(schedule, "TRIFLE_MACS", -1.0)
        found = planned(model, leaves, transfers, batch)
    event(f"{len(found.parts)} shards on {ranks} ranks of {len(set(stages))} stages")
    compiled = compile_outline(model, found)
    feed = model.random_feed(batch)
    expected = model.reference(threads=1)(feed)
    results = InProcessPlan(compiled).infer(feed)
    verdict = verify_outputs(expected, [results[info.name] for info in model.outputs])
    assert verdict.passed, verdict.reason
