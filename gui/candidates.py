"""The search for the best plan and all others worth a look, in the background.

A question is worked on as soon as nothing else is wanted sooner; another question cancels it, and what a cancelled
search still finds is dropped. Answers are kept for a while, so that going back costs nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from msgspec import Struct
from PySide6.QtCore import QCoreApplication, QObject, QTimer, Signal
from shiboken6 import isValid

from core.cost.links import Links
from core.cost.types import Profile
from core.errors import Cancelled, DoesNotFitError, ShardboardError
from core.plan.form import NodeId
from gui.aims import Aim
from gui.homes import Home
from gui.pins import Pins
from gui.tasks import Tasks
from gui.work import searching

if TYPE_CHECKING:
    from core.cluster.node import Node
    from core.model.graph import Model
    from core.plan.auto import Choice

DELAY_MS: Final = 150
"""Changes that follow one another faster are one."""
KEPT: Final = 8
"""Answers."""


class Question(Struct, frozen=True):
    """What a search depends on, beside the model, its profile and the links."""

    nodes: tuple[NodeId, ...]
    speeds: tuple[float, ...]
    limits: tuple[int, ...]
    """Bytes, of each node; 0: it has room for anything."""
    homes: tuple[Home, ...]
    aim: Aim
    micro_batch: int
    pins: Pins = ()
    """Where there are some, only pipelines are weighed: nothing else keeps them."""


class Ground(Struct, frozen=True, eq=False):
    """What questions are about."""

    model: Model
    profile: Profile
    links: Links


class Answer(Struct, frozen=True, eq=False):
    """The best plan and all that were weighed; or why there is none, in words."""

    choice: Choice | None = None
    problem: str = ""
    hint: str = ""
    full: bool = False
    """The problem is that nothing fits in memory."""


class Candidates(QObject):
    """GUI thread."""

    changed = Signal()
    """An answer came, or a search began or ended."""
    progressed = Signal(float)
    """Part of the search that is done."""

    def __init__(self, tasks: Tasks, hold: Callable[[], bool], parent: QObject) -> None:
        """``hold`` says that something is wanted sooner."""
        super().__init__(parent)
        self._tasks, self._hold = tasks, hold
        self._ground: Ground | None = None
        self._nodes: tuple[Node, ...] = ()
        self._wanted: Question | None = None
        self._stopped: Question | None = None
        """What a person did not want to wait for."""
        self._known: dict[Question, Answer] = {}
        self._cancel: threading.Event | None = None
        """Of the search that goes on."""
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.setInterval(DELAY_MS)
        self._soon.timeout.connect(self._start)
        application = QCoreApplication.instance()
        if application is not None:
            application.aboutToQuit.connect(self._give_up)

    @property
    def answer(self) -> Answer | None:
        """To what is wanted now; None while it is not known."""
        return self._known.get(self._wanted) if self._wanted is not None else None

    @property
    def busy(self) -> bool:
        """A search goes on or is about to."""
        return self._cancel is not None or self._soon.isActive()

    @property
    def searching(self) -> bool:
        """A search goes on."""
        return self._cancel is not None

    def wants(self, question: Question, ground: Ground) -> bool:
        """Whether that is what is wanted now."""
        return question == self._wanted and _same(ground, self._ground)

    def want(self, question: Question | None, ground: Ground | None, nodes: tuple[Node, ...]) -> None:
        """``question`` about ``ground`` and nothing else any more; None: nothing at all."""
        same = _same(ground, self._ground)
        self._nodes = nodes
        if same and question == self._wanted:
            return
        if not same:
            self._known.clear()
            self._ground = ground
        self._wanted = question if ground is not None else None
        self._stopped = None
        self._give_up()
        if self._wanted is not None and self._wanted not in self._known:
            self._soon.start()
        self.changed.emit()

    def stop(self) -> None:
        """A person does not want to wait: nothing is searched until something changes or ``begin``."""
        self._stopped = self._wanted
        self._give_up()
        self.changed.emit()

    def begin(self) -> None:
        """Begin now, also what was stopped."""
        if self._wanted is not None and self.answer is None and not self.searching:
            self._stopped = None
            self._start()
            self.changed.emit()

    @property
    def stopped(self) -> bool:
        return self._stopped is not None

    def _give_up(self) -> None:
        self._soon.stop()
        if self._cancel is not None:
            self._cancel.set()
            self._cancel = None

    def _start(self) -> None:
        if self._hold():
            self._soon.start()
            return
        if self._wanted is None or self._ground is None:
            return
        cancel = self._cancel = self._tasks.cancel()
        question, ground = self._wanted, self._ground
        order = searching.SearchOrder(
            ground.model,
            ground.profile,
            question.nodes,
            dict(zip(question.nodes, question.speeds, strict=True)),
            ground.links,
            {node: limit for node, limit in zip(question.nodes, question.limits, strict=True) if limit},
            question.aim.objective,
            question.aim.bound_s,
            question.micro_batch,
            self._nodes,
            question.pins,
        )
        self._tasks.start(
            partial(searching.search, order, partial(self._share, cancel), cancel),
            partial(self._found, cancel, question),
            partial(self._failed, cancel, question),
        )
        self.changed.emit()

    def _share(self, cancel: threading.Event, share: float) -> None:
        """Worker thread."""
        if not cancel.is_set():
            self._tasks.post_to(self, self._show_share, cancel, share)

    def _show_share(self, cancel: threading.Event, share: float) -> None:
        if cancel is self._cancel:
            self.progressed.emit(share)

    def _found(self, cancel: threading.Event, question: Question, choice: Choice) -> None:
        self._keep(cancel, question, Answer(choice))

    def _failed(self, cancel: threading.Event, question: Question, error: ShardboardError) -> None:
        if not isinstance(error, Cancelled):
            full = isinstance(error, DoesNotFitError)
            self._keep(cancel, question, Answer(None, error.message, error.hint, full))

    def _keep(self, cancel: threading.Event, question: Question, answer: Answer) -> None:
        if not isValid(self) or cancel is not self._cancel:
            return  # the page is gone, or another question was asked meanwhile
        self._cancel = None
        self._known[question] = answer
        while len(self._known) > KEPT:
            self._known.pop(next(iter(self._known)))
        self.changed.emit()


def _same(one: Ground | None, other: Ground | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.model is other.model and one.profile is other.profile and one.links == other.links
