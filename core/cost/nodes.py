"""How long work takes on one node, and what nodes of one machine take from each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from core.cost.messages import TYPICAL, MessageCosts
from core.cost.types import Machine
from core.plan.form import NodeId


class NodeCost(Struct, frozen=True):
    speed: float = 1.0
    """Of its shards, under its CPU limit; 1.0: this workstation with one thread."""
    machine: Machine | None = None
    spare_core: bool = False
    """Messages are handled beside the shards, not in between."""
    messages: MessageCosts = TYPICAL
    """At speed 1."""
    together: float = 1.0
    """Speed of a core of its machine while all of them compute, against one alone."""

    @property
    def cpu_limit(self) -> float:
        """Part of the time between two runs that is not rest."""
        return self.machine.cpu_limit if self.machine is not None else 1.0

    @property
    def threads(self) -> int:
        return self.machine.threads if self.machine is not None else 1

    def compute_seconds(self, seconds: float) -> float:
        """Of a shard that takes ``seconds`` at speed 1; the rest that a CPU limit wants after it included."""
        return seconds / self.speed

    def handling_seconds(self, messages: int, nbytes: float) -> float:
        """Of one end of messages: a limit slows only the shards."""
        return self.messages.handling_seconds(messages, nbytes) * self.cpu_limit / self.speed

    def cycle_seconds(self, compute: float, handling: float) -> float:
        """The least time between two micro-batches."""
        if self.spare_core:
            return max(compute, handling)
        return max(compute, compute * self.cpu_limit + handling)

    def cores(self, compute: float, handling: float) -> float:
        """Core seconds taken from the machine."""
        return compute * self.cpu_limit * self.threads + handling


def node_costs(
    nodes: Sequence[NodeId],
    speeds: Mapping[NodeId, float],
    machines: Mapping[NodeId, Machine],
    messages: MessageCosts = TYPICAL,
    together: float = 1.0,
) -> dict[NodeId, NodeCost]:
    """Of each node of a plan. One without a speed has 1.0; one without a machine has a core to itself."""
    on = Counter(machines[node].name for node in nodes if node in machines)
    return {node: _node_cost(speeds.get(node, 1.0), machines.get(node), on, messages, together) for node in nodes}


def _node_cost(
    speed: float, machine: Machine | None, on: Mapping[str, int], messages: MessageCosts, together: float
) -> NodeCost:
    if machine is None:
        return NodeCost(speed, messages=messages)
    spare = on[machine.name] == 1 and not machine.here and machine.threads < machine.cores
    return NodeCost(speed, machine, spare, messages, together if machine.here else 1.0)


def share_cores(costs: Iterable[NodeCost]) -> bool:
    """Whether a machine has fewer cores than all that could want one at once: its nodes, and the workstation."""
    wanted: dict[str, int] = {}
    cores: dict[str, int] = {}
    for cost in costs:
        if (machine := cost.machine) is not None:
            cores[machine.name] = machine.cores
            already = wanted.get(machine.name, int(machine.here))
            wanted[machine.name] = already + min(cost.threads, machine.cores) + cost.spare_core
    return any(wanted[name] > cores[name] for name in wanted)


def crowding(
    used: Iterable[tuple[NodeCost, float]], client_cores: float, part: float = 1.0
) -> tuple[float, Machine | None]:
    """Cores that the busiest machine has over cores that it would need, at most 1.0, and which machine that is. A
    machine counts as busy from ``part`` of its cores on.

    ``used`` are nodes with the cores each needs, ``client_cores`` those of the workstation. Below 1.0 the nodes of that
    machine, and the workstation where it is the same one, get in each other's way.
    """
    needed: dict[str, float] = {}
    found: dict[str, Machine] = {}
    for cost, cores in used:
        if (machine := cost.machine) is not None:
            found[machine.name] = machine
            already = needed.get(machine.name, client_cores if machine.here else 0.0)
            needed[machine.name] = already + cores
    crowded = [(found[name].cores / cores, name) for name, cores in needed.items() if cores > part * found[name].cores]
    if not crowded:
        return 1.0, None
    room, name = min(crowded)
    return room, found[name]
