"""The rules of the plan form (``core.plan.form``), checked."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from graphlib import CycleError, TopologicalSorter
from itertools import combinations
from math import prod

from core.plan.form import CLIENT, Plan, Port, Route, Shard, ShardId, Slice

_SHA256 = re.compile(r"[0-9a-f]{64}")


def validate_plan(plan: Plan) -> None:
    """Raise ValueError naming every rule of the form that ``plan`` breaks. Such a plan is a compiler's bug."""
    broken = list(broken_rules(plan))
    if broken:
        raise ValueError("the plan breaks its own rules: " + "; ".join(broken))


def broken_rules(plan: Plan) -> Iterator[str]:
    """One sentence for each rule that is broken."""
    shards = {shard.id: shard for shard in plan.shards}
    yield from _identities(plan)
    ends = {CLIENT, *shards}
    known = []
    for route in plan.routes:
        if route.producer in ends and route.consumer in ends:
            known.append(route)
            yield from _ends_of(route, shards)
        else:
            yield f"{route} joins an unknown shard"
    arriving: dict[ShardId, list[str]] = defaultdict(list)
    leaving: dict[ShardId, set[str]] = defaultdict(set)
    for route in known:
        arriving[route.consumer].append(route.target)
        leaving[route.producer].add(route.tensor)
    for shard in plan.shards:
        yield from _ports_of(shard, Counter(arriving[shard.id]), leaving[shard.id])
    yield from _order(plan, known)
    yield from _replicas(plan, known)


def _identities(plan: Plan) -> Iterator[str]:
    if not plan.shards:
        yield "there is no shard"
    for shard_id, count in Counter(shard.id for shard in plan.shards).items():
        if count > 1 or shard_id < 0:
            yield f"shard id {shard_id} is not unique and positive"
    for shard in plan.shards:
        if shard.node not in plan.request.nodes:
            yield f"shard {shard.id} runs on a node that was not asked for"
        if not all(_SHA256.fullmatch(sha) for sha in (shard.graph, *(w.blob for w in shard.weights))):
            yield f"shard {shard.id} names a blob by something else than a SHA-256"
    for node in set(plan.request.nodes) - {shard.node for shard in plan.shards}:
        yield f"node {node} has no shard"


def _ends_of(route: Route, shards: dict[ShardId, Shard]) -> Iterator[str]:
    producer, consumer = shards.get(route.producer), shards.get(route.consumer)
    if producer is None and consumer is None:
        yield f"{route} goes from the client to the client"
        return
    source = _port(producer.outputs, route.tensor) if producer else None
    target = _port(consumer.inputs, route.target) if consumer else None
    if producer and source is None:
        yield f"shard {producer.id} has no output {route.tensor!r}"
    if consumer and target is None:
        yield f"shard {consumer.id} has no input {route.target!r}"
    if source:
        yield from _slices_of(route, source)
    if source and target and not _agree(_cut(source, route), target):
        yield f"{source} does not fit {target}" + (f" after {route.slices}" if route.slices else "")
    if route.at and consumer:
        yield f"{route} says where its piece belongs, but only the client puts pieces together"
    if route.term is not None and consumer:
        yield f"{route} is a term of a sum, but only the client adds up"
    if route.at and source:
        yield from _place_of(route, _cut(source, route))
    if producer and consumer and producer.replica != consumer.replica:
        yield f"{route} joins replicas {producer.replica} and {consumer.replica}"


def _slices_of(route: Route, source: Port) -> Iterator[str]:
    axes = [one.axis for one in route.slices]
    if axes != sorted(set(axes)):
        yield f"{route} does not cut axes in increasing order, each once"
    for one in route.slices:
        if source.shape is None or not 0 <= one.axis < len(source.shape):
            yield f"{route} cuts axis {one.axis}, which {source} does not have"
            continue
        size = source.shape[one.axis]
        if not 0 <= one.start < one.stop or size is None or one.stop > size:
            yield f"{route} cuts {one.start}-{one.stop} out of axis {one.axis} of {source}"


def _place_of(route: Route, piece: Port) -> Iterator[str]:
    for one in route.at:
        size = piece.shape[one.axis] if piece.shape is not None and 0 <= one.axis < len(piece.shape) else None
        if one.start < 0 or size != one.stop - one.start:
            yield f"{route} puts {piece} where only {one.stop - one.start} indices of axis {one.axis} are"


def _cut(port: Port, route: Route) -> Port:
    """What travels of ``port``."""
    if port.shape is None:
        return port
    shape = list(port.shape)
    for one in route.slices:
        if 0 <= one.axis < len(shape):
            shape[one.axis] = one.stop - one.start
    return Port(port.name, port.dtype, tuple(shape))


def _ports_of(shard: Shard, fed: Counter[str], read: set[str]) -> Iterator[str]:
    if not shard.inputs:
        yield f"shard {shard.id} has no input, so nothing would ever start it"
    for port in shard.inputs:
        if fed[port.name] != 1:
            yield f"input {port.name!r} of shard {shard.id} is fed by {fed[port.name]} routes"
    for port in shard.outputs:
        if port.name not in read:
            yield f"nobody reads output {port.name!r} of shard {shard.id}"
    for name, count in Counter(p.name for p in (*shard.inputs, *shard.outputs)).items():
        if count > 1:
            yield f"shard {shard.id} has {count} ports called {name!r}"


def _order(plan: Plan, routes: list[Route]) -> Iterator[str]:
    """Routes form no circle, and every shard leads to the client."""
    feeds: dict[ShardId, set[ShardId]] = defaultdict(set)
    for route in routes:
        feeds[route.consumer].add(route.producer)
    useful, frontier = {CLIENT}, [CLIENT]
    while frontier:
        fresh = feeds[frontier.pop()] - useful
        useful |= fresh
        frontier += fresh
    for shard in plan.shards:
        if shard.id not in useful:
            yield f"nothing of shard {shard.id} reaches the client"
    try:
        tuple(TopologicalSorter({shard.id: feeds[shard.id] - {CLIENT} for shard in plan.shards}).static_order())
    except CycleError as error:
        yield f"shards {sorted(set(error.args[1]))} wait for one another"


def _replicas(plan: Plan, routes: list[Route]) -> Iterator[str]:
    """Every replica is a whole dataflow: it gives the client the same outputs, each once, whole or in pieces."""
    given: dict[int, dict[str, list[Route]]] = {shard.replica: defaultdict(list) for shard in plan.shards}
    replica_of = {shard.id: shard.replica for shard in plan.shards}
    for route in routes:
        if route.consumer == CLIENT and route.producer != CLIENT:
            given[replica_of[route.producer]][route.target].append(route)
    if sorted(given) != list(range(len(given))):
        yield f"replicas are numbered {sorted(given)}"
    every = sorted({name for names in given.values() for name in names})
    for replica, names in given.items():
        wrong = [name for name in every if not _terms_once(names.get(name, ()))]
        if wrong:
            yield f"replica {replica} does not give {wrong} exactly once"


def _terms_once(routes: Sequence[Route]) -> bool:
    """Whether they make one tensor, or every term of a sum once."""
    terms = sorted({-1 if route.term is None else route.term for route in routes})
    if terms not in ([-1], list(range(len(terms)))):
        return False
    return all(_once([r.at for r in routes if r.term == (None if term < 0 else term)]) for term in terms)


def _once(places: list[tuple[Slice, ...]]) -> bool:
    """Whether pieces at these places make one tensor, without gap or overlap as far as can be told."""
    if len(places) == 1 and not places[0]:
        return True
    if not places or any(not place for place in places):
        return False
    sizes: dict[int, int] = {}
    for one in (one for place in places for one in place):
        sizes[one.axis] = max(one.stop, sizes.get(one.axis, 0))
    boxes = []
    for place in places:  # an axis that a piece does not name it has all of
        bounds = {axis: (0, size) for axis, size in sizes.items()} | {one.axis: (one.start, one.stop) for one in place}
        boxes.append(tuple(bounds[axis] for axis in sorted(sizes)))
    if any(_overlap(one, other) for one, other in combinations(boxes, 2)):
        return False
    return sum(prod(stop - start for start, stop in box) for box in boxes) == prod(sizes.values())


def _overlap(one: tuple[tuple[int, int], ...], other: tuple[tuple[int, int], ...]) -> bool:
    return all(a < d and c < b for (a, b), (c, d) in zip(one, other, strict=True))


def _port(ports: tuple[Port, ...], name: str) -> Port | None:
    return next((port for port in ports if port.name == name), None)


def _agree(source: Port, target: Port) -> bool:
    if source.dtype != target.dtype:
        return False
    if source.shape is None or target.shape is None:
        return True
    return len(source.shape) == len(target.shape) and all(
        a is None or b is None or a == b for a, b in zip(source.shape, target.shape, strict=True)
    )
