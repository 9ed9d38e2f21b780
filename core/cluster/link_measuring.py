"""Measures links: every pair of nodes, and each node with this workstation, both ways, through encrypted data sockets.

Nodes of one machine have one interface, so between machines one pair is measured and counts for all; a node with a
--link-limit has a way of its own. Pairs of different machines are measured side by side. The time is bounded: with many
pairs each gets less, and a link that is too slow for it is measured with smaller messages only.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from itertools import product
from math import inf
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from core.cluster.deployment import peer_endpoint
from core.cluster.link_meaning import Ends, evened_links, meaning_of
from core.cluster.link_rounds import Group, Task, any_known, groups_of, rounds_of, tasks_of
from core.cluster.machines import THIS_MACHINE, machines_of
from core.cluster.measured import MeasuredLink, Pair, end_of
from core.cluster.measuring_steps import Progress, Steps, await_reply, cancelled, is_usable
from core.cost.links import WORKSTATION
from core.errors import Cancelled, ProtocolError, ShardboardError
from core.plan.form import NodeId
from core.wire.messages import CloseProbe, LinkProbed, OpenProbe, ProbeLink, Reply
from core.wire.probing import SIZES, probe_link

if TYPE_CHECKING:
    from core.cluster.client import Cluster

TOTAL_SECONDS: Final = 20.0
"""For all links; each gets its part of it, within these bounds:"""
LEAST_SECONDS: Final = 0.5
MOST_SECONDS: Final = 2.5
LOOPBACK_SECONDS: Final = 0.7
_OPEN_SECONDS: Final = 120.0
_ANSWER_SECONDS: Final = 10.0
_PROBE_ANSWER_SECONDS: Final = 30.0
"""Beside the measurement itself: connecting, and requests that wait before it."""
_CLOSE_SECONDS: Final = 3.0


def measure_links(
    cluster: Cluster,
    nodes: Sequence[NodeId],
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
    refused: dict[NodeId, str] | None = None,
    problems: list[str] | None = None,
    known: Mapping[Pair, MeasuredLink] | None = None,
) -> dict[Pair, MeasuredLink]:
    """Measure every pair of ``nodes``, and each with the workstation, both ways.

    ``Measurements.links_of`` makes them the ``Links`` of a prediction. About 20 s at most for a dozen nodes, a second
    for local ones. ``problems`` gets a sentence for each pair that cannot talk; ``known`` are links that need not be
    measured again. Raises Cancelled.
    """
    usable = [node for node in dict.fromkeys(nodes) if is_usable(cluster, node, refused)]
    work = _Measuring(cluster, usable, cancel or threading.Event(), refused, problems)
    return work.run(progress, known or {})


class _Measuring:
    def __init__(
        self,
        cluster: Cluster,
        nodes: Sequence[NodeId],
        stop: threading.Event,
        refused: dict[NodeId, str] | None,
        problems: list[str] | None,
    ) -> None:
        self._cluster = cluster
        self._stop = stop
        self._refused = refused if refused is not None else {}
        self._problems = problems if problems is not None else []
        self._probe = secrets.token_hex(8)
        self._nodes = {node: cluster.node(node) for node in nodes}
        machines = machines_of(self._nodes.values())
        self._machines = {WORKSTATION: THIS_MACHINE} | {node: machine.name for node, machine in machines.items()}
        self._found: dict[Pair, LinkProbed] = {}

    def run(self, progress: Progress | None, known: Mapping[Pair, MeasuredLink]) -> dict[Pair, MeasuredLink]:
        try:
            self._open()
            groups = groups_of(self._nodes.values(), self._machines)
            tasks = tasks_of(groups, known)
            rounds = rounds_of(tasks)
            steps = Steps(progress, max(1, len(tasks)))
            directions = sum(2 if any(task.one != task.other for task in one) else 1 for one in rounds)
            seconds = min(MOST_SECONDS, max(LEAST_SECONDS, TOTAL_SECONDS / max(1, directions)))
            for tasks_of_round in rounds:
                self._measure_round(tasks_of_round, seconds, steps)
        finally:
            self._close()
        return self._links(groups, known)

    # ------------------------------------------------------------ probes

    def _open(self) -> None:
        """Introduce all nodes to one another; those that refuse are left out."""
        peers = tuple(self._nodes)
        asked = {
            node: self._cluster.request(node, OpenProbe(self._probe, peers, _OPEN_SECONDS), _ANSWER_SECONDS)
            for node in self._nodes
        }
        for node, answer in asked.items():
            try:
                await_reply(answer, self._stop)
            except Cancelled:
                raise
            except ShardboardError as error:
                self._refused[node] = error.message
                del self._nodes[node]

    def _close(self) -> None:
        """What is still being measured ends with it."""
        asked = [self._cluster.request(node, CloseProbe(self._probe), _CLOSE_SECONDS) for node in self._nodes]
        done, _ = wait(asked, _CLOSE_SECONDS)
        for answer in done:
            with suppress(ShardboardError):
                answer.result()

    def _measure_round(self, tasks: Sequence[Task], seconds: float, steps: Steps) -> None:
        def measure(task: Task) -> None:
            names = " and ".join(self._name(end) for end in dict.fromkeys((task.one, task.other)))
            ways = dict.fromkeys([(task.one, task.other), (task.other, task.one)])
            for source, target in ways:
                steps.advance(0.0, f"measuring the link of {names}")
                longest = seconds if len(task.machines) > 1 else min(seconds, LOOPBACK_SECONDS)
                try:
                    self._found[source, target] = self._measure(source, target, longest)
                except Cancelled:
                    raise
                except ShardboardError as error:
                    if not self._stop.is_set():
                        self._problems.append(
                            f"The link from {self._name(source)} to {self._name(target)} was not measured: "
                            f"{error.message}"
                        )
                steps.advance(1 / len(ways), f"measuring the link of {names}")
            if self._stop.is_set():
                raise cancelled()

        with ThreadPoolExecutor(len(tasks), thread_name_prefix="links") as pool:
            for done in [pool.submit(measure, task) for task in tasks]:
                done.result()

    def _measure(self, source: NodeId, target: NodeId, seconds: float) -> LinkProbed:
        if source == WORKSTATION:
            return self._from_here(target, seconds, pull=False)
        if target == WORKSTATION:
            return self._from_here(source, seconds, pull=True)
        sender, receiver = self._nodes[source], self._nodes[target]
        body = ProbeLink(self._probe, target, peer_endpoint(receiver, sender), SIZES, seconds)
        answer: Future[Reply] = self._cluster.request(source, body, seconds + _PROBE_ANSWER_SECONDS)
        return _checked(await_reply(answer, self._stop), sender.name)

    def _from_here(self, node: NodeId, seconds: float, *, pull: bool) -> LinkProbed:
        channel = self._cluster.wire.connect(self._nodes[node].data_endpoint, node)
        try:
            return probe_link(channel, self._probe, SIZES, seconds, pull=pull, stop=self._stop.is_set)
        finally:
            channel.close()

    def _name(self, node: NodeId) -> str:
        return self._nodes[node].name if node != WORKSTATION else "this workstation"

    # ------------------------------------------------------------ what it means

    def _links(self, groups: Sequence[Group], known: Mapping[Pair, MeasuredLink]) -> dict[Pair, MeasuredLink]:
        """What was measured or known of any two nodes holds for all of their two groups."""
        now = time.time()
        found = {pair: one for pair, one in self._found.items() if pair[0] != pair[1]}
        measured = evened_links({pair: meaning_of(one, self._ends(pair), now) for pair, one in found.items()}, known)
        links: dict[Pair, MeasuredLink] = {}
        for one, other in product(groups, repeat=2):
            link = any_known(one.nodes, other.nodes, measured) or any_known(one.nodes, other.nodes, known)
            for source, target in product(one.nodes, other.nodes):
                if link is not None and (source != target or source == WORKSTATION):
                    links[source, target] = replace(link, ends=(self._end(source), self._end(target)))
        return links

    def _ends(self, pair: Pair) -> Ends:
        alone = [end for end in pair if (end, end) in self._found]
        return Ends(
            one_machine=self._machines[pair[0]] == self._machines[pair[1]],
            limits=tuple(limit for _, limit in map(self._end, pair) if limit),
            alone=tuple(self._found[end, end] for end in alone),
            alone_limited=tuple(self._end(end)[1] > 0 for end in alone),
        )

    def _end(self, node: NodeId) -> tuple[str, int]:
        return end_of(self._nodes.get(node))


def _checked(reply: Reply, name: str) -> LinkProbed:
    """An answer that makes sense. Raises ProtocolError."""
    if isinstance(reply, LinkProbed) and reply.samples and 0 < reply.round_trip_s < inf:
        sizes = [sample.nbytes for sample in reply.samples]
        ordered = sizes == sorted(set(sizes)) and set(sizes) <= set(SIZES)
        if ordered and all(0 < sample.bytes_per_s < inf for sample in reply.samples):
            return reply
    raise ProtocolError(f"{name} answered the measurement of a link with {str(reply)[:200]}.")
