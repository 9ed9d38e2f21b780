"""Deploying from the Partition page: the button, how far each node is, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal
from PySide6.QtWidgets import QWidget

from gui.bridge import Bridge, Phase
from gui.partition_plans import PartitionPlans
from gui.partition_words import node_names, verified_words
from gui.widgets.banner import Banner
from gui.widgets.basics import Card, button
from gui.widgets.deploy_progress import DeployRows
from gui.widgets.misses_banner import MissesBanner

if TYPE_CHECKING:
    from core.plan.improving import Change


class Deploying(QObject):
    """GUI thread."""

    runWanted = Signal()

    def __init__(
        self, bridge: Bridge, plans: PartitionPlans, changes: Callable[[], Sequence[Change] | None], parent: QObject
    ) -> None:
        """``changes``: what would be better than the plan on the screen, as far as that is known."""
        super().__init__(parent)
        self._bridge, self._plans, self._changes = bridge, plans, changes
        self._strategy = ""
        self.button = button(self.tr("Deploy"), self._deploy, role="primary", icon="deploy")
        self.good, self.bad, self.misses = Banner("good", slim=True), Banner("bad"), MissesBanner(bridge)
        self.good.tools.addWidget(button(self.tr("Run"), self.runWanted.emit, role="primary", icon="play"))
        self.good.tools.addWidget(button(self.tr("Release"), bridge.release))
        self.bad.tools.addWidget(button(self.tr("Dismiss"), self.bad.clear, role="flat"))
        self.progress = Card(
            self.tr("Deploying"), self.tr("weights go to each node once; what it has is not sent again")
        )
        self.progress.tools.addWidget(button(self.tr("Cancel"), bridge.stop))
        self._rows = DeployRows()
        self.progress.body.addWidget(self._rows)
        self.progress.hide()
        bridge.phaseChanged.connect(self._phase_changed)
        bridge.deployProgress.connect(self._rows.take)
        bridge.deployed.connect(lambda _deployment: self._rows.all_at("ready"))
        bridge.deployFailed.connect(lambda message: self.bad.say(self.tr("Not deployed"), message, "bad"))

    @property
    def parts(self) -> tuple[QWidget, ...]:
        """For the page to place, one below the other; each is hidden while it has nothing to say."""
        return self.good, self.bad, self.misses, self.progress

    def show_nothing(self) -> None:
        """No model is open, or another one than was deployed."""
        self.button.setEnabled(False)
        self.good.clear()

    def show_state(self, strategy: str) -> None:
        """After any change; ``strategy``: the one on the screen."""
        self._strategy = strategy
        bridge, phase = self._bridge, self._bridge.phase
        self.progress.setVisible(phase is Phase.DEPLOYING)
        deployment = bridge.deployment
        same = (
            deployment is not None
            and bridge.model is not None
            and bridge.deployed_request == bridge.request
            and deployment.plan.model == bridge.model.sha256
        )
        self.button.setText(self.tr("Deploy changes") if deployment is not None and not same else self.tr("Deploy"))
        problem = self._plans.problems.get(strategy, "")
        can = bridge.request is not None and bool(self._plans.usable()) and phase in {Phase.IDLE, Phase.DEPLOYED}
        asked = self._plans.asked.get(strategy) is not None and not problem
        self.button.setEnabled(can and asked and not same)
        self.button.setToolTip(problem)
        if deployment is None:
            self.good.clear()
            return
        title = self.tr("Deployed on {0}").format(node_names(bridge, deployment.plan.request.nodes))
        words = verified_words(bridge.verification)
        if not same:
            words = f"{words} {self.tr('What is shown below differs from it: deploy the changes to use them.')}"
        self.good.say(title, words, "good")

    def _deploy(self) -> None:
        self.misses.deploy(self._plans.predictions.get(self._strategy), self._changes())

    def _phase_changed(self, phase: Phase) -> None:
        if phase is Phase.DEPLOYING:
            bridge = self._bridge
            nodes = bridge.request.nodes if bridge.request else ()
            self.bad.clear()
            self._rows.begin([(n, bridge.name_of(n), bridge.colour(n)) for n in nodes])
