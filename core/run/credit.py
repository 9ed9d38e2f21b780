"""How many micro-batches of a replica may be under way at a time."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Final

import numpy as np

from core.plan.form import NodeId, Plan, Port, Shard, memory_bytes
from core.wire.room import room_for_inputs

PER_STAGE: Final = 2
"""One computes while the other is on its way: to the next stage, or between the nodes of a group."""
_AGENT_BYTES: Final = 192 * 1024**2
"""What an agent itself takes, and some."""


def default_in_flight(plan: Plan, memory: Mapping[NodeId, int] | None = None) -> int:
    """Micro-batches per replica that keep every node busy; fewer where all their inputs would not fit on a node.

    ``memory``: bytes that each node's agent may use. At least one for each stage, and two altogether.
    """
    stages = 1 + max(shard.stage for shard in plan.shards)
    wanted = PER_STAGE * stages
    for node, limit in (memory or {}).items():
        shards = plan.on_node(node)
        held = _held_bytes(shards, plan.request.micro_batch)
        if held:
            room = room_for_inputs(limit - _AGENT_BYTES - memory_bytes(shards))
            wanted = min(wanted, room // held)
    return max(wanted, stages, PER_STAGE)


def _held_bytes(shards: tuple[Shard, ...], micro_batch: int) -> int:
    """Of one micro-batch, in one replica: what waits for the shard with the largest inputs."""
    by_replica: dict[int, int] = defaultdict(int)
    for shard in shards:
        nbytes = sum(_port_bytes(port, micro_batch) for port in shard.inputs)
        by_replica[shard.replica] = max(by_replica[shard.replica], nbytes)
    return max(by_replica.values(), default=0)


def _port_bytes(port: Port, micro_batch: int) -> int:
    """Sizes that are not known count as one item; the first one, where it is not fixed, as the micro-batch."""
    shape = [micro_batch if axis == 0 and size is None else size or 1 for axis, size in enumerate(port.shape or ())]
    return math.prod(shape) * np.dtype(port.dtype).itemsize
