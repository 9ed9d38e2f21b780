"""Looks shortly at links that are known: do they still carry what they did?

A look takes a tenth of a second each way, links that share no end side by side. What seems to differ is looked at once
more, longer and while nothing else is measured; only what differs then, too, is said.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from typing import TYPE_CHECKING, Final

from core.cluster.link_changes import LinkChange, change_of, changed_words, most_suspect, size_to_send
from core.cluster.link_probes import LinkProbes
from core.cluster.link_rounds import Task, any_known, groups_of, rounds_of
from core.cluster.machines import THIS_MACHINE, machines_of
from core.cluster.measured import MeasuredLink, Pair
from core.cluster.measuring_steps import is_usable
from core.cost.links import WORKSTATION
from core.errors import Cancelled, ShardboardError
from core.plan.form import NodeId
from core.wire.probing import SIZES

if TYPE_CHECKING:
    from core.cluster.client import Cluster

LOOK_SECONDS: Final = 0.25
"""For one direction, at most."""
LONG_LOOK_SECONDS: Final = 2.0
_SIZES: Final = 3
"""That are sent in a long one."""
TOTAL_SECONDS: Final = 3.0
"""For the first looks: with many nodes some pairs are left out, but no node is."""


def check_links(
    cluster: Cluster,
    nodes: Sequence[NodeId],
    known: Mapping[Pair, MeasuredLink],
    cancel: threading.Event | None = None,
) -> Mapping[NodeId, tuple[str, ...]]:
    """Why ``known`` links between ``nodes``, and between them and this workstation, no longer hold: clauses for
    "NAME ...". Nodes that cannot be measured now are left out. Raises Cancelled."""
    stop = cancel or threading.Event()
    usable = [node for node in dict.fromkeys(nodes) if is_usable(cluster, node, None)]
    machines = machines_of(map(cluster.node, usable))
    if all(machine.here for machine in machines.values()):
        return {}
    with LinkProbes(cluster, usable, stop, {}) as probes:
        there = probes.nodes.values()
        names = {WORKSTATION: THIS_MACHINE} | {node.id: machines[node.id].name for node in there}
        looked_at: dict[Pair, MeasuredLink] = {}
        tasks = []
        for one, other in combinations(groups_of(there, names), 2):
            ways = [any_known(one.nodes, other.nodes, known), any_known(other.nodes, one.nodes, known)]
            if one.machine == other.machine or None in ways:
                continue
            ends = one.speaker, other.speaker
            tasks.append(Task(*ends, frozenset({one.machine, other.machine})))
            looked_at |= {pair: way for pair, way in zip((ends, ends[::-1]), ways, strict=True) if way is not None}
        sure = _confirmed(probes, _looks(probes, tasks, looked_at, stop))
        return {node: changed_words(node, change, probes.name) for node, change in sure.items()}


def _looks(
    probes: LinkProbes, tasks: Sequence[Task], known: Mapping[Pair, MeasuredLink], stop: threading.Event
) -> dict[Pair, LinkChange]:
    """What seems to differ."""
    found: dict[Pair, LinkChange] = {}

    def look(task: Task) -> None:
        for pair in ((task.one, task.other), (task.other, task.one)):
            change = _change(probes, pair, known[pair])
            if change is not None:
                found[pair] = change

    end = time.monotonic() + TOTAL_SECONDS
    for tasks_of_round in rounds_of(tasks):
        if time.monotonic() > end:
            break
        with ThreadPoolExecutor(len(tasks_of_round), thread_name_prefix="links") as pool:
            for done in [pool.submit(look, task) for task in tasks_of_round]:
                done.result()
        if stop.is_set():
            raise Cancelled("Measuring was stopped.")
    return found


def _confirmed(probes: LinkProbes, suspects: Mapping[Pair, LinkChange]) -> dict[NodeId, LinkChange]:
    """Of each node that is suspected one change that shows again, alone."""
    left = dict(suspects)
    sure: dict[NodeId, LinkChange] = {}
    while (suspect := most_suspect(left.values())) is not None:
        node, change = suspect
        again = _again(probes, change)
        if again is not None:
            sure[node] = again
        left = {
            pair: one for pair, one in left.items() if pair != change.pair and not (again is not None and node in pair)
        }
    return sure


def _again(probes: LinkProbes, suspect: LinkChange) -> LinkChange | None:
    """The same change, if it shows once more; with all sizes where the link is too slow for those that were sent."""
    size = size_to_send(suspect.before)
    sizes = [one for one in SIZES if one <= size]
    for tried in (sizes[-_SIZES:], sizes):
        try:
            return change_of(suspect.pair, suspect.before, probes.measure(*suspect.pair, tried, LONG_LOOK_SECONDS))
        except Cancelled:
            raise
        except ShardboardError:
            continue
    return None


def _change(probes: LinkProbes, pair: Pair, before: MeasuredLink) -> LinkChange | None:
    """Of one direction; a link that is too slow for a look at it, or does not answer, is one that changed."""
    try:
        return change_of(pair, before, probes.measure(*pair, [size_to_send(before)], LOOK_SECONDS))
    except Cancelled:
        raise
    except ShardboardError:
        return LinkChange(pair, before)
