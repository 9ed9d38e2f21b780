"""The Partition page: how the model is split over the nodes, with every prediction moving with the mouse."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from PySide6.QtGui import QDragEnterEvent, QDragLeaveEvent, QDropEvent, QResizeEvent, QShowEvent
from PySide6.QtWidgets import QWidget

from core.cost.types import Prediction
from core.plan.form import PlanRequest
from gui import improvements, nestings
from gui.bridge import Bridge
from gui.partition_deploying import Deploying
from gui.partition_fields import FieldEdits
from gui.partition_file_tools import PlanFileTools
from gui.partition_inspection import layer_inspection, mark_inspection
from gui.partition_plans import PartitionPlans
from gui.partition_preview import Desk
from gui.partition_ribbon import RibbonEdits
from gui.partition_rows import budget_rows, quick_words, ribbon_nodes, rows_hint
from gui.partition_state import HYBRID, PIPELINE, QUICK, SPATIAL, TENSOR
from gui.partition_undo import Choices
from gui.partition_words import bottleneck, scale_words
from gui.strategy_chooser import StrategyChooser
from gui.theme import XL, XS, L, M, S, Theme
from gui.widgets.basics import EmptyState, Page, button, column
from gui.widgets.division_model import Mark
from gui.widgets.layers_card import LayersCard
from gui.widgets.measure_banner import MeasureBanner
from gui.widgets.nodes_card import NodesCard
from gui.widgets.one_of import OneOf
from gui.widgets.profile_banner import ProfileBanner
from gui.widgets.truth_card import TruthCard, measured_rows
from gui.widgets.undo_buttons import UndoButtons

if TYPE_CHECKING:
    from core.model.graph import Model
    from core.model.library import LibraryEntry

ROOMY: Final = 1000
"""Pixels of height; a lower page is laid out densely, so that ribbon and nodes are seen at once."""
NO_MODEL, NO_NODES, READY = range(3)


class PartitionPage(Page):
    """See the module's docstring. The state is the only truth; everything shown follows from it in ``_refresh``."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__(scroll=True)
        self.set_head(
            self.tr("Partition"),
            self.tr("Who runs what: choose a strategy, then drag cuts, shares and nodes; a right click offers more."),
        )
        self._bridge = bridge
        self._choices = Choices(self)
        self._dense = False
        self._tabs: tuple[bool, tuple[QWidget, ...]] = (False, ())
        self._plans = PartitionPlans(bridge, self)
        self._fields = FieldEdits(bridge, self._plans, self._choices)
        self.setAcceptDrops(True)
        self._build()
        self._connect()
        if bridge.model is not None:
            self._model_opened(bridge.model, bridge.entry)
        self._refresh()

    # ---------------------------------------------------------------- layout

    def _build(self) -> None:
        bridge = self._bridge
        self._chooser = StrategyChooser(bridge, self._plans)
        self._improvements = improvements.Improvements(bridge.tasks, self._chooser.hold, self)
        self._files = PlanFileTools(bridge, self._plans, self)
        self._deploying = Deploying(bridge, self._plans, lambda: self._improvements.found, self)
        for tool in (self._files.load, self._files.save, UndoButtons(self._choices.stack), self._deploying.button):
            self.tools.addWidget(tool)
        self._cards = self._chooser.cards
        self._layers = LayersCard()
        self._options = self._layers.options
        self._ribbon, self._division = self._layers.ribbon, self._layers.division
        self._items, self._balance = self._layers.items, self._layers.balance
        self._nodes = NodesCard()
        self._advice, self._budget = self._nodes.advice, self._nodes.budget
        self._content = column(
            ProfileBanner(bridge),
            MeasureBanner(bridge),
            self._files.told,
            *self._deploying.parts,
            self._chooser,
            self._layers,
            self._nodes,
            self._chooser.below,
            TruthCard(bridge),
            None,
            spacing=L,
        )
        content = QWidget()
        content.setLayout(self._content)
        self._stack = OneOf()
        for empty in self._empty_states():
            self._stack.addWidget(empty)
        self._stack.addWidget(content)
        self.body.addWidget(self._stack, 1)

    def _empty_states(self) -> tuple[EmptyState, EmptyState]:
        to_model = button(self.tr("Go to Model"), partial(self.wanted.emit, "model"), role="primary")
        to_nodes = button(self.tr("Go to Nodes"), partial(self.wanted.emit, "nodes"), role="primary")
        return (
            EmptyState(
                "model", self.tr("No model is open"), self.tr("Open a model first; then split it here."), (to_model,)
            ),
            EmptyState(
                "nodes",
                self.tr("No node is ready"),
                self.tr("Start an agent on another machine, or local agents on this one, and it appears here."),
                (to_nodes,),
            ),
        )

    def _connect(self) -> None:
        bridge, choices, fields = self._bridge, self._choices, self._fields
        desk = Desk(lambda: choices.state, choices.edit, self._layers.refuse, self._preview, self._refresh)
        self._edits = RibbonEdits(bridge, self._plans, self._ribbon, self._division.ribbon, desk)
        for news in (
            bridge.nodesChanged,
            bridge.speedsChanged,
            bridge.phaseChanged,
            bridge.deployed,
            bridge.deployFailed,
            bridge.released,
            Theme.of().changed,
            self._plans.changed,
            self._chooser.aimChanged,
            fields.settled,
        ):
            news.connect(self._refresh)
        bridge.modelOpened.connect(self._model_opened)
        bridge.profileProgress.connect(self._show_scale)
        bridge.profileFailed.connect(lambda _message: self._show_scale(-1.0))
        bridge.truth.changed.connect(lambda: self._budget.show_measured(measured_rows(bridge)))
        self._connect_edits()
        choices.edited.connect(self._chooser.forget_wish)
        choices.changed.connect(self._chosen)
        self._plans.ribbonChanged.connect(self._show_ribbon)
        self._plans.failed.connect(self._layers.refuse)
        self._chooser.plotMoved.connect(self._order_tabs)
        self._chooser.candidates.changed.connect(self._ask_improvement)
        self._improvements.changed.connect(lambda: self._advice.show_changes(self._improvements.found))
        self._deploying.runWanted.connect(partial(self.wanted.emit, "run"))
        self._edits.layerPicked.connect(self._inspect_layer)
        self._division.ribbon.markPicked.connect(self._inspect_mark)

    def _connect_edits(self) -> None:
        """Everything by which a person asks for another plan, but for the ribbons."""
        bridge, fields = self._bridge, self._fields
        bridge.rerunRequested.connect(fields.run_again)
        for asks in (bridge.planWanted, self._chooser.planPicked, self._files.loaded):
            asks.connect(fields.choose)
        for advises in (self._advice.taken, self._deploying.misses.taken):
            advises.connect(lambda change: fields.choose(change.request, change.words))
        self._chooser.strategyChosen.connect(fields.choose_strategy)
        self._balance.clicked.connect(lambda _checked: fields.balance())
        self._budget.toggled.connect(fields.toggle)
        self._budget.moved.connect(self._edits.move)
        self._budget.shareSet.connect(fields.set_share)
        self._nodes.sharedBySpeed.connect(fields.share_by_speed)
        self._options.nestingChosen.connect(fields.choose_nesting)
        self._options.tensorAxisChosen.connect(fields.choose_tensor_axis)
        self._options.spatialAxisChosen.connect(fields.choose_spatial_axis)
        self._items.valueChanged.connect(fields.set_items)

    def shows(self, message: str) -> bool:
        return self._deploying.bad.says(message)

    def choose(self, request: PlanRequest) -> None:
        """Show and ask for ``request``, as one edit that can be undone."""
        self._fields.choose(request)

    # ---------------------------------------------------------------- edits

    def _chosen(self) -> None:
        """Another state counts: what was refused of the one before is past."""
        self._layers.refuse("")
        self._refresh()

    # ---------------------------------------------------------------- model and profile

    def _model_opened(self, model: Model, _entry: LibraryEntry | None) -> None:
        batch = self._bridge.micro_batch() or 1
        fixed = model.fixed_batch is not None or not model.batchable
        self._items.setEnabled(not fixed)
        self._items.setToolTip(
            self.tr("The model fixes how many items travel together.")
            if fixed
            else self.tr("Few items: low latency. Many items: less time lost per item.")
        )
        self._choices.begin_anew(batch)
        self._deploying.show_nothing()
        self._files.told.clear()
        self._refresh()

    def _show_ribbon(self) -> None:
        profile = self._plans.profile()
        total = profile.total_seconds if profile else None
        self._ribbon.set_model(self._plans.ribbon, total)
        self._division.ribbon.set_model(self._plans.ribbon, total)

    # ---------------------------------------------------------------- everything shown follows from the state

    def _refresh(self, *_news: object) -> None:
        bridge = self._bridge
        self._choices.see([node.id for node in bridge.nodes])
        state, usable = self._choices.state, self._plans.usable()
        self._stack.setCurrentIndex(NO_MODEL if bridge.model is None else READY if usable else NO_NODES)
        self._items.blockSignals(True)
        self._items.setValue(state.micro_batch)
        self._items.blockSignals(False)
        chosen = state.strategy
        if bridge.model is None:
            self._files.show_state(chosen)
            self._deploying.show_nothing()
            return
        self._plans.read(state.micro_batch)
        requests = self._plans.predict_all(state, divided=self.isVisible())
        request = requests[chosen]
        if request is not None:
            bridge.setRequest(request)
        self._show_options(request)
        self._files.show_state(chosen)
        self._chooser.show_state(state, requests, visible=self.isVisible())
        self._show(request, self._plans.predictions[chosen])
        self._show_scale(-1.0)
        self._deploying.show_state(chosen)
        self._edits.again()
        self._ask_improvement()

    # ---------------------------------------------------------------- room

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        dense = self.height() < ROOMY
        if dense != self._dense:
            self._dense = dense
            self._lay_out()

    def _lay_out(self) -> None:
        """Densely or with air, by the height of the page."""
        dense = self._dense
        edge = M if dense else XL - XS
        self.frame.setContentsMargins(XL, edge, XL, edge)
        self.frame.setSpacing(S if dense else L)
        self.subtitle.setVisible(not dense)
        self._content.setSpacing(S if dense else L)
        self._chooser.set_dense(dense)
        self._layers.set_room(len(self._choices.state.chosen(self._plans.usable())), low=dense)
        self._budget.set_dense(dense)
        self._order_tabs()

    def _order_tabs(self) -> None:
        """The Tab key follows the eye: all plans come after the cards or after the nodes."""
        chooser, rows = self._chooser, self._budget.fields()
        if self._tabs == (chooser.is_beside, rows):
            return
        self._tabs = (chooser.is_beside, rows)
        way = [self._ribbon, self._division.ribbon, *self._advice.buttons, self._nodes.by_speed, *rows]
        if chooser.is_beside:
            QWidget.setTabOrder(chooser.last_card, chooser.plot)
        else:
            way.append(chooser.plot)
        for one, other in pairwise(way):
            QWidget.setTabOrder(one, other)

    def showEvent(self, event: QShowEvent) -> None:
        """What is divided is worked out when somebody looks."""
        super().showEvent(event)
        self._refresh()

    def _show_options(self, request: PlanRequest | None) -> None:
        """Fields that matter to the chosen strategy."""
        state, usable = self._choices.state, self._plans.usable()
        hybrid = state.strategy == HYBRID
        kinds = nestings.of_request(request).kinds if request is not None and state.strategy not in QUICK else set()
        self._options.show_fields(
            nesting=hybrid,
            tensor=TENSOR in kinds or state.strategy == TENSOR,
            spatial=SPATIAL in kinds or state.strategy == SPATIAL,
        )
        offered = nestings.fitting(len(state.chosen(usable)))
        self._options.show_nesting(state.hybrid_text(usable), offered, self._plans.text_problem if hybrid else "")
        self._options.show_axes(state.tensor_axis, state.spatial_axis)
        self._budget.hint.setText(rows_hint(state.strategy))
        self._nodes.by_speed.setVisible(request is not None and request.shares is not None)

    def _show(self, request: PlanRequest | None, prediction: Prediction | None) -> None:
        """Ribbon and rows of one request."""
        divided = self._choices.state.strategy not in QUICK
        self._layers.show_divided(divided)
        self._layers.set_room(len(self._choices.state.chosen(self._plans.usable())), low=self._dense)
        nodes = ribbon_nodes(self._bridge, request, prediction) if request else []
        pipeline = request is not None and not divided and request.strategy == PIPELINE
        self._edits.show_plan(request, nodes)
        if divided:
            self._show_division()
        self._balance.setVisible(pipeline and len(nodes) > 1)
        self._layers.say(*quick_words(request, self._plans.layers, self._plans.cuts))
        layers, usable = len(self._plans.layers), self._plans.usable()
        self._budget.show_rows(budget_rows(self._bridge, self._choices.state, request, prediction, layers, usable))
        self._order_tabs()
        self._show_bottleneck(request, prediction)

    def _show_bottleneck(self, request: PlanRequest | None, prediction: Prediction | None) -> None:
        if request is None or prediction is None or not self._plans.layers:
            self._advice.show_bottleneck("")
            return
        division = self._plans.divisions.get(self._choices.state.strategy)
        self._advice.show_bottleneck(bottleneck(self._bridge, request, prediction, self._plans.layers, division))

    def _ask_improvement(self) -> None:
        """Look for the best change of the plan on the screen; for none while the page is hidden."""
        asked = None
        if self.isVisible():
            aim, weighed = self._chooser.aim_bar.aim, self._chooser.candidates.answer
            asked = improvements.about(self._bridge, self._plans, self._choices.state, aim, weighed)
        self._improvements.ask(asked)

    def _show_division(self) -> None:
        """How the layers are divided, what the signs mean, and what it comes to."""
        plans, strategy = self._plans, self._choices.state.strategy
        self._division.show_division(
            plans.divisions[strategy],
            self._bridge.colour,
            self._end_name,
            problem=self.tr("The nesting cannot be read.") if plans.text_problem else plans.problems[strategy],
            working=strategy in plans.working,
        )

    def _end_name(self, node: str) -> str:
        """Of one end of a link."""
        return self._bridge.name_of(node) if node else self.tr("this workstation")

    def _preview(self, request: PlanRequest, prediction: Prediction | None, problem: str) -> None:
        """While something is dragged: predictions move with it; the plan changes when it is let go."""
        self._layers.refuse(problem)
        self._chooser.show_preview(self._choices.state.strategy, request, prediction, problem)
        self._show(request, prediction)

    def _show_scale(self, share: float) -> None:
        """What the widths of the ribbon are; ``share``: of timing the layers that is done, negative: not going on."""
        self._layers.hint.setText(scale_words(self._plans.profile(), share))

    # ---------------------------------------------------------------- plan files dropped here

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        self._files.drag_entered(event)

    def dragLeaveEvent(self, _event: QDragLeaveEvent) -> None:
        self._files.told.clear()

    def dropEvent(self, event: QDropEvent) -> None:
        self._files.dropped(event)

    # ---------------------------------------------------------------- inspector

    def _inspect_layer(self, index: int) -> None:
        plans = self._plans
        division = plans.divisions.get(self._choices.state.strategy)
        self.inspected.emit(
            layer_inspection(plans.layers[index], plans.profile(), plans.cut_at(index), division, self._end_name)
        )

    def _inspect_mark(self, mark: Mark) -> None:
        self.inspected.emit(mark_inspection(mark, self._plans.layers, self._end_name))
