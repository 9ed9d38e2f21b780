"""What a person chose on the Partition page, as plain data: every edit makes a new state, so undo is a swap of two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import Struct

from core.plan.form import NodeId, PlanRequest

SINGLE: Final = "single"
REPLICATE: Final = "replicate"
PIPELINE: Final = "pipeline"
STRATEGIES: Final = (SINGLE, REPLICATE, PIPELINE)


class PartitionState(Struct, frozen=True):
    """``order`` holds every node ever seen, in the order of stages; ``left_out`` those that a person took out."""

    strategy: str = REPLICATE
    order: tuple[NodeId, ...] = ()
    left_out: frozenset[NodeId] = frozenset()
    alone: NodeId | None = None
    """The node of the strategy single; None: the fastest."""
    micro_batch: int = 1
    cuts: tuple[int, ...] | None = None
    """None: balanced."""

    def chosen(self, usable: Sequence[NodeId]) -> tuple[NodeId, ...]:
        """The nodes that take part, in order."""
        can = set(usable)
        return tuple(node for node in self.order if node in can and node not in self.left_out)

    def seen(self, nodes: Sequence[NodeId]) -> PartitionState:
        """New nodes join at the end of the order."""
        new = tuple(node for node in nodes if node not in self.order)
        return msgspec.structs.replace(self, order=self.order + new) if new else self

    def with_strategy(self, strategy: str) -> PartitionState:
        return msgspec.structs.replace(self, strategy=strategy)

    def with_micro_batch(self, items: int) -> PartitionState:
        return msgspec.structs.replace(self, micro_batch=items)

    def with_cuts(self, cuts: tuple[int, ...] | None) -> PartitionState:
        return msgspec.structs.replace(self, cuts=cuts)

    def toggled(self, node: NodeId) -> PartitionState:
        """Take the node in or out; with another number of stages the cuts are balanced anew."""
        return msgspec.structs.replace(self, left_out=self.left_out ^ {node}, cuts=None)

    def alone_on(self, node: NodeId) -> PartitionState:
        return msgspec.structs.replace(self, strategy=SINGLE, alone=node)

    def moved(self, node: NodeId, steps: int, usable: Sequence[NodeId]) -> PartitionState:
        """Move a chosen node up (negative) or down among the chosen ones; beyond the ends nothing changes."""
        chosen = self.chosen(usable)
        place = chosen.index(node) + steps if node in chosen else -1
        return self.swapped(node, chosen[place]) if 0 <= place < len(chosen) else self

    def swapped(self, one: NodeId, other: NodeId) -> PartitionState:
        """The two nodes change places; the cuts stay where they are."""
        swap = {one: other, other: one}
        return msgspec.structs.replace(self, order=tuple(swap.get(node, node) for node in self.order))

    def put_on_stage(self, node: NodeId, stage: int, usable: Sequence[NodeId]) -> PartitionState:
        """Give a stage (or replica) to ``node``: it changes places with the node there, which is left out if ``node``
        was."""
        chosen = self.chosen(usable)
        if not 0 <= stage < len(chosen) or chosen[stage] == node:
            return self
        state = self.swapped(node, chosen[stage])
        if node in self.left_out:
            state = msgspec.structs.replace(state, left_out=(self.left_out - {node}) | {chosen[stage]})
        return state

    def request(self, usable: Sequence[NodeId], fastest: NodeId | None, strategy: str = "") -> PlanRequest | None:
        """What to ask of the compiler, for ``strategy`` or the chosen one; None while there is no node for it."""
        strategy = strategy or self.strategy
        if strategy == SINGLE:
            node = self.alone if self.alone in usable else fastest
            nodes: tuple[NodeId, ...] = () if node is None else (node,)
        else:
            nodes = self.chosen(usable)
        if not nodes:
            return None
        cuts = self.cuts if strategy == PIPELINE and self.cuts is not None else None
        if cuts is not None and len(cuts) != len(nodes) - 1:
            cuts = None
        return PlanRequest(strategy=strategy, nodes=nodes, micro_batch=self.micro_batch, cuts=cuts)
