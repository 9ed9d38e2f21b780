"""The upper part of the Partition page: the aim, a card for each strategy, and a scatter of all plans worth a look.

What a person chooses here leaves as a signal; what is shown follows from the state of the page.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QButtonGroup, QWidget

from core.cost.types import Prediction
from core.plan.form import NodeId, PlanRequest
from gui import partition_cards as cards
from gui.aims import Ranking, ranked
from gui.bridge import Bridge, Phase
from gui.candidates import Answer, Candidates, Ground, Question
from gui.homes import homes_of
from gui.partition_plans import PartitionPlans
from gui.partition_state import HYBRID, PIPELINE, SINGLE, STRATEGIES, PartitionState
from gui.partition_words import full_strategies
from gui.theme import M, S
from gui.widgets.basics import Card, column
from gui.widgets.card_grid import MOST_COLUMNS, Beside, CardGrid
from gui.widgets.pareto import ParetoPlot
from gui.widgets.pareto_model import Spot
from gui.widgets.strategy_aim import AimBar
from gui.widgets.strategy_card import StrategyCard

PLOT_LEAST: Final = 278
"""Pixels."""
PLOT_SHARE: Final = 0.28
"""Of the page's width."""
BUSY_PHASES: Final = frozenset({Phase.DEPLOYING, Phase.RUNNING, Phase.STOPPING, Phase.COMPARING})
"""A search would take from what is measured meanwhile."""


class StrategyChooser(QWidget):
    """GUI thread."""

    strategyChosen = Signal(str)
    planPicked = Signal(object, str)
    """PlanRequest, and what taking it is called."""
    aimChanged = Signal()
    plotMoved = Signal()
    """All plans are at their other place now."""

    def __init__(self, bridge: Bridge, plans: PartitionPlans) -> None:
        super().__init__()
        self._bridge, self._plans = bridge, plans
        self._ranking = Ranking(STRATEGIES)
        self._weighed: tuple[Answer | None, tuple[str, ...], tuple[Spot, ...]] = (None, (), ())
        self._wished = False
        """The best plan is to be taken as soon as it is known."""
        self.candidates = Candidates(bridge.tasks, self.hold, self)
        bridge.busy_elsewhere.append(lambda: self.candidates.searching)
        self.aim_bar = AimBar()
        self.cards = {name: StrategyCard(name, *cards.strategy_words(name)) for name in STRATEGIES}
        self._group = QButtonGroup(self)
        for card in self.cards.values():
            self._group.addButton(card)
        self.grid = CardGrid(tuple(self.cards.values()), S)
        self.plot = ParetoPlot()
        self._frame = Card(self.tr("All plans"), margin=M)
        self._frame.body.addWidget(self.plot, 1)
        self._beside = Beside(self.grid, self._frame, PLOT_LEAST, PLOT_SHARE, S)
        self.below = self._beside.below
        """All plans, where they are not beside the cards: for the page to place."""
        self.setLayout(column(self.aim_bar, self._beside, spacing=M))
        self._group.buttonClicked.connect(self._choose)
        self.plot.picked.connect(lambda request: self.planPicked.emit(request, self.tr("choose a plan")))
        self.aim_bar.changed.connect(self._aim_changed)
        self.aim_bar.wanted.connect(self.automatic)
        self.aim_bar.stopped.connect(self._stop)
        self._beside.moved.connect(self.plotMoved)
        self.candidates.changed.connect(self._searched)
        self.candidates.progressed.connect(self.aim_bar.show_share)

    @property
    def is_beside(self) -> bool:
        """Whether all plans are shown beside the cards."""
        return self._beside.is_beside

    @property
    def last_card(self) -> QWidget:
        return self.grid.cards[-1]

    def set_dense(self, dense: bool) -> None:
        """Take as little height as can be: one row of compact cards, all plans further below."""
        for card in self.cards.values():
            card.set_compact(dense)
        self.grid.set_most(len(self.cards) if dense else MOST_COLUMNS)
        self._beside.allow(not dense)

    def automatic(self) -> None:
        """Take the best plan by the aim, as soon as it is known."""
        self._wished = True
        self._bridge.costs.pause()
        self.candidates.begin()
        self._searched()

    def forget_wish(self) -> None:
        """A person went on by hand meanwhile."""
        self._wished = False

    # ---------------------------------------------------------------- what is shown

    def show_state(self, state: PartitionState, requests: Mapping[str, PlanRequest | None], *, visible: bool) -> None:
        """Everything, after any change; a search begins only where it is ``visible``."""
        plans, aim = self._plans, self.aim_bar.aim
        self.cards[state.strategy].setChecked(True)
        for name, card in self.cards.items():  # one stop of the Tab key, as with any group; the arrow keys choose
            card.setFocusPolicy(Qt.FocusPolicy.StrongFocus if name == state.strategy else Qt.FocusPolicy.ClickFocus)
        full = full_strategies(self._bridge, plans.predictions)
        self._ranking = ranked(STRATEGIES, plans.predictions, full, aim)
        self.grid.set_order([self.cards[name] for name in self._ranking.order])
        for name, card in self.cards.items():
            request = requests[name]
            if name == HYBRID:
                card.show_text(request.strategy if request is not None else cards.strategy_words(HYBRID)[1])
            self._show_card(name, request, plans.predictions[name], state)
        self._want(state, visible=visible)
        self._show_search()
        self._show_plot(requests)
        self._show_chosen(plans.predictions[state.strategy])

    def show_preview(self, strategy: str, request: PlanRequest, prediction: Prediction | None, problem: str) -> None:
        """While a cut is dragged; the order of the cards stays, so that nothing moves under the mouse."""
        predictions = {**self._plans.predictions, strategy: prediction}
        full = full_strategies(self._bridge, predictions)
        best = ranked(STRATEGIES, predictions, full, self.aim_bar.aim).best
        card, plans = self.cards[strategy], self._plans
        figures = cards.card_figures(
            self._bridge,
            strategy,
            request,
            prediction,
            best=best == strategy,
            aim=self.aim_bar.aim,
            problem=problem,
            alone=predictions.get(SINGLE),
        )
        card.show_figures(figures)
        lanes = plans.lanes(strategy, request)
        card.show_picture(cards.picture_of(strategy, lanes, plans.ribbon, None), self._bridge.colour)
        self._show_chosen(prediction)

    def _show_card(
        self, name: str, request: PlanRequest | None, prediction: Prediction | None, state: PartitionState
    ) -> None:
        plans, card = self._plans, self.cards[name]
        picture = cards.picture_of(name, plans.lanes(name, request), plans.ribbon, plans.divisions[name])
        card.show_picture(picture, self._bridge.colour)
        card.show_figures(
            cards.card_figures(
                self._bridge,
                name,
                request,
                prediction,
                best=name == self._ranking.best,
                aim=self.aim_bar.aim,
                problem=plans.problems[name],
                working=name in plans.working,
                able=state.is_bent(name),
                alone=plans.predictions[SINGLE],
            )
        )

    def _show_chosen(self, prediction: Prediction | None) -> None:
        self.plot.show_chosen((prediction.latency_s, prediction.throughput) if prediction is not None else None)

    # ---------------------------------------------------------------- all plans

    def _show_plot(self, requests: Mapping[str, PlanRequest | None]) -> None:
        """What the search weighed, and what the cards ask for where that is something else."""
        answer = self.candidates.answer
        spots = self._spots_of(answer)
        known = {spot.request for spot in spots}
        predictions = self._plans.predictions
        shown = {name: (requests[name], predictions[name]) for name in STRATEGIES}
        own = [
            cards.spot_of(self._bridge, request, told)
            for request, told in shown.values()
            if request is not None and told is not None and request not in known
        ]
        choice = answer.choice if answer is not None else None
        best = next((i for i, one in enumerate(spots) if choice is not None and one.request == choice.request), -1)
        self.plot.show_spots((*spots, *own), best, bound_s=self.aim_bar.aim.bound_s)
        self.plot.show_note(self.tr("Plans are weighed when the layers are timed."))
        count = len(spots) + len(own)
        self._frame.hint.setText(self.tr("%n weighed", "", count) if answer is not None and count else "")

    def _spots_of(self, answer: Answer | None) -> tuple[Spot, ...]:
        """Made once for each answer and the names of its nodes."""
        names = tuple(node.name for node in self._bridge.nodes)
        if self._weighed[:2] != (answer, names):
            found = answer.choice.candidates if answer is not None and answer.choice is not None else ()
            spots = tuple(cards.spot_of(self._bridge, one.request, one.prediction) for one in found)
            self._weighed = (answer, names, spots)
        return self._weighed[2]

    # ---------------------------------------------------------------- search

    def hold(self) -> bool:
        """What the page shows comes first, unless somebody waits for the search."""
        bridge = self._bridge
        sooner = bridge.outlines.busy or bridge.timings.busy or bridge.costs.busy
        return bridge.phase in BUSY_PHASES or bridge.measuring or (sooner and not self._wished)

    def _want(self, state: PartitionState, *, visible: bool) -> None:
        """Have all plans weighed for what is known now; unseen, at least nothing that was found for something else."""
        bridge, profile = self._bridge, self._plans.profile()
        usable = state.allowed(self._plans.usable())
        if bridge.model is None or profile is None or not usable:
            self.candidates.want(None, None, ())
            return
        nodes = [bridge.node(node) for node in usable]
        infos = [node.info if node is not None else None for node in nodes]
        asked = self._plans.asked.get(PIPELINE)
        question = Question(
            nodes=tuple(NodeId(node) for node in usable),
            speeds=tuple(bridge.speed_of(node) for node in usable),
            limits=tuple(info.memory_limit if info is not None else 0 for info in infos),
            homes=homes_of(bridge.nodes, usable),
            aim=self.aim_bar.aim,
            micro_batch=state.micro_batch,
            pins=asked.pins if asked is not None and state.strategy == PIPELINE else (),
        )
        ground = Ground(bridge.model, profile, bridge.links)
        if visible:
            self.candidates.want(question, ground, tuple(bridge.nodes))
        elif not self.candidates.wants(question, ground):
            self._wished = False
            self.candidates.want(None, None, ())

    def _aim_changed(self) -> None:
        self._wished = False
        self.aimChanged.emit()

    def _stop(self) -> None:
        self._wished = False
        self.candidates.stop()

    def _searched(self) -> None:
        """An answer came, or a search began or ended."""
        self._show_search()
        self._show_plot(self._plans.asked or dict.fromkeys(STRATEGIES))
        answer = self.candidates.answer
        if self._wished and answer is not None:
            self._wished = False
            if answer.choice is not None:
                self.planPicked.emit(answer.choice.request, self.tr("take the automatic plan"))

    def _show_search(self) -> None:
        bar, search, answer = self.aim_bar, self.candidates, self.candidates.answer
        bar.show_search(busy=search.busy and not self._waits())
        bar.automatic.setEnabled(answer is None or answer.choice is not None)
        if answer is not None and answer.choice is not None:
            bar.show_words(answer.choice.words)
        elif answer is not None:
            bar.show_words(f"{answer.problem} {answer.hint}".strip(), "bad" if answer.full else "warn")
        elif search.busy and self._waits():
            bar.show_words(self.tr("All plans are weighed when the run has ended."))
        elif search.busy:
            bar.show_words(self.tr("Weighing all strategies, nodes and orders…"))
        elif search.stopped:
            bar.show_words(self.tr("Not all plans were weighed. Automatic begins again."))
        else:
            bar.show_words(self.tr("All plans are weighed when the layers are timed."))

    def _waits(self) -> bool:
        return self._bridge.phase in BUSY_PHASES and self.candidates.answer is None and not self.candidates.searching

    def _choose(self, card: StrategyCard) -> None:
        self.strategyChosen.emit(card.strategy)
