"""Plan files on the Partition page: buttons to save and load, files dropped on the page, and what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal
from PySide6.QtGui import QDragEnterEvent, QDropEvent, QKeySequence
from PySide6.QtWidgets import QWidget

from core.plan.form import PlanRequest
from gui.bridge import Bridge
from gui.partition_files import PlanFiles, dropped_plan
from gui.partition_plans import PartitionPlans
from gui.widgets.banner import Banner
from gui.widgets.basics import button

if TYPE_CHECKING:
    from core.cluster.node import Node


class PlanFileTools(QObject):
    """GUI thread."""

    loaded = Signal(object, str)
    """PlanRequest, and what taking it is called."""

    def __init__(self, bridge: Bridge, plans: PartitionPlans, owner: QWidget) -> None:
        super().__init__(owner)
        self._bridge, self._plans = bridge, plans
        self._strategy = ""
        self.files = PlanFiles(bridge, owner)
        self.load = button(self.tr("Load…"), self._ask_to_load, icon="folder")
        self.save = button(self.tr("Save…"), self._ask_to_save, icon="export")
        self.load.setToolTip(self.tr("Load a plan from a file (Ctrl+L); or drop one anywhere on this page"))
        self.save.setToolTip(self.tr("Save the plan to a file for people and for shardboard run --plan (Ctrl+S)"))
        self.load.setShortcut("Ctrl+L")
        self.save.setShortcut(QKeySequence(QKeySequence.StandardKey.Save))
        self.told = Banner(slim=True)
        self.told.tools.addWidget(button(self.tr("Dismiss"), self.told.clear, role="flat"))
        self.files.loaded.connect(self._loaded)
        self.files.saved.connect(lambda path: self.told.say(self.tr("Plan saved"), path, "good"))
        self.files.failed.connect(lambda title, words, lines: self.told.say(title, words, "bad", lines))

    def show_state(self, strategy: str) -> None:
        """After any change; ``strategy``: the one on the screen."""
        self._strategy = strategy
        model = self._bridge.model is not None
        self.load.setEnabled(model and bool(self._plans.usable()))
        self.save.setEnabled(model and self._plans.asked.get(strategy) is not None)

    def usable_nodes(self) -> list[Node]:
        """Those that a loaded plan may be for."""
        usable = set(self._plans.usable())
        return [node for node in self._bridge.nodes if node.id in usable]

    def _ask_to_load(self) -> None:
        self.files.ask_to_load(self.usable_nodes())

    def _ask_to_save(self) -> None:
        request = self._plans.asked.get(self._strategy)
        if request is not None:
            self.files.ask_to_save(request, self._plans.predictions[self._strategy])

    def _loaded(self, request: PlanRequest, name: str, words: str) -> None:
        self.told.say(self.tr("Plan {0} loaded").format(name), words, "warn" if words else "good")
        self.loaded.emit(request, self.tr("load a plan"))

    # ---------------------------------------------------------------- files dropped on the page

    def drag_entered(self, event: QDragEnterEvent) -> None:
        path = dropped_plan(event.mimeData())
        if path is not None and self.load.isEnabled():
            self.told.say(self.tr("Drop to load {0}").format(path.name), "", "info")
            event.acceptProposedAction()

    def dropped(self, event: QDropEvent) -> None:
        path = dropped_plan(event.mimeData())
        if path is not None:
            self.told.clear()
            event.acceptProposedAction()
            self.files.load(path, self.usable_nodes())
