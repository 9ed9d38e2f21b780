"""Measures links: every pair of nodes, and each node with this workstation, both ways, through encrypted data sockets.

Nodes of one machine have one interface, so between machines one pair is measured and counts for all; a node with a
--link-limit has a way of its own. Pairs of different machines are measured side by side. The time is bounded: with many
pairs each gets less, and a link that is too slow for it is measured with smaller messages only.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from core.cluster.link_meaning import Ends, evened_links, meaning_of
from core.cluster.link_probes import LinkProbes
from core.cluster.link_rounds import Group, Task, any_known, groups_of, rounds_of, tasks_of
from core.cluster.machines import THIS_MACHINE, machines_of
from core.cluster.measured import MeasuredLink, Pair, end_of
from core.cluster.measuring_steps import Progress, Steps, cancelled, is_usable
from core.cost.links import WORKSTATION
from core.errors import Cancelled, ShardboardError
from core.plan.form import NodeId
from core.wire.messages import LinkProbed
from core.wire.probing import SIZES

if TYPE_CHECKING:
    from core.cluster.client import Cluster

TOTAL_SECONDS: Final = 20.0
"""For all links; each gets its part of it, within these bounds:"""
LEAST_SECONDS: Final = 0.5
MOST_SECONDS: Final = 2.5
LOOPBACK_SECONDS: Final = 0.7


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
        self._stop = stop
        self._problems = problems if problems is not None else []
        self._probes = LinkProbes(cluster, nodes, stop, refused if refused is not None else {})
        machines = machines_of(self._probes.nodes.values())
        self._machines = {WORKSTATION: THIS_MACHINE} | {node: machine.name for node, machine in machines.items()}
        self._found: dict[Pair, LinkProbed] = {}

    def run(self, progress: Progress | None, known: Mapping[Pair, MeasuredLink]) -> dict[Pair, MeasuredLink]:
        with self._probes:
            groups = groups_of(self._probes.nodes.values(), self._machines)
            tasks = tasks_of(groups, known)
            rounds = rounds_of(tasks)
            steps = Steps(progress, max(1, len(tasks)))
            directions = sum(2 if any(task.one != task.other for task in one) else 1 for one in rounds)
            seconds = min(MOST_SECONDS, max(LEAST_SECONDS, TOTAL_SECONDS / max(1, directions)))
            for tasks_of_round in rounds:
                self._measure_round(tasks_of_round, seconds, steps)
        return self._links(groups, known)

    def _measure_round(self, tasks: Sequence[Task], seconds: float, steps: Steps) -> None:
        def measure(task: Task) -> None:
            names = " and ".join(self._probes.name(end) for end in dict.fromkeys((task.one, task.other)))
            ways = dict.fromkeys([(task.one, task.other), (task.other, task.one)])
            for source, target in ways:
                steps.advance(0.0, f"measuring the link of {names}")
                longest = seconds if len(task.machines) > 1 else min(seconds, LOOPBACK_SECONDS)
                try:
                    self._found[source, target] = self._probes.measure(source, target, SIZES, longest)
                except Cancelled:
                    raise
                except ShardboardError as error:
                    if not self._stop.is_set():
                        self._problems.append(
                            f"The link from {self._probes.name(source)} to {self._probes.name(target)} was not "
                            f"measured: {error.message}"
                        )
                steps.advance(1 / len(ways), f"measuring the link of {names}")
            if self._stop.is_set():
                raise cancelled()

        with ThreadPoolExecutor(len(tasks), thread_name_prefix="links") as pool:
            for done in [pool.submit(measure, task) for task in tasks]:
                done.result()

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
        return end_of(self._probes.nodes.get(node))
