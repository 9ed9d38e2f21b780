"""What messages and calls cost beside the operators themselves, in seconds.

The figures here are typical ones, measured with agents of one thread on one machine, CurveZMQ over loopback:
predictions of machines where nothing could be measured are made with them. All others take those of the machine itself
(``core.run.message_costs``).
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from core.wire.pacing import SHORT_SECONDS

SEND_SECONDS: Final = 0.75e-9
"""Time a node spends on each byte that it sends or receives: CurveZMQ over loopback took both ends together 1.5 ns."""
MESSAGE_SECONDS: Final = 75e-6
"""Processor time that an agent, or the workstation, spends on sending or on receiving one message, beside its bytes;
ZeroMQ's thread, which encrypts, and waking up included: 50 us where messages follow one another closely, up to 95."""
HOP_SECONDS: Final = 15e-6
"""Until somebody who waits for a message begins to receive it, beside the work at both ends."""
RUN_SECONDS: Final = 20e-6
"""For each run of a shard beside its operators."""
SWITCH_SECONDS: Final = 110e-6
"""The same for a shard that runs in a thread of its own: two threads take turns on what may be one core."""
IN_FLIGHT: Final = 2
"""Micro-batches that wait at a node, or are under way to it or from it, beside the one that runs; and how many the
runner keeps unfinished for each stage of a replica."""


class MessageCosts(Struct, frozen=True):
    """Of a machine that has speed 1, in seconds; what each means is said above."""

    message_s: float = MESSAGE_SECONDS
    byte_s: float = SEND_SECONDS
    hop_s: float = HOP_SECONDS
    run_s: float = RUN_SECONDS
    switch_s: float = SWITCH_SECONDS

    def scaled(self, factor: float) -> MessageCosts:
        """Messages that cost so many times as much; runs cost what they do."""
        scaled = (factor * self.message_s, factor * self.byte_s, factor * self.hop_s)
        return MessageCosts(*scaled, self.run_s, self.switch_s)

    def handling_seconds(self, messages: int, nbytes: float) -> float:
        """What one end of so many messages takes."""
        return self.message_s * messages + self.byte_s * nbytes

    def call_seconds(self, seconds: float, cpu_limit: float = 1.0) -> float:
        """For a run that takes ``seconds``. A node with a CPU limit below 1.0 gives every run to another thread, and
        rests for as long as that takes to run it; for giving it there it does not."""
        apart = cpu_limit < 1.0 or seconds >= SHORT_SECONDS
        return self.run_s + (self.switch_s * cpu_limit if apart else 0.0)


TYPICAL: Final = MessageCosts()
