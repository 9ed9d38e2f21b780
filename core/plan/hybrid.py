"""tensor, spatial, and any nesting of levels: "replicate(2) > pipeline(2) > tensor(2)".

An outermost ``replicate`` makes replicas, between which micro-batches are shared; further in, it shares out the items
of each micro-batch. A ``pipeline`` makes stages. ``tensor`` and ``spatial`` divide every operator among ranks. Each
level's parts are divided by the next; the outermost level varies slowest over the nodes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Final

import msgspec
from msgspec import Struct

from core.cost.balance import balanced_cuts, estimated_profile
from core.cost.exchange import LinkCost
from core.cost.types import Profile
from core.errors import PlanError
from core.model.graph import Model
from core.plan.aims import HEAVY, aim_of, takes_images
from core.plan.division import Division, LayerDivision, NodePart
from core.plan.draft import Costs
from core.plan.extract import layer_graph, stages, whole
from core.plan.form import NodeId, PlanRequest
from core.plan.group import GroupProgram, divide
from core.plan.inferring import with_all_types
from core.plan.layouts import Group, Split
from core.plan.nesting import GroupNode, LeafNode, Node, connect, group_node, stage_node
from core.plan.outline import Leaf, Partition, Transfer
from core.plan.overlaps import overlaps
from core.plan.pipeline import pipeline
from core.plan.program import Op, Program, program_of
from core.plan.rank_program import RankProgram
from core.plan.replicate import replicate
from core.plan.search import Found, Step, search
from core.plan.strategy_text import PIPELINE, REPLICATE, SPATIAL, TENSOR, Level, parse_strategy

_MOST_FALLBACKS: Final = 8
_IMAGE_AXES: Final = 4
_ATTENTION: Final = frozenset({"MatMul", "Softmax", "Einsum", "Attention", "MultiHeadAttention", "GroupQueryAttention"})


class _LayerKind(Struct, frozen=True):
    """How one group divides one layer."""

    kind: str
    axis: int | None
    shares: tuple[float, ...]
    parts: Split | None


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
        self._link = LinkCost()
        self._profile: Profile = costs.profile or estimated_profile(model, request.micro_batch)
        scale = request.micro_batch / self._profile.batch if model.batchable and model.fixed_batch is None else 1.0
        self._layer_seconds = [seconds * scale for seconds in self._profile.layer_seconds]
        self._cuts: tuple[int, ...] | None = None
        self._groups: dict[int, dict[int, _LayerKind]] = {}
        self._steps: list[Step] = []
        inner = [level.kind for level in self._levels[1:]]
        dynamic = bool(model.default_dims()) and any(level.kind == SPATIAL for level in self._levels)
        groups = [level for level in self._levels if level.kind in (TENSOR, SPATIAL)]
        self._pinned = REPLICATE in inner or dynamic or len(groups) > 1
        self._images = False
        self._check()

    def _check(self) -> None:
        request, kinds = self._request, [level.kind for level in self._levels]
        for given, option, kind in (
            (request.tensor_axis, "tensor axis", TENSOR),
            (request.spatial_axis, "spatial axis", SPATIAL),
        ):
            if given is not None and kind not in kinds:
                raise PlanError(f"A {option} is given, but strategy {request.strategy} has no {kind} level.")
            if given not in (None, "rows", "columns"):
                raise PlanError(f"There is no {option} {given!r}.", hint="Choose rows or columns.")
        if request.cuts is not None and PIPELINE not in kinds:
            raise PlanError(f"Strategy {request.strategy} has no cuts.", hint="Use pipeline to cut the model.")
        if request.shares is not None:
            if len(request.shares) != len(request.nodes):
                raise PlanError(
                    f"{len(request.shares)} shares are given for {len(request.nodes)} nodes.",
                    hint="Give one share for each node, in their order.",
                )
            if any(share <= 0 for share in request.shares):
                raise PlanError("A share must be above 0.", hint="Leave out the node that should do nothing.")

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
            key = (tuple(self._speed(node) for node in own), self._shares_of(own))
            if key not in built:
                root = self._root(own, levels)
                joined = connect(root, [value.name or "" for value in self._model.ir.graph.outputs])
                built[key] = _Replica(root.leaves(), [leaf.program.finished() for leaf in root.leaves()], joined)
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
            divisions.append(self._divided_layers(found.leaves, own, replica))
        division = self._division(divisions)
        if self._divides and not any(step.choice is not None and _matters(step) for step in self._steps):
            raise self._undivided(division)
        return Partition(tuple(leaves), tuple(transfers), division, self._cuts, self._notes())

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

    def _root(self, nodes: Sequence[NodeId], levels: Sequence[Level]) -> Node:
        graph = layer_graph(self._model)
        batch = self._request.micro_batch
        program = program_of(self._model, graph, whole(graph), batch, pinned=self._pinned)
        self._images = takes_images(program)
        if levels and levels[0].kind == PIPELINE:
            return self._model_stages(nodes, levels)
        return self._node(program, nodes, levels, 0, 0, "whole model")

    def _model_stages(self, nodes: Sequence[NodeId], levels: Sequence[Level]) -> Node:
        """The outermost pipeline cuts the model where a plain pipeline would."""
        graph = layer_graph(self._model)
        count = levels[0].count
        size = len(nodes) // count
        speeds = [sum(map(self._speed, nodes[i * size : (i + 1) * size])) for i in range(count)]
        layers = len(graph.needs)
        cuts = self._cuts or self._request.cuts or balanced_cuts(self._profile, self._model, speeds)
        if len(cuts) != count - 1 or any(not a < b for a, b in pairwise((0, *cuts, layers))):
            raise PlanError(f"Cuts {list(cuts)} do not divide {layers} layers among {count} stages.")
        self._cuts = tuple(cuts)
        at = {cut.position: cut.recomputed for cut in self._model.cuts(self._request.micro_batch)}
        bounds = (0, *cuts, layers)
        fragments = stages(graph, bounds, ((), *(at[position] for position in cuts)))
        batch = self._request.micro_batch
        programs = [program_of(self._model, graph, one, batch, pinned=self._pinned) for one in fragments]
        children = [
            self._node(program, nodes[i * size : (i + 1) * size], levels[1:], i, 0, f"layers {first + 1}-{last}")
            for i, (program, (first, last)) in enumerate(zip(programs, pairwise(bounds), strict=True))
        ]
        return stage_node(programs, children)

    def _node(
        self, program: Program, nodes: Sequence[NodeId], levels: Sequence[Level], stage: int, rank: int, label: str
    ) -> Node:
        if not levels:
            assert len(nodes) == 1
            return LeafNode(nodes[0], RankProgram.continuing(program), stage, rank, label)
        level, size = levels[0], len(nodes) // levels[0].count
        members = [nodes[i * size : (i + 1) * size] for i in range(level.count)]
        if level.kind == PIPELINE:
            programs = self._cut(program, [sum(map(self._speed, own)) for own in members])
            children = [
                self._node(one, own, levels[1:], stage * level.count + i, rank, f"{label}, part {i + 1}")
                for i, (one, own) in enumerate(zip(programs, members, strict=True))
            ]
            return stage_node(programs, children)
        divided, kinds = self._divide(program, level, members)
        node = group_node(
            divided,
            [
                self._node(
                    self._typed(one.finished(), levels[1:]), own, levels[1:], stage, rank * level.count + i, label
                )
                for i, (one, own) in enumerate(zip(divided.programs, members, strict=True))
            ],
        )
        self._groups[id(node)] = kinds
        return node

    def _divide(
        self, program: Program, level: Level, members: Sequence[Sequence[NodeId]]
    ) -> tuple[GroupProgram, dict[int, _LayerKind]]:
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
        found = search(program, speeds, group, self._op_seconds, aim, self._link, reach, self._model.opset)
        divided = divide(program, group, found, self._link, self._model.opset)
        self._steps += found.steps
        return divided, self._kinds(found, level, program)

    def _typed(self, program: Program, further: Sequence[Level]) -> Program:
        return with_all_types(program, self._model.ir.opset_imports) if further else program

    def _op_seconds(self, op: Op) -> float:
        return self._layer_seconds[op.layer] * op.share if op.layer >= 0 else 0.0

    def _cut(self, program: Program, speeds: Sequence[float]) -> list[Program]:
        """Stages of a program that is a part already: where the work, in order, is shared by speed."""
        done = list(accumulate(self._op_seconds(op) + 1e-9 for op in program.ops))
        if len(done) < len(speeds):
            raise PlanError(f"A part of {len(done)} operators cannot be cut into {len(speeds)} stages.")
        bounds = [0]
        for share in list(accumulate(speeds))[:-1]:
            goal = done[-1] * share / sum(speeds)
            nearest = min(range(len(done)), key=lambda i: abs(done[i] - goal)) + 1
            bounds.append(min(max(nearest, bounds[-1] + 1), len(done) - (len(speeds) - len(bounds))))
        bounds.append(len(done))
        stage_of = {
            name: stage
            for stage, (first, last) in enumerate(pairwise(bounds))
            for op in program.ops[first:last]
            for name in op.outputs
        }
        return [self._stage(program, bounds, stage, stage_of) for stage in range(len(speeds))]

    def _stage(self, program: Program, bounds: Sequence[int], stage: int, stage_of: Mapping[str, int]) -> Program:
        ops = program.ops[bounds[stage] : bounds[stage + 1]]
        reads = dict.fromkeys(name for op in ops for name in op.reads)
        inputs = tuple(
            name for name in reads if name not in program.constants and stage_of.get(name, stage) != stage
        ) + tuple(name for name in reads if name in program.inputs)
        later = {name for op in program.ops[bounds[stage + 1] :] for name in op.reads}
        made = dict.fromkeys(name for op in ops for name in op.outputs if name)
        passed = [n for n in program.outputs if n not in stage_of and stage == len(bounds) - 2]
        outputs = tuple(name for name in made if name in later or name in program.outputs) + tuple(passed)
        inputs = tuple(dict.fromkeys((*inputs, *(name for name in passed if name in program.inputs))))
        constants = {n: c for n, c in program.constants.items() if n in reads or n in passed}
        return Program(ops, inputs, outputs, program.types, constants, program.fixed)

    # ------------------------------------------------------------ for people

    def _kinds(self, found: Found, level: Level, program: Program) -> dict[int, _LayerKind]:
        kinds = {}
        for step in found.steps:
            if step.op.layer < 0:
                continue
            choice = step.choice
            if choice is None:
                kinds[step.op.layer] = _LayerKind("replicated", None, (1.0,) * level.count, None)
                continue
            first = next((index for index, name in enumerate(step.op.outputs) if name), 0)
            layout = choice.outputs[first]
            split = layout if isinstance(layout, Split) else None
            kind = choice.kind or self._following(level, step, split, program)
            kinds[step.op.layer] = _LayerKind(kind, split.axis if split else None, choice.shares, split)
        return kinds

    def _following(self, level: Level, step: Step, split: Split | None, program: Program) -> str:
        if split is None:
            return "rows"
        if level.kind == REPLICATE:
            return "items"
        if level.kind == SPATIAL:
            rank = len(program.types[step.op.outputs[0]].shape or ()) if step.op.outputs[0] else 0
            if not self._images or rank < _IMAGE_AXES:
                return "positions"
            return "image columns" if self._request.spatial_axis == "columns" else "image rows"
        shape = next(program.types[name].shape or () for name in step.op.outputs if name)
        heads = step.op.type in _ATTENTION and len(shape) == _IMAGE_AXES and split.axis == 1
        return "heads" if heads else "split"

    def _divided_layers(self, leaves: Sequence[LeafNode], nodes: Sequence[NodeId], replica: int) -> list[LayerDivision]:
        """One for each layer, from what each leaf runs and how the groups above it divide it."""
        found: dict[int, list[tuple[NodePart, tuple[_LayerKind, ...]]]] = {}
        for node, leaf in zip(nodes, leaves, strict=True):
            shares: dict[int, float] = {}
            for op in leaf.program.ops:
                if op.layer >= 0:
                    shares[op.layer] = max(shares.get(op.layer, 0.0), op.share)
            for layer, share in shares.items():
                path = self._path(leaf, layer)
                dividing = [(kind, rank) for kind, rank in path if kind.kind != "replicated"]
                ranges = None
                if len(dividing) == 1 and (parts := dividing[0][0].parts) is not None:
                    ranges = parts.parts[dividing[0][1]]
                part = NodePart(node, replica, leaf.stage, share, ranges)
                found.setdefault(layer, []).append((part, tuple(kind for kind, _ in path)))
        layers = []
        for layer in range(len(self._layer_seconds)):
            held = found.get(layer, [])
            kinds = held[0][1] if held else ()
            names = list(dict.fromkeys(kind.kind for kind in kinds if kind.kind != "replicated"))
            dividing_kinds = [kind for kind in kinds if kind.kind != "replicated"]
            name = " + ".join(names) or ("replicated" if kinds else "whole")
            axis = dividing_kinds[0].axis if len(dividing_kinds) == 1 else None
            layers.append(LayerDivision(layer, name, axis, tuple(part for part, _ in held)))
        return layers

    def _path(self, leaf: LeafNode, layer: int) -> list[tuple[_LayerKind, int]]:
        """How each group above a leaf divides a layer, outermost first, and the leaf's rank in that group."""
        path = []
        node: Node = leaf
        while node.parent is not None:
            if isinstance(node.parent, GroupNode) and layer in self._groups[id(node.parent)]:
                path.append((self._groups[id(node.parent)][layer], node.parent.children.index(node)))
            node = node.parent
        return path[::-1]

    def _division(self, replicas: Sequence[Sequence[LayerDivision]]) -> Division:
        layers = tuple(
            LayerDivision(one[0].layer, one[0].kind, one[0].axis, tuple(part for d in one for part in d.parts))
            for one in zip(*replicas, strict=True)
        )
        work = [layer.macs for layer in self._model.layers(self._request.micro_batch)]
        split = sum(work[one.layer] for one in layers if one.kind not in ("whole", "replicated"))
        without = dict.fromkeys(s.op.key for s in self._steps if s.choice is None and s.met_divided and not s.had_rule)
        return Division(layers, (), split / max(1, sum(work)), tuple(without), self._fallbacks())

    def _fallbacks(self) -> tuple[str, ...]:
        """Layers with real work that no level divides, the largest first."""
        names = {layer.index: layer for layer in self._model.layers(self._request.micro_batch)}
        whole = [step for step in self._steps if step.choice is None and step.op.layer >= 0]
        total = sum(layer.macs for layer in names.values())
        large = [step for step in whole if names[step.op.layer].macs > total / 1000]
        large.sort(key=lambda step: -names[step.op.layer].macs)
        told = [f"{names[step.op.layer].name} ({step.op.type}): {_reason(step)}" for step in large[:_MOST_FALLBACKS]]
        if len(large) > _MOST_FALLBACKS:
            told.append(f"and {len(large) - _MOST_FALLBACKS} more")
        return tuple(told)

    def _undivided(self, division: Division) -> PlanError:
        why = division.fallbacks[0] if division.fallbacks else "its layers have nothing that can be shared out"
        return PlanError(
            f"Nothing of this model can be divided by {self._request.strategy} over "
            f"{len(self._request.nodes)} nodes. {why}.",
            hint="Use pipeline or replicate, or fewer nodes.",
        )

    def _notes(self) -> tuple[str, ...]:
        return ()


def _matters(step: Step) -> bool:
    """Whether dividing this operator divides work worth the name."""
    return bool(step.choice and step.choice.kind) or step.op.type in HEAVY


def _reason(step: Step) -> str:
    if not step.had_rule:
        return "there is no rule for this operator"
    if step.possible:
        return "dividing it would cost more than it saves"
    if step.op.type in HEAVY or step.op.type in ("RNN", "LSTM", "GRU"):
        return "it has nothing that so many nodes can share (rows, columns, channels, heads, directions)"
    return "what it reads is whole on every node"
