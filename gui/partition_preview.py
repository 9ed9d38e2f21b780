"""Figures while something is dragged on a ribbon: exact ones where they take no time, else an estimate that follows the
mouse and, as soon as the mouse rests, what a worker finds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape
from typing import Final

import msgspec
from PySide6.QtCore import QObject, QTimer

from core.cost.types import Prediction
from core.plan.form import NodeId, PlanRequest
from gui.bridge import Bridge
from gui.outlines import Worked
from gui.partition_plans import PartitionPlans
from gui.partition_rows import group_shares
from gui.partition_state import QUICK, PartitionState
from gui.partition_words import lacking_words
from gui.quick_figure import Base, as_timed, base_of, with_shares
from gui.widgets.division_ribbon import DivisionRibbon
from gui.widgets.node_ribbon import NodeRibbon
from gui.widgets.tips import stacked, whole
from gui.widgets.units import quantity, seconds

REST_MS: Final = 140
"""The mouse rests when it has not moved for so long."""
DRAG: Final = "drag"
"""Who asks for outlines here."""
Percents = Mapping[NodeId, int]


class Desk(msgspec.Struct, frozen=True):
    """What of the page is needed for edits of its ribbons."""

    state: Callable[[], PartitionState]
    edit: Callable[[PartitionState, str, int], None]
    refuse: Callable[[str], None]
    preview: Callable[[PlanRequest, Prediction | None, str], None]
    """Show a request that is not asked for yet, what it would reach, and why it would not."""
    refresh: Callable[[], None]


class Preview(QObject):
    """GUI thread."""

    def __init__(self, bridge: Bridge, plans: PartitionPlans, divided: DivisionRibbon, desk: Desk) -> None:
        super().__init__(divided)
        self._bridge, self._plans, self._divided, self._desk = bridge, plans, divided, desk
        self._shown: PlanRequest | None = None
        """What the mouse is at, while it drags something."""
        self._base: Base | None = None
        """What is known exactly, from which estimates are made."""
        self._estimated: tuple[Prediction, Prediction | None] | None = None
        """The figure of the plan that is asked for, and the estimate of it: worked out once, not at every step."""
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(REST_MS)
        self._rest.timeout.connect(self._work_out)
        bridge.outlines.changed.connect(self._worked_out)

    def again(self) -> None:
        """After a refresh of the page: what the mouse is at is what counts."""
        if self._shown is not None:
            self._desk.preview(self._shown, *self._told(self._shown))

    def nothing(self) -> None:
        """The mouse drags something over nothing."""
        self._shown = None
        self._desk.refresh()

    def show_order(self, ribbon: NodeRibbon, request: PlanRequest) -> None:
        """What nodes in another order would reach: nothing known lends itself to an estimate."""
        self._base = None
        self.show(ribbon, request)

    def show_shares(self, request: PlanRequest) -> None:
        """What other shares would reach."""
        if self._base is None:
            self._base = self._base_now()
        self.show(self._divided, request)

    def show(self, ribbon: NodeRibbon, request: PlanRequest) -> None:
        """Show what ``request`` would reach, at the mouse and on the page."""
        self._shown = request
        self._bridge.way.hand_moves()
        prediction, problem = self._told(request)
        ribbon.show_figure(self._words(prediction, problem))
        self._desk.preview(request, prediction, problem)
        if request.strategy not in QUICK:
            self._rest.start()

    def known(self, request: PlanRequest) -> Worked | None:
        """What a worker has found of a request."""
        return self._bridge.outlines.known(request, self._bridge.speeds_of(request))

    def end(self, edited: bool) -> None:
        """What was dragged was let go; whether an edit follows."""
        self._shown, self._base, self._estimated = None, None, None
        self._rest.stop()
        self._bridge.work_out(DRAG, None)
        if not edited:
            self._desk.refresh()

    def _told(self, request: PlanRequest) -> tuple[Prediction | None, str]:
        """What is known, or else estimated, of a request."""
        if request.strategy in QUICK:
            prediction, problem = self._plans.predict(request)
            return self._as_timed(prediction), problem
        worked = self.known(request)
        if worked is not None:
            return self._as_timed(worked.prediction), worked.problem
        return (with_shares(self._base, self._divided.percents), "") if self._base is not None else (None, "")

    def _as_timed(self, told: Prediction | None) -> Prediction | None:
        """An estimate beside the plan that is asked for, where that was timed."""
        strategy = self._desk.state().strategy
        request, timed = self._plans.asked.get(strategy), self._plans.predictions.get(strategy)
        if told is None or request is None or timed is None or told.timed or not timed.timed:
            return told
        if self._estimated is None or self._estimated[0] is not timed:
            self._estimated = (timed, self._bridge.predict(request, timed=False))
        return as_timed(told, self._estimated[1], timed)

    def _base_now(self) -> Base | None:
        strategy = self._desk.state().strategy
        request = self._plans.asked.get(strategy)
        prediction, division = self._plans.predictions.get(strategy), self._plans.divisions.get(strategy)
        profile = self._plans.profile()
        if request is None or prediction is None or division is None or profile is None:
            return None
        return base_of(prediction, division, profile, group_shares(self._bridge, request))

    def _words(self, prediction: Prediction | None, problem: str) -> str:
        """Rich text: items per second and how much more that is than now; what does not fit."""
        if problem:
            return f"<b>{escape(problem)}</b>"
        if prediction is None or self._shown is None:
            return self.tr("working out…")
        exact = self._shown.strategy in QUICK or self.known(self._shown) is not None
        now = self._plans.predictions.get(self._desk.state().strategy)
        figure = self.tr("{0} items/s").format(quantity(prediction.throughput))
        if now is not None and now.throughput:
            change = round(100 * (prediction.throughput / now.throughput - 1))
            figure += f" ({change:+d} %)".replace("-", "−") if change else self.tr(" (as now)")
        figure = f"{'' if exact else '≈ '}{figure} · {seconds(prediction.latency_s)}"
        lacking = lacking_words(self._bridge, prediction) if exact else ""
        return stacked(whole(figure), f"<b>{escape(lacking)}</b>" if lacking else "")

    def _work_out(self) -> None:
        """The mouse rests."""
        if self._shown is not None and self._shown.strategy not in QUICK:
            self._bridge.work_out(DRAG, self._shown)
            self._worked_out()

    def _worked_out(self) -> None:
        """Something is known exactly now; perhaps what the mouse is at."""
        request = self._shown
        worked = self.known(request) if request is not None and request.strategy not in QUICK else None
        if worked is None or request is None:
            return
        told = self._as_timed(worked.prediction)
        if worked.division is not None and told is not None and self._divided.gesturing:
            profile = self._plans.profile()
            if not self._divided.carried and profile is not None:
                self._base = base_of(told, worked.division, profile, self._divided.percents)
                self._divided.refine(worked.division)
            self._desk.preview(request, told, "")
        self._divided.show_figure(self._words(told, worked.problem), barred=bool(worked.problem))
