"""The rules of the plan form (``core.plan.form``), checked."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator

from core.plan.form import CLIENT, Plan, Port, Route, Shard, ShardId

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
    known = [r for r in plan.routes if {r.producer, r.consumer} <= {CLIENT, *shards}]
    for route in plan.routes:
        if route not in known:
            yield f"{route} joins an unknown shard"
    for route in known:
        yield from _ends_of(route, shards)
    for shard in plan.shards:
        yield from _ports_of(shard, known)
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
    if source and target and not _agree(source, target):
        yield f"{source} does not fit {target}"
    if producer and consumer and producer.replica != consumer.replica:
        yield f"{route} joins replicas {producer.replica} and {consumer.replica}"


def _ports_of(shard: Shard, routes: list[Route]) -> Iterator[str]:
    if not shard.inputs:
        yield f"shard {shard.id} has no input, so nothing would ever start it"
    fed = Counter(route.target for route in routes if route.consumer == shard.id)
    for port in shard.inputs:
        if fed[port.name] != 1:
            yield f"input {port.name!r} of shard {shard.id} is fed by {fed[port.name]} routes"
    read = {route.tensor for route in routes if route.producer == shard.id}
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
    waiting = {shard.id: feeds[shard.id] - {CLIENT} for shard in plan.shards}
    while ready := [shard_id for shard_id, needs in waiting.items() if not needs]:
        for shard_id in ready:
            del waiting[shard_id]
        waiting = {shard_id: needs - set(ready) for shard_id, needs in waiting.items()}
    if waiting:
        yield f"shards {sorted(waiting)} wait for one another"


def _replicas(plan: Plan, routes: list[Route]) -> Iterator[str]:
    """Every replica is a whole dataflow: it gives the client the same outputs, each once."""
    given: dict[int, Counter[str]] = {shard.replica: Counter() for shard in plan.shards}
    replica_of = {shard.id: shard.replica for shard in plan.shards}
    for route in routes:
        if route.consumer == CLIENT and route.producer != CLIENT:
            given[replica_of[route.producer]][route.target] += 1
    if sorted(given) != list(range(len(given))):
        yield f"replicas are numbered {sorted(given)}"
    every = {name for names in given.values() for name in names}
    for replica, names in given.items():
        wrong = sorted(name for name in every if names[name] != 1)
        if wrong:
            yield f"replica {replica} does not give {wrong} exactly once"


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
