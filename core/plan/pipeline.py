"""pipeline: consecutive layers on each node; micro-batches follow one another through the stages.

A tensor that several later stages read goes from where it is made straight to each of them, model inputs come from the
client straight to the stages that read them, and outputs leave from the stage that makes them.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from core.cost.balance import balanced_cuts, estimated_profile
from core.errors import PlanError
from core.model.graph import Model
from core.plan.draft import Costs
from core.plan.extract import Fragment, layer_graph, stages
from core.plan.form import PlanRequest
from core.plan.outline import Leaf, Partition
from core.plan.program import program_of
from core.plan.whole_layers import divided, joined, refuse_splitting


def pipeline(model: Model, request: PlanRequest, costs: Costs) -> Partition:
    """PlanError when the cuts do not suit the nodes or the model; without cuts they are balanced by cost."""
    refuse_splitting(request)
    layers = len(model.layers(request.micro_batch))
    cuts = request.cuts if request.cuts is not None else _balanced(model, request, costs)
    _check(cuts, len(request.nodes), layers)
    graph = layer_graph(model)
    at = {cut.position: cut.recomputed for cut in model.cuts(request.micro_batch)}
    bounds = (0, *cuts, layers)
    fragments = stages(graph, bounds, ((), *(at[position] for position in cuts)))
    leaves = tuple(
        Leaf(node, program_of(model, graph, fragment, request.micro_batch), _label(first, last), stage=stage)
        for stage, (node, fragment, (first, last)) in enumerate(
            zip(request.nodes, fragments, pairwise(bounds), strict=True)
        )
    )
    division = divided(graph, leaves, fragments, "whole", lambda _: 1.0)
    return Partition(leaves, joined(graph, fragments), division, cuts, tuple(_notes(model, request, fragments)))


def _balanced(model: Model, request: PlanRequest, costs: Costs) -> tuple[int, ...]:
    profile = costs.profile or estimated_profile(model, request.micro_batch)
    speeds = [costs.speed(node) for node in request.nodes]
    return balanced_cuts(
        profile,
        model,
        speeds,
        nodes=request.nodes,
        links=costs.links,
        machines=costs.machines,
        pins=request.pins,
        batch=request.micro_batch,
    )


def _check(cuts: tuple[int, ...], nodes: int, layers: int) -> None:
    if len(cuts) != nodes - 1:
        raise PlanError(f"A pipeline over {nodes} nodes has {nodes - 1} cuts; {len(cuts)} were given.")
    for cut in cuts:
        if not 1 <= cut <= layers - 1:
            raise PlanError(f"There is no cut at {cut}: this model's cuts lie at layers 1 to {layers - 1}.")
    for before, after in pairwise(cuts):
        if after <= before:
            raise PlanError(
                f"Cuts must increase, each stage needs a layer at least; {after} follows {before}.",
                hint="Move the cut, or use fewer nodes.",
            )


def _label(first: int, last: int) -> str:
    return f"layers {first + 1}-{last}" if last - first > 1 else f"layer {last}"


def _notes(model: Model, request: PlanRequest, fragments: tuple[Fragment, ...]) -> list[str]:
    runs = Counter(layer for fragment in fragments for layer in fragment.layers)
    again = sorted(layer for layer, count in runs.items() if count > 1)
    if not again:
        return []
    layers = model.layers(request.micro_batch)
    names = ", ".join(layers[layer].name for layer in again[:3]) + (", ..." if len(again) > 3 else "")
    number = "1 cheap layer runs" if len(again) == 1 else f"{len(again)} cheap layers run"
    return [f"{number} in several stages, instead of sending results: {names}."]
