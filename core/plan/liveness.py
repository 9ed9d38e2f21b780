"""How much memory the intermediate tensors of a fragment need at once."""

from __future__ import annotations

from collections import Counter

from core.model.graph import Model
from core.model.shapes import nbytes
from core.plan.extract import Fragment, LayerGraph, layer_graph


def peak_bytes(model: Model, fragment: Fragment, batch: int, graph: LayerGraph | None = None) -> int:
    """Peak of live tensors while ``fragment`` runs once on ``batch`` items.

    A tensor lives from the layer that makes it (an input: from the start) to its last reader; outputs live to the end.
    """
    graph = graph or layer_graph(model)
    shapes = model.shapes(batch)
    readers = Counter(name for layer in fragment.layers for name in graph.needs[layer])
    readers.update(fragment.outputs)
    live = sum(nbytes(*shapes.get(name, (None, ""))) for name in fragment.inputs)
    peak = live
    for layer in fragment.layers:
        made = [name for name in graph.makes[layer] if readers[name]]
        live += sum(nbytes(*shapes.get(name, (None, ""))) for name in made)
        peak = max(peak, live)
        for name in graph.needs[layer]:
            readers[name] -= 1
            if readers[name] == 0 and name not in graph.constants:
                live -= nbytes(*shapes.get(name, (None, "")))
    return peak
