"""single: the whole model on one node."""

from __future__ import annotations

from core.errors import PlanError
from core.model.graph import Model
from core.plan.draft import Costs, Draft, Part
from core.plan.extract import layer_graph, whole
from core.plan.form import PlanRequest


def single(model: Model, request: PlanRequest, costs: Costs) -> Draft:  # noqa: ARG001  one signature for all
    """PlanError unless there is exactly one node and no cut."""
    if len(request.nodes) != 1:
        raise PlanError(
            f"Strategy single runs on one node; {len(request.nodes)} were given.",
            hint="Use replicate or pipeline for several.",
        )
    if request.cuts:
        raise PlanError("Strategy single has no cuts.", hint="Use pipeline to cut the model.")
    graph = layer_graph(model)
    return Draft(graph, (Part(request.nodes[0], whole(graph), "whole model"),))
