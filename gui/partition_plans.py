"""What lies between the choices of the Partition page and what it shows: layers, cuts, requests, predictions.

Reading the layers of a large model, balancing its cuts and dividing its layers take a moment and run on worker
threads; ``changed`` tells that something is known now that was not before. Everything else follows the mouse.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import msgspec
from PySide6.QtCore import QObject, Signal

from core.cluster.node import NodeState
from core.cost.links import UNKNOWN, Links
from core.cost.types import Prediction, Profile
from core.errors import PlanError, ShardboardError
from core.model.types import Cut, Layer
from core.plan.division import Division
from core.plan.form import NodeId, PlanRequest
from gui.bridge import Bridge, Phase
from gui.homes import homes_of
from gui.partition_state import PIPELINE, QUICK, REPLICATE, SINGLE, STRATEGIES, PartitionState
from gui.pins import Pins, clash, fitted, kept
from gui.widgets.division_model import Lane, lanes_of, plain_lanes, replica_lanes
from gui.widgets.ribbon_model import RibbonModel
from gui.work import predicting

if TYPE_CHECKING:
    from core.model.graph import Model


class PartitionPlans(QObject):
    """GUI thread."""

    changed = Signal()
    ribbonChanged = Signal()
    """The layers, or their widths, are others now."""
    failed = Signal(str)

    def __init__(self, bridge: Bridge, parent: QObject) -> None:
        super().__init__(parent)
        self._bridge = bridge
        self._model: Model | None = None
        self._wanted: tuple[object, ...] = ()
        self._links = bridge.links
        """Those that the balanced cuts rest on."""
        self._alone: tuple[tuple[object, ...], Links, NodeId | None] = ((), UNKNOWN, None)
        """What the best node alone rests on, and which it is."""
        self._balanced: dict[tuple[object, ...], tuple[int, ...]] = {}
        self._balancing: set[tuple[object, ...]] = set()
        self._ours: set[NodeId] = set()
        self.layers: tuple[Layer, ...] = ()
        self.cuts: tuple[Cut, ...] = ()
        self.ribbon: RibbonModel | None = None
        self.asked: dict[str, PlanRequest | None] = {}
        """What was asked for each strategy, the last time."""
        self.predictions: dict[str, Prediction | None] = {}
        self.problems: dict[str, str] = {}
        """Why a strategy cannot be predicted, in words."""
        self.divisions: dict[str, Division | None] = {}
        """Of the strategies that divide layers."""
        self.working: set[str] = set()
        """Strategies that a worker is busy with, or will be."""
        self._lanes: dict[str, tuple[Division, tuple[Lane, ...]]] = {}
        self.text_problem = ""
        """What the parser says of the nesting's text, the place marked; "" where it is fine."""
        bridge.profileReady.connect(self._make_ribbon)
        bridge.outlines.changed.connect(self.changed)
        bridge.timings.changed.connect(self.changed)

    # ---------------------------------------------------------------- layers

    def read(self, micro_batch: int) -> None:
        """Have the layers and crossing tensors of the present model at hand, at this micro-batch."""
        model = self._bridge.model
        wanted = (model, micro_batch)
        if model is None or wanted == self._wanted:
            return
        if self._wanted and self._wanted[0] is not model:
            self.layers, self.cuts, self.ribbon = (), (), None
            self._balanced.clear()
            self.ribbonChanged.emit()
        self._wanted = wanted
        self._bridge.tasks.start(
            lambda: (model.layers(micro_batch), model.cuts(micro_batch)),
            partial(self._read, wanted),
            lambda error: self.failed.emit(str(error)),
        )

    def _read(self, wanted: tuple[object, ...], read: tuple[tuple[Layer, ...], tuple[Cut, ...]]) -> None:
        if wanted == self._wanted:
            self.layers, self.cuts = read
            self._make_ribbon()

    def profile(self) -> Profile | None:
        """The profile, if it is of the layers shown."""
        profile = self._bridge.profile
        if profile is None or not self._wanted or profile.batch != self._wanted[1]:
            return None
        return profile if len(profile.layer_seconds) == len(self.layers) else None

    def _make_ribbon(self, *_news: object) -> None:
        if not self.layers:
            return
        profile = self.profile()
        costs = profile.layer_seconds if profile else [float(layer.macs) for layer in self.layers]
        self.ribbon = RibbonModel(self.layers, costs, self.cuts)
        self.ribbonChanged.emit()
        self.changed.emit()

    def cut_at(self, position: int) -> Cut | None:
        """What would cross in front of a layer; None at the ends."""
        return next((cut for cut in self.cuts if cut.position == position), None)

    # ---------------------------------------------------------------- requests

    def usable(self) -> list[NodeId]:
        """Nodes that can take work, in the order they were first seen.

        A node that this panel is reserving, or has just let go, is busy for a moment before the panel knows why: it
        counts as usable, so that the plan on the screen stays as it is.
        """
        bridge = self._bridge
        if bridge.phase is Phase.DEPLOYING and bridge.request is not None:
            self._ours |= set(bridge.request.nodes)
        elif bridge.deployment is not None:
            self._ours |= set(bridge.deployment.plan.request.nodes)
        ready = {node.id for node in bridge.ready_nodes()}
        self._ours &= {node.id for node in bridge.nodes if node.state is NodeState.BUSY} | ready
        if bridge.phase is Phase.IDLE:
            self._ours -= {node.id for node in bridge.nodes if node.state is NodeState.READY}
        return [node.id for node in bridge.nodes if node.id in ready or node.id in self._ours]

    def request(self, state: PartitionState, strategy: str = "") -> PlanRequest | None:
        """What ``state`` asks for with the cuts worked out; None while there are no nodes for it.

        PlanError when the text of a nesting cannot be read.
        """
        usable = self.usable()
        allowed = state.allowed(usable) or usable
        alone = self._best_alone(allowed, state.micro_batch) if (strategy or state.strategy) == SINGLE else None
        request = state.request(usable, alone, strategy, self._names())
        if request is None or request.strategy != PIPELINE or request.cuts is not None:
            return request
        cuts = self._balanced_cuts(request.nodes, request.pins)
        return request if cuts is None else msgspec.structs.replace(request, cuts=cuts)

    def _best_alone(self, usable: Sequence[NodeId], items: int) -> NodeId | None:
        """The node that does most with the whole model, of those that have the memory for it if there are any; the
        fastest while that is not known. A fast node at a slow link may not be it."""
        bridge, profile = self._bridge, self.profile()
        if profile is None or len(usable) < 2:
            return max(usable, key=bridge.speed_of, default=None)
        nodes = {node.id: node for node in bridge.nodes}
        infos = [nodes[node].info for node in usable]
        limits = [info.memory_limit if info is not None else 0 for info in infos]
        speeds = tuple(bridge.speed_of(node) for node in usable)
        key = (self._wanted, profile.total_seconds, items, speeds, homes_of(bridge.nodes, usable), tuple(limits))
        if key != self._alone[0] or bridge.links != self._alone[1]:
            worth = {}
            for node, limit in zip(usable, limits, strict=True):
                told = self._bridge.predict(PlanRequest(SINGLE, (node,), items), timed=False)
                fits = told is not None and (not limit or told.nodes[0].memory_bytes <= limit)
                worth[node] = (fits, told.throughput if told is not None else 0.0, bridge.speed_of(node))
            self._alone = (key, bridge.links, max(usable, key=worth.__getitem__))
        return self._alone[2]

    def _names(self) -> dict[NodeId, str]:
        return {node.id: node.name for node in self._bridge.nodes}

    def _balanced_cuts(self, nodes: tuple[NodeId, ...], pins: Pins) -> tuple[int, ...] | None:
        """Balanced cuts where they are known; till then, cuts that share the work out evenly."""
        if len(nodes) == 1:
            return ()
        if self.ribbon is None:
            return None
        speeds = [self._bridge.speed_of(node) for node in nodes]
        profile = self.profile()
        if profile is not None:
            if self._bridge.links != self._links:
                self._links = self._bridge.links
                self._balanced.clear()
                self._balancing.clear()
            key = (self._wanted, profile.total_seconds, nodes, tuple(speeds), homes_of(self._bridge.nodes, nodes), pins)
            if key in self._balanced:
                return self._balanced[key]
            self._balance(key, profile, dict(zip(nodes, speeds, strict=True)), pins)
        even, held = self.ribbon.even_cuts(speeds), kept(pins, nodes)
        if even is None or clash(held, len(nodes), len(self.layers)):
            return even
        return fitted(even, held, len(self.layers))

    def _balance(self, key: tuple[object, ...], profile: Profile, speeds: dict[NodeId, float], pins: Pins) -> None:
        model, links = self._bridge.model, self._links
        if key in self._balancing or model is None:
            return
        self._balancing.add(key)
        self._bridge.tasks.start(
            partial(predicting.balanced_cuts, profile, model, speeds, tuple(self._bridge.nodes), links, pins),
            partial(self._balanced_now, key, links),
            self._not_balanced,
        )

    def _balanced_now(self, key: tuple[object, ...], links: Links, cuts: tuple[int, ...]) -> None:
        if links == self._links:
            self._balancing.discard(key)
            self._balanced[key] = cuts
            self.changed.emit()

    def _not_balanced(self, error: ShardboardError) -> None:
        self.failed.emit(str(error))

    # ---------------------------------------------------------------- predictions

    def predict(self, request: PlanRequest) -> tuple[Prediction | None, str]:
        """The prediction, and why there is none where there is none."""
        self._bridge.prediction_problem = ""
        prediction = self._bridge.predict(request)
        return prediction, self._bridge.prediction_problem

    def predict_all(self, state: PartitionState, *, divided: bool) -> dict[str, PlanRequest | None]:
        """Predict every strategy for the nodes of ``state``; returns what was asked for each.

        Those that divide layers are worked out by a worker, the chosen one first; the others of them only if
        ``divided``. Then their shards are timed too, in the same order.
        """
        bridge = self._bridge
        self.text_problem = ""
        requests: dict[str, PlanRequest | None] = {}
        for card in sorted(STRATEGIES, key=lambda one: one != state.strategy):
            try:
                requests[card] = self.request(state, card)
            except PlanError as error:
                requests[card] = None
                bridge.have_timed(card, None)
                self._nothing(card, str(error).partition("\n")[0])
                self.text_problem = f"{error.message}\n{error.hint}".strip()
                self._bridge.work_out(card, None)
                continue
            chosen = card == state.strategy
            bridge.have_timed(card, requests[card] if divided else None, urgent=chosen)
            self._predict_card(card, requests[card], divided=divided or chosen, urgent=chosen)
        self.asked = {card: requests[card] for card in STRATEGIES}
        return self.asked

    def _predict_card(self, card: str, request: PlanRequest | None, *, divided: bool, urgent: bool) -> None:
        if request is None:
            self._nothing(card)
            self._bridge.work_out(card, None)
        elif card in QUICK:
            self.predictions[card], self.problems[card] = self.predict(request)
            self.divisions[card] = None
        else:
            worked = self._bridge.work_out(card, request if divided else None, urgent=urgent)
            self._nothing(card, worked.problem if worked is not None else "")
            if worked is not None:
                timed = self._bridge.predict(request, timed=True) if worked.prediction is not None else None
                self.predictions[card], self.divisions[card] = timed or worked.prediction, worked.division
            elif divided and self.profile() is not None:
                self.working.add(card)

    def _nothing(self, card: str, problem: str = "") -> None:
        self.predictions[card], self.divisions[card], self.problems[card] = None, None, problem
        self.working.discard(card)

    def lanes(self, card: str, request: PlanRequest | None) -> tuple[Lane, ...]:
        """How ``request`` cuts the model; nothing while that is not known."""
        layers = len(self.layers)
        if request is None or not layers:
            return ()
        division = self.divisions.get(card)
        if division is not None:
            return self._lanes_of(card, division) if len(division.layers) == layers else ()
        if card == REPLICATE:
            return replica_lanes(request.nodes, layers)
        if card == SINGLE:
            return plain_lanes([(request.nodes[0], layers)])
        if card != PIPELINE or request.cuts is None or len(request.cuts) != len(request.nodes) - 1:
            return ()
        edges = (0, *request.cuts, layers)
        return plain_lanes([(node, edges[i + 1] - edges[i]) for i, node in enumerate(request.nodes)])

    def _lanes_of(self, card: str, division: Division) -> tuple[Lane, ...]:
        """Worked out once for each division."""
        known = self._lanes.get(card)
        if known is None or known[0] is not division:
            known = self._lanes[card] = (division, lanes_of(division))
        return known[1]
