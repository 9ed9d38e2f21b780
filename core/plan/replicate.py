"""replicate: the whole model on every node; a micro-batch goes to whichever is free."""

from __future__ import annotations

from core.errors import PlanError
from core.model.graph import Model
from core.plan.draft import Costs
from core.plan.extract import layer_graph, whole
from core.plan.form import PlanRequest
from core.plan.outline import Leaf, Partition
from core.plan.program import program_of
from core.plan.whole_layers import divided, joined, refuse_splitting


def replicate(model: Model, request: PlanRequest, costs: Costs) -> Partition:
    """PlanError when cuts are given."""
    if request.cuts:
        raise PlanError("Strategy replicate has no cuts.", hint="Use pipeline to cut the model.")
    refuse_splitting(request)
    graph = layer_graph(model)
    fragment = whole(graph)
    program = program_of(model, graph, fragment, request.micro_batch)
    leaves = tuple(Leaf(node, program, "whole model", replica=i) for i, node in enumerate(request.nodes))
    transfers = tuple(one for i in range(len(leaves)) for one in joined(graph, (fragment,), first=i))
    speeds = [costs.speed(node) for node in request.nodes]
    kind = "items" if len(leaves) > 1 else "whole"
    division = divided(graph, leaves, (fragment,) * len(leaves), kind, lambda i: speeds[i] / sum(speeds))
    return Partition(leaves, transfers, division)
