"""Plans predicted by what their shards take, timed on this workstation in the background.

Sums over the layers of a model follow the mouse, but they only guess at what a border between shards costs and at how
long a slice of a layer takes. Once a plan has not changed for a moment its shards are timed, and what is known then is
kept. Nothing is timed while a job runs or something else is measured.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final

from PySide6.QtCore import QObject, QTimer, Signal
from shiboken6 import isValid

from core.cost.links import UNKNOWN, Links
from core.cost.types import Prediction, Profile
from core.errors import Cancelled, ShardboardError
from core.plan.form import NodeId, PlanRequest
from gui.homes import homes_of
from gui.outlines import Question
from gui.tasks import Tasks
from gui.work import timing
from gui.work.predicting import PlanOrder

if TYPE_CHECKING:
    from core.cluster.node import Node
    from core.model.graph import Model

DELAY_MS: Final = 400
"""Changes of a plan that follow one another faster are one."""
HELD_MS: Final = 300
KEPT: Final = 64


class Timings(QObject):
    """GUI thread. ``changed`` tells that more is known."""

    changed = Signal()

    def __init__(self, tasks: Tasks, hold: Callable[[bool], bool], parent: QObject) -> None:
        """``hold`` says that nothing can be timed now; it is told whether somebody looks at what is wanted."""
        super().__init__(parent)
        self._tasks, self._hold = tasks, hold
        self._model: Model | None = None
        self._profile: Profile | None = None
        self._nodes: tuple[Node, ...] = ()
        self._links = UNKNOWN
        self._wanted: dict[str, tuple[Question, bool]] = {}
        self._known: dict[Question, Prediction | None] = {}
        """None: its shards cannot be timed."""
        self._looked_up: set[Question] = set()
        """Of which nothing is kept from earlier times."""
        self._running: tuple[Question, threading.Event] | None = None
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.timeout.connect(self._start)

    def about(self, model: Model | None, profile: Profile | None, nodes: tuple[Node, ...], links: Links) -> None:
        """What plans are about from now on; another model, profile or network makes what is known worthless."""
        if model is not self._model or profile is not self._profile or links != self._links:
            self._known.clear()
            self._looked_up.clear()
            self._wanted.clear()
            self.pause()
        self._model, self._profile, self._nodes, self._links = model, profile, nodes, links

    def want(
        self, who: str, request: PlanRequest | None, speeds: Mapping[NodeId, float], *, urgent: bool = False
    ) -> None:
        """``who`` wants ``request`` and nothing else any more; None: nothing at all. ``urgent``: somebody looks at it,
        others wait for it."""
        before = self._wanted.pop(who, None)
        if request is not None and self._model is not None and self._profile is not None:
            question = self._question(request, speeds)
            self._wanted[who] = (question, urgent)
            if question not in self._known and (before is None or before[0] != question):
                self._soon.start(DELAY_MS)
        if self._running is not None and self._running[0] not in self._questions():
            self.pause()

    def known(self, request: PlanRequest, speeds: Mapping[NodeId, float]) -> Prediction | None:
        """Its prediction by the shards that were timed; None while that is not known."""
        return self._known.get(self._question(request, speeds))

    @property
    def busy(self) -> bool:
        """What somebody looks at is not known yet."""
        return any(urgent and question not in self._known for question, urgent in self._wanted.values())

    @property
    def running(self) -> bool:
        """Something is being timed."""
        return self._running is not None

    def pause(self) -> None:
        """End what is being timed; it is begun again when that is allowed."""
        if self._running is not None:
            self._running[1].set()
            self._running = None
            self._soon.start(DELAY_MS)

    def stop(self) -> None:
        """For good."""
        self._wanted.clear()
        self.pause()
        self._soon.stop()

    def _questions(self) -> Iterator[Question]:
        """What is looked at comes first."""
        yield from (question for question, urgent in self._wanted.values() if urgent)
        yield from (question for question, urgent in self._wanted.values() if not urgent)

    def _start(self) -> None:
        if self._running is not None:
            return
        question = next((one for one in self._questions() if one not in self._known), None)
        if question is None:
            return
        if self._hold(any(urgent and one == question for one, urgent in self._wanted.values())):
            self._soon.start(HELD_MS)
            known = self._known.keys() | self._looked_up
            question = next((one for one in self._questions() if one not in known), None)
            if question is not None:
                self._work_on(question, only_kept=True)
            return
        self._work_on(question, only_kept=False)

    def _work_on(self, question: Question, *, only_kept: bool) -> None:
        assert self._model is not None, "a question is about a model"
        assert self._profile is not None, "and its profile"
        cancel = threading.Event() if only_kept else self._tasks.cancel()
        self._running = question, cancel
        speeds = dict(question.speeds)
        order = PlanOrder(self._model, self._profile, question.request, speeds, self._nodes, self._links)
        self._tasks.start(
            partial(timing.timed_prediction, order, only_kept=only_kept, cancel=cancel),
            partial(self._found, question, cancel, only_kept),
            partial(self._failed, question, cancel),
        )

    def _found(self, question: Question, cancel: threading.Event, only_kept: bool, told: Prediction | None) -> None:
        if not isValid(self) or self._running is None or self._running[1] is not cancel:
            return  # the page is gone, or something else is wanted by now
        self._running = None
        if told is None and only_kept:
            self._looked_up.add(question)
            self._soon.start(HELD_MS)
            return
        self._known[question] = told
        self._looked_up.discard(question)
        wanted = set(self._questions())
        while len(self._known) > KEPT:
            self._known.pop(next(one for one in self._known if one not in wanted))
        self.changed.emit()
        self._start()

    def _failed(self, question: Question, cancel: threading.Event, error: ShardboardError) -> None:
        """A plan that makes no sense for the model cannot be timed; its problem is told elsewhere."""
        if not isinstance(error, Cancelled):
            self._found(question, cancel, False, None)

    def _question(self, request: PlanRequest, speeds: Mapping[NodeId, float]) -> Question:
        fast = tuple((node, speeds.get(node, 1.0)) for node in request.nodes)
        return Question(request, fast, homes_of(self._nodes, request.nodes))
