"""What is done on the ribbons of the Partition page becomes edits of its state: cuts, shares, nodes, pins."""

from __future__ import annotations

from functools import partial
from html import escape
from typing import Final

import msgspec
from PySide6.QtCore import QObject, QPoint, Signal

from core.errors import PlanError
from core.plan.form import NodeId, PlanRequest
from gui import nestings
from gui.bridge import Bridge
from gui.partition_menu import RibbonMenu
from gui.partition_plans import PartitionPlans
from gui.partition_preview import Desk, Percents, Preview
from gui.partition_rows import group_shares
from gui.partition_state import PIPELINE, QUICK, SINGLE, PartitionState
from gui.pins import kept
from gui.shares import WHOLE, by_speed
from gui.widgets.division_ribbon import DivisionRibbon
from gui.widgets.node_ribbon import NodeRibbon, Spot
from gui.widgets.ribbon import Ribbon
from gui.widgets.ribbon_view import RibbonNode
from gui.work import predicting

EDGE_KEY: Final = 10_000
"""Keys of undo for edges between shares: this and the number of the edge."""


class RibbonEdits(QObject):
    """GUI thread."""

    layerPicked = Signal(int)

    def __init__(
        self, bridge: Bridge, plans: PartitionPlans, ribbon: Ribbon, divided: DivisionRibbon, desk: Desk
    ) -> None:
        super().__init__(ribbon)
        self._bridge, self._plans, self._desk = bridge, plans, desk
        self._ribbon, self._divided = ribbon, divided
        self._preview = Preview(bridge, plans, divided, desk)
        self._menu = RibbonMenu(bridge, self, ribbon)
        for one in (ribbon, divided):
            one.layerPicked.connect(self.layerPicked)
            one.refused.connect(desk.refuse)
            one.touched.connect(bridge.way.hand_moves)
            one.nodeOver.connect(partial(self._over, one))
            one.nodePut.connect(self.put)
            one.nodeMoved.connect(self.move)
            one.nodeRemoved.connect(self.leave_out)
            one.menuRequested.connect(self._open_menu)
            one.gestureEnded.connect(self._preview.end)
        ribbon.cutsMoved.connect(self._cuts_moved)
        ribbon.cutsChanged.connect(self._cuts_changed)
        ribbon.placeRequested.connect(self.place)
        divided.sharesMoved.connect(self._shares_moved)
        divided.sharesChanged.connect(self._shares_changed)
        divided.speedRequested.connect(self.share_by_speed)

    @property
    def state(self) -> PartitionState:
        return self._desk.state()

    def asked(self) -> PlanRequest | None:
        """The plan on the screen; None while there are no nodes for it."""
        return self._plans.asked.get(self.state.strategy)

    @property
    def layers(self) -> int:
        return len(self._plans.layers)

    # ---------------------------------------------------------------- what the page shows

    def show_plan(self, request: PlanRequest | None, nodes: list[RibbonNode]) -> None:
        """Fill the ribbon of the strategy with ``request``; while a node is dragged all stays under the mouse."""
        if self._ribbon.carried or self._divided.carried:
            return
        if self.state.strategy in QUICK:
            pipeline = request is not None and request.strategy == PIPELINE
            cuts = request.cuts if request is not None and request.cuts is not None else ()
            pins = kept(request.pins, request.nodes) if request is not None else ()
            self._ribbon.set_plan(nodes, cuts, pipeline=pipeline, pins=pins)
        elif request is None:
            self._divided.set_shares("", (), {})
        else:
            groups = nestings.of_request(request).groups
            self._divided.set_shares(request.strategy, groups, group_shares(self._bridge, request))

    def again(self) -> None:
        """After a refresh of the page: what the mouse is at is what counts."""
        for ribbon in (self._ribbon, self._divided):
            if ribbon.carried and ribbon.target:
                self._over(ribbon, ribbon.carried, ribbon.target)
                return
        self._preview.again()

    # ---------------------------------------------------------------- cuts

    def _cuts_moved(self, cuts: tuple[int, ...]) -> None:
        request = self._plans.request(self.state, PIPELINE)
        if request is not None:
            self._preview.show(self._ribbon, msgspec.structs.replace(request, cuts=cuts))

    def _cuts_changed(self, before: tuple[int, ...], after: tuple[int, ...]) -> None:
        moved = next((i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b), 0)
        self._desk.edit(self.state.with_cuts(after), self.tr("move a cut"), moved)

    def place(self, index: int) -> None:
        """Have the planner place one cut; the others stay. A worker looks at every position."""
        request, bridge, profile = self.asked(), self._bridge, self._plans.profile()
        if request is None or request.cuts is None or bridge.model is None:
            return
        if profile is None:
            self._desk.refuse(self.tr("The cut can be placed when the layers are timed."))
            return
        self._bridge.tasks.start(
            partial(
                predicting.place_cut,
                profile,
                bridge.model,
                request,
                index,
                bridge.speeds_of(request),
                bridge.nodes,
                bridge.links,
            ),
            partial(self._placed, request),
            lambda error: self._desk.refuse(str(error)),
        )

    def _placed(self, request: PlanRequest, cuts: tuple[int, ...]) -> None:
        if self.asked() != request:
            return
        if cuts == request.cuts:
            self._desk.refuse(self.tr("This cut is where the planner would put it."))
        self._desk.edit(self.state.with_cuts(cuts), self.tr("place a cut"), -1)

    # ---------------------------------------------------------------- shares

    def _shares_moved(self, percents: dict[NodeId, int]) -> None:
        request = self._with_percents(percents)
        if request is not None:
            self._preview.show_shares(request)

    def _shares_changed(self, percents: dict[NodeId, int], number: int) -> None:
        request = self._with_percents(percents)
        worked = self._preview.known(request) if request is not None else None
        if worked is not None and worked.problem:
            self._desk.refuse(worked.problem)
            self._desk.refresh()
            return
        shares = {node: percent / WHOLE for node, percent in percents.items()}
        self._desk.edit(self.state.with_shares(shares), self.tr("set a share"), EDGE_KEY + number)

    def share_by_speed(self, group: tuple[str, ...]) -> None:
        """Nodes of a group share by speed again; other groups keep what was set by hand."""
        request = self.asked()
        if request is None:
            return
        nesting = nestings.of_request(request)
        now = group_shares(self._bridge, request)
        by_it = {node: share for one in nesting.groups for node, share in self._by_speed(one).items()}
        wanted = now | {node: by_it[node] for node in map(NodeId, group)}
        shares = None if wanted == by_it else {node: share / WHOLE for node, share in wanted.items()}
        self._desk.edit(self.state.with_shares(shares), self.tr("share by speed"), -1)

    def group_of(self, node: str) -> tuple[str, ...]:
        """The nodes that share the work of a layer with ``node``."""
        request = self.asked()
        groups = nestings.of_request(request).groups if request is not None else ()
        return next((tuple(group) for group in groups if node in group), (node,))

    def _by_speed(self, group: tuple[NodeId, ...]) -> dict[NodeId, int]:
        return by_speed(group, {node: self._bridge.speed_of(node) for node in group})

    def _with_percents(self, percents: Percents) -> PlanRequest | None:
        request = self.asked()
        if request is None or any(node not in percents for node in request.nodes):
            return None
        return msgspec.structs.replace(request, shares=tuple(percents[node] / WHOLE for node in request.nodes))

    # ---------------------------------------------------------------- nodes

    def put(self, node_id: str, onto: str) -> None:
        """A node and another change places; one that took no part comes in for it."""
        node = NodeId(node_id)
        if node not in self._plans.usable():
            self._desk.refuse(self.tr("{0} is not ready.").format(self._bridge.name_of(node_id)))
        elif self.state.strategy == SINGLE:
            self._desk.edit(self.state.alone_on(node), self.tr("choose a node"), -1)
        elif node_id != onto:
            after, why = self._put(node, NodeId(onto))
            if why:
                self._desk.refuse(why)
            else:
                self._desk.edit(after, self.tr("change the order of nodes"), -1)

    def move(self, node_id: str, steps: int) -> None:
        """A node changes places with the one before it or behind it."""
        request = self.asked()
        nodes = list(request.nodes) if request is not None else []
        place = nodes.index(NodeId(node_id)) + steps if node_id in nodes else -1
        if 0 <= place < len(nodes):
            self.put(node_id, nodes[place])

    def leave_out(self, node_id: str) -> None:
        """The node takes no part any more; its row brings it back."""
        why = self.why_not_left_out()
        if why:
            self._desk.refuse(why)
        else:
            words = self.tr("leave {0} out").format(self._bridge.name_of(node_id))
            self._desk.edit(self.state.toggled(NodeId(node_id)), words, -1)

    def why_not_left_out(self) -> str:
        """Why no node can be left out now; "" where one can."""
        if self.state.strategy == SINGLE:
            return self.tr("One node runs everything: choose another in its row, or another strategy.")
        if len(self.state.chosen(self._plans.usable())) < 2:
            return self.tr("It is the only node: a plan needs one.")
        return ""

    def _put(self, node: NodeId, onto: NodeId) -> tuple[PartitionState, str]:
        """The state after two nodes changed places, and why that cannot be."""
        usable, state = self._plans.usable(), self.state
        chosen = state.chosen(usable)
        if onto not in chosen:
            return state, self.tr("{0} takes no part.").format(self._bridge.name_of(onto))
        after = state.put_on_stage(node, chosen.index(onto), usable)
        if after == state:
            return state, ""
        clash = after.clash(usable, self.layers) if state.strategy == PIPELINE else ()
        if clash:
            return state, self.why_clash(after, clash)
        if self._order(after) == self._order(state):
            return state, self.tr("The text of the nesting names its nodes: change them there.")
        return after.cut_for_pins(usable, self.layers) if state.strategy == PIPELINE else after, ""

    def _order(self, state: PartitionState) -> tuple[NodeId, ...]:
        try:
            request = self._plans.request(state)
        except PlanError:
            return ()
        return request.nodes if request is not None else ()

    def _over(self, ribbon: NodeRibbon, node: str, onto: str) -> None:
        """While a node is dragged: what it would come to."""
        if not onto:
            self._preview.nothing()
            return
        after, why = self._put(NodeId(node), NodeId(onto))
        request = self._plans.request(after) if not why else None
        if why:
            ribbon.show_figure(f"<b>{escape(why)}</b>", barred=True)
        elif request is not None:
            self._preview.show_order(ribbon, request)

    # ---------------------------------------------------------------- pins

    def pin(self, layer: int, node: NodeId | None) -> None:
        """Keep a layer on a node, or let it go; refused where that cannot be."""
        usable = self._plans.usable()
        after = self.state.with_pin(layer, node, usable, self.layers)
        clash = after.clash(usable, self.layers)
        if node is not None and clash:
            self._desk.refuse(self.why_clash(after, clash))
            return
        self._desk.edit(after, self.tr("pin a layer") if node is not None else self.tr("unpin a layer"), -1)

    def why_clash(self, state: PartitionState, clash: tuple[tuple[int, NodeId], ...]) -> str:
        """Why layers cannot stay where they are kept."""
        order = state.chosen(self._plans.usable())
        told = [(self._plans.layers[layer].name, self._bridge.name_of(node)) for layer, node in clash]
        if len(clash) < 2:
            text = self.tr("{0} is kept on {1}: too few layers are left for the stages beside it.")
            return text.format(*told[0])
        (one, first), (other, second) = told
        if order.index(clash[0][1]) > order.index(clash[1][1]):
            text = self.tr("{0} is kept on {1} and {2} on {3}, which then comes first.")
        else:
            text = self.tr("{0} is kept on {1} and {2} on {3}: too few layers lie between for the stages there.")
        return text.format(one, first, other, second)

    # ---------------------------------------------------------------- menu

    def _open_menu(self, spot: Spot, place: QPoint) -> None:
        menu = self.menu(spot)
        if not menu.isEmpty():
            menu.popup(place)

    def menu(self, spot: Spot) -> RibbonMenu:
        """What can be done at ``spot``; also where it cannot be done now, with the reason."""
        self._menu.fill(spot)
        return self._menu
