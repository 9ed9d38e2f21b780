"""Layers that a person wants on a certain node: what that asks of a pipeline's cuts and of the order of its nodes."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import Final

from core.errors import PlanError
from core.model.graph import Model
from core.model.types import Layer
from core.plan.form import NodeId, PlanRequest
from core.plan.strategy_text import PIPELINE, REPLICATE, SINGLE, SPATIAL, TENSOR

_WHY_NOT: Final[Mapping[str, str]] = MappingProxyType(
    {
        SINGLE: "one node runs all of them",
        REPLICATE: "every node runs all of them",
        TENSOR: "every layer is divided among all nodes",
        SPATIAL: "every layer is divided among all nodes",
    }
)


def check_pins(model: Model, request: PlanRequest, names: Mapping[NodeId, str] = MappingProxyType({})) -> None:
    """PlanError, with the layer and the node, where ``request`` does not keep its pins, or no request could.

    ``names``: what people call the nodes.
    """
    if not request.pins:
        return
    layers = model.layers(request.micro_batch)
    _check_each(layers, request, names)
    place = {node: stage for stage, node in enumerate(request.nodes)}
    in_order = sorted(request.pins)
    for (before, one), (after, other) in pairwise(in_order):
        if place[one] > place[other]:
            raise PlanError(
                f"{_layer(layers, before)} is pinned to {_name(one, names)} and {_layer(layers, after)}, which comes "
                f"later in the model, to {_name(other, names)}, which comes earlier in the pipeline.",
                hint="Change the order of the nodes, or take a pin away.",
            )
    for layer, node in in_order if request.cuts is not None else ():
        stage = bisect_right(request.cuts or (), layer)
        if stage != place[node]:
            there = f"to {_name(request.nodes[stage], names)}" if stage < len(request.nodes) else "to no node"
            raise PlanError(
                f"{_layer(layers, layer)} is pinned to {_name(node, names)}; these cuts give it {there}.",
                hint="Leave the cut on the other side of the layer, or take the pin away.",
            )


def pinned_layers(pins: Sequence[tuple[int, NodeId]], node: NodeId) -> tuple[int, ...]:
    return tuple(sorted(layer for layer, at in pins if at == node))


def _check_each(layers: Sequence[Layer], request: PlanRequest, names: Mapping[NodeId, str]) -> None:
    first = request.pins[0]
    kind = request.strategy.partition("(")[0].strip()
    if kind != PIPELINE or ">" in request.strategy:
        why = _WHY_NOT.get(request.strategy, "a layer runs on several nodes")
        named = _layer(layers, first[0]) if 0 <= first[0] < len(layers) else f"Layer {first[0] + 1}"
        raise PlanError(
            f"{named} is pinned to {_name(first[1], names)}, but only a pipeline gives a layer to one node: with "
            f"{request.strategy} {why}.",
            hint="Use pipeline, or take the pins away.",
        )
    at: dict[int, NodeId] = {}
    for layer, node in request.pins:
        if not 0 <= layer < len(layers):
            raise PlanError(
                f"Layer {layer + 1} is pinned to {_name(node, names)}, but this model has {len(layers)} layers.",
                hint="Take the pin away.",
            )
        if node not in request.nodes:
            raise PlanError(
                f"{_layer(layers, layer)} is pinned to {_name(node, names)}, which is not among this plan's nodes.",
                hint="Add the node, or take the pin away.",
            )
        if at.setdefault(layer, node) != node:
            raise PlanError(
                f"{_layer(layers, layer)} is pinned to both {_name(at[layer], names)} and {_name(node, names)}.",
                hint="Take one of the two pins away.",
            )


def _layer(layers: Sequence[Layer], layer: int) -> str:
    return f"Layer {layer + 1} ({layers[layer].name})"


def _name(node: NodeId, names: Mapping[NodeId, str]) -> str:
    return names.get(node, node[:8])
