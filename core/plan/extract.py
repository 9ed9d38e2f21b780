"""Which layers a stage runs, what it needs from elsewhere and what it gives.

Works on names only: the graph of a model as lists of names, a stage as a range of layers. From the last stage to the
first, each stage runs what somebody wants of it: the client, or a later stage. Whatever it needs and does not make
itself comes straight from where it is made, over as many stages as may lie between.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import onnx_ir as ir
from msgspec import Struct

from core.errors import PlanError
from core.model.chance import CHANCE
from core.model.graph import Model


class LayerGraph(Struct, frozen=True):
    """A model's graph by names; layer i is the i-th node of the cleaned graph."""

    needs: tuple[tuple[str, ...], ...]
    """Values each layer reads, those that its subgraphs capture included."""
    makes: tuple[tuple[str, ...], ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: frozenset[str]
    """Initializers."""
    producer: dict[str, int]
    """Layer that makes a value."""
    fixed: frozenset[int] = frozenset()
    """Layers that hang on nothing but initializers (weights that are decompressed): any stage may run them."""


class Fragment(Struct, frozen=True):
    """A part of a model that runs in one shard."""

    layers: tuple[int, ...]
    """In the order they run."""
    inputs: tuple[str, ...]
    """Values that come from outside: model inputs, and what other fragments make."""
    outputs: tuple[str, ...]
    """Values that others read, or that are outputs of the model."""
    constants: tuple[str, ...]
    """Initializers used."""
    recomputed: tuple[int, ...]
    """Those of ``layers`` that belong to an earlier stage and run here again."""


def layer_graph(model: Model) -> LayerGraph:
    """The names of a model's graph, as the functions below want them."""
    graph = model.ir.graph
    needs: list[tuple[str, ...]] = []
    makes: list[tuple[str, ...]] = []
    producer: dict[str, int] = {}
    fixed: set[int] = set()
    for index, node in enumerate(graph):
        reads = tuple(dict.fromkeys(_reads(node)))
        if reads and node.op_type not in CHANCE and _hangs_on_constants(reads, graph.initializers, producer, fixed):
            fixed.add(index)
        needs.append(reads)
        made = tuple(value.name for value in node.outputs if value.name)
        makes.append(made)
        producer.update(dict.fromkeys(made, index))
    return LayerGraph(
        needs=tuple(needs),
        makes=tuple(makes),
        inputs=tuple(value.name or "" for value in graph.inputs),
        outputs=tuple(value.name or "" for value in graph.outputs),
        constants=frozenset(graph.initializers),
        producer=producer,
        fixed=frozenset(fixed),
    )


def _hangs_on_constants(
    reads: Collection[str], constants: Collection[str], producer: Mapping[str, int], fixed: Collection[int]
) -> bool:
    return all(name in constants or producer.get(name, -1) in fixed for name in reads)


def _reads(node: ir.Node) -> Iterator[str]:
    """Names of the values a node reads; of a subgraph's values only those from outside it."""
    for value in node.inputs:
        if value is not None and value.name:
            yield value.name
    for attribute in node.attributes.values():
        if attribute.is_ref():
            continue
        if attribute.type == ir.AttributeType.GRAPH:
            yield from _captures(attribute.as_graph())
        elif attribute.type == ir.AttributeType.GRAPHS:
            for graph in attribute.as_graphs():
                yield from _captures(graph)


def _captures(graph: ir.Graph) -> Iterator[str]:
    inner = {value.name for value in graph.inputs} | set(graph.initializers)
    inner |= {value.name for node in graph for value in node.outputs}
    reads = [name for node in graph for name in _reads(node)]
    reads += [value.name for value in graph.outputs if value.name]
    yield from (name for name in reads if name not in inner)


def whole(graph: LayerGraph) -> Fragment:
    """The fragment that gives every output of the model."""
    return stages(graph, (0, len(graph.needs)), ((),))[0]


def stages(graph: LayerGraph, bounds: Sequence[int], recomputed: Sequence[Collection[int]]) -> tuple[Fragment, ...]:
    """Divide a model: stage i holds layers ``bounds[i]`` to ``bounds[i + 1]`` and may run ``recomputed[i]`` again.

    A stage that would be left with nothing to do, because all others run its layers again, sends its results instead.
    PlanError in words when nobody needs them at all, or a stage has no layer.
    """
    count = len(bounds) - 1
    for stage in range(count):
        if bounds[stage] >= bounds[stage + 1] and count > 1:
            raise PlanError(f"Stage {stage + 1} would have no layers.", hint="Move the cut, or use fewer nodes.")
    again = [graph.fixed.union(layers) for layers in recomputed]
    while True:
        fragments = _divide(graph, bounds, again)
        idle = next((stage for stage, fragment in enumerate(fragments) if not fragment.layers), None)
        if idle is None or count == 1:
            return fragments
        own = frozenset(range(bounds[idle], bounds[idle + 1]))
        if not any(own & layers for layers in again):
            raise PlanError(
                f"Stage {idle + 1} (layers {min(own) + 1}-{max(own) + 1}) would have nothing to do: "
                "nobody needs its results.",
                hint="Move the cut, or use fewer nodes.",
            )
        again = [layers - own for layers in again]


def _divide(graph: LayerGraph, bounds: Sequence[int], again: Sequence[Collection[int]]) -> tuple[Fragment, ...]:
    """From the last stage to the first, what each must run for the client and the stages after it."""
    count = len(bounds) - 1
    stage_of = [stage for stage in range(count) for _ in range(bounds[stage], bounds[stage + 1])]
    wanted: list[dict[str, None]] = [{} for _ in range(count)]
    for name in graph.outputs:
        stage = stage_of[graph.producer[name]] if name in graph.producer else count - 1
        wanted[stage][name] = None
    fragments: list[Fragment] = []
    for stage in reversed(range(count)):
        fragment = _fragment(graph, range(bounds[stage], bounds[stage + 1]), again[stage], wanted[stage])
        for name in fragment.inputs:
            if name in graph.producer:
                wanted[stage_of[graph.producer[name]]][name] = None
        fragments.append(fragment)
    return tuple(reversed(fragments))


def _fragment(graph: LayerGraph, own: range, again: Collection[int], wanted: Collection[str]) -> Fragment:
    """The least part of layers ``own`` and ``again`` that makes the values ``wanted``."""
    layers: set[int] = set()
    inputs: set[str] = {name for name in wanted if name in graph.inputs}
    constants: set[str] = {name for name in wanted if name in graph.constants}
    pending = [graph.producer[name] for name in wanted if name in graph.producer]
    while pending:
        layer = pending.pop()
        if layer in layers:
            continue
        layers.add(layer)
        for name in graph.needs[layer]:
            source = graph.producer.get(name)
            if source is not None and (source in own or source in again):
                pending.append(source)
            elif name in graph.constants:
                constants.add(name)
            else:
                inputs.add(name)
    if not inputs:
        inputs = set(graph.inputs[:1])  # a shard is started by its inputs: one that needs none waits for the first
    order = {name: position for position, name in enumerate(graph.inputs)}
    place = {name: (1, graph.producer[name]) if name in graph.producer else (0, order[name]) for name in inputs}
    return Fragment(
        layers=tuple(sorted(layers)),
        inputs=tuple(sorted(inputs, key=lambda name: (place[name], name))),
        outputs=tuple(sorted(wanted, key=lambda name: (graph.producer.get(name, -1), name))),
        constants=tuple(sorted(constants)),
        recomputed=tuple(sorted(layer for layer in layers if layer not in own)),
    )
