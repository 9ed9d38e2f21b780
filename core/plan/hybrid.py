"""tensor, spatial, and any nesting of levels: "replicate(2) > pipeline(2) > tensor(2)".

An outermost ``replicate`` makes replicas, between which micro-batches are shared; further in, it shares out the items
of each micro-batch. A ``pipeline`` makes stages. ``tensor`` and ``spatial`` divide every operator among ranks. Each
level's parts are divided by the next; the outermost level varies slowest over the nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, takewhile
from math import prod
from typing import Final

import msgspec
from msgspec import Struct

from core.cost.balance import balanced_cuts, estimated_profile
from core.cost.exchange import LinkCost, all_reduce_seconds, is_added_outside, link_cost, searched
from core.cost.links import Ways
from core.cost.types import Profile
from core.errors import PlanError
from core.model.graph import Model
from core.plan.aims import COLUMNS, ROWS, aim_of
from core.plan.describing import divided_layers, division_of, idle_notes, is_worth_dividing, layer_kinds
from core.plan.division import Division, LayerDivision
from core.plan.draft import Costs
from core.plan.extract import layer_graph, stages, whole
from core.plan.form import NodeId, PlanRequest
from core.plan.group import GroupProgram, divide
from core.plan.inferring import with_all_types
from core.plan.layouts import Group
from core.plan.levels import idle, leaf_works, needed_operators
from core.plan.nesting import LayerKind, LeafNode, Node, connect, group_node, stage_node
from core.plan.op_options import Problem
from core.plan.outline import Leaf, Partition, Transfer
from core.plan.overlaps import overlaps
from core.plan.part_stages import cut_program
from core.plan.pipeline import pipeline
from core.plan.program import Op, Program, program_of
from core.plan.rank_program import RankProgram
from core.plan.replicate import replicate
from core.plan.search import Step, search
from core.plan.strategy_text import PIPELINE, REPLICATE, SPATIAL, TENSOR, Level, parse_strategy

_MOVES: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Parts of the way to the model's beginning, then to its end, by which balanced cuts are moved until they can be."""
TYPICAL_BYTES: Final = 1 << 16
"""Of an exchange, to tell near nodes from far ones."""
_ROUNDED: Final = 1e-6
"""By which shares may miss 1."""


class _Replica(Struct, frozen=True, eq=False):
    """One complete copy of the model; replicas of nodes of the same speeds are alike."""

    leaves: list[LeafNode]
    programs: list[Program]
    transfers: list[Transfer]


def nested(model: Model, request: PlanRequest, costs: Costs) -> Partition:
    """Divide ``model`` as the request's strategy says. PlanError in words where it cannot be."""
    levels = [level for level in parse_strategy(request.strategy, len(request.nodes)).levels if level.count > 1]
    kinds = [level.kind for level in levels]
    if kinds == [PIPELINE]:
        return pipeline(model, request, costs)
    if kinds == [REPLICATE]:
        return replicate(model, request, costs)
    return _Nesting(model, request, costs, levels).run()


class _Nesting:
    def __init__(self, model: Model, request: PlanRequest, costs: Costs, levels: Sequence[Level]) -> None:
        self._model = model
        self._request = request
        self._costs = costs
        self._levels = list(levels)
        self._profile: Profile = costs.profile or estimated_profile(model, request.micro_batch)
        scale = request.micro_batch / self._profile.batch if model.batchable and model.fixed_batch is None else 1.0
        self._layer_seconds = [seconds * scale for seconds in self._profile.layer_seconds]
        self._ways = Ways(costs.links, request.nodes, costs.machines)
        self._cuts: tuple[int, ...] | None = None
        self._moved: tuple[str, ...] = ()
        self._steps: list[Step] = []
        inner = [level.kind for level in self._levels[1:]]
        dynamic = bool(model.default_dims()) and any(level.kind == SPATIAL for level in self._levels)
        groups = [level for level in self._levels if level.kind in (TENSOR, SPATIAL)]
        single = request.micro_batch == 1 and not model.default_dims()  # no micro-batch is smaller
        self._pinned = REPLICATE in inner or dynamic or single or len(groups) > 1
        self._check()

    def _check(self) -> None:
        request = self._request
        kinds = [level.kind for level in parse_strategy(request.strategy, len(request.nodes)).levels]
        for given, option, kind in (
            (request.tensor_axis, "tensor axis", TENSOR),
            (request.spatial_axis, "spatial axis", SPATIAL),
        ):
            if given is not None and kind not in kinds:
                raise PlanError(
                    f"A {option} is given, but strategy {request.strategy} has no {kind} level.",
                    hint=f"Use {kind}, or leave the axis out.",
                )
            if given not in (None, ROWS, COLUMNS):
                raise PlanError(f"There is no {option} {given!r}.", hint="Choose rows or columns.")
        if request.cuts is not None and PIPELINE not in kinds:
            raise PlanError(f"Strategy {request.strategy} has no cuts.", hint="Use pipeline to cut the model.")
        if request.shares is not None:
            self._check_shares(request.shares)

    def _check_shares(self, shares: Sequence[float]) -> None:
        nodes = len(self._request.nodes)
        if len(shares) != nodes:
            raise PlanError(
                f"{len(shares)} {'share is' if len(shares) == 1 else 'shares are'} given for {nodes} nodes.",
                hint="Give one share for each node, in their order.",
            )
        if not all(share > 0 for share in shares):
            raise PlanError("A share must be above 0.", hint="Leave out the node that should do nothing.")
        group = prod(one.count for one in takewhile(_shares_out, reversed(self._levels)))
        for first in range(0, nodes, group) if group > 1 else ():
            total = sum(shares[first : first + group])
            if abs(total - 1) > _ROUNDED:
                raise PlanError(
                    f"The shares of a group add up to {total:g}, not 1.",
                    hint="The shares of the nodes that divide the same layers add up to 1.",
                )

    def run(self) -> Partition:
        nodes = self._request.nodes
        levels = self._levels
        replicas = 1
        if levels and levels[0].kind == REPLICATE:
            replicas, levels = levels[0].count, levels[1:]
        size = len(nodes) // replicas
        leaves: list[Leaf] = []
        transfers: list[Transfer] = []
        built: dict[tuple[object, ...], _Replica] = {}
        divisions: list[list[LayerDivision]] = []
        for replica in range(replicas):
            own = nodes[replica * size : (replica + 1) * size]
            key = (tuple(self._speed(node) for node in own), self._shares_of(own), self._ways.look(own))
            if key not in built:
                built[key] = self._replica(own, levels)
            found = built[key]
            first = len(leaves)
            leaves += [
                Leaf(node, program, leaf.path, replica, leaf.stage, leaf.rank)
                for node, leaf, program in zip(own, found.leaves, found.programs, strict=True)
            ]
            transfers += [
                msgspec.structs.replace(
                    one,
                    source=one.source + first if one.source >= 0 else one.source,
                    target=one.target + first if one.target >= 0 else one.target,
                )
                for one in found.transfers
            ]
            divisions.append(divided_layers(found.leaves, own, replica, len(self._layer_seconds)))
        layers = self._model.layers(self._request.micro_batch)
        division = division_of(divisions, self._steps, layers)
        if self._divides and not any(map(is_worth_dividing, self._steps)):
            raise self._undivided(division)
        notes = (*self._moved, *self._fixed_sizes(), *idle_notes(self._steps, layers))
        return Partition(tuple(leaves), tuple(transfers), division, self._cuts, notes)

    @property
    def _divides(self) -> bool:
        outer = self._levels[1:] if self._levels and self._levels[0].kind == REPLICATE else self._levels
        return any(level.kind != PIPELINE for level in outer)

    def _speed(self, node: NodeId) -> float:
        return self._costs.speed(node)

    def _shares_of(self, nodes: Sequence[NodeId]) -> tuple[float, ...] | None:
        if self._request.shares is None:
            return None
        place = {node: index for index, node in enumerate(self._request.nodes)}
        return tuple(self._request.shares[place[node]] for node in nodes)

    # ------------------------------------------------------------ levels

    def _replica(self, nodes: Sequence[NodeId], levels: Sequence[Level]) -> _Replica:
        graph = layer_graph(self._model)
        batch = self._request.micro_batch
        program = program_of(self._model, graph, whole(graph), batch, pinned=self._pinned)
        if levels and levels[0].kind == PIPELINE:
            return self._model_stages(nodes, levels)
        return self._joined(self._node(program, nodes, levels, 0, 0, "whole model", frozenset(program.outputs)))

    def _joined(self, root: Node) -> _Replica:
        joined = connect(root, [value.name or "" for value in self._model.ir.graph.outputs])
        leaves = root.leaves()
        return _Replica(leaves, [leaf.program.finished() for leaf in leaves], joined)

    def _model_stages(self, nodes: Sequence[NodeId], levels: Sequence[Level]) -> _Replica:
        """The outermost pipeline cuts the model where a plain pipeline would, or earlier or later, where a stage
        could not be divided further otherwise (a classifier has no rows), or had too little for all its nodes."""
        if self._cuts is not None or self._request.cuts is not None:
            return self._joined(self._stages_at(self._cuts or self._request.cuts or (), nodes, levels))
        count = levels[0].count
        size = len(nodes) // count
        speeds = [sum(map(self._speed, nodes[i * size : (i + 1) * size])) for i in range(count)]
        firsts, links, machines = nodes[::size], self._costs.links, self._costs.machines
        batch = self._request.micro_batch
        balanced = balanced_cuts(
            self._profile, self._model, speeds, nodes=firsts, links=links, machines=machines, batch=batch
        )
        refused: PlanError | None = None
        done = len(self._steps)
        layers = len(layer_graph(self._model).needs)
        earlier = [tuple(round(cut * (1 - part)) for cut in balanced) for part in _MOVES]
        later = [tuple(round(cut + (layers - cut) * part) for cut in balanced) for part in _MOVES]
        for cuts in (balanced, *earlier, *later):
            try:
                found = self._joined(self._stages_at(cuts, nodes, levels))
                _check_busy(found)
            except PlanError as error:
                refused = refused or error
                del self._steps[done:]
                self._cuts = None
                continue
            if refused is not None:
                where, moved = ", ".join(str(cut) for cut in cuts), "earlier" if cuts < balanced else "later"
                self._moved = (f"The model is cut after layer {where}, {moved} than is balanced. {refused.message}",)
            return found
        return self._joined(self._stages_at(balanced, nodes, levels))  # what is wrong is told where it shows

    def _stages_at(self, cuts: Sequence[int], nodes: Sequence[NodeId], levels: Sequence[Level]) -> Node:
        graph = layer_graph(self._model)
        count = levels[0].count
        size = len(nodes) // count
        layers = len(graph.needs)
        if len(cuts) != count - 1 or any(not a < b for a, b in pairwise((0, *cuts, layers))):
            raise PlanError(
                f"Cuts {list(cuts)} do not divide {layers} layers among {count} stages.",
                hint=f"Give {count - 1} increasing numbers from 1 to {layers - 1}.",
            )
        at = {cut.position: cut.recomputed for cut in self._model.cuts(self._request.micro_batch)}
        bounds = (0, *cuts, layers)
        fragments = stages(graph, bounds, ((), *(at[position] for position in cuts)))
        batch = self._request.micro_batch
        programs = [program_of(self._model, graph, one, batch, pinned=self._pinned) for one in fragments]
        children = [
            self._node(
                program,
                nodes[i * size : (i + 1) * size],
                levels[1:],
                i,
                0,
                f"layers {first + 1}-{last}",
                frozenset(program.outputs).difference(*(one.inputs for one in programs)),
            )
            for i, (program, (first, last)) in enumerate(zip(programs, pairwise(bounds), strict=True))
        ]
        self._cuts = tuple(cuts)
        return stage_node(programs, children)

    def _node(
        self,
        program: Program,
        nodes: Sequence[NodeId],
        levels: Sequence[Level],
        stage: int,
        rank: int,
        label: str,
        results: frozenset[str] = frozenset(),
    ) -> Node:
        """``results``: outputs that nobody but the client takes."""
        if not levels:
            assert len(nodes) == 1
            return LeafNode(nodes[0], RankProgram.continuing(program), stage, rank, label)
        level, size = levels[0], len(nodes) // levels[0].count
        members = [nodes[i * size : (i + 1) * size] for i in range(level.count)]
        if level.kind == PIPELINE:
            programs = cut_program(program, [sum(map(self._speed, own)) for own in members], self._op_seconds)
            children = [
                self._node(one, own, levels[1:], stage * level.count + i, rank, f"{label}, part {i + 1}")
                for i, (one, own) in enumerate(zip(programs, members, strict=True))
            ]
            return stage_node(programs, children)
        divided, kinds = self._divide(program, level, members, results)
        children = [
            self._node(self._typed(one.finished(), levels[1:]), own, levels[1:], stage, rank * level.count + i, label)
            for i, (one, own) in enumerate(zip(divided.programs, members, strict=True))
        ]
        return group_node(divided, children, kinds)

    def _divide(
        self, program: Program, level: Level, members: Sequence[Sequence[NodeId]], results: frozenset[str]
    ) -> tuple[GroupProgram, dict[int, LayerKind]]:
        """Divide a program among ranks, each of which may be several nodes."""
        speeds = [sum(map(self._speed, own)) for own in members]
        wanted = [self._shares_of(own) for own in members]
        weights = [sum(own) for own in wanted if own is not None] or speeds
        group = Group(tuple(weight / sum(weights) for weight in weights))
        reach = overlaps(program, self._model.opset) if level.kind == SPATIAL else {}
        aim = aim_of(
            level.kind,
            program,
            group,
            reach,
            tensor_axis=self._request.tensor_axis,
            spatial_axis=self._request.spatial_axis,
        )
        link = self._link_cost(members)
        added = frozenset(n for n in results if is_added_outside(program.types[n].nbytes, len(members), link))
        aim = msgspec.structs.replace(aim, added_outside=added)
        moving = self._profile.moving_s
        found = search(Problem(program, speeds, group, self._op_seconds, aim, link, reach, self._model.opset, moving))
        divided = divide(program, group, found, link, self._model.opset, added)
        self._steps += found.steps
        return divided, layer_kinds(found, program, aim.word)

    def _link_cost(self, members: Sequence[Sequence[NodeId]]) -> LinkCost:
        """Between ranks, each of which may be several nodes: the i-th nodes of all ranks exchange with one another, and
        the farthest of them set the pace."""
        links, machines = self._costs.links, self._costs.machines
        messages = searched(self._profile.messages)
        every = [link_cost(own, links, machines, messages) for own in zip(*members, strict=True)]
        return max(every, key=lambda cost: all_reduce_seconds(TYPICAL_BYTES, len(members), cost))

    def _typed(self, program: Program, further: Sequence[Level]) -> Program:
        return with_all_types(program, self._model.ir.opset_imports) if further else program

    def _op_seconds(self, op: Op) -> float:
        return self._layer_seconds[op.layer] * op.share if op.layer >= 0 else 0.0

    # ------------------------------------------------------------ words

    def _fixed_sizes(self) -> tuple[str, ...]:
        sizes = self._model.default_dims()
        if not (self._pinned and sizes):
            return ()
        told = ", ".join(f"{name} {size}" for name, size in sizes.items())
        return (f"This division holds for one size of the inputs only: {told}.",)

    def _undivided(self, division: Division) -> PlanError:
        why = division.fallbacks[0] if division.fallbacks else "Its layers have nothing that can be shared out"
        axis = self._request.tensor_axis or self._request.spatial_axis
        forced = f" by {axis}" if axis is not None else ""
        others = (
            "tensor, pipeline or replicate" if any(step.barred for step in self._steps) else "pipeline or replicate"
        )
        return PlanError(
            f"Nothing of this model can be divided by {self._request.strategy}{forced} over "
            f"{len(self._request.nodes)} nodes. {why}.",
            hint="Use the other axis, or none." if axis is not None else f"Use {others}, or fewer nodes.",
        )


def _check_busy(built: _Replica) -> None:
    """PlanError where a node would have nothing to do."""
    leaves = [
        Leaf(one.node, program, one.path, 0, one.stage, one.rank)
        for one, program in zip(built.leaves, built.programs, strict=True)
    ]
    works = leaf_works(leaves, built.transfers)
    for leaf, alive in zip(leaves, needed_operators(works, built.transfers)[0], strict=True):
        if not alive:
            raise idle(leaf, leaves)


def _shares_out(level: Level) -> bool:
    return level.kind in (TENSOR, SPATIAL)
