"""Levels inside levels: a tree of divided programs, and the way of every tensor between its leaves.

A group divides a program among ranks, a pipeline among stages; each part is a program again, which the next level
divides. Every part says where its inputs come from: a sibling's value, or a value of the program it is a part of. When
the tree is complete, each leaf's inputs are followed to the leaves, or the client, that hold them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from msgspec import Struct

from core.plan.exchange import Names
from core.plan.form import NodeId, Slice
from core.plan.group import GroupProgram
from core.plan.layouts import Layout, Partial, Range, Replicated, Split, located
from core.plan.merging import cut, joined
from core.plan.outline import OUTSIDE, Transfer
from core.plan.program import Program, TensorType
from core.plan.rank_program import RankProgram

Box = tuple[Slice, ...]


_EASE: Final = (Replicated, Split, Partial)
"""Of layouts, the one first that asks least of whoever takes a value."""


class Place(NamedTuple):
    """Where something belongs that the client gets."""

    output: str
    at: Box = ()
    term: int | None = None
    """As those of ``form.Route``."""


class Source:
    """Where an input of a part comes from: ``value`` of sibling ``part``, or of the divided program (None)."""

    __slots__ = ("kind", "layer", "part", "slices", "tensor", "value")

    def __init__(self, part: int | None, value: str, slices: Box, kind: str, tensor: str, layer: int) -> None:
        self.part = part
        self.value = value
        self.slices = slices
        self.kind = kind
        self.tensor = tensor
        self.layer = layer


class Way:
    """A tensor being fetched: which leaf wants it, and what for."""

    __slots__ = ("kind", "layer", "leaf", "tensor", "transfers")

    def __init__(self, leaf: LeafNode, transfers: list[Transfer], source: Source) -> None:
        self.leaf = leaf
        self.transfers = transfers
        self.kind = source.kind
        self.tensor = source.tensor
        self.layer = source.layer


class Node(ABC):
    """A program and how it is divided."""

    def __init__(self) -> None:
        self.parent: Node | None = None
        self.children: list[Node] = []
        self.sources: list[dict[str, Source]] = []
        """Of each child: by name of its input."""

    def adopt(self, children: Sequence[Node], sources: Sequence[Mapping[str, Source]]) -> None:
        self.children = list(children)
        self.sources = [dict(one) for one in sources]
        for child in self.children:
            child.parent = self

    def leaves(self) -> list[LeafNode]:
        return [leaf for child in self.children for leaf in child.leaves()]

    @abstractmethod
    def resolve(self, value: str, box: Box, way: Way, name: str) -> str:
        """Bring ``value``, cut to ``box``, to the leaf that wants it; returns its name there: ``name`` if it is new."""

    @abstractmethod
    def deliver(self, value: str, box: Box, place: Place, transfers: list[Transfer]) -> None:
        """Send ``value``, cut to ``box``, to the client, where it belongs at ``place``."""

    def holds(self, leaf: LeafNode) -> bool:
        return any(child.holds(leaf) for child in self.children)


class LeafNode(Node):
    """What one node runs."""

    def __init__(self, node: NodeId, program: RankProgram, stage: int, rank: int, path: str) -> None:
        super().__init__()
        self.node = node
        self.program = program
        self.stage = stage
        self.rank = rank
        self.path = path
        self.index = -1
        self._received: dict[tuple[int, str, Box], str] = {}

    def leaves(self) -> list[LeafNode]:
        return [self]

    def holds(self, leaf: LeafNode) -> bool:
        return leaf is self

    def resolve(self, value: str, box: Box, way: Way, name: str) -> str:
        if way.leaf is self:
            return self.own_part(value, box, name)
        self.program.outputs[value] = None
        return way.leaf.receive(self.index, value, box, self.program.types[value], way, name)

    def deliver(self, value: str, box: Box, place: Place, transfers: list[Transfer]) -> None:
        self.program.outputs[value] = None
        output, at, term = place
        kind = "output" if term is None else "reduce"
        transfers.append(Transfer(self.index, value, OUTSIDE, output, box, at, term, kind, output))

    def receive(self, source: int, value: str, box: Box, held: TensorType, way: Way, name: str) -> str:
        """Declare an input for what comes from leaf ``source``; the same thing is received once."""
        key = (source, value, box)
        if key in self._received:
            return self._received[key]
        for one in box:
            held = held.resized(one.axis, one.stop - one.start)
        self.program.types[name] = held
        self.program.inputs[name] = None
        self._received[key] = name
        way.transfers.append(Transfer(source, value, self.index, name, box, (), None, way.kind, way.tensor, way.layer))
        return name

    def own_part(self, value: str, box: Box, name: str) -> str:
        """A part of a value that the leaf holds itself."""
        bundle = self.program.new_bundle()
        held = self.program.types[value]
        for index, one in enumerate(box):
            made = name if index == len(box) - 1 else self.program.fresh(name)
            value = cut(self.program, value, made, one.axis, ((one.start, one.stop),), bundle)
            held = held.resized(one.axis, one.stop - one.start)
        if box:
            self.program.types[name] = held
        return value


class LayerKind(Struct, frozen=True):
    """How one group divides one layer."""

    kind: str
    """As in ``division.LayerDivision``."""
    split: Split | None = None
    """Of the first output; None where it is not split."""


class GroupNode(Node):
    """Ranks that run one program together."""

    def __init__(self, divided: GroupProgram, layers: Mapping[int, LayerKind]) -> None:
        """``layers``: those of the model that the program has, by number."""
        super().__init__()
        self.divided = divided
        self.layers = layers

    def resolve(self, value: str, box: Box, way: Way, name: str) -> str:
        layout, names = self._form(value)
        if isinstance(layout, Replicated):
            child = self._nearest(way.leaf, names)
            return self.children[child].resolve(_of(names, child), box, way, name)
        assert isinstance(layout, Split), "only the client adds up"
        wanted = next(((one.start, one.stop) for one in box if one.axis == layout.axis), None)
        wanted = wanted or (0, max(stop for ranges in layout.parts for _, stop in ranges))
        pieces = self._pieces(layout, wanted, way.leaf)
        program = way.leaf.program
        if len(pieces) == 1:
            child, local = pieces[0]
            return self.children[child].resolve(_of(names, child), _with(box, layout.axis, local), way, name)
        parts = []
        for index, (child, local) in enumerate(pieces):
            own_box = _with(box, layout.axis, local)
            piece = program.own(f"{name}/piece{index}")
            parts.append(self.children[child].resolve(_of(names, child), own_box, way, piece))
        held = program.types[parts[0]]
        program.types[name] = held.resized(layout.axis, wanted[1] - wanted[0])
        return joined(program, parts, name, layout.axis, program.new_bundle())

    def deliver(self, value: str, box: Box, place: Place, transfers: list[Transfer]) -> None:
        layout, names = self._form(value)
        if isinstance(layout, Replicated):
            child = next(i for i, name in enumerate(names) if name is not None)
            self.children[child].deliver(_of(names, child), box, place, transfers)
            return
        if isinstance(layout, Partial):
            assert place.term is None, "a term of a sum is no sum itself"
            for term, child in enumerate(layout.ranks):
                self.children[child].deliver(_of(names, child), box, place._replace(term=term), transfers)
            return
        assert isinstance(layout, Split)
        axis = layout.axis
        wanted = next(((one.start, one.stop) for one in box if one.axis == axis), None)
        wanted = wanted or (0, max(stop for ranges in layout.parts for _, stop in ranges))
        offset = next((one.start for one in place.at if one.axis == axis), 0) - wanted[0]
        done = wanted[0]
        for child, local, piece in self._in_order(layout, wanted):
            assert piece[0] == done
            done = piece[1]
            own = place._replace(at=_with(place.at, axis, (piece[0] + offset, piece[1] + offset)))
            self.children[child].deliver(_of(names, child), _with(box, axis, local), own, transfers)

    def _form(self, value: str) -> tuple[Layout, Names]:
        forms = self.divided.exports[value]
        return min(forms.items(), key=lambda form: _EASE.index(type(form[0])))

    def _nearest(self, leaf: LeafNode, names: Names) -> int:
        """The part that the leaf belongs to, else one by the leaf's number, so that none serves all."""
        able = [index for index, name in enumerate(names) if name is not None]
        own = [index for index in able if self.children[index].holds(leaf)]
        return own[0] if own else able[leaf.index % len(able)]

    def _pieces(self, layout: Split, wanted: Range, leaf: LeafNode) -> list[tuple[int, Range]]:
        own = next((i for i, child in enumerate(self.children) if child.holds(leaf)), None)
        return [(child, local) for child, local, _ in self._in_order(layout, wanted, own)]

    def _in_order(self, layout: Split, wanted: Range, own: int | None = None) -> list[tuple[int, Range, Range]]:
        """(child, range of its local tensor, range of the whole) that cover ``wanted`` once."""
        order = list(range(len(layout.parts)))
        if own is not None:
            order = [own, *(index for index in order if index != own)]
        found = []
        at = wanted[0]
        while at < wanted[1]:
            child, end = next((c, e) for c in order for s, e in layout.parts[c] if s <= at < e)
            end = min(end, wanted[1])
            local = located((at, end), layout.parts[child])
            assert local is not None
            found.append((child, local, (at, end)))
            at = end
        return found


class StageNode(Node):
    """Parts that follow one another."""

    def __init__(self, makers: Mapping[str, int]) -> None:
        """``makers``: which part makes a value."""
        super().__init__()
        self.makers = makers

    def resolve(self, value: str, box: Box, way: Way, name: str) -> str:
        return self.children[self.makers[value]].resolve(value, box, way, name)

    def deliver(self, value: str, box: Box, place: Place, transfers: list[Transfer]) -> None:
        self.children[self.makers[value]].deliver(value, box, place, transfers)


def group_node(divided: GroupProgram, children: Sequence[Node], layers: Mapping[int, LayerKind]) -> GroupNode:
    """A group whose ranks' programs are divided, or run, as ``children`` say."""
    node = GroupNode(divided, layers)
    sources: list[dict[str, Source]] = [{} for _ in children]
    for hop in divided.hops:
        sources[hop.target][hop.name] = Source(hop.source, hop.value, hop.slices, hop.kind, hop.tensor, hop.layer)
    for one in divided.imports:
        sources[one.rank][one.name] = Source(None, one.value, one.slices, "input", one.value, one.layer)
    node.adopt(children, sources)
    return node


def stage_node(programs: Sequence[Program], children: Sequence[Node]) -> StageNode:
    """Stages whose programs name the same values in the same way."""
    makers: dict[str, int] = {}
    for stage, program in enumerate(programs):
        for op in program.ops:
            for name in op.outputs:
                if name in program.outputs:
                    makers.setdefault(name, stage)
        for name in program.outputs:
            if name in program.inputs or name in program.constants:
                makers.setdefault(name, stage)
    node = StageNode(makers)
    sources: list[dict[str, Source]] = []
    for stage, program in enumerate(programs):
        found = {}
        for name in program.inputs:
            maker = makers.get(name)
            made_before = maker is not None and maker != stage and name not in programs[maker].inputs
            layer = next((op.layer for op in program.ops if name in op.reads), -1)
            found[name] = Source(maker if made_before else None, name, (), "hand-over", name, layer)
        sources.append(found)
    node.adopt(children, sources)
    return node


def connect(root: Node, outputs: Sequence[str]) -> list[Transfer]:
    """Follow every input of every leaf to its origin, and every output to the client. Transfers between leaves and
    with the client; leaf programs gain the operators that join what comes in pieces."""
    transfers: list[Transfer] = []
    leaves = root.leaves()
    for index, leaf in enumerate(leaves):
        leaf.index = index
    for leaf in leaves:
        for name in list(leaf.program.inputs):
            _feed(leaf, name, transfers)
    for output in outputs:
        root.deliver(output, (), Place(output), transfers)
    return transfers


def _feed(leaf: LeafNode, name: str, transfers: list[Transfer]) -> None:
    node: Node = leaf
    value = name
    box: Box = ()
    source: Source | None = None
    while node.parent is not None:
        parent = node.parent
        source = parent.sources[parent.children.index(node)][value]
        value, box = source.value, composed(source.slices, box)
        if source.part is not None:
            break
        node = parent
    if source is None or source.part is None:
        tensor = source.tensor if source is not None else value
        layer = source.layer if source is not None else -1
        transfers.append(Transfer(OUTSIDE, value, leaf.index, name, box, (), None, "input", tensor, layer))
        return
    assert node.parent is not None
    del leaf.program.inputs[name]
    found = node.parent.children[source.part].resolve(value, box, Way(leaf, transfers, source), name)
    if found != name:
        leaf.program.add("Identity", [found], [name], leaf.program.new_bundle())


def composed(outer: Box, inner: Box) -> Box:
    """First ``outer`` is cut out, then ``inner`` of that."""
    bounds = {one.axis: (one.start, one.stop) for one in outer}
    for one in inner:
        start = bounds.get(one.axis, (0, 0))[0]
        bounds[one.axis] = (start + one.start, start + one.stop)
    return tuple(Slice(axis, *bounds[axis]) for axis in sorted(bounds))


def _with(box: Box, axis: int, bounds: Range) -> Box:
    return tuple(sorted((*(one for one in box if one.axis != axis), Slice(axis, *bounds)), key=lambda one: one.axis))


def _of(names: Names, child: int) -> str:
    name = names[child]
    assert name is not None
    return name
