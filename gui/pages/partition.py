"""The Partition page: how the model is split over the nodes, with every prediction moving with the mouse."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from PySide6.QtCore import Qt
from PySide6.QtGui import (
    QDragEnterEvent,
    QDragLeaveEvent,
    QDropEvent,
    QKeySequence,
    QResizeEvent,
    QShowEvent,
    QUndoStack,
)
from PySide6.QtWidgets import QWidget

from core.cost.types import Prediction
from core.plan.form import NodeId, PlanRequest
from core.plan.plan_reading import MOST_ITEMS
from core.run.report import RunReport
from gui import nestings
from gui.bridge import Bridge, Phase
from gui.improvements import Asked, Improvements
from gui.partition_files import PlanFiles, dropped_plan
from gui.partition_inspection import layer_inspection, mark_inspection
from gui.partition_plans import PartitionPlans
from gui.partition_preview import Desk
from gui.partition_ribbon import RibbonEdits
from gui.partition_rows import budget_rows, group_shares, quick_words, ribbon_nodes
from gui.partition_state import HYBRID, PIPELINE, QUICK, SINGLE, SPATIAL, TENSOR, PartitionState
from gui.partition_undo import Edit
from gui.partition_words import bottleneck, node_names, verified_words
from gui.shares import WHOLE, with_one_at
from gui.strategy_chooser import StrategyChooser
from gui.theme import XL, XS, L, M, S, Theme
from gui.widgets.advice import Advice
from gui.widgets.basics import Banner, Card, EmptyState, Page, button, column, label, row
from gui.widgets.deploy_progress import DeployRows
from gui.widgets.division_model import Mark
from gui.widgets.layers_card import LayersCard
from gui.widgets.measure_banner import MeasureBanner
from gui.widgets.misses_banner import MissesBanner
from gui.widgets.node_budget import NodeBudget
from gui.widgets.one_of import OneOf
from gui.widgets.profile_banner import ProfileBanner
from gui.widgets.truth_card import TruthCard, measured_rows
from gui.widgets.units import percent, seconds

if TYPE_CHECKING:
    from core.cluster.node import Node
    from core.model.graph import Model
    from core.model.library import LibraryEntry

ROOMY: Final = 1000
"""Pixels of height; a lower page is laid out densely, so that ribbon and nodes are seen at once."""
SHARES_KEY: Final = MOST_ITEMS + 1
"""Steps of a share that follow one another fast are one step of undo."""
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
        self._state = PartitionState()
        self._undo = QUndoStack(self)
        self._dense = False
        self._tabs: tuple[bool, tuple[QWidget, ...]] = (False, ())
        self._plans = PartitionPlans(bridge, self)
        self._files = PlanFiles(bridge, self)
        self.setAcceptDrops(True)
        self._build()
        self._connect()
        if bridge.model is not None:
            self._model_opened(bridge.model, bridge.entry)
        self._refresh()

    # ---------------------------------------------------------------- layout

    def _build(self) -> None:
        self._build_tools()
        self._chooser = StrategyChooser(self._bridge, self._plans)
        self._improvements = Improvements(self._bridge.tasks, self._chooser.hold, self)
        self._cards = self._chooser.cards
        self._layers = LayersCard()
        self._options = self._layers.options
        self._ribbon, self._division = self._layers.ribbon, self._layers.division
        self._items, self._balance = self._layers.items, self._layers.balance
        self._good, self._bad, self._told = Banner("good", slim=True), Banner("bad"), Banner(slim=True)
        self._misses = MissesBanner(self._bridge)
        self._good.tools.addWidget(
            button(self.tr("Run"), partial(self.wanted.emit, "run"), role="primary", icon="play")
        )
        self._good.tools.addWidget(button(self.tr("Release"), self._bridge.release))
        self._bad.tools.addWidget(button(self.tr("Dismiss"), self._bad.clear, role="flat"))
        self._told.tools.addWidget(button(self.tr("Dismiss"), self._told.clear, role="flat"))
        self._deploying = Card(
            self.tr("Deploying"), self.tr("weights go to each node once; what it has is not sent again")
        )
        self._deploying.tools.addWidget(button(self.tr("Cancel"), self._bridge.stop))
        self._deploy_rows = DeployRows()
        self._deploying.body.addWidget(self._deploy_rows)
        self._deploying.hide()
        self._nodes = self._build_nodes()
        self._content = column(
            ProfileBanner(self._bridge),
            MeasureBanner(self._bridge),
            self._good,
            self._bad,
            self._misses,
            self._told,
            self._deploying,
            self._chooser,
            self._layers,
            self._nodes,
            self._chooser.below,
            TruthCard(self._bridge),
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

    def _build_tools(self) -> None:
        self._load = button(self.tr("Load…"), self._ask_to_load, icon="folder")
        self._save = button(self.tr("Save…"), self._ask_to_save, icon="export")
        self._load.setToolTip(self.tr("Load a plan from a file (Ctrl+L); or drop one anywhere on this page"))
        self._save.setToolTip(self.tr("Save the plan to a file for people and for shardboard run --plan (Ctrl+S)"))
        self._load.setShortcut("Ctrl+L")
        self._save.setShortcut(QKeySequence(QKeySequence.StandardKey.Save))
        self.tools.addWidget(self._load)
        self.tools.addWidget(self._save)
        self._undo_button = button("", self._undo.undo, icon="undo")
        self._redo_button = button("", self._undo.redo, icon="redo")
        for tool, keys, words in (
            (self._undo_button, QKeySequence.StandardKey.Undo, self.tr("Undo")),
            (self._redo_button, QKeySequence.StandardKey.Redo, self.tr("Redo")),
        ):
            tool.setShortcut(QKeySequence(keys))
            tool.setToolTip(words)
            tool.setAccessibleName(words)
            self.tools.addWidget(tool)
        self._deploy = button(self.tr("Deploy"), self._ask_to_deploy, role="primary", icon="deploy")
        self.tools.addWidget(self._deploy)

    def _build_nodes(self) -> Card:
        card = Card("", margin=M)
        card.setAccessibleName(self.tr("Nodes"))
        self._advice = Advice()
        self._budget = NodeBudget()
        self._by_speed = button(self.tr("Shares by speed"), self._share_by_speed, icon="balance")
        self._by_speed.setToolTip(self.tr("Give each node a part of the work in proportion to its speed"))
        head = row(spacing=M)
        head.addWidget(label(self.tr("Nodes"), "heading"), 0, Qt.AlignmentFlag.AlignTop)
        head.addWidget(self._advice, 1)
        head.addWidget(self._by_speed, 0, Qt.AlignmentFlag.AlignBottom)
        card.body.addLayout(head)
        card.body.addWidget(self._budget)
        return card

    def _connect(self) -> None:
        bridge = self._bridge
        desk = Desk(lambda: self._state, self._edit, self._refuse, self._preview, self._refresh)
        self._edits = RibbonEdits(bridge, self._plans, self._ribbon, self._division.ribbon, desk)
        bridge.nodesChanged.connect(self._refresh)
        bridge.speedsChanged.connect(self._refresh)
        bridge.modelOpened.connect(self._model_opened)
        bridge.profileProgress.connect(self._show_scale)
        bridge.profileFailed.connect(lambda _message: self._show_scale(-1.0))
        bridge.phaseChanged.connect(self._phase_changed)
        bridge.deployProgress.connect(self._deploy_rows.take)
        bridge.deployed.connect(self._deployed)
        bridge.deployFailed.connect(self._deploy_failed)
        bridge.released.connect(self._refresh)
        bridge.rerunRequested.connect(self._adopt)
        bridge.planWanted.connect(self.choose)
        self._balance.clicked.connect(lambda _checked: self.balance())
        self._chooser.plotMoved.connect(self._order_tabs)
        Theme.of().changed.connect(self._refresh)
        bridge.truth.changed.connect(lambda: self._budget.show_measured(measured_rows(bridge)))
        self._plans.changed.connect(self._refresh)
        self._plans.ribbonChanged.connect(self._show_ribbon)
        self._plans.failed.connect(self._refuse)
        self._chooser.strategyChosen.connect(self._choose_strategy)
        self._chooser.planPicked.connect(self.choose)
        self._chooser.aimChanged.connect(self._refresh)
        self._files.loaded.connect(self._plan_loaded)
        self._files.saved.connect(lambda path: self._told.say(self.tr("Plan saved"), path, "good"))
        self._files.failed.connect(lambda title, words: self._told.say(title, words, "bad"))
        self._advice.taken.connect(lambda change: self.choose(change.request, change.words))
        self._misses.taken.connect(lambda change: self.choose(change.request, change.words))
        self._improvements.changed.connect(lambda: self._advice.show_changes(self._improvements.found))
        self._chooser.candidates.changed.connect(self._ask_improvement)
        self._budget.toggled.connect(self._toggle)
        self._budget.moved.connect(self._edits.move)
        self._budget.shareSet.connect(self._share_set)
        self._options.nestingChosen.connect(self._nesting_chosen)
        self._options.tensorAxisChosen.connect(self._tensor_axis_chosen)
        self._options.spatialAxisChosen.connect(self._spatial_axis_chosen)
        self._edits.layerPicked.connect(self._inspect_layer)
        self._division.ribbon.markPicked.connect(self._inspect_mark)
        self._items.valueChanged.connect(self._items_changed)
        self._undo.indexChanged.connect(self._show_undo)

    def shows(self, message: str) -> bool:
        return self._bad.says(message)

    # ---------------------------------------------------------------- edits

    def _edit(self, after: PartitionState, text: str, key: int = -1) -> None:
        if after != self._state:
            self._chooser.forget_wish()
            self._undo.push(Edit(self._take, self._state, after, text, key))

    def _take(self, state: PartitionState) -> None:
        """The state an edit, an undo or a redo leads to; nodes seen meanwhile stay known."""
        seen = self._state.order
        self._state = state.seen(seen)
        self._layers.refuse("")
        self._refresh()

    def _refuse(self, words: str) -> None:
        self._layers.refuse(words)

    def _choose_strategy(self, strategy: str) -> None:
        self._edit(self._state.with_strategy(strategy), self.tr("choose a strategy"))

    def balance(self) -> None:
        """Put the cuts back to where the slowest stage is fastest."""
        self._edit(self._state.with_cuts(None), self.tr("balance the cuts"))

    def _nesting_chosen(self, text: str) -> None:
        self._edit(self._state.with_nesting(text), self.tr("choose a nesting"))
        self._refresh()

    def _tensor_axis_chosen(self, axis: str) -> None:
        self._edit(self._state.with_tensor_axis(axis or None), self.tr("choose an axis"))

    def _spatial_axis_chosen(self, axis: str) -> None:
        self._edit(self._state.with_spatial_axis(axis or None), self.tr("choose an axis"))

    def _share_set(self, node_id: str, percent: int) -> None:
        """One node's share is set; the rest of its group share out what is left."""
        request, node = self._plans.asked.get(self._state.strategy), NodeId(node_id)
        if request is None:
            return
        now = group_shares(self._bridge, request)
        group = next((one for one in nestings.of_request(request).groups if node in one), ())
        new = with_one_at({member: now[member] for member in group}, node, percent)
        all_now = {member: share / WHOLE for member, share in (now | new).items()}
        self._edit(self._state.with_shares(all_now), self.tr("set a share"), SHARES_KEY)
        self._refresh()

    def _share_by_speed(self) -> None:
        self._edit(self._state.with_shares(None), self.tr("share by speed"))

    def _toggle(self, node_id: str) -> None:
        node = NodeId(node_id)
        if self._state.strategy == SINGLE:
            self._edit(self._state.alone_on(node), self.tr("choose a node"))
        else:
            self._edit(self._state.toggled(node), self.tr("choose nodes"))
        self._refresh()

    def _items_changed(self, items: int) -> None:
        self._edit(self._state.with_micro_batch(items), self.tr("change the micro-batch"), MOST_ITEMS)

    def _adopt(self, report: RunReport) -> None:
        """Take over what an earlier run was asked for, as far as its nodes are here."""
        if report.request is not None:
            self.choose(report.request)

    def choose(self, request: PlanRequest, text: str = "") -> None:
        """Show and ask for ``request``, as one edit that can be undone; ``text``: what the edit is called."""
        self._edit(self._state.adopted(request), text or self.tr("choose a plan"))

    def _show_undo(self) -> None:
        self._undo_button.setEnabled(self._undo.canUndo())
        self._redo_button.setEnabled(self._undo.canRedo())
        self._undo_button.setToolTip(self.tr("Undo: {0}").format(self._undo.undoText()))
        self._redo_button.setToolTip(self.tr("Redo: {0}").format(self._undo.redoText()))

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
        self._undo.clear()
        self._state = self._state.for_another_model(batch)
        self._good.clear()
        self._told.clear()
        self._refresh()

    def _show_ribbon(self) -> None:
        profile = self._plans.profile()
        total = profile.total_seconds if profile else None
        self._ribbon.set_model(self._plans.ribbon, total)
        self._division.ribbon.set_model(self._plans.ribbon, total)

    # ---------------------------------------------------------------- everything shown follows from the state

    def _refresh(self) -> None:
        bridge = self._bridge
        self._state = self._state.seen([node.id for node in bridge.nodes])
        usable = self._plans.usable()
        self._stack.setCurrentIndex(NO_MODEL if bridge.model is None else READY if usable else NO_NODES)
        self._items.blockSignals(True)
        self._items.setValue(self._state.micro_batch)
        self._items.blockSignals(False)
        self._show_undo()
        self._load.setEnabled(bridge.model is not None and bool(usable))
        self._save.setEnabled(False)
        if bridge.model is None:
            self._deploy.setEnabled(False)
            return
        self._plans.read(self._state.micro_batch)
        chosen = self._state.strategy
        requests = self._plans.predict_all(self._state, divided=self.isVisible())
        request = requests[chosen]
        if request is not None:
            bridge.setRequest(request)
        self._show_options(request)
        self._save.setEnabled(request is not None)
        self._chooser.show_state(self._state, requests, visible=self.isVisible())
        self._show(request, self._plans.predictions[chosen])
        self._show_scale(-1.0)
        self._show_phase()
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
        self._layers.set_room(len(self._state.chosen(self._plans.usable())), low=dense)
        self._budget.set_dense(dense)
        self._order_tabs()

    def _order_tabs(self) -> None:
        """The Tab key follows the eye: all plans come after the cards or after the nodes."""
        chooser, rows = self._chooser, self._budget.fields()
        if self._tabs == (chooser.is_beside, rows):
            return
        self._tabs = (chooser.is_beside, rows)
        way = [self._ribbon, self._division.ribbon, *self._advice.buttons, self._by_speed, *rows]
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
        state, usable = self._state, self._plans.usable()
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
        self._budget.hint.setText(
            {
                PIPELINE: self.tr("for each micro-batch; drag a node onto a stage to give it that stage"),
                TENSOR: self.tr("for each micro-batch; shares are of the work of every layer"),
                SPATIAL: self.tr("for each micro-batch; shares are of the work of every layer"),
                HYBRID: self.tr("for each micro-batch; shares are of the work of a node's group"),
            }.get(state.strategy, self.tr("for each micro-batch"))
        )
        self._by_speed.setVisible(request is not None and request.shares is not None)

    def _show(self, request: PlanRequest | None, prediction: Prediction | None) -> None:
        """Ribbon and rows of one request."""
        divided = self._state.strategy not in QUICK
        self._layers.show_divided(divided)
        self._layers.set_room(len(self._state.chosen(self._plans.usable())), low=self._dense)
        nodes = ribbon_nodes(self._bridge, request, prediction) if request else []
        pipeline = request is not None and not divided and request.strategy == PIPELINE
        self._edits.show_plan(request, nodes)
        if divided:
            self._show_division()
        self._balance.setVisible(pipeline and len(nodes) > 1)
        self._layers.say(*quick_words(request, self._plans.layers, self._plans.cuts))
        self._budget.show_rows(
            budget_rows(self._bridge, self._state, request, prediction, len(self._plans.layers), self._plans.usable())
        )

        self._order_tabs()
        self._show_bottleneck(request, prediction)

    def _show_bottleneck(self, request: PlanRequest | None, prediction: Prediction | None) -> None:
        if request is None or prediction is None or not self._plans.layers:
            self._advice.show_bottleneck("")
            return
        division = self._plans.divisions.get(self._state.strategy)
        self._advice.show_bottleneck(bottleneck(self._bridge, request, prediction, self._plans.layers, division))

    def _ask_improvement(self) -> None:
        """Of what is asked for now; nothing while nobody looks."""
        strategy = self._state.strategy
        request, prediction = self._plans.asked.get(strategy), self._plans.predictions.get(strategy)
        if request is None or prediction is None or not self.isVisible():
            self._improvements.ask(None)
        else:
            self._improvements.ask(self._asked(request, prediction))

    def _asked(self, request: PlanRequest, prediction: Prediction) -> Asked | None:
        """What its improvement depends on; None while that is not known."""
        bridge, profile = self._bridge, self._plans.profile()
        usable = self._plans.usable()
        if bridge.model is None or profile is None or not set(request.nodes) <= set(usable):
            return None
        allowed = tuple(node for node in usable if node in request.nodes or node in self._state.allowed(usable))
        answer = self._chooser.candidates.answer
        return Asked(
            request=request,
            prediction=prediction,
            model=bridge.model,
            profile=profile,
            links=bridge.links,
            nodes=allowed,
            speeds=tuple(bridge.speed_of(node) for node in allowed),
            aim=self._chooser.aim_bar.aim,
            known=tuple(bridge.nodes),
            others=answer.choice.candidates if answer is not None and answer.choice is not None else (),
        )

    def _show_division(self) -> None:
        """How the layers are divided, what the signs mean, and what it comes to."""
        plans, strategy = self._plans, self._state.strategy
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
        self._chooser.show_preview(self._state.strategy, request, prediction, problem)
        self._show(request, prediction)

    def _show_scale(self, share: float) -> None:
        """What the widths of the ribbon are."""
        profile = self._plans.profile()
        if profile is not None:
            text = self.tr("as wide as measured: {0} on one core of this machine").format(
                seconds(profile.total_seconds)
            )
        elif share >= 0:
            text = self.tr("timing the layers, {0} done; until then as wide as their multiply-adds").format(
                percent(share)
            )
        else:
            text = self.tr("as wide as their multiply-adds, until the layers are timed")
        self._layers.hint.setText(text)

    # ---------------------------------------------------------------- deployment

    def _ask_to_deploy(self) -> None:
        self._misses.deploy(self._plans.predictions.get(self._state.strategy), self._improvements.found)

    def _phase_changed(self, phase: Phase) -> None:
        if phase is Phase.DEPLOYING:
            request = self._bridge.request
            nodes = request.nodes if request else ()
            self._bad.clear()
            self._deploy_rows.begin([(n, self._bridge.name_of(n), self._bridge.colour(n)) for n in nodes])
        self._refresh()

    def _show_phase(self) -> None:
        bridge, phase = self._bridge, self._bridge.phase
        self._deploying.setVisible(phase is Phase.DEPLOYING)
        deployment = bridge.deployment
        same = (
            deployment is not None
            and bridge.model is not None
            and bridge.deployed_request == bridge.request
            and deployment.plan.model == bridge.model.sha256
        )
        self._deploy.setText(self.tr("Deploy changes") if deployment is not None and not same else self.tr("Deploy"))
        problem = self._plans.problems.get(self._state.strategy, "")
        can = bridge.request is not None and bool(self._plans.usable()) and phase in {Phase.IDLE, Phase.DEPLOYED}
        asked = self._plans.asked.get(self._state.strategy) is not None and not problem
        self._deploy.setEnabled(can and asked and not same)
        self._deploy.setToolTip(problem)
        if deployment is None:
            self._good.clear()
            return
        names = node_names(bridge, deployment.plan.request.nodes)
        title = self.tr("Deployed on {0}").format(names)
        words = verified_words(bridge.verification)
        if not same:
            words = f"{words} {self.tr('What is shown below differs from it: deploy the changes to use them.')}"
        self._good.say(title, words, "good")

    def _deployed(self, _deployment: object) -> None:
        self._deploy_rows.all_at("ready")
        self._refresh()

    def _deploy_failed(self, message: str) -> None:
        self._bad.say(self.tr("Not deployed"), message, "bad")
        self._refresh()

    # ---------------------------------------------------------------- plan files

    def _ask_to_load(self) -> None:
        self._files.ask_to_load(self._usable_nodes())

    def _ask_to_save(self) -> None:
        request = self._plans.asked.get(self._state.strategy)
        if request is not None:
            self._files.ask_to_save(request, self._plans.predictions[self._state.strategy])

    def _usable_nodes(self) -> list[Node]:
        usable = set(self._plans.usable())
        return [node for node in self._bridge.nodes if node.id in usable]

    def _plan_loaded(self, request: PlanRequest, name: str, words: str) -> None:
        self._told.say(self.tr("Plan {0} loaded").format(name), words, "warn" if words else "good")
        self.choose(request, self.tr("load a plan"))

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        path = dropped_plan(event.mimeData())
        if path is not None and self._load.isEnabled():
            self._told.say(self.tr("Drop to load {0}").format(path.name), "", "info")
            event.acceptProposedAction()

    def dragLeaveEvent(self, _event: QDragLeaveEvent) -> None:
        self._told.clear()

    def dropEvent(self, event: QDropEvent) -> None:
        path = dropped_plan(event.mimeData())
        if path is not None:
            self._told.clear()
            event.acceptProposedAction()
            self._files.load(path, self._usable_nodes())

    # ---------------------------------------------------------------- inspector

    def _inspect_layer(self, index: int) -> None:
        plans = self._plans
        division = plans.divisions.get(self._state.strategy)
        self.inspected.emit(
            layer_inspection(plans.layers[index], plans.profile(), plans.cut_at(index), division, self._end_name)
        )

    def _inspect_mark(self, mark: Mark) -> None:
        self.inspected.emit(mark_inspection(mark, self._plans.layers, self._end_name))
