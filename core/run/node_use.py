"""What each node did during a run, gathered from its telemetry. Fed from the cluster's thread, read by the job's."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from core.cluster.events import ClusterEvent, TelemetryArrived
from core.cluster.node import Node
from core.plan.form import NodeId, ShardId
from core.run.active_time import ActiveTime
from core.run.report import NodeUse
from core.wire.messages import ShardLoad, Telemetry

QUIET_BYTES_PER_S: Final = 20_000
"""Telemetry and heartbeats make up to a few thousand bytes a second."""


def _traffic(sample: Telemetry) -> float:
    return sample.net_sent_per_s + sample.net_received_per_s


class _Tally:
    def __init__(self, deployment: str) -> None:
        self.first: Telemetry | None = None
        self.last: Telemetry | None = None
        self.samples = 0
        self.cpu = 0.0
        self.time = ActiveTime()
        self.items = 0
        self.micro_batches = 0
        self._deployment = deployment

    def take(self, sample: Telemetry) -> None:
        self.first = self.first or sample
        self.last = sample
        self.samples += 1
        self.cpu += sample.cpu
        self.time.take(sample)

    @property
    def done(self) -> int:
        """Micro-batches that the node says all its shards have done."""
        return int(min(self._since(lambda load: load.runs).values(), default=0))

    @property
    def ran(self) -> float:
        """Seconds that its shards ran."""
        return sum(self._since(lambda load: load.seconds).values())

    def _since(self, counter: Callable[[ShardLoad], float]) -> dict[ShardId, float]:
        """Of each shard, since the first telemetry, or since it was loaded where that came later."""
        before = {load.shard: counter(load) for load in self._loads(self.first)}
        return {load.shard: counter(load) - before.get(load.shard, 0) for load in self._loads(self.last)}

    def _loads(self, sample: Telemetry | None) -> tuple[ShardLoad, ...]:
        return sample.shards if sample is not None and sample.deployment == self._deployment else ()


class NodeUseCollector:
    """Shares of time and mean load over the samples of a run, and differences of the byte counters."""

    def __init__(self, nodes: Iterable[NodeId], deployment: str) -> None:
        self._tallies = {node: _Tally(deployment) for node in nodes}
        self._changed = threading.Condition()

    def start(self, nodes: Iterable[Node]) -> None:
        """Byte counters count from here."""
        with self._changed:
            for node in nodes:
                if node.id in self._tallies:
                    self._tallies[node.id].first = node.telemetry

    def take(self, event: ClusterEvent) -> None:
        if not isinstance(event, TelemetryArrived) or event.id not in self._tallies:
            return
        with self._changed:
            self._tallies[event.id].take(event.telemetry)
            self._changed.notify_all()

    def credit(self, nodes: Iterable[NodeId], items: int) -> None:
        """One micro-batch of so many items was done by these."""
        for node in nodes:
            self._tallies[node].items += items
            self._tallies[node].micro_batches += 1

    def wait_for_last_samples(self, nodes: Iterable[NodeId], timeout: float) -> None:
        """Wait until each of ``nodes`` has sent one more telemetry, in which all that was credited to it is counted,
        or ``timeout`` seconds are up."""
        with self._changed:
            wanted = [(tally, tally.samples) for node in nodes if (tally := self._tallies.get(node)) is not None]
            self._changed.wait_for(
                lambda: all(one.samples > before and one.done >= one.micro_batches for one, before in wanted), timeout
            )

    def all_quiet(self) -> bool:
        """Whether every node says that nothing waits, runs or is under way on it."""
        with self._changed:
            samples = [tally.last for tally in self._tallies.values()]
        return all(
            s is not None and not s.queue and not s.executions and _traffic(s) < QUIET_BYTES_PER_S for s in samples
        )

    def uses(self, order: Sequence[NodeId], names: Mapping[NodeId, str], seconds: float) -> tuple[NodeUse, ...]:
        """``seconds``: that the run took."""
        with self._changed:
            known = [(node, self._tallies[node]) for node in order if node in self._tallies]
            return tuple(_use(tally, node, names.get(node, node[:8]), seconds) for node, tally in known)


def _use(tally: _Tally, node: NodeId, name: str, seconds: float) -> NodeUse:
    first, last = tally.first, tally.last
    share = tally.time.share
    if share is None:  # all was over within an interval or two
        share = min(1.0, tally.ran / seconds) if seconds > 0 else 0.0
    return NodeUse(
        name=name,
        id=node,
        items=tally.items,
        busy=share,
        cpu=tally.cpu / (tally.samples or 1),
        sent_bytes=last.data_sent - first.data_sent if first and last else 0,
        received_bytes=last.data_received - first.data_received if first and last else 0,
    )
