"""All ways to cut for one order of nodes at once: pipelines side by side, summed up for whole arrays of cuts.

What ``core.cost.chain`` and ``core.cost.verdict`` work out for one plan: the stages' pace, lines and the cores of
machines that several share, the workstation's own work. The time of one micro-batch is added up along the stages
instead of played, so the best of what is found here is predicted once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import inf
from typing import NamedTuple

import numpy as np
from msgspec import Struct

from core.cost.links import WORKSTATION, Way, Ways
from core.cost.messages import IN_FLIGHT, TYPICAL, MessageCosts
from core.cost.orders import Indices, Member
from core.cost.stages import Floats, Stages

_NO_LINES = Way(0.0)


class Weighed(Struct, frozen=True, eq=False):
    """For each way to cut."""

    rate: Floats
    """Micro-batches per second, of all replicas together; 0 where a stage may not be."""
    latency_s: Floats
    lacking: Floats
    """Bytes beyond the room of nodes, added up."""
    memory: Floats
    """Bytes, without the runtime's own, of the node that needs most."""


class Least(NamedTuple):
    """What no prediction of a way to cut is better than."""

    rate: float
    """Micro-batches per second."""
    latency_s: float
    """What messages take at their ends comes to it."""
    memory: float
    """Bytes, as in ``Weighed``."""


class Joint:
    """Weighs orders of nodes on the same tables."""

    def __init__(self, stages: Stages, ways: Ways, messages: MessageCosts = TYPICAL) -> None:
        self._stages = stages
        self._ways = ways
        self._messages = messages
        self._client = messages.message_s * ((stages.given > 0) * 1.0 + (stages.results > 0))
        self._client += messages.byte_s * (stages.given + stages.results)
        self._tables: dict[object, tuple[Floats, Floats, Floats]] = {}

    def weigh(self, rows: Sequence[Sequence[Member]], cuts: Indices) -> Weighed:
        """Stage i of replica r on ``rows[r][i]``; ``cuts`` has a row for each way to cut, with indices of positions."""
        count = len(cuts)
        first, last = np.zeros((count, 1), np.intp), np.full((count, 1), len(self._stages.positions) - 1, np.intp)
        bounds = np.hstack([first, cuts, last])
        ends = [(bounds[:, i], bounds[:, i + 1]) for i in range(len(rows[0]))]
        allowed = np.all([self._stages.allowed[at] for at in ends], axis=0)
        client = np.add.reduce([self._client[at] for at in ends])
        rates, latency = np.zeros(count), np.zeros(count)
        lacking, memory = np.zeros(count), np.zeros(count)
        lines: dict[str, Floats] = {}
        cores: dict[str, Floats] = {}
        for row in rows:
            own, through, pace = self._replica(row, ends)
            rate = 1 / np.maximum.reduce([pace, client, through / (IN_FLIGHT * len(row)), *own.values()])
            rates += rate
            latency = np.maximum(latency, through)
            for name, seconds in own.items():
                lines[name] = lines.get(name, 0.0) + rate * seconds
            for member, at in zip(row, ends, strict=True):
                held = self._stages.memory[at]
                lacking += np.maximum(held - member.room, 0.0)
                memory = np.maximum(memory, held)
                if (machine := member.cost.machine) is not None:
                    used = rate * self._table(member)[2][at] / machine.cores
                    cores[machine.name] = cores.get(machine.name, 0.0) + used
        machines = {m.cost.machine.name: m.cost.machine for row in rows for m in row if m.cost.machine is not None}
        for name, machine in machines.items():
            if machine.here:
                cores[name] = cores[name] + rates * client / machine.cores
        full = np.maximum.reduce([np.ones(count), rates * client, *lines.values(), *cores.values()])
        return Weighed(np.where(allowed, rates / full, 0.0), latency, lacking, memory)

    def least(self, rows: Sequence[Sequence[Member]], cut: Sequence[int]) -> Least:
        """Of one way to cut, at indices of positions: much quicker to tell than a prediction."""
        bounds = (0, *cut, len(self._stages.positions) - 1)
        ends = list(pairwise(bounds))
        rate = through = 0.0
        for row in rows:
            pace, taken = self._least_of(row, ends)
            rate += 1 / pace if pace > 0 else inf
            through = max(through, taken)
        return Least(rate, through, float(max(self._stages.memory[at] for at in ends)))

    def _least_of(self, row: Sequence[Member], ends: Sequence[tuple[int, int]]) -> tuple[float, float]:
        """Seconds between two micro-batches of one replica, and of one alone."""
        stages, ways = self._stages, self._ways
        pace = taken = 0.0
        shared: dict[str, float] = {}
        for index, (member, at) in enumerate(zip(row, ends, strict=True)):
            node, cost = member.node, member.cost
            cycle, _, used = self._table(member)
            pace = max(pace, float(cycle[at]))
            taken += float(stages.seconds[at]) * cost.cpu_limit / cost.speed
            if cost.machine is not None:
                name = cost.machine.name
                shared[name] = shared.get(name, 0.0) + float(used[at]) / cost.machine.cores
            sent = [(float(stages.given[at]), ways.way(WORKSTATION, node), index == 0)]
            sent.append((float(stages.results[at]), ways.way(node, WORKSTATION), index == len(row) - 1))
            if index and stages.sent[ends[index - 1]] >= stages.received[at[0], -1]:  # the one before makes all of it
                sent.append((float(stages.received[at]), ways.way(row[index - 1].node, node), True))
            for nbytes, way, awaited in sent:
                if nbytes:
                    taken += way.hop_s + way.byte_s * nbytes if awaited else 0.0
                    for name, byte_s in way.lines:
                        shared[name] = shared.get(name, 0.0) + nbytes * byte_s
        return max((pace, taken / (IN_FLIGHT * len(row)), *shared.values())), taken

    def _replica(
        self, row: Sequence[Member], ends: Sequence[tuple[Indices, Indices]]
    ) -> tuple[dict[str, Floats], Floats, Floats]:
        """Seconds of each line, of one micro-batch from end to end, and of the slowest stage."""
        stages, ways = self._stages, self._ways
        lines: dict[str, Floats] = {}
        through, pace = np.zeros(len(ends[0][0])), np.zeros(len(ends[0][0]))
        for index, (member, at) in enumerate(zip(row, ends, strict=True)):
            node = member.node
            before = ways.way(row[index - 1].node, node) if index else _NO_LINES
            given, results = ways.way(WORKSTATION, node), ways.way(node, WORKSTATION)
            for way, sizes in ((before, stages.received), (given, stages.given), (results, stages.results)):
                nbytes = sizes[at]
                for name, byte_s in way.lines:
                    lines[name] = lines.get(name, 0.0) + nbytes * byte_s
            cycle, alone, _ = self._table(member)
            pace = np.maximum(pace, cycle[at])
            coming, way = (stages.received[at], before) if index else (stages.given[at], given)
            through = through + alone[at] + way.hop_s + way.byte_s * coming
        back = ways.way(row[-1].node, WORKSTATION)
        through = through + back.hop_s + back.byte_s * stages.results[ends[-1]]
        nbytes = stages.given[ends[0]] + stages.results[ends[-1]]
        return lines, through + 2 * self._messages.message_s + self._messages.byte_s * nbytes, pace

    def _table(self, member: Member) -> tuple[Floats, Floats, Floats]:
        """From each position to each: the least time between two micro-batches, that of one alone, core seconds."""
        found = self._tables.get(member.cost)
        if found is None:
            cost, stages = member.cost, self._stages
            compute = stages.seconds / cost.speed
            handling = stages.handling * (cost.cpu_limit / cost.speed)
            used = compute * cost.cpu_limit * cost.threads + handling
            found = self._tables[member.cost] = stages.cycle_seconds(cost), stages.through_seconds(cost), used
        return found
