"""How much a node holds for micro-batches that wait: agents keep to it, and runs are planned with it."""

from __future__ import annotations

from typing import Final

_SMALLEST: Final = 64 * 1024**2


def room_for_inputs(free: int) -> int:
    """Bytes of inputs that a node holds at a time, with ``free`` bytes left beside the agent and its shards.

    A node that holds so much refuses to begin with another micro-batch.
    """
    return max(_SMALLEST, free // 4)
