"""Partitions of fragments: strategies that give each node whole layers, under the names that the model itself uses."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from core.errors import PlanError
from core.plan.division import Division, LayerDivision, NodePart
from core.plan.extract import Fragment, LayerGraph
from core.plan.form import PlanRequest
from core.plan.outline import OUTSIDE, Leaf, Transfer


def refuse_splitting(request: PlanRequest) -> None:
    """PlanError when the request says how to divide single layers."""
    named = (("tensor axis", request.tensor_axis), ("spatial axis", request.spatial_axis), ("shares", request.shares))
    for what, given in named:
        if given is not None:
            raise PlanError(
                f"Strategy {request.strategy} divides no layer, so it has no {what}.",
                hint="Use tensor or spatial to divide layers.",
            )


def joined(graph: LayerGraph, fragments: Sequence[Fragment], first: int = 0) -> tuple[Transfer, ...]:
    """What travels between the fragments of one replica and the client; its leaves begin with ``first``."""
    makers = {name: first + place for place, fragment in enumerate(fragments) for name in fragment.outputs}
    transfers: list[Transfer] = []
    for place, fragment in enumerate(fragments, first):
        reader = {name: layer for layer in reversed(fragment.layers) for name in graph.needs[layer]}
        for name in fragment.inputs:
            source = OUTSIDE if name in graph.inputs else makers[name]
            kind = "input" if source == OUTSIDE else "hand-over"
            layer = reader.get(name, fragment.layers[0] if fragment.layers else -1)
            transfers.append(Transfer(source, name, place, name, kind=kind, tensor=name, layer=layer))
        transfers += [
            Transfer(place, name, OUTSIDE, name, kind="output", tensor=name)
            for name in fragment.outputs
            if name in graph.outputs
        ]
    return tuple(transfers)


def divided(
    graph: LayerGraph, leaves: Sequence[Leaf], fragments: Sequence[Fragment], kind: str, share: Callable[[int], float]
) -> Division:
    """Which leaf runs each layer; ``share`` is the part of the layer's work that falls to a leaf.

    A layer that several leaves of a replica run is "replicated", whatever ``kind`` says.
    """
    runs: list[list[NodePart]] = [[] for _ in graph.needs]
    for place, (leaf, fragment) in enumerate(zip(leaves, fragments, strict=True)):
        part = NodePart(leaf.node, leaf.replica, leaf.stage, share(place))
        for layer in fragment.layers:
            runs[layer].append(part)
    replicas = 1 + max(leaf.replica for leaf in leaves)
    layers = []
    for layer, parts in enumerate(runs):
        again = len(parts) > replicas
        axis = 0 if kind == "items" and not again else None
        layers.append(LayerDivision(layer, "replicated" if again else kind, axis, tuple(parts)))
    return Division(tuple(layers), (), 0.0)
