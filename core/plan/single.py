"""single: the whole model on one node."""

from __future__ import annotations

from core.errors import PlanError
from core.model.graph import Model
from core.plan.draft import Costs
from core.plan.extract import layer_graph, whole
from core.plan.form import PlanRequest
from core.plan.outline import Leaf, Partition
from core.plan.program import program_of
from core.plan.whole_layers import divided, joined, refuse_splitting


def single(model: Model, request: PlanRequest, costs: Costs) -> Partition:  # noqa: ARG001  one signature for all
    """PlanError unless there is exactly one node and no cut."""
    if len(request.nodes) != 1:
        raise PlanError(
            f"Strategy single runs on one node; {len(request.nodes)} were given.",
            hint="Use replicate or pipeline for several.",
        )
    if request.cuts:
        raise PlanError("Strategy single has no cuts.", hint="Use pipeline to cut the model.")
    refuse_splitting(request)
    graph = layer_graph(model)
    fragment = whole(graph)
    leaves = (Leaf(request.nodes[0], program_of(model, graph, fragment, request.micro_batch), "whole model"),)
    division = divided(graph, leaves, (fragment,), "whole", lambda _: 1.0)
    return Partition(leaves, joined(graph, (fragment,)), division)
