"""The way of every tensor between the leaves of a tree: cut twice, joined from pieces, delivered piece by piece."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.plan.exchange import Hop, Names
from core.plan.form import NodeId, Slice
from core.plan.group import GroupProgram, Import
from core.plan.layouts import REPLICATED, Layout, Split
from core.plan.nesting import LeafNode, Node, composed, connect, group_node, stage_node
from core.plan.outline import OUTSIDE, Transfer
from core.plan.program import Op, Program, TensorType
from core.plan.rank_program import RankProgram, local_name, local_type
from tests.plan.in_process import cut, put_together
from tests.plan.partition.drawing import examples
from tests.plan.partition.joined import Array, Way, part_of, run_joined
from tests.plan.partition.test_exchange import dealt

OPSETS = {"": 17}
X = np.arange(6 * 8, dtype=np.float32).reshape(6, 8)
WHOLE = TensorType("float32", X.shape, (False, False))


class Tree:
    """Leaves that are made one by one, and what they hold."""

    def __init__(self) -> None:
        self.leaves: list[LeafNode] = []

    def leaf(self, program: Program) -> LeafNode:
        number = len(self.leaves)
        made = LeafNode(NodeId(f"n{number}"), RankProgram.continuing(program), 0, number, "leaf")
        self.leaves.append(made)
        return made

    def run(self, transfers: list[Transfer], feed: dict[str, Array], wanted: list[tuple[int, str]]) -> list[Array]:
        programs = [leaf.program.finished() for leaf in self.leaves]
        ways = [Way((t.source, t.value), (t.target, t.name), t.slices) for t in transfers if t.source >= 0 <= t.target]
        given_ = {(t.target, t.name): cut(feed[t.value], t.slices) for t in transfers if t.source == OUTSIDE}
        found = run_joined(programs, ways, given_, wanted, OPSETS)
        return [found[place] for place in wanted]


def makers(layout: Layout, ranks: int) -> GroupProgram:
    """Ranks that hold x, an input of theirs, negated as y in the same layout."""
    programs, imports, names = [], [], []
    for rank in range(ranks):
        program = RankProgram(rank)
        if isinstance(layout, Split) and not layout.parts[rank]:
            names.append(None)
            programs.append(program)
            continue
        here, made = local_name("x", layout, program), local_name("y", layout, program)
        program.types[here] = program.types[made] = local_type(WHOLE, layout, rank)
        program.inputs[here] = None
        program.add("Neg", [here], [made], program.new_bundle())
        slices = (Slice(layout.axis, *layout.parts[rank][0]),) if isinstance(layout, Split) else ()
        imports.append(Import(rank, here, "x", slices, 0))
        names.append(made)
        programs.append(program)
    exports: dict[str, dict[Layout, Names]] = {"y": {layout: tuple(names)}}
    return GroupProgram(tuple(programs), (), tuple(imports), exports)


def takers(layout: Layout, ranks: int) -> GroupProgram:
    """Ranks that want y in a layout, and double it as z."""
    programs, imports, names = [], [], []
    for rank in range(ranks):
        program = RankProgram(rank)
        here, made = local_name("y", layout, program), local_name("z", layout, program)
        program.types[here] = program.types[made] = local_type(WHOLE, layout, rank)
        program.inputs[here] = None
        program.add("Add", [here, here], [made], program.new_bundle())
        slices = (Slice(layout.axis, *layout.parts[rank][0]),) if isinstance(layout, Split) else ()
        imports.append(Import(rank, here, "y", slices, 0))
        names.append(made)
        programs.append(program)
    return GroupProgram(tuple(programs), (), tuple(imports), {"z": {layout: tuple(names)}})


STAGES = [
    Program((Op("Neg", ("x",), ("y",)),), ("x",), ("y",), {"x": WHOLE, "y": WHOLE}, {}),
    Program((Op("Add", ("y", "y"), ("z",)),), ("y",), ("z",), {"y": WHOLE, "z": WHOLE}, {}),
]
"""What ``makers`` and ``takers`` divide."""


def one_part(size: int, axis: int, bounds: list[int]) -> Split:
    return Split(axis, tuple(((a, b),) for a, b in zip([0, *bounds], [*bounds, size], strict=True)))


LAYOUTS = [REPLICATED, one_part(6, 0, [4]), one_part(8, 1, [3]), Split(0, (((0, 5),), ((3, 6),)))]


@pytest.mark.parametrize("want", LAYOUTS)
@pytest.mark.parametrize("have", LAYOUTS)
def test_what_one_stage_makes_the_next_one_gets(have: Layout, want: Layout) -> None:
    tree = Tree()
    first, second = makers(have, 2), takers(want, 2)
    stages = [
        group_node(divided, [tree.leaf(one.finished()) for one in divided.programs], {}) for divided in (first, second)
    ]
    root = stage_node(STAGES, stages)
    transfers = connect(root, ["z", "y"])
    for output, factor in (("z", -2), ("y", -1)):
        results = [t for t in transfers if t.target == OUTSIDE and t.name == output]
        arrays = tree.run(transfers, {"x": X}, [(t.source, t.value) for t in results])
        whole = put_together([(t.at, cut(array, t.slices)) for t, array in zip(results, arrays, strict=True)])
        np.testing.assert_array_equal(whole, X * factor)
    handed = [t for t in transfers if t.kind == "hand-over"]
    assert {t.tensor for t in handed} == {"y"}
    assert len({(t.target, t.name) for t in transfers if t.target >= 0}) == len(
        [t for t in transfers if t.target >= 0]
    ), "an input is fed once"


def test_leaves_take_from_different_copies() -> None:
    """Of what every rank of a stage holds, the next stage's ranks do not all ask the first."""
    tree = Tree()
    first, second = makers(REPLICATED, 2), takers(REPLICATED, 2)
    stages = [group_node(d, [tree.leaf(one.finished()) for one in d.programs], {}) for d in (first, second)]
    root = stage_node(STAGES, stages)
    transfers = connect(root, ["z"])
    assert sorted((t.source, t.target) for t in transfers if t.kind == "hand-over") == [(0, 2), (1, 3)]


def test_the_same_thing_is_received_once() -> None:
    """Two names for one part of a sibling's value."""
    tree = Tree()
    held = makers(one_part(6, 0, [3]), 2)
    for name in ("y/a", "y/b"):
        held.programs[0].types[name] = local_type(WHOLE, one_part(6, 0, [3]), 1)
        held.programs[0].inputs[name] = None
        held.programs[0].add("Relu", [name], [f"{name}/r"], held.programs[0].new_bundle())
    sent = local_name("y", one_part(6, 0, [3]), held.programs[1])
    hops = tuple(Hop(1, sent, 0, name, (), "all-gather", "y", 0) for name in ("y/a", "y/b"))
    twice = GroupProgram(held.programs, hops, held.imports, held.exports)
    root = group_node(twice, [tree.leaf(one.finished()) for one in held.programs], {})
    transfers = connect(root, ["y"])
    assert len([t for t in transfers if t.kind == "all-gather"]) == 1
    wanted = [(0, "y/a/r"), (0, "y/b/r")]
    one, other = tree.run(transfers, {"x": X}, wanted)
    np.testing.assert_array_equal(one, np.maximum(-X[3:], 0))
    np.testing.assert_array_equal(one, other)


@given(st.data())
@examples(100)
def test_cutting_twice_is_cutting_once(data: st.DataObject) -> None:
    outer = data.draw(boxes(X.shape))
    inner = data.draw(boxes(cut(X, outer).shape))
    np.testing.assert_array_equal(cut(cut(X, outer), inner), cut(X, composed(outer, inner)))


@st.composite
def boxes(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[Slice, ...]:
    found = []
    for axis, size in enumerate(shape):
        if draw(st.booleans()):
            start = draw(st.integers(0, size - 1))
            found.append(Slice(axis, start, draw(st.integers(start + 1, size))))
    return tuple(found)


def test_a_value_in_many_pieces_is_delivered_in_order() -> None:
    layout = dealt(8, 1, 2, 2)
    tree = Tree()
    programs = []
    for rank in range(2):
        program = RankProgram(rank)
        name = local_name("y", layout, program)
        program.types["x"] = WHOLE
        program.types[name] = local_type(WHOLE, layout, rank)
        program.inputs["x"] = None
        index = np.concatenate([np.arange(*one) for one in layout.parts[rank]])
        program.add("Gather", ["x", program.small(index, "index")], [name], program.new_bundle(), axis=1)
        programs.append(program)
    names = tuple(local_name("y", layout, program) for program in programs)
    imports = tuple(Import(rank, "x", "x", (), 0) for rank in range(2))
    divided = GroupProgram(tuple(programs), (), imports, {"y": {layout: names}})
    root: Node = group_node(divided, [tree.leaf(one.finished()) for one in programs], {})
    transfers = connect(root, ["y"])
    results = [t for t in transfers if t.target == OUTSIDE]
    assert [(t.at[0].start, t.at[0].stop) for t in results] == [(0, 2), (2, 4), (4, 6), (6, 8)]
    arrays = tree.run(transfers, {"x": X}, [(t.source, t.value) for t in results])
    whole = put_together([(t.at, cut(array, t.slices)) for t, array in zip(results, arrays, strict=True)])
    np.testing.assert_array_equal(whole, X)
    assert part_of(X, layout, 0).shape == (6, 4)
