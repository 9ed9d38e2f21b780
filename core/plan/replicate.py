"""replicate: the whole model on every node; a micro-batch goes to whichever is free."""

from __future__ import annotations

from core.errors import PlanError
from core.model.graph import Model
from core.plan.draft import Costs, Draft, Part
from core.plan.extract import layer_graph, whole
from core.plan.form import PlanRequest


def replicate(model: Model, request: PlanRequest, costs: Costs) -> Draft:  # noqa: ARG001  one signature for all
    """PlanError when cuts are given."""
    if request.cuts:
        raise PlanError("Strategy replicate has no cuts.", hint="Use pipeline to cut the model.")
    graph = layer_graph(model)
    fragment = whole(graph)
    return Draft(graph, tuple(Part(node, fragment, "whole model", replica=i) for i, node in enumerate(request.nodes)))
