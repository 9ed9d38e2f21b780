"""What the nodes of a deployment are seen to do while it runs, in the terms in which a plan is predicted.

What a micro-batch takes and what crosses for it comes from counters of the nodes, divided by the micro-batches that
these count: exact, however long was watched. Shares of time come from the intervals of telemetry.

Fed with telemetry, asked for figures; no I/O, no clock of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from msgspec import Struct

from core.cost.types import Machine
from core.plan.form import NodeId, Plan, ShardId
from core.run.active_time import ActiveTime
from core.wire.messages import ShardLoad, Telemetry

LEAST_RUNS: Final = 5
"""Of each shard, before its mean time says anything."""
LEAST_SECONDS: Final = 0.5
"""At work, before shares of time say anything."""


class Observation(Struct, frozen=True):
    """One node, per micro-batch that it handles; as ``core.cost.types.NodePrediction``."""

    node: NodeId
    compute_s: float
    """Mean of its shards' runs, all of them, the rest that a CPU limit wants included."""
    share: float
    """Part of the time in which it computes, that rest included, 0..1."""
    sent_bytes: float
    """Of tensors, counted; as ``received_bytes``."""
    received_bytes: float
    memory_bytes: int
    """Resident; the highest seen."""
    held: float
    """Cores that its agent had while it computed, over its threads, at most 1.0: less where others took them."""
    seconds: float
    """At work, that the shares of time rest on."""

    @property
    def wait(self) -> float:
        """Part of the time in which it does not compute: it handles messages, or has nothing to do."""
        return 1.0 - self.share

    @property
    def cycle_s(self) -> float:
        """Between one micro-batch and the next."""
        return self.compute_s / self.share


class _Tally:
    """Counters of one node's shards: as they were first told, and as they are."""

    def __init__(self, shards: Iterable[ShardId]) -> None:
        self.shards = frozenset(shards)
        self.first: dict[ShardId, ShardLoad] = {}
        self.last: dict[ShardId, ShardLoad] = {}
        self.time = ActiveTime()
        self.memory = 0

    def take(self, sample: Telemetry) -> None:
        self.last = {load.shard: load for load in sample.shards if load.shard in self.shards}
        if self.first.keys() != self.last.keys() or any(self.runs(shard) < 0 for shard in self.last):
            self.first = self.last  # the shards were loaded (anew)
        self.time.take(sample)
        self.memory = max(self.memory, sample.process_memory)

    def runs(self, shard: ShardId) -> int:
        """Micro-batches since the first telemetry."""
        return self.last[shard].runs - self.first[shard].runs

    def per_micro_batch(self, counter: Callable[[ShardLoad], float]) -> float:
        """All shards together, each by its own runs."""
        return sum((counter(last) - counter(self.first[shard])) / self.runs(shard) for shard, last in self.last.items())


class Observer:
    """Of one deployment, from ``start`` on. Every method may be called from one thread only."""

    def __init__(self, plan: Plan, deployment: str, machines: Mapping[NodeId, Machine]) -> None:
        """``machines``: of the nodes, for their threads and CPU limits; one that is not named has one and none."""
        self._deployment = deployment
        self._machines = {node: machines.get(node, Machine("", 1)) for node in plan.request.nodes}
        self._shards = {node: tuple(shard.id for shard in plan.on_node(node)) for node in plan.request.nodes}
        self._tallies: dict[NodeId, _Tally] = {}
        self.start()

    def start(self) -> None:
        """Forget what was seen; each node's next telemetry is where counting begins."""
        self._tallies = {node: _Tally(shards) for node, shards in self._shards.items() if shards}

    def take(self, node: NodeId, sample: Telemetry) -> None:
        """The next telemetry of a node; those of other nodes and deployments do not count."""
        tally = self._tallies.get(node)
        if tally is not None and sample.deployment == self._deployment:
            tally.take(sample)

    def observations(self) -> dict[NodeId, Observation]:
        """Of the nodes of which enough was seen."""
        found = {node: self._observation(node, tally) for node, tally in self._tallies.items()}
        return {node: one for node, one in found.items() if one is not None}

    def _observation(self, node: NodeId, tally: _Tally) -> Observation | None:
        if tally.last.keys() != tally.shards or min(map(tally.runs, tally.shards)) < LEAST_RUNS:
            return None
        time, running = tally.time, tally.per_micro_batch(lambda load: load.seconds)
        if time.seconds < LEAST_SECONDS or time.busy <= 0 or not running > 0:
            return None
        machine = self._machines[node]
        return Observation(
            node=node,
            compute_s=running / machine.cpu_limit,
            share=min(1.0, time.busy / time.seconds / machine.cpu_limit),
            sent_bytes=tally.per_micro_batch(lambda load: load.sent),
            received_bytes=tally.per_micro_batch(lambda load: load.received),
            memory_bytes=tally.memory,
            held=min(1.0, time.cores / (time.busy * machine.threads)),
            seconds=time.seconds,
        )
