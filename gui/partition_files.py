"""Plans saved to files and loaded from them: dialogs here, the reading and writing by a worker."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Final

from PySide6.QtCore import QMimeData, QObject, Signal
from PySide6.QtWidgets import QFileDialog, QWidget

from core.cost.types import Prediction
from core.errors import ShardboardError
from core.plan.form import PlanRequest
from gui.bridge import Bridge
from gui.work import plan_files

if TYPE_CHECKING:
    from core.cluster.node import Node
    from core.plan.plan_fit import Fit

SUFFIX: Final = ".json"


class PlanFiles(QObject):
    """GUI thread. The newest load wins."""

    loaded = Signal(object, str, str)
    """PlanRequest, name of the file, and what a person should know of it."""
    saved = Signal(str)
    """Path."""
    failed = Signal(str, str, str)
    """(title, why, lines of the file that this is about)"""

    def __init__(self, bridge: Bridge, owner: QWidget) -> None:
        super().__init__(owner)
        self._bridge, self._owner = bridge, owner
        self._loading = 0

    def ask_to_load(self, nodes: Sequence[Node]) -> None:
        path, _ = QFileDialog.getOpenFileName(
            self._owner, self.tr("Load a plan"), "", self.tr("Plans (*.json);;All files (*)")
        )
        if path:
            self.load(Path(path), nodes)

    def ask_to_save(self, request: PlanRequest, prediction: Prediction | None) -> None:
        model = self._bridge.model
        name = f"{model.name if model is not None else 'model'}-{request.strategy.partition('(')[0]}{SUFFIX}"
        path, _ = QFileDialog.getSaveFileName(self._owner, self.tr("Save the plan"), name, self.tr("Plans (*.json)"))
        if path:
            self.save(Path(path), request, prediction)

    def load(self, path: Path, nodes: Sequence[Node]) -> None:
        """On ``nodes``, which can take work. Ends in ``loaded`` or ``failed``."""
        model = self._bridge.model
        if model is None:
            self.failed.emit(self.tr("The plan was not loaded"), self.tr("A plan is for a model: open that first."), "")
            return
        self._loading += 1
        self._bridge.tasks.start(
            partial(plan_files.load_plan, path, model, tuple(nodes)),
            partial(self._loaded, self._loading, path),
            partial(self._not_loaded, self._loading),
        )

    def save(self, path: Path, request: PlanRequest, prediction: Prediction | None) -> None:
        """Ends in ``saved`` or ``failed``. A path without an ending gets that of plans."""
        model = self._bridge.model
        if model is None:
            return
        path = path if path.suffix else path.with_suffix(SUFFIX)
        names = {node: self._bridge.name_of(node) for node in request.nodes}
        self._bridge.tasks.start(
            partial(plan_files.save_plan, path, model, request, names, prediction, time.time()),
            lambda _none: self.saved.emit(str(path)),
            partial(self._fail, self.tr("The plan was not saved")),
        )

    def _loaded(self, token: int, path: Path, fit: Fit) -> None:
        if token == self._loading:
            self.loaded.emit(fit.request, path.name, " ".join(fit.words))

    def _not_loaded(self, token: int, error: ShardboardError) -> None:
        if token == self._loading:
            self._fail(self.tr("The plan was not loaded"), error)

    def _fail(self, title: str, error: ShardboardError) -> None:
        said, _, lines = error.message.partition("\n")
        self.failed.emit(title, f"{said} {error.hint}".strip(), dedent(lines))


def dropped_plan(data: QMimeData) -> Path | None:
    """The plan file that is dragged, if it may be one."""
    for url in data.urls():
        path = Path(url.toLocalFile())
        if url.isLocalFile() and path.suffix.lower() == SUFFIX:
            return path
    return None
