"""What a division came to, for people: which part of each layer each node runs, and why some layers are not divided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from core.model.types import Layer
from core.plan.aims import HEAVY
from core.plan.division import Division, LayerDivision, NodePart
from core.plan.form import NodeId
from core.plan.layouts import Replicated, Split
from core.plan.nesting import GroupNode, LayerKind, LeafNode, Node
from core.plan.program import Program
from core.plan.search import Found, Step

REPLICATED_KIND: Final = "replicated"
WHOLE_KIND: Final = "whole"
WORTH_TELLING: Final = 0.001
"""Of the model's multiply-adds: layers with less are not told one by one where they are not divided."""
WORTH_TELLING_OF_OTHERS: Final = 0.01
"""The same for operators that only follow the layout of what they read."""
_HEADS_RANK: Final = 4
"""Scores of attention are [items, heads, queries, keys]."""
_ATTENTION: Final = frozenset({"MatMul", "Softmax", "Einsum", "Attention", "MultiHeadAttention", "GroupQueryAttention"})
_RECURRENT: Final = frozenset({"RNN", "LSTM", "GRU"})


def layer_kinds(found: Found, program: Program, word: str) -> dict[int, LayerKind]:
    """By layer of the model. ``word``: what the parts of the program's inputs are, where they are divided."""
    kinds: dict[int, LayerKind] = {}
    words = dict.fromkeys(found.inputs, word)
    for step in found.steps:
        kind = _layer_kind(step, program, words)
        words.update((name, _inherited(kind.kind, name, program)) for name in step.op.outputs if name)
        if step.op.layer >= 0:
            kinds[step.op.layer] = kind
    return kinds


def _layer_kind(step: Step, program: Program, words: Mapping[str, str]) -> LayerKind:
    choice, op = step.choice, step.op
    if choice is None:
        return LayerKind(REPLICATED_KIND)
    first = next((index for index, name in enumerate(op.outputs) if name), 0)
    layout = choice.outputs[first]
    split = layout if isinstance(layout, Split) else None
    if choice.kind:
        return LayerKind(choice.kind, split)
    if split is None:
        return LayerKind("rows")
    inherited = [
        words[name]
        for name, want in zip(op.inputs, choice.inputs, strict=True)
        if want is not None and not isinstance(want, Replicated) and words.get(name)
    ]
    if inherited:
        return LayerKind(_inherited(inherited[0], op.outputs[first], program), split)
    shape = program.types[op.outputs[first]].shape or ()
    heads = op.type in _ATTENTION and len(shape) == _HEADS_RANK and split.axis == 1
    return LayerKind("heads" if heads else "split", split)


def _inherited(word: str, name: str, program: Program) -> str:
    """What the parts of a value are that follow from parts of another: rows of an image until it is laid out as a
    sequence of patches."""
    if word not in ("image rows", "image columns", "positions", "items"):
        return ""
    rank = len(program.types[name].shape or ()) if name in program.types else 0
    return "positions" if word.startswith("image") and rank <= 3 else word


def divided_layers(
    leaves: Sequence[LeafNode], nodes: Sequence[NodeId], replica: int, count: int
) -> list[LayerDivision]:
    """One for each of ``count`` layers, from what each leaf runs and how the groups above it divide it."""
    found: dict[int, list[tuple[NodePart, tuple[LayerKind, ...]]]] = {}
    for node, leaf in zip(nodes, leaves, strict=True):
        shares: dict[int, float] = {}
        for op in leaf.program.ops:
            if op.layer >= 0:
                shares[op.layer] = max(shares.get(op.layer, 0.0), op.share)
        above = _groups_above(leaf)
        for layer, share in shares.items():
            path = [(group.layers[layer], rank) for group, rank in above if layer in group.layers]
            dividing = [(kind.split, rank) for kind, rank in path if kind.kind != REPLICATED_KIND]
            split, rank = dividing[0] if len(dividing) == 1 else (None, 0)
            part = NodePart(node, replica, leaf.stage, share, split.parts[rank] if split is not None else None)
            found.setdefault(layer, []).append((part, tuple(kind for kind, _ in path)))
    return [_layer_division(layer, found.get(layer, [])) for layer in range(count)]


def _layer_division(layer: int, held: Sequence[tuple[NodePart, tuple[LayerKind, ...]]]) -> LayerDivision:
    kinds = held[0][1] if held else ()
    dividing = [kind for kind in kinds if kind.kind != REPLICATED_KIND]
    name = " + ".join(dict.fromkeys(kind.kind for kind in dividing)) or (REPLICATED_KIND if kinds else WHOLE_KIND)
    split = dividing[0].split if len(dividing) == 1 else None
    return LayerDivision(layer, name, split.axis if split is not None else None, tuple(part for part, _ in held))


def _groups_above(leaf: LeafNode) -> list[tuple[GroupNode, int]]:
    """Groups that a leaf is in, outermost first, and its rank there."""
    found = []
    node: Node = leaf
    while node.parent is not None:
        if isinstance(node.parent, GroupNode):
            found.append((node.parent, node.parent.children.index(node)))
        node = node.parent
    return found[::-1]


def division_of(
    replicas: Sequence[Sequence[LayerDivision]], steps: Sequence[Step], layers: Sequence[Layer]
) -> Division:
    """All replicas' layers together. ``steps``: what was chosen, by every group; ``layers``: the model's."""
    together = tuple(
        LayerDivision(one[0].layer, one[0].kind, one[0].axis, tuple(part for d in one for part in d.parts))
        for one in zip(*replicas, strict=True)
    )
    whole = {one.layer for one in together if one.kind in (WHOLE_KIND, REPLICATED_KIND)}
    work = sum(layer.macs for layer in layers)
    split = sum(layer.macs for layer in layers if layer.index not in whole)
    without = dict.fromkeys(s.op.key for s in steps if s.choice is None and s.met_divided and not s.had_rule)
    return Division(together, (), split / max(1, work), tuple(without), _fallbacks(whole, steps, layers))


def _fallbacks(whole: set[int], steps: Sequence[Step], layers: Sequence[Layer]) -> tuple[str, ...]:
    """Layers with real work that no level divides, and why, the largest first."""
    work = sum(layer.macs for layer in layers)
    undivided = {
        step.op.layer: step
        for step in reversed(steps)
        if step.choice is None and step.op.layer in whole and layers[step.op.layer].macs > _least(step) * work
    }
    ordered = sorted(undivided, key=lambda index: (-layers[index].macs, index))
    return tuple(f"{layers[index].name} ({undivided[index].op.type}): {reason(undivided[index])}" for index in ordered)


def _least(step: Step) -> float:
    divides_itself = step.has_weights or step.op.type in HEAVY or not step.had_rule
    return WORTH_TELLING if divides_itself else WORTH_TELLING_OF_OTHERS


def reason(step: Step) -> str:
    """Why every node of a group runs all of an operator."""
    if not step.had_rule:
        return "there is no rule for this operator"
    if step.possible:
        return "dividing it would cost more than it saves"
    if step.barred:
        return f"it can be divided by {' or '.join(step.barred)} only"
    if step.has_weights and (step.op.type in HEAVY or step.op.type in _RECURRENT):
        return "it has nothing that so many nodes can share (rows, columns, channels, heads, directions)"
    return "what it reads is whole on every node"


def idle_notes(steps: Sequence[Step], layers: Sequence[Layer]) -> tuple[str, ...]:
    """One for all layers alike that have too few columns, heads, groups... for every node of their group."""
    found: dict[tuple[str, int, int], dict[int, None]] = {}
    for step in steps:
        if step.choice is not None and step.choice.kind and step.op.layer >= 0:
            shares = step.choice.shares
            busy = sum(share > 0 for share in shares)
            if busy < len(shares):
                found.setdefault((step.choice.kind, busy, len(shares)), {})[step.op.layer] = None
    notes = []
    for (kind, busy, ranks), indices in found.items():
        first = layers[next(iter(indices))].name
        several = f" and {len(indices) - 1} more" if len(indices) > 1 else ""
        notes.append(
            f"{first}{several}, divided by {kind}: there is a part for {busy} of {ranks} nodes, the others wait."
        )
    return tuple(notes)


def is_worth_dividing(step: Step) -> bool:
    """Whether the operator is divided, and dividing it divides work worth the name."""
    return step.choice is not None and (bool(step.choice.kind) or step.op.type in HEAVY)
