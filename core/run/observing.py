"""What the nodes of a deployment are seen to do while it runs, in the terms in which a plan is predicted.

Fed with telemetry, asked for figures; no I/O, no clock of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct

from core.cost.types import Machine
from core.plan.form import NodeId, Plan, ShardId
from core.wire.messages import Telemetry

LEAST_RUNS: Final = 5
"""Of each shard, before its mean time says anything."""
LEAST_SECONDS: Final = 0.9
"""Of telemetry, before shares and rates say anything."""


class Observation(Struct, frozen=True):
    """One node, per micro-batch that it handles; as ``core.cost.types.NodePrediction``."""

    node: NodeId
    compute_s: float
    """Mean of its shards' runs, the rest that a CPU limit wants included."""
    share: float
    """Part of the time in which it computes, that rest included, 0..1."""
    sent_bytes: float
    received_bytes: float
    memory_bytes: int
    """Resident; the highest seen."""
    held: float
    """Cores that its agent had while it computed, over its threads, at most 1.0: less where others took them."""
    seconds: float
    """Of telemetry that all this rests on."""

    @property
    def wait(self) -> float:
        """Part of the time in which it does not compute: it handles messages, or has nothing to do."""
        return 1.0 - self.share

    @property
    def micro_batches_per_s(self) -> float:
        return self.share / self.compute_s

    @property
    def cycle_s(self) -> float:
        """Between one micro-batch and the next."""
        return self.compute_s / self.share


class _Tally:
    def __init__(self, shards: Iterable[ShardId]) -> None:
        self.runs = dict.fromkeys(shards, 0)
        self.taken = dict.fromkeys(self.runs, 0.0)
        self.last: Telemetry | None = None
        self.busy = self.cores = self.seconds = 0.0
        self.sent = self.received = 0
        self.memory = 0


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
        if tally is None or sample.deployment != self._deployment:
            return
        before, tally.last = tally.last, sample
        if before is None or sample.time <= before.time or sample.data_sent < before.data_sent:
            return
        seconds = sample.time - before.time
        if not sample.executions and not any(load.busy for load in sample.shards):
            return  # before the first micro-batch, or after the last
        tally.seconds += seconds
        tally.busy += seconds * min(1.0, sum(load.busy for load in sample.shards))
        tally.cores += seconds * sample.process_cpu
        tally.sent += sample.data_sent - before.data_sent
        tally.received += sample.data_received - before.data_received
        tally.memory = max(tally.memory, sample.process_memory)
        for run in sample.executions:
            if run.shard in tally.runs:
                tally.runs[run.shard] += 1
                tally.taken[run.shard] += run.seconds

    def observations(self) -> dict[NodeId, Observation]:
        """Of the nodes of which enough was seen."""
        found = {node: self._observation(node, tally) for node, tally in self._tallies.items()}
        return {node: one for node, one in found.items() if one is not None}

    def _observation(self, node: NodeId, tally: _Tally) -> Observation | None:
        if tally.seconds < LEAST_SECONDS or min(tally.runs.values()) < LEAST_RUNS or tally.busy <= 0:
            return None
        running = sum(tally.taken[shard] / runs for shard, runs in tally.runs.items())
        if running <= 0:
            return None
        micro_batches = tally.busy / running
        machine = self._machines[node]
        compute = running / machine.cpu_limit
        return Observation(
            node=node,
            compute_s=compute,
            share=min(1.0, tally.busy / tally.seconds / machine.cpu_limit),
            sent_bytes=tally.sent / micro_batches,
            received_bytes=tally.received / micro_batches,
            memory_bytes=tally.memory,
            held=min(1.0, tally.cores / (tally.busy * machine.threads)),
            seconds=tally.seconds,
        )
