"""Plans whose shards take micro-batches of one size only, and batches filled up for them."""

from __future__ import annotations

from msgspec.structs import replace

from core.plan.form import CLIENT, Plan
from core.run.source import Batch, filled_up


def fixed_items(plan: Plan) -> int | None:
    """Items that every micro-batch must have, or None where a short one will do.

    It must be whole where a shard that the client feeds takes a fixed number of items, or where the items are shared
    out between shards. Means nothing for a model without an item axis, whose micro-batch is one item anyway.
    """
    ports = {(shard.id, port.name): port for shard in plan.shards for port in shard.inputs}
    for route in plan.routes:
        if route.producer != CLIENT:
            continue
        shape = ports[route.consumer, route.target].shape
        if any(part.axis == 0 for part in route.slices) or (shape and shape[0] is not None):
            return plan.request.micro_batch
    return None


def whole_batch(batch: Batch, items: int | None) -> Batch:
    """``batch`` filled up to ``items`` by its last item again; its ``rows`` still say how many are real."""
    if items is None or batch.whole or all(len(array) >= items for array in batch.feed.values()):
        return batch
    return replace(batch, feed={name: filled_up(array, items) for name, array in batch.feed.items()})
