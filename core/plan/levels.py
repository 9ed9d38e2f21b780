"""Which operators of a leaf run together: what is needed at all, in which order, and after how many exchanges.

A *unit* is an operator, or the operators of one bundle. The level of a unit counts the exchanges that must have
happened before it can run: hand-overs within a group of ranks that work on one part of the model together. Units of a
leaf with the same level run in one shard. What comes from the client, or from an earlier stage, does not raise the
level: a stage of a pipeline is one shard, whatever skips over the stages between.

Two sorts of units *float*: they belong to no shard but are repeated in each that needs their values. Those that hang
on constants only (weights that are decompressed), and those whose values cannot travel (sequences, rare formats).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from heapq import heapify, heappop, heappush
from typing import Final

from core.errors import PlanError
from core.model.chance import CHANCE
from core.plan.blobs import BLOB_DTYPES
from core.plan.outline import OUTSIDE, Leaf, Transfer
from core.plan.passing import identity, passed_name
from core.plan.program import Op, TensorType

_NO_TYPE: Final = TensorType("", None)


class LeafWork:
    """A leaf while it is divided into shards. Operators are known by their index in ``ops``."""

    def __init__(self, leaf: Leaf) -> None:
        self.leaf = leaf
        self.ops: list[Op] = list(leaf.program.ops)
        self.needs: list[tuple[str, ...]] = [op.reads for op in self.ops]
        """What each operator reads."""
        self.producer: dict[str, int] = {name: i for i, op in enumerate(self.ops) for name in op.outputs if name}
        self.feed: dict[str, int] = {}
        """Input -> the transfer that brings it."""
        self.passed: dict[str, str] = {}
        """Input or constant that goes on to others -> the name by which it leaves."""
        self.types: dict[str, TensorType] = dict(leaf.program.types)
        self.order: list[int] = []
        """Operators that are needed, in an order in which they can run."""
        self.unit: dict[int, int] = {}
        """Operator -> its unit, named by the first of its operators."""
        self.members: dict[int, list[int]] = {}
        """Unit -> its operators in order."""
        self.place: dict[int, int] = {}
        """Operator -> its position in ``order``."""
        self.floating: set[int] = set()
        """Units."""
        self.reads: dict[int, tuple[str, ...]] = {}
        """Operator -> inputs of the leaf, and values of units that do not float, which it and what it repeats need."""
        self.repeats: dict[int, frozenset[int]] = {}
        """Operator -> floating operators that it needs; only where there are any."""

    def leaving(self, value: str) -> str:
        """The name by which ``value`` leaves the leaf: made by an operator, repeated where it is not made here."""
        if value in self.producer:
            return value
        if value not in self.passed:
            self.passed[value] = name = passed_name(value, self.types)
            self.producer[name] = len(self.ops)
            self.types[name] = self.types[value]
            self.ops.append(identity(value, name))
            self.needs.append((value,))
        return self.passed[value]

    def arrange(self, needed: set[int], exported: set[str]) -> None:
        """Order the operators that are needed, and find the units and those that float."""
        self.order = self._sorted(needed)
        bundles: dict[int, int] = {}
        for i in self.order:
            bundle = self.ops[i].bundle
            self.unit[i] = unit = i if bundle < 0 else bundles.setdefault(bundle, i)
            self.members.setdefault(unit, []).append(i)
        self.place = {i: position for position, i in enumerate(self.order)}
        self.floating = self._find_floating(exported)
        self._see_through()

    def _sorted(self, needed: set[int]) -> list[int]:
        """In the order given where that is one in which they can run, else in the nearest."""
        order = sorted(needed)
        waits: dict[int, set[int]] = {}
        in_order = True
        for i in order:
            waits[i] = {made for name in self.needs[i] if (made := self.producer.get(name)) is not None}
            in_order = in_order and all(made < i for made in waits[i])
        if in_order:
            return order
        readers: dict[int, list[int]] = defaultdict(list)
        for i, makers in waits.items():
            for made in makers:
                readers[made].append(i)
        missing = {i: len(makers) for i, makers in waits.items()}
        ready = [i for i in order if not missing[i]]
        heapify(ready)
        found = []
        while ready:
            found.append(i := heappop(ready))
            for reader in readers[i]:
                missing[reader] -= 1
                if not missing[reader]:
                    heappush(ready, reader)
        if len(found) < len(order):
            raise ValueError(f"operators of {self.leaf.label!r} wait for one another")
        return found

    def _find_floating(self, exported: set[str]) -> set[int]:
        fixed = self._fixed()
        cannot_travel = {
            name
            for i in self.order
            for name in self.ops[i].outputs
            if name and self.types.get(name, _NO_TYPE).dtype not in BLOB_DTYPES
        }
        found = {unit for unit in {self.unit[i] for i in fixed} if fixed.issuperset(self.members[unit])}
        if cannot_travel:
            for i in self.order:
                for name in self.needs[i]:
                    if name in cannot_travel and self.unit[self.producer[name]] != self.unit[i]:
                        found.add(self.unit[self.producer[name]])
        return found - {self.unit[self.producer[name]] for name in exported if self.producer[name] in self.unit}

    def _fixed(self) -> set[int]:
        """Operators that hang on nothing but constants."""
        fixed: set[int] = set()
        constants = self.leaf.program.constants
        for i in self.order:
            reads = self.needs[i]
            if (
                reads
                and all(name in constants or self.producer.get(name) in fixed for name in reads)
                and self.ops[i].type not in CHANCE
            ):
                fixed.add(i)
        return fixed

    def _see_through(self) -> None:
        constants = self.leaf.program.constants
        for i in self.order:
            reads: dict[str, None] = {}
            repeats: set[int] = set()
            for name in self.needs[i]:
                made = self.producer.get(name)
                if made is None:
                    if name not in constants:
                        reads[name] = None
                elif self.unit[made] in self.floating:
                    reads.update(dict.fromkeys(self.reads[made]))
                    repeats |= {made, *self.repeats.get(made, ())}
                else:
                    reads[name] = None
            self.reads[i] = tuple(reads)
            if repeats:
                self.repeats[i] = frozenset(repeats)


def leaf_works(leaves: Sequence[Leaf], transfers: Sequence[Transfer]) -> list[LeafWork]:
    """The leaves, with what brings their inputs. ValueError where an input comes twice."""
    works = [LeafWork(leaf) for leaf in leaves]
    for index, transfer in enumerate(transfers):
        if transfer.target != OUTSIDE and transfer.name in works[transfer.target].feed:
            raise ValueError(f"{transfer.name!r} comes to {leaves[transfer.target].label!r} twice")
        if transfer.target != OUTSIDE:
            works[transfer.target].feed[transfer.name] = index
    return works


def idle(leaf: Leaf, leaves: Sequence[Leaf]) -> PlanError:
    """That nothing which ``leaf`` could do is needed; in the words of a person who knows of stages and ranks."""
    stage = f"Stage {leaf.stage + 1}" if len({one.stage for one in leaves}) > 1 else ""
    rank = f"rank {leaf.rank + 1}" if len({one.rank for one in leaves}) > 1 else ""
    who = ", ".join(filter(None, (stage, rank))) or "A node"
    return PlanError(
        f"{who[0].upper()}{who[1:]} would have nothing to do: nobody needs its results.", hint="Use fewer nodes."
    )


def needed_operators(works: Sequence[LeafWork], transfers: Sequence[Transfer]) -> tuple[list[set[int]], list[bool]]:
    """Operators of each leaf, and transfers, from which something reaches the client."""
    alive: list[set[int]] = [set() for _ in works]
    used = [transfer.target == OUTSIDE for transfer in transfers]
    pending: list[tuple[int, str]] = [(t.source, t.value) for t in transfers if t.target == OUTSIDE and t.source >= 0]
    while pending:
        leaf, value = pending.pop()
        work = works[leaf]
        stack = [work.leaving(value)]
        while stack:
            name = stack.pop()
            made = work.producer.get(name)
            if made is not None:
                if made not in alive[leaf]:
                    alive[leaf].add(made)
                    stack += work.needs[made]
            elif (index := work.feed.get(name)) is not None:
                if not used[index]:
                    used[index] = True
                    if transfers[index].source != OUTSIDE:
                        pending.append((transfers[index].source, transfers[index].value))
            elif name not in work.leaf.program.constants:
                raise ValueError(f"nothing brings {name!r} to {work.leaf.label!r}")
    return alive, used


def levels(works: Sequence[LeafWork], transfers: Sequence[Transfer], component: Sequence[int]) -> list[dict[int, int]]:
    """The level of each unit of each leaf that does not float; ``component`` as ``components`` gives it."""
    readers: dict[tuple[int, int], list[tuple[tuple[int, int], int]]] = defaultdict(list)
    missing: dict[tuple[int, int], int] = {}
    for leaf, work in enumerate(works):
        for i in work.order:
            unit = work.unit[i]
            if unit in work.floating:
                continue
            here = (leaf, unit)
            missing.setdefault(here, 0)
            for name in work.reads[i]:
                made = work.producer.get(name)
                if made is not None:
                    if work.unit[made] != unit:
                        readers[leaf, work.unit[made]].append((here, 0))
                        missing[here] += 1
                    continue
                transfer = transfers[work.feed[name]]
                if transfer.source != OUTSIDE:
                    there = works[transfer.source]
                    source = (transfer.source, there.unit[there.producer[there.leaving(transfer.value)]])
                    readers[source].append((here, int(component[transfer.source] == component[leaf])))
                    missing[here] += 1
    found: list[dict[int, int]] = [{} for _ in works]
    level = dict.fromkeys(missing, 0)
    ready = [unit for unit, count in missing.items() if not count]
    while ready:
        here = ready.pop()
        found[here[0]][here[1]] = level[here]
        for reader, step in readers[here]:
            level[reader] = max(level[reader], level[here] + step)
            missing[reader] -= 1
            if not missing[reader]:
                ready.append(reader)
    if sum(map(len, found)) < len(missing):
        raise ValueError("leaves of the partition wait for one another")
    return found


def components(works: Sequence[LeafWork], transfers: Sequence[Transfer]) -> list[int]:
    """A number for each leaf: the same for those of one stage, and for those of stages that need one another."""
    stages = {stage: number for number, stage in enumerate(dict.fromkeys(work.leaf.stage for work in works))}
    stage_of = [stages[work.leaf.stage] for work in works]
    reach = [1 << number for number in range(len(stages))]
    for transfer in transfers:
        if OUTSIDE not in (transfer.source, transfer.target):
            reach[stage_of[transfer.source]] |= 1 << stage_of[transfer.target]
    for middle in range(len(reach)):
        for first in range(len(reach)):
            if reach[first] >> middle & 1:
                reach[first] |= reach[middle]
    same: Mapping[int, int] = {
        one: next(other for other in range(len(reach)) if reach[one] >> other & 1 and reach[other] >> one & 1)
        for one in range(len(reach))
    }
    return [same[stage] for stage in stage_of]
