"""What a node works out once from the shards and routes it is given: who feeds each input, where each output goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from core.errors import ProtocolError
from core.plan.form import CLIENT, NodeId, Route, Shard, ShardId
from core.wire.pieces import Slicer, name_at_consumer, problem_of, slicer


class Outlet(NamedTuple):
    """One tensor that a shard gives to a consumer."""

    output: int
    """Which of the shard's outputs it is of."""
    target: str
    """Name at the consumer."""
    codec: str
    slicer: Slicer | None
    """What is cut out of the output; None: all of it."""


class Consumer(NamedTuple):
    shard: ShardId
    node: NodeId | None
    """None: the client."""
    outlets: tuple[Outlet, ...]


def shards_by_id(node: NodeId, shards: Sequence[Shard]) -> dict[ShardId, Shard]:
    """Raises ProtocolError where a shard is not this node's, or can do nothing."""
    by_id = {shard.id: shard for shard in shards}
    if len(by_id) != len(shards) or CLIENT in by_id:
        raise ProtocolError("Field shards names a shard twice, or the client as one.")
    for shard in shards:
        if shard.node != node:
            raise ProtocolError(f"Field shards names shard {shard.id}, which belongs to another node.")
        if not shard.inputs or not shard.outputs:
            raise ProtocolError(f"Field shards names shard {shard.id}, which has no inputs or no outputs.")
    return by_id


def producers_of(
    shards: Mapping[ShardId, Shard], routes: Sequence[Route], placement: Mapping[int, NodeId]
) -> dict[ShardId, dict[str, ShardId]]:
    """Who feeds each input of each shard: exactly one route each. Raises ProtocolError."""
    producers: dict[ShardId, dict[str, ShardId]] = {shard: {} for shard in shards}
    for route in routes:
        for end in (route.producer, route.consumer):
            if end != CLIENT and end not in placement:
                raise ProtocolError(f"Field placement does not say where shard {end} is.")
        if route.consumer in shards:
            if route.target in producers[route.consumer]:
                raise ProtocolError(f"Field routes feeds input {route.target!r} of shard {route.consumer} twice.")
            producers[route.consumer][route.target] = route.producer
    for shard_id, shard in shards.items():
        wanted, fed = {port.name for port in shard.inputs}, set(producers[shard_id])
        if wanted != fed:
            names = ", ".join(sorted(wanted ^ fed))
            raise ProtocolError(f"Field routes does not feed the inputs of shard {shard_id} exactly once: {names}.")
    return producers


def consumers_of(
    shard: Shard, routes: Sequence[Route], placement: Mapping[int, NodeId], node: NodeId
) -> tuple[Consumer, ...]:
    """Where the outputs of ``shard`` go, one entry a consumer; other nodes first, so that they can begin early.

    Raises ProtocolError for a tensor that the shard does not make, and for slices that it cannot cut out.
    """
    index = {port.name: i for i, port in enumerate(shard.outputs)}
    grouped: dict[ShardId, list[Outlet]] = {}
    for route in routes:
        if route.producer != shard.id:
            continue
        if route.tensor not in index:
            raise ProtocolError(f"Field routes names {route.tensor!r}, which shard {shard.id} does not make.")
        number = index[route.tensor]
        _check_slices(route, shard.outputs[number].shape)
        outlet = Outlet(number, name_at_consumer(route), route.codec, slicer(route.slices))
        outlets = grouped.setdefault(route.consumer, [])
        if any(other.target == outlet.target for other in outlets):
            raise ProtocolError(f"Field routes gives {outlet.target!r} of shard {shard.id} to {route.consumer} twice.")
        outlets.append(outlet)
    consumers = [
        Consumer(consumer, None if consumer == CLIENT else placement[consumer], tuple(outlets))
        for consumer, outlets in grouped.items()
    ]
    return tuple(sorted(consumers, key=lambda c: c.node == node))


def _check_slices(route: Route, shape: tuple[int | None, ...] | None) -> None:
    if problem := problem_of(route.slices, shape):
        raise ProtocolError(f"Field slices of {route.tensor!r}, which shard {route.producer} makes, {problem}.")
    if route.at and route.consumer != CLIENT:
        raise ProtocolError(f"Field at of {route.tensor!r} is for the client, but shard {route.consumer} takes it.")
    if route.term is not None and (route.consumer != CLIENT or route.term < 0):
        raise ProtocolError(f"Field term of {route.tensor!r} is {route.term}, to {route.consumer}.")
    if problem := problem_of(route.at, None):
        raise ProtocolError(f"Field at of {route.tensor!r}, which shard {route.producer} makes, {problem}.")
