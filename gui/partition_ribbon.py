"""What is done on the ribbons of the Partition page becomes edits of its state, and figures while the mouse moves.

Cuts and the order of a pipeline's nodes are predicted at every move. Where an exact figure takes longer (shares of
divided layers), an estimate follows the mouse and a worker finds the exact one as soon as the mouse rests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from html import escape
from typing import Final

import msgspec
from PySide6.QtCore import QObject, QPoint, QTimer, Signal

from core.cost.types import Prediction
from core.errors import PlanError
from core.plan.form import NodeId, PlanRequest
from gui import nestings, work
from gui import partition_view as view
from gui.bridge import Bridge
from gui.outlines import Worked
from gui.partition_menu import RibbonMenu
from gui.partition_plans import PartitionPlans
from gui.partition_state import PIPELINE, QUICK, SINGLE, PartitionState
from gui.pins import kept
from gui.quick_figure import Base, base_of, with_shares
from gui.shares import WHOLE, by_speed
from gui.widgets.division_ribbon import DivisionRibbon
from gui.widgets.node_ribbon import NodeRibbon, Spot
from gui.widgets.ribbon import Ribbon, RibbonNode
from gui.widgets.units import quantity, seconds

REST_MS: Final = 140
"""The mouse rests when it has not moved for so long."""
DRAG: Final = "drag"
"""Who asks for outlines here."""
EDGE_KEY: Final = 10_000
"""Keys of undo for edges between shares: this and the number of the edge."""
UNBROKEN: Final = "\N{NO-BREAK SPACE}"
Percents = Mapping[NodeId, int]


class Desk(msgspec.Struct, frozen=True):
    """What of the page is needed here."""

    state: Callable[[], PartitionState]
    edit: Callable[[PartitionState, str, int], None]
    refuse: Callable[[str], None]
    preview: Callable[[PlanRequest, Prediction | None, str], None]
    """Show a request that is not asked for yet, what it would reach, and why it would not."""
    refresh: Callable[[], None]


class RibbonEdits(QObject):
    """GUI thread."""

    layerPicked = Signal(int)

    def __init__(
        self, bridge: Bridge, plans: PartitionPlans, ribbon: Ribbon, divided: DivisionRibbon, desk: Desk
    ) -> None:
        super().__init__(ribbon)
        self._bridge, self._plans, self._desk = bridge, plans, desk
        self._ribbon, self._divided = ribbon, divided
        self._shown: PlanRequest | None = None
        """What the mouse is at, while it drags something."""
        self._base: Base | None = None
        """What is known exactly, from which estimates are made."""
        self._menu = RibbonMenu(bridge, self, ribbon)
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(REST_MS)
        self._rest.timeout.connect(self._work_out)
        for one in (ribbon, divided):
            one.layerPicked.connect(self.layerPicked)
            one.refused.connect(desk.refuse)
            one.nodeOver.connect(partial(self._over, one))
            one.nodePut.connect(self.put)
            one.nodeMoved.connect(self.move)
            one.nodeRemoved.connect(self.leave_out)
            one.menuRequested.connect(self._open_menu)
            one.gestureEnded.connect(self._ended)
        ribbon.cutsMoved.connect(self._cuts_moved)
        ribbon.cutsChanged.connect(self._cuts_changed)
        ribbon.placeRequested.connect(self.place)
        divided.sharesMoved.connect(self._shares_moved)
        divided.sharesChanged.connect(self._shares_changed)
        divided.speedRequested.connect(self.share_by_speed)
        bridge.outlines.changed.connect(self._worked_out)

    @property
    def state(self) -> PartitionState:
        return self._desk.state()

    def asked(self) -> PlanRequest | None:
        """What the page asks for now."""
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
            self._divided.set_shares(request.strategy, groups, view.group_shares(self._bridge, request))

    def again(self) -> None:
        """After a refresh of the page: what the mouse is at is what counts."""
        for ribbon in (self._ribbon, self._divided):
            if ribbon.carried and ribbon.target:
                self._over(ribbon, ribbon.carried, ribbon.target)
                return
        if self._shown is not None:
            self._desk.preview(self._shown, *self._told(self._shown))

    # ---------------------------------------------------------------- cuts

    def _cuts_moved(self, cuts: tuple[int, ...]) -> None:
        request = self._plans.request(self.state, PIPELINE)
        if request is not None:
            self._try(self._ribbon, msgspec.structs.replace(request, cuts=cuts))

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
                work.place_cut,
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
        if request is None:
            return
        if self._base is None:
            self._base = self._base_now()
        self._try(self._divided, request)

    def _shares_changed(self, percents: dict[NodeId, int], number: int) -> None:
        request = self._with_percents(percents)
        worked = self._known(request) if request is not None else None
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
        now = view.group_shares(self._bridge, request)
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
            self._shown = None
            self._desk.refresh()
            return
        after, why = self._put(NodeId(node), NodeId(onto))
        request = self._plans.request(after) if not why else None
        if why:
            ribbon.show_figure(f"<b>{escape(why)}</b>", barred=True)
        elif request is not None:
            self._base = None
            self._try(ribbon, request)

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

    # ---------------------------------------------------------------- figures while the mouse moves

    def _try(self, ribbon: NodeRibbon, request: PlanRequest) -> None:
        """Show what ``request`` would reach, at the mouse and on the page."""
        self._shown = request
        prediction, problem = self._told(request)
        ribbon.show_figure(self._words(prediction, problem))
        self._desk.preview(request, prediction, problem)
        if request.strategy not in QUICK:
            self._rest.start()

    def _told(self, request: PlanRequest) -> tuple[Prediction | None, str]:
        """What is known, or else estimated, of a request."""
        if request.strategy in QUICK:
            return self._plans.predict(request)
        worked = self._known(request)
        if worked is not None:
            return worked.prediction, worked.problem
        return (with_shares(self._base, self._divided.percents), "") if self._base is not None else (None, "")

    def _known(self, request: PlanRequest) -> Worked | None:
        return self._bridge.outlines.known(request, self._bridge.speeds_of(request))

    def _base_now(self) -> Base | None:
        strategy, request = self.state.strategy, self.asked()
        prediction, division = self._plans.predictions.get(strategy), self._plans.divisions.get(strategy)
        profile = self._plans.profile()
        if request is None or prediction is None or division is None or profile is None:
            return None
        return base_of(prediction, division, profile, view.group_shares(self._bridge, request))

    def _words(self, prediction: Prediction | None, problem: str) -> str:
        """Rich text: items per second and how much more that is than now; what does not fit."""
        if problem:
            return f"<b>{escape(problem)}</b>"
        if prediction is None or self._shown is None:
            return self.tr("working out…")
        exact = self._shown.strategy in QUICK or self._known(self._shown) is not None
        now = self._plans.predictions.get(self.state.strategy)
        figure = self.tr("{0} items/s").format(quantity(prediction.throughput))
        if now is not None and now.throughput:
            change = round(100 * (prediction.throughput / now.throughput - 1))
            figure += f" ({change:+d} %)".replace("-", "−") if change else self.tr(" (as now)")
        figure = f"{'' if exact else '≈ '}{figure} · {seconds(prediction.latency_s)}".replace(" ", UNBROKEN)
        lacking = view.lacking_words(self._bridge, prediction) if exact else ""
        return f"{figure}<br><b>{escape(lacking)}</b>" if lacking else figure

    def _work_out(self) -> None:
        """The mouse rests."""
        if self._shown is not None and self._shown.strategy not in QUICK:
            self._bridge.work_out(DRAG, self._shown)
            self._worked_out()

    def _worked_out(self) -> None:
        """Something is known exactly now; perhaps what the mouse is at."""
        request = self._shown
        worked = self._known(request) if request is not None and request.strategy not in QUICK else None
        if worked is None or request is None:
            return
        if worked.division is not None and worked.prediction is not None and self._divided.gesturing:
            profile = self._plans.profile()
            if not self._divided.carried and profile is not None:
                self._base = base_of(worked.prediction, worked.division, profile, self._divided.percents)
                self._divided.refine(worked.division)
            self._desk.preview(request, worked.prediction, "")
        self._divided.show_figure(self._words(worked.prediction, worked.problem), barred=bool(worked.problem))

    def _ended(self, edited: bool) -> None:
        self._shown, self._base = None, None
        self._rest.stop()
        self._bridge.work_out(DRAG, None)
        if not edited:
            self._desk.refresh()

    # ---------------------------------------------------------------- menu

    def _open_menu(self, spot: Spot, place: QPoint) -> None:
        menu = self.menu(spot)
        if not menu.isEmpty():
            menu.popup(place)

    def menu(self, spot: Spot) -> RibbonMenu:
        """What can be done at ``spot``; also where it cannot be done now, with the reason."""
        self._menu.fill(spot)
        return self._menu
