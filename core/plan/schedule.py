"""From leaves and transfers to shards and routes.

Each leaf is divided where it must wait for others of its group (``levels``), and once more where much of what it
computes is for nobody else: that runs while its results are under way. Whatever several shards of a leaf need crosses
the network once: the first of them passes it on.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Final

import msgspec
from msgspec import Struct

from core.model.graph import Model
from core.plan.division import Exchange
from core.plan.form import CLIENT, NodeId, PlanRequest, Route, ShardId, Slice
from core.plan.levels import LeafWork, components, idle, leaf_works, levels, needed_operators
from core.plan.outline import OUTSIDE, Leaf, Outline, Part, Partition, Transfer
from core.plan.passing import identity, passed_name
from core.plan.program import Op, Program, TensorType

LATER_MACS: Final = 2e6
"""Multiply-adds that are worth a shard of their own, to run while others wait for nothing more of this node."""
LATER_SHARE: Final = 0.1
"""The same as a part of the shard."""
TRIFLE_MACS: Final = 2e5
"""Less work that sends nothing to other nodes is not worth a shard of its own."""
_LAYERS: Final = re.compile(r"^(whole model|layers? \d+(-\d+)?)(, )?")


class _Piece(Struct, eq=False):
    """A shard of a replica that is being scheduled; its number is its place in the replica."""

    leaf: int
    ops: list[int]
    """Of the leaf, repeated ones included, in the order they run."""
    made: set[str]
    needs: dict[str, None]
    """Inputs of the leaf, and values that other pieces make."""
    inputs: list[str] = []
    outputs: dict[str, None] = {}
    passes: dict[str, str] = {}
    """Inputs that it hands on, and by which names."""
    starter: TensorType | None = None
    """Of its only input, where nothing reads it."""


class _Way(Struct, frozen=True):
    """A route by numbers of pieces; -1: the client."""

    producer: int
    tensor: str
    consumer: int
    target: str
    nbytes: int
    slices: tuple[Slice, ...] = ()
    at: tuple[Slice, ...] = ()
    term: int | None = None


class _Replica(Struct, frozen=True, eq=False):
    """Pieces and ways of one replica; the same for all replicas that are alike."""

    pieces: tuple[tuple[int, Program, str, tuple[tuple[int, float], ...]], ...]
    """(leaf, program, label, work)"""
    ways: tuple[_Way, ...]
    used: tuple[tuple[int, int], ...]
    """Transfers that are needed, and their bytes."""


def outline(model: Model, request: PlanRequest, partition: Partition) -> Outline:
    """The shards and routes of a partition; the order of both is settled by it.

    PlanError where a leaf would have nothing to do.
    """
    replicas: dict[int, list[int]] = defaultdict(list)
    for index, leaf in enumerate(partition.leaves):
        replicas[leaf.replica].append(index)
    crossing: dict[int, list[Transfer]] = {replica: [] for replica in replicas}
    for transfer in partition.transfers:
        inner = transfer.source if transfer.source != OUTSIDE else transfer.target
        crossing[partition.leaves[inner].replica].append(transfer)
    known: dict[tuple[object, ...], _Replica] = {}
    parts: list[Part] = []
    routes: list[Route] = []
    sizes: list[int] = []
    exchanges: list[Exchange] = []
    for replica, indices in replicas.items():
        leaves = [partition.leaves[index] for index in indices]
        local = {index: place for place, index in enumerate(indices)} | {OUTSIDE: OUTSIDE}
        transfers = tuple(
            msgspec.structs.replace(t, source=local[t.source], target=local[t.target]) for t in crossing[replica]
        )
        key = (tuple((id(leaf.program), leaf.label, leaf.stage, leaf.rank) for leaf in leaves), transfers)
        if key not in known:
            known[key] = _Scheduler(model, request, leaves, transfers).run()
        found = known[key]
        first = len(parts)
        for number, (place, program, label, work) in enumerate(found.pieces):
            leaf = leaves[place]
            shard = ShardId(first + number)
            parts.append(Part(shard, leaf.node, program, label, replica, leaf.stage, leaf.rank, work))
        for way in found.ways:
            producer = ShardId(first + way.producer) if way.producer >= 0 else CLIENT
            consumer = ShardId(first + way.consumer) if way.consumer >= 0 else CLIENT
            routes.append(
                Route(producer, way.tensor, consumer, way.target, slices=way.slices, at=way.at, term=way.term)
            )
            sizes.append(way.nbytes)
        exchanges += _exchanges(replica, leaves, [(transfers[index], nbytes) for index, nbytes in found.used])
    division = partition.division
    if not division.exchanges:
        division = msgspec.structs.replace(division, exchanges=tuple(exchanges))
    settled = msgspec.structs.replace(request, cuts=partition.cuts)
    return Outline(settled, tuple(parts), tuple(routes), tuple(sizes), division, partition.notes)


class _Scheduler:
    """Divides the leaves of one replica into shards and joins them by routes."""

    def __init__(
        self, model: Model, request: PlanRequest, leaves: Sequence[Leaf], transfers: Sequence[Transfer]
    ) -> None:
        self._model = model
        self._batch = request.micro_batch
        self._macs = [layer.macs for layer in model.layers(request.micro_batch)]
        self._transfers = transfers
        self._works = leaf_works(leaves, transfers)
        self._pieces: list[_Piece] = []
        self._maker: list[dict[str, int]] = [{} for _ in leaves]
        """Per leaf: the piece that makes a value."""
        self._ways: list[_Way] = []

    def run(self) -> _Replica:
        alive, used = needed_operators(self._works, self._transfers)
        exported: list[set[str]] = [set() for _ in self._works]
        sent: list[set[str]] = [set() for _ in self._works]
        awaited: list[set[str]] = [set() for _ in self._works]
        component = components(self._works, self._transfers)
        for transfer, is_used in zip(self._transfers, used, strict=True):
            if is_used and transfer.source != OUTSIDE:
                name = self._works[transfer.source].leaving(transfer.value)
                exported[transfer.source].add(name)
                if transfer.target != OUTSIDE:
                    sent[transfer.source].add(name)
                    if component[transfer.source] == component[transfer.target]:
                        awaited[transfer.source].add(name)
        for place, work in enumerate(self._works):
            if not alive[place]:
                raise idle(work.leaf, [one.leaf for one in self._works])
            work.arrange(alive[place], exported[place])
        for place, found in enumerate(levels(self._works, self._transfers, component)):
            for units in self._divided(self._works[place], found, sent[place], awaited[place]):
                self._add_piece(place, units)
        self._join(used)
        sizes = [self._transfer_bytes(t) if is_used else 0 for t, is_used in zip(self._transfers, used, strict=True)]
        counts = Counter(piece.leaf for piece in self._pieces)
        return _Replica(
            tuple(self._finished(piece, alone=counts[piece.leaf] == 1) for piece in self._pieces),
            tuple(self._ways),
            tuple((index, sizes[index]) for index, is_used in enumerate(used) if is_used),
        )

    # ------------------------------------------------------------ units into pieces

    def _divided(self, work: LeafWork, level: Mapping[int, int], sent: set[str], awaited: set[str]) -> list[list[int]]:
        """The units of each shard of a leaf, in the order in which the shards run.

        ``sent``: values that go to other nodes; ``awaited``: those of them that go to others of its group, who may be
        idle until they come.
        """
        by_level: dict[int, dict[int, None]] = defaultdict(dict)
        for i in work.order:
            if work.unit[i] in level:
                by_level[level[work.unit[i]]][work.unit[i]] = None
        macs: dict[int, float] = defaultdict(float)
        for i in work.order:
            macs[work.unit[i]] += self._work_of(work.ops[i])
        sending = {work.unit[work.producer[name]] for name in sent}
        urgent = {work.unit[work.producer[name]] for name in awaited}
        groups: list[list[int]] = []
        for _, units in sorted(by_level.items()):
            groups += _overlapped(work, list(units), urgent, macs)
        return _without_trifles(groups, sending, macs)

    def _work_of(self, op: Op) -> float:
        return self._macs[op.layer] * op.share if op.layer >= 0 else 0.0

    def _add_piece(self, place: int, units: Iterable[int]) -> None:
        work = self._works[place]
        own = sorted((i for unit in units for i in work.members[unit]), key=work.place.__getitem__)
        repeated = {again for i in own for again in work.repeats.get(i, ())}
        in_order = sorted({*own, *repeated}, key=work.place.__getitem__) if repeated else own
        made = {name for i in in_order for name in work.ops[i].outputs if name}
        needs = dict.fromkeys(name for i in own for name in work.reads[i] if name not in made)
        number = len(self._pieces)
        self._maker[place].update((name, number) for i in own for name in work.ops[i].outputs)
        self._pieces.append(_Piece(place, in_order, made, needs))

    # ------------------------------------------------------------ ways between pieces

    def _join(self, used: Sequence[bool]) -> None:
        taker: dict[tuple[int, str], int] = {}
        for number, piece in enumerate(self._pieces):
            work = self._works[piece.leaf]
            for name in piece.needs:
                first = taker.setdefault((piece.leaf, name), number)
                if name not in work.feed:
                    self._hand_over(self._maker[piece.leaf][name], name, number, name)
                elif first == number:
                    self._fetch(number, work.feed[name])
                else:
                    self._hand_over(first, self._pass_on(first, name), number, name)
            if not piece.inputs:
                self._start(number)
        for transfer, is_used in zip(self._transfers, used, strict=True):
            if is_used and transfer.target == OUTSIDE:
                producer, tensor = self._origin(transfer)
                nbytes = self._transfer_bytes(transfer)
                place = transfer.slices, transfer.at, transfer.term
                self._ways.append(_Way(producer, tensor, OUTSIDE, transfer.name, nbytes, *place))

    def _origin(self, transfer: Transfer) -> tuple[int, str]:
        """Where a transfer begins: a piece, now with that output, or the client."""
        if transfer.source == OUTSIDE:
            return OUTSIDE, transfer.value
        name = self._works[transfer.source].leaving(transfer.value)
        producer = self._maker[transfer.source][name]
        self._pieces[producer].outputs[name] = None
        return producer, name

    def _fetch(self, number: int, index: int) -> None:
        transfer = self._transfers[index]
        producer, tensor = self._origin(transfer)
        self._pieces[number].inputs.append(transfer.name)
        nbytes = self._transfer_bytes(transfer)
        self._ways.append(_Way(producer, tensor, number, transfer.name, nbytes, transfer.slices))

    def _hand_over(self, producer: int, tensor: str, consumer: int, name: str) -> None:
        self._pieces[producer].outputs[tensor] = None
        self._pieces[consumer].inputs.append(name)
        nbytes = self._works[self._pieces[producer].leaf].types[tensor].nbytes
        self._ways.append(_Way(producer, tensor, consumer, name, nbytes))

    def _pass_on(self, number: int, name: str) -> str:
        """The output by which a piece hands on one of its inputs."""
        piece, work = self._pieces[number], self._works[self._pieces[number].leaf]
        already = work.passed.get(name)
        if already in piece.made:
            assert already is not None
            return already
        if name not in piece.passes:
            piece.passes[name] = fresh = passed_name(name, work.types)
            work.types[fresh] = work.types[name]
        return piece.passes[name]

    def _start(self, number: int) -> None:
        """A shard is started by its inputs: one that needs none waits for one that comes from the client."""
        piece = self._pieces[number]
        work = self._works[piece.leaf]
        fed = [index for index in work.feed.values() if self._transfers[index].source == OUTSIDE]
        if fed:
            piece.starter = work.types[self._transfers[fed[0]].name]
            self._fetch(number, fed[0])
            return
        name = self._model.inputs[0].name
        piece.starter = self._outside_type(name)
        piece.inputs.append(name)
        self._ways.append(_Way(OUTSIDE, name, number, name, piece.starter.nbytes))

    def _outside_type(self, name: str) -> TensorType:
        """Of an input of the model."""
        shape, dtype = self._model.shapes(self._batch).get(name, (None, ""))
        varying = self._model.varying(name)
        if shape is None or varying is None:
            return TensorType(dtype, shape, None)
        return TensorType(dtype, shape, tuple(size is None for size in varying))

    def _transfer_bytes(self, transfer: Transfer) -> int:
        if transfer.source == OUTSIDE:
            return _sliced_bytes(self._outside_type(transfer.value), transfer.slices)
        return _sliced_bytes(self._works[transfer.source].types[transfer.value], transfer.slices)

    # ------------------------------------------------------------ pieces into programs

    def _finished(self, piece: _Piece, *, alone: bool) -> tuple[int, Program, str, tuple[tuple[int, float], ...]]:
        work = self._works[piece.leaf]
        whole = work.leaf.program
        ops = [work.ops[i] for i in piece.ops]
        ops += [identity(name, passed) for name, passed in piece.passes.items()]
        place = {name: position for position, op in enumerate(ops) for name in op.outputs}
        reads = {name for i in piece.ops for name in work.needs[i]}
        program = Program(
            ops=tuple(ops),
            inputs=tuple(piece.inputs),
            outputs=tuple(sorted(piece.outputs, key=lambda name: place[name])),
            types=work.types if piece.starter is None else {**work.types, piece.inputs[0]: piece.starter},
            constants={name: whole.constants[name] for name in sorted(reads) if name in whole.constants},
            fixed=whole.fixed,
        )
        done = tuple((op.layer, op.share) for op in ops if op.layer >= 0)
        label = work.leaf.label if alone else _label(work.leaf.label, [layer for layer, _ in done])
        return piece.leaf, program, label, done


def _overlapped(work: LeafWork, units: list[int], urgent: set[int], macs: Mapping[int, float]) -> list[list[int]]:
    """The units of one level: all, or those that others of the group wait for, then the rest where that is much."""
    own = set(units)
    if own.isdisjoint(urgent):
        return [units]
    needed = {unit for unit in units if unit in urgent}
    pending = list(needed)
    while pending:
        for i in work.members[pending.pop()]:
            for name in work.reads[i]:
                made = work.producer.get(name)
                if made is not None and (unit := work.unit[made]) in own and unit not in needed:
                    needed.add(unit)
                    pending.append(unit)
    later = [unit for unit in units if unit not in needed]
    most = sum(macs[unit] for unit in units)
    aside = sum(macs[unit] for unit in later)
    if aside <= LATER_MACS or aside <= LATER_SHARE * most:
        return [units]
    return [[unit for unit in units if unit in needed], later]


def _without_trifles(groups: list[list[int]], sending: set[int], macs: Mapping[int, float]) -> list[list[int]]:
    """What is little work and sends nothing to other nodes runs with the shard that follows."""
    found: list[list[int]] = []
    held: list[int] = []
    for group in groups:
        held = [*held, *group]
        if group is groups[-1] or not sending.isdisjoint(held) or sum(macs[unit] for unit in held) > TRIFLE_MACS:
            found.append(held)
            held = []
    return found


def _sliced_bytes(whole: TensorType, slices: Sequence[Slice]) -> int:
    if whole.shape is None or not slices:
        return whole.nbytes
    kept = prod(one.stop - one.start for one in slices)
    return whole.nbytes * kept // max(1, prod(whole.shape[one.axis] for one in slices))


def _label(leaf: str, layers: Sequence[int]) -> str:
    """The layers of one of several shards, and what the leaf's label says beyond layers."""
    rest = _LAYERS.sub("", leaf)
    if not layers:
        own = "exchange"
    elif min(layers) == max(layers):
        own = f"layer {min(layers) + 1}"
    else:
        own = f"layers {min(layers) + 1}-{max(layers) + 1}"
    return f"{own}, {rest}" if rest else own


def _exchanges(replica: int, leaves: Sequence[Leaf], used: Sequence[tuple[Transfer, int]]) -> list[Exchange]:
    """Transfers of one value for one layer, together."""
    links: dict[tuple[str, str, int], dict[tuple[NodeId, NodeId], int]] = {}
    for transfer, nbytes in used:
        kind = transfer.kind
        if kind == "hand-over" and OUTSIDE in (transfer.source, transfer.target):
            kind = "input" if transfer.source == OUTSIDE else "output"
        ends = [leaves[end].node if end != OUTSIDE else NodeId("") for end in (transfer.source, transfer.target)]
        found = links.setdefault((kind, transfer.tensor or transfer.value, transfer.layer), {})
        found[ends[0], ends[1]] = found.get((ends[0], ends[1]), 0) + nbytes
    return [
        Exchange(
            kind,
            tensor,
            replica,
            layer,
            sum(between.values()),
            tuple((source, target, nbytes) for (source, target), nbytes in between.items()),
        )
        for (kind, tensor, layer), between in links.items()
    ]
