"""Stands between Deploy and a plan that some node lacks the memory for: says what is missed, and what would fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from PySide6.QtCore import Signal

from core.cost.types import Prediction
from core.plan.misses import lacking_words
from gui.bridge import Bridge
from gui.widgets.banner import Banner
from gui.widgets.basics import button

if TYPE_CHECKING:
    from core.plan.improving import Change


class MissesBanner(Banner):
    """``taken`` is the Change that a person wants instead; hidden until a plan that does not fit is to be deployed."""

    taken = Signal(object)

    def __init__(self, bridge: Bridge) -> None:
        super().__init__("bad")
        self._bridge = bridge
        self._change: Change | None = None
        self.instead = button(self.tr("Change it so"), self._take, role="primary")
        self.instead.setToolTip(self.tr("Change the plan so; it can be undone"))
        self.instead.setAccessibleName(self.tr("What would fit instead"))
        self.anyway = button(self.tr("Deploy anyway"), self._insist)
        self.anyway.setToolTip(self.tr("A node still refuses what it cannot load"))
        self.dismiss = button(self.tr("Dismiss"), self.clear, role="flat")
        for tool in (self.instead, self.anyway, self.dismiss):
            self.tools.addWidget(tool)
        bridge.requestChanged.connect(self.clear)
        bridge.modelOpened.connect(lambda *_opened: self.clear())

    def deploy(self, prediction: Prediction | None, changes: Sequence[Change] | None) -> None:
        """Deploy what is asked for, if it fits by ``prediction``; else say why not. ``changes``: what would fit, as far
        as that is known."""
        bridge = self._bridge
        limits = {node.id: node.info.memory_limit for node in bridge.nodes if node.info is not None}
        words = lacking_words(prediction, limits, {node.id: node.name for node in bridge.nodes}) if prediction else ""
        if not words:
            self.clear()
            bridge.deploy()
            return
        self._change = changes[0] if changes else None
        self.instead.setVisible(self._change is not None)
        nearest = self.tr(" Nearest to it: {0}.").format(self._change.words) if self._change is not None else ""
        self.say(self.tr("Not deployed: it does not fit"), f"{words}.{nearest}", "bad")

    def _take(self) -> None:
        change = self._change
        self.clear()
        if change is not None:
            self.taken.emit(change)

    def _insist(self) -> None:
        self.clear()
        self._bridge.deploy()
