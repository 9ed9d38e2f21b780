"""What messages and calls cost beside the operators themselves, in seconds: the constants that all predictions share.

Measured with agents of one thread on one machine, CurveZMQ over loopback; the speed of links is not measured yet.
With these the latency of the digits models through one, two and three agents comes out within 15 %, 3 % at the median.
"""

from __future__ import annotations

from typing import Final

SEND_SECONDS: Final = 0.75e-9
"""Time a node spends on each byte that it sends or receives: CurveZMQ over loopback took both ends together 1.5 ns."""
MESSAGE_SECONDS: Final = 75e-6
"""Processor time that an agent, or the workstation, spends on sending or on receiving one message, beside its bytes;
ZeroMQ's thread, which encrypts, and waking up included: 50 us where messages follow one another closely, up to 95."""
HOP_SECONDS: Final = 15e-6
"""Until somebody who waits for a message begins to receive it, beside the work at both ends."""
RUN_SECONDS: Final = 20e-6
"""For each run of a shard beside its operators: 10 us in the agent's data thread, 29 us in its compute thread."""
IN_FLIGHT: Final = 2
"""Micro-batches that wait at a node, or are under way to it or from it, beside the one that runs; and how many the
runner keeps unfinished for each stage of a replica."""


def handling_seconds(messages: int, nbytes: float) -> float:
    """What one end of so many messages takes, at speed 1."""
    return MESSAGE_SECONDS * messages + SEND_SECONDS * nbytes
