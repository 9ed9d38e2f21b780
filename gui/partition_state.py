"""What a person chose on the Partition page, as plain data: every edit makes a new state, so undo is a swap of two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

import msgspec
from msgspec import Struct

from core.plan.form import NodeId, PlanRequest
from gui import nestings
from gui.nestings import Nesting
from gui.pins import Pins, clash, fitted, kept, pinned
from gui.shares import Shares, settled

SINGLE: Final = "single"
REPLICATE: Final = "replicate"
PIPELINE: Final = "pipeline"
TENSOR: Final = "tensor"
SPATIAL: Final = "spatial"
HYBRID: Final = "hybrid"
"""Any nesting; the request names it: "replicate(2) > tensor(2)"."""
STRATEGIES: Final = (SINGLE, REPLICATE, PIPELINE, TENSOR, SPATIAL, HYBRID)
QUICK: Final = (SINGLE, REPLICATE, PIPELINE)
"""Predicted while the mouse moves; the others are worked out by a worker."""


def card_of(strategy: str) -> str:
    """The one of STRATEGIES that a request's strategy belongs to."""
    return strategy if strategy in STRATEGIES else HYBRID


class PartitionState(Struct, frozen=True):
    """``order`` holds every node ever seen, in the order of stages; ``left_out`` those that take no part."""

    strategy: str = REPLICATE
    order: tuple[NodeId, ...] = ()
    left_out: frozenset[NodeId] = frozenset()
    excluded: frozenset[NodeId] = frozenset()
    """Of those, the ones that a person took out: no plan is proposed that uses them."""
    alone: NodeId | None = None
    """The node of the strategy single; None: the fastest."""
    micro_batch: int = 1
    cuts: tuple[int, ...] | None = None
    """Of a pipeline, or of a nesting that has one, whichever has as many; None: balanced."""
    nesting: str = ""
    """Of the strategy hybrid, as typed or chosen; "": the first that suits the number of nodes."""
    tensor_axis: str | None = None
    spatial_axis: str | None = None
    shares: Shares | None = None
    """Parts of the work that a person gave the nodes of a group; None: by speed."""
    pins: Pins = ()
    """pipeline: layers that stay on a node, wherever the cuts go. Those of a node that takes no part wait for it."""

    def chosen(self, usable: Sequence[NodeId]) -> tuple[NodeId, ...]:
        """The nodes that take part, in order."""
        can = set(usable)
        return tuple(node for node in self.order if node in can and node not in self.left_out)

    def allowed(self, usable: Sequence[NodeId]) -> tuple[NodeId, ...]:
        """The nodes that a plan may be proposed for."""
        return tuple(node for node in usable if node not in self.excluded)

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

    def with_pin(self, layer: int, node: NodeId | None, usable: Sequence[NodeId], layers: int) -> PartitionState:
        """Keep ``layer`` on ``node`` (None: let it go); cuts that a person set move as little as that asks for."""
        return msgspec.structs.replace(self, pins=pinned(self.pins, layer, node)).cut_for_pins(usable, layers)

    def cut_for_pins(self, usable: Sequence[NodeId], layers: int) -> PartitionState:
        """With cuts that respect the pins, where cuts are set by hand and the pins can hold together."""
        nodes = self.chosen(usable)
        if self.cuts is None or len(self.cuts) != len(nodes) - 1 or self.clash(usable, layers):
            return self
        return self.with_cuts(fitted(self.cuts, kept(self.pins, nodes), layers))

    def clash(self, usable: Sequence[NodeId], layers: int) -> Pins:
        """Pins that cannot hold with the nodes in this order; () where all can."""
        nodes = self.chosen(usable)
        return tuple((layer, nodes[stage]) for layer, stage in clash(kept(self.pins, nodes), len(nodes), layers))

    def with_nesting(self, text: str) -> PartitionState:
        return msgspec.structs.replace(self, strategy=HYBRID, nesting=text, cuts=None)

    def with_tensor_axis(self, axis: str | None) -> PartitionState:
        return msgspec.structs.replace(self, tensor_axis=axis)

    def with_spatial_axis(self, axis: str | None) -> PartitionState:
        return msgspec.structs.replace(self, spatial_axis=axis)

    def with_shares(self, shares: Mapping[NodeId, float] | None) -> PartitionState:
        """``shares``: of the nodes whose shares are set; those of other groups stay. None: all by speed."""
        if shares is None:
            return msgspec.structs.replace(self, shares=None)
        return msgspec.structs.replace(self, shares=tuple({**dict(self.shares or ()), **shares}.items()))

    def for_another_model(self, micro_batch: int) -> PartitionState:
        """What was chosen for the layers of one model means nothing for those of another."""
        return msgspec.structs.replace(
            self, cuts=None, micro_batch=micro_batch, tensor_axis=None, spatial_axis=None, pins=()
        )

    def toggled(self, node: NodeId) -> PartitionState:
        """Take the node in or out; with another number of nodes cuts and shares are balanced anew."""
        left_out = self.left_out ^ {node}
        excluded = self.excluded | {node} if node in left_out else self.excluded - {node}
        return msgspec.structs.replace(self, left_out=left_out, excluded=excluded, cuts=None, shares=None)

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
            left_out = (self.left_out - {node}) | {chosen[stage]}
            state = msgspec.structs.replace(state, left_out=left_out, excluded=self.excluded - {node})
        return state

    def adopted(self, request: PlanRequest) -> PartitionState:
        """With what ``request`` asks for; nodes that it does not name are left out."""
        state = self.seen(request.nodes)
        others = frozenset(node for node in state.order if node not in request.nodes)
        card = card_of(request.strategy)
        return msgspec.structs.replace(
            state,
            strategy=card,
            order=(*request.nodes, *(node for node in state.order if node in others)),
            left_out=others if card != SINGLE else state.left_out,
            excluded=state.excluded - set(request.nodes) if card != SINGLE else state.excluded,
            alone=request.nodes[0] if card == SINGLE else state.alone,
            micro_batch=request.micro_batch,
            cuts=request.cuts if card in {PIPELINE, HYBRID} else None,
            nesting=request.strategy if card == HYBRID else state.nesting,
            tensor_axis=request.tensor_axis,
            spatial_axis=request.spatial_axis,
            shares=tuple(zip(request.nodes, request.shares, strict=True)) if request.shares is not None else None,
            pins=request.pins,
        )

    def is_bent(self, card: str) -> bool:
        """Whether a person set something of the strategy, so that a problem with it may go when that is changed."""
        set_by_hand = {
            TENSOR: (self.tensor_axis, self.shares),
            SPATIAL: (self.spatial_axis, self.shares),
            HYBRID: (self.nesting or None, self.tensor_axis, self.spatial_axis, self.shares),
        }
        return any(value is not None for value in set_by_hand.get(card, ()))

    def hybrid_text(self, usable: Sequence[NodeId]) -> str:
        """The nesting asked for; "" where none suits the number of nodes."""
        return self.nesting or next(iter(nestings.fitting(len(self.chosen(usable)))), "")

    def divided(self, card: str, usable: Sequence[NodeId], names: Mapping[NodeId, str]) -> Nesting | None:
        """How the nodes divide layers under tensor, spatial or hybrid; None where there are too few for it.

        PlanError when the text of a nesting cannot be read or needs more nodes than there are.
        """
        nodes = self.chosen(usable)
        text = self.hybrid_text(usable) if card == HYBRID else card
        if not text or not nodes or (card != HYBRID and len(nodes) < 2):
            return None
        return nestings.settle(text, nodes, names)

    def request(
        self,
        usable: Sequence[NodeId],
        fastest: NodeId | None,
        strategy: str = "",
        names: Mapping[NodeId, str] = MappingProxyType({}),
    ) -> PlanRequest | None:
        """What to ask of the compiler, for ``strategy`` or the chosen one; None while there are no nodes for it.

        ``names``: what the text of a nesting may call the nodes. PlanError as ``divided``.
        """
        card = strategy or self.strategy
        if card not in QUICK:
            nesting = self.divided(card, usable, names)
            return None if nesting is None else self._request_for(nesting)
        if card == SINGLE:
            node = self.alone if self.alone in usable else fastest
            nodes: tuple[NodeId, ...] = () if node is None else (node,)
        else:
            nodes = self.chosen(usable)
        if not nodes:
            return None
        cuts = self.cuts if card == PIPELINE and self.cuts is not None else None
        if cuts is not None and len(cuts) != len(nodes) - 1:
            cuts = None
        pins = tuple(pin for pin in self.pins if pin[1] in nodes) if card == PIPELINE else ()
        return PlanRequest(strategy=card, nodes=nodes, micro_batch=self.micro_batch, cuts=cuts, pins=pins)

    def _request_for(self, nesting: Nesting) -> PlanRequest:
        kinds = nesting.kinds
        stages = next((level.count for level in nesting.levels if level.kind == PIPELINE), 0)
        return PlanRequest(
            strategy=nesting.text,
            nodes=nesting.nodes,
            micro_batch=self.micro_batch,
            cuts=self.cuts if self.cuts is not None and len(self.cuts) == stages - 1 else None,
            tensor_axis=self.tensor_axis if TENSOR in kinds else None,
            spatial_axis=self.spatial_axis if SPATIAL in kinds else None,
            shares=settled(self.shares, nesting.groups) if kinds & {TENSOR, SPATIAL} else None,
        )
