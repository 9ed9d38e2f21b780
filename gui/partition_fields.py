"""What is set in the cards, fields and rows of the Partition page becomes edits of its state."""

from __future__ import annotations

from typing import Final

from PySide6.QtCore import QObject, Signal

from core.plan.form import NodeId, PlanRequest
from core.plan.plan_reading import MOST_ITEMS
from core.run.report import RunReport
from gui import nestings
from gui.bridge import Bridge
from gui.partition_plans import PartitionPlans
from gui.partition_rows import group_shares
from gui.partition_state import SINGLE
from gui.partition_undo import Choices
from gui.shares import WHOLE, with_one_at

SHARES_KEY: Final = MOST_ITEMS + 1
"""Steps of a share that follow one another fast are one step of undo."""


class FieldEdits(QObject):
    """GUI thread."""

    settled = Signal()
    """A field was set, perhaps to what cannot be: it is to show again what counts."""

    def __init__(self, bridge: Bridge, plans: PartitionPlans, choices: Choices) -> None:
        super().__init__(choices)
        self._bridge, self._plans, self._choices = bridge, plans, choices

    def choose(self, request: PlanRequest, text: str = "") -> None:
        """Ask for ``request``, as one edit that can be undone; ``text``: what the edit is called."""
        self._choices.edit(self._choices.state.adopted(request), text or self.tr("choose a plan"))

    def run_again(self, report: RunReport) -> None:
        """Take over what an earlier run was asked for, as far as its nodes are here."""
        if report.request is not None:
            self.choose(report.request)

    def choose_strategy(self, strategy: str) -> None:
        self._choices.edit(self._choices.state.with_strategy(strategy), self.tr("choose a strategy"))

    def balance(self) -> None:
        """Put the cuts back to where the slowest stage is fastest."""
        self._choices.edit(self._choices.state.with_cuts(None), self.tr("balance the cuts"))

    def choose_nesting(self, text: str) -> None:
        self._choices.edit(self._choices.state.with_nesting(text), self.tr("choose a nesting"))
        self.settled.emit()

    def choose_tensor_axis(self, axis: str) -> None:
        self._choices.edit(self._choices.state.with_tensor_axis(axis or None), self.tr("choose an axis"))

    def choose_spatial_axis(self, axis: str) -> None:
        self._choices.edit(self._choices.state.with_spatial_axis(axis or None), self.tr("choose an axis"))

    def set_share(self, node_id: str, percent: int) -> None:
        """One node's share is set; the rest of its group share out what is left."""
        state = self._choices.state
        request, node = self._plans.asked.get(state.strategy), NodeId(node_id)
        if request is None:
            return
        now = group_shares(self._bridge, request)
        group = next((one for one in nestings.of_request(request).groups if node in one), ())
        new = with_one_at({member: now[member] for member in group}, node, percent)
        all_now = {member: share / WHOLE for member, share in (now | new).items()}
        self._choices.edit(state.with_shares(all_now), self.tr("set a share"), SHARES_KEY)
        self.settled.emit()

    def share_by_speed(self) -> None:
        self._choices.edit(self._choices.state.with_shares(None), self.tr("share by speed"))

    def toggle(self, node_id: str) -> None:
        """Take a node in or out; under the strategy single, choose the one."""
        node, state = NodeId(node_id), self._choices.state
        if state.strategy == SINGLE:
            self._choices.edit(state.alone_on(node), self.tr("choose a node"))
        else:
            self._choices.edit(state.toggled(node), self.tr("choose nodes"))
        self.settled.emit()

    def set_items(self, items: int) -> None:
        self._choices.edit(self._choices.state.with_micro_batch(items), self.tr("change the micro-batch"), MOST_ITEMS)
