"""What each node did during a run, gathered from its telemetry. Fed from the cluster's thread, read by the job's."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from core.cluster.events import ClusterEvent, TelemetryArrived
from core.cluster.node import Node
from core.plan.form import NodeId
from core.run.report import NodeUse
from core.wire.messages import Telemetry

QUIET_BYTES_PER_S: Final = 20_000
"""Telemetry and heartbeats make up to a few thousand bytes a second."""


def _traffic(sample: Telemetry) -> float:
    return sample.net_sent_per_s + sample.net_received_per_s


class _Tally:
    def __init__(self) -> None:
        self.first: Telemetry | None = None
        self.last: Telemetry | None = None
        self.samples = 0
        self.cpu = 0.0
        self.busy = 0.0
        self.items = 0


class NodeUseCollector:
    """Means of busy share and load, and differences of the byte counters, over the samples of a run."""

    def __init__(self, nodes: Iterable[NodeId], deployment: str) -> None:
        self._tallies = {node: _Tally() for node in nodes}
        self._deployment = deployment
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
        sample, tally = event.telemetry, self._tallies[event.id]
        with self._changed:
            tally.first = tally.first or sample
            tally.last = sample
            tally.samples += 1
            tally.cpu += sample.cpu
            tally.busy += min(1.0, sum(load.busy for load in sample.shards))
            self._changed.notify_all()

    def credit(self, nodes: Iterable[NodeId], items: int) -> None:
        for node in nodes:
            self._tallies[node].items += items

    def wait_for_next_samples(self, nodes: Iterable[NodeId], timeout: float) -> None:
        """Wait until each of ``nodes`` has sent one more telemetry, or ``timeout`` seconds are up."""
        with self._changed:
            wanted = [(tally, tally.samples) for node in nodes if (tally := self._tallies.get(node)) is not None]
            self._changed.wait_for(lambda: all(tally.samples > before for tally, before in wanted), timeout)

    def all_quiet(self) -> bool:
        """Whether every node says that nothing waits, runs or is under way on it."""
        with self._changed:
            samples = [tally.last for tally in self._tallies.values()]
        return all(
            s is not None and not s.queue and not s.executions and _traffic(s) < QUIET_BYTES_PER_S for s in samples
        )

    def uses(self, order: Sequence[NodeId], names: Mapping[NodeId, str]) -> tuple[NodeUse, ...]:
        with self._changed:
            return tuple(self._use(node, names.get(node, node[:8])) for node in order if node in self._tallies)

    def _use(self, node: NodeId, name: str) -> NodeUse:
        tally = self._tallies[node]
        samples = tally.samples or 1
        first, last = tally.first, tally.last
        known = first is not None and last is not None
        return NodeUse(
            name=name,
            id=node,
            items=tally.items,
            busy=tally.busy / samples,
            cpu=tally.cpu / samples,
            sent_bytes=last.data_sent - first.data_sent if known and last and first else 0,
            received_bytes=last.data_received - first.data_received if known and last and first else 0,
        )
