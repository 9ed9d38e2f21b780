"""Which links are measured, and which of them side by side. Pure.

Nodes of one machine have one interface, so between machines one pair is measured and counts for all; a node with a
--link-limit has a way of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

from msgspec import Struct

from core.cluster.machines import THIS_MACHINE
from core.cluster.measured import MeasuredLink, Pair
from core.cluster.node import Node
from core.cost.links import WORKSTATION
from core.plan.form import NodeId


class Group(Struct, frozen=True):
    """Nodes that share an interface; the workstation is among those of its machine."""

    machine: str
    nodes: tuple[NodeId, ...]
    limited: bool

    @property
    def speaker(self) -> NodeId:
        """The one that is measured for all."""
        return WORKSTATION if WORKSTATION in self.nodes else self.nodes[0]


class Task(Struct, frozen=True):
    """A pair to measure both ways, or a node with itself."""

    one: NodeId
    other: NodeId
    machines: frozenset[str]


def groups_of(nodes: Iterable[Node], machine_of: Mapping[NodeId, str]) -> list[Group]:
    """The workstation's first."""
    here: list[NodeId] = [WORKSTATION]
    machines: dict[str, list[NodeId]] = {THIS_MACHINE: here}
    limited = []
    for node in nodes:
        machine = machine_of[node.id]
        if node.info is not None and node.info.link_limit:
            limited.append(Group(machine, (node.id,), limited=True))
        else:
            machines.setdefault(machine, []).append(node.id)
    return [Group(machine, tuple(members), limited=False) for machine, members in machines.items()] + limited


def tasks_of(groups: Sequence[Group], known: Mapping[Pair, MeasuredLink]) -> list[Task]:
    """Those that are not known: a pair for two groups, a pair of one machine for its loopback; and before them each
    node that takes part with itself."""
    pairs = [
        (one.speaker, other.speaker, {one.machine, other.machine})
        for one, other in _round_robin(groups)
        if not _is_known(one.nodes, other.nodes, known)
    ]
    pairs += [
        (group.speaker, group.nodes[1], {group.machine})
        for group in groups
        if len(group.nodes) > 1 and not _is_known(group.nodes, group.nodes, known)
    ]
    between = [(one, other) for one, other, machines in pairs if len(machines) > 1]
    ends = dict.fromkeys(end for pair in between for end in pair if end != WORKSTATION)
    machine_of = {node: group.machine for group in groups for node in group.nodes}
    alone = [Task(end, end, frozenset({machine_of[end]})) for end in ends]
    return alone + [Task(one, other, frozenset(machines)) for one, other, machines in pairs]


def _is_known(ones: Iterable[NodeId], others: Sequence[NodeId], known: Mapping[Pair, MeasuredLink]) -> bool:
    return any_known(ones, others, known) is not None and any_known(others, tuple(ones), known) is not None


def any_known(
    sources: Iterable[NodeId], targets: Sequence[NodeId], known: Mapping[Pair, MeasuredLink]
) -> MeasuredLink | None:
    """Any pair counts for all; the workstation with itself stands for its machine's loopback."""
    found = (known.get((source, target)) for source in sources for target in targets)
    return next((link for link in found if link is not None), None)


def rounds_of(tasks: Sequence[Task]) -> list[list[Task]]:
    """What may be measured side by side: a machine takes part in one measurement at a time."""
    rounds: list[tuple[list[Task], set[str]]] = []
    for task in tasks:
        place = next((one for one in rounds if one[1].isdisjoint(task.machines)), None)
        if place is None:
            rounds.append(place := ([], set()))
        place[0].append(task)
        place[1].update(task.machines)
    return [chosen for chosen, _ in rounds]


def _round_robin(groups: Sequence[Group]) -> list[tuple[Group, Group]]:
    """All pairs, so that those that may be measured side by side follow one another: as many rounds as groups."""
    odd = len(groups) - 1 + len(groups) % 2

    def turn(pair: tuple[int, int]) -> int:
        one, other = pair
        return (2 * one if other == odd else one + other) % odd

    return [(groups[one], groups[other]) for one, other in sorted(combinations(range(len(groups)), 2), key=turn)]
