"""Plans that take a moment to work out (tensor, spatial, nestings): asked for by the panel, worked out by a worker.

Several places ask at once, each for the newest thing it wants (``want``). What nobody wants any more is not begun, or
is given up where it is under way; what was found is kept for a while, so that going back costs nothing. What nobody
looks at is not begun while a hand drags something: it would be in the way of every step.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from math import ceil
from typing import TYPE_CHECKING, Final

from msgspec import Struct
from PySide6.QtCore import QObject, QTimer, Signal

from core.cost.links import UNKNOWN, Links
from core.cost.types import Prediction, Profile
from core.errors import ShardboardError
from core.plan.division import Division
from core.plan.form import NodeId, PlanRequest
from gui.homes import Home, homes_of
from gui.tasks import Tasks
from gui.work import predicting

if TYPE_CHECKING:
    from core.cluster.node import Node
    from core.model.graph import Model

KEPT: Final = 24
"""Results; one is some hundred kilobytes for a large model."""
AT_ONCE: Final = 2
"""One that is wanted, beside one that nobody wants any more and that has to run to its end."""


class Question(Struct, frozen=True):
    """What an outline depends on, beside the model, its profile and the links."""

    request: PlanRequest
    speeds: tuple[tuple[NodeId, float], ...]
    homes: tuple[Home, ...]


class Worked(Struct, frozen=True, eq=False):
    """What became of a question: a division and what it would reach, or why the model cannot be divided so."""

    division: Division | None = None
    prediction: Prediction | None = None
    notes: tuple[str, ...] = ()
    problem: str = ""


Held = tuple["Model", Profile, Links]
"""What a worker was given."""


class Outlines(QObject):
    """GUI thread."""

    changed = Signal()

    def __init__(self, tasks: Tasks, parent: QObject) -> None:
        super().__init__(parent)
        self._tasks = tasks
        self._model: Model | None = None
        self._profile: Profile | None = None
        self._nodes: tuple[Node, ...] = ()
        self._links = UNKNOWN
        self._wanted: dict[str, Question] = {}
        self._patient: set[str] = set()
        """Of those who want something, the ones that give way to the hand."""
        self._found: dict[Question, Worked] = {}
        self._running: set[Question] = set()
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.timeout.connect(self._begin)

    def about(
        self, model: Model | None, profile: Profile | None, nodes: tuple[Node, ...], links: Links = UNKNOWN
    ) -> None:
        """What questions are about from now on; another model, profile or network makes what is known worthless."""
        if model is not self._model or profile is not self._profile or links != self._links:
            self._found.clear()
            self._wanted.clear()
        self._model, self._profile, self._nodes, self._links = model, profile, nodes, links

    def want(
        self, who: str, request: PlanRequest | None, speeds: Mapping[NodeId, float], *, urgent: bool = True
    ) -> Worked | None:
        """``who`` wants ``request`` and nothing else any more (None: nothing at all). What is known of it by now; where
        it is not ``urgent``, it is not begun before the hand rests."""
        (self._patient.discard if urgent else self._patient.add)(who)
        if request is None or self._model is None or self._profile is None:
            self._wanted.pop(who, None)
            return None
        question = self._question(request, speeds)
        self._wanted.pop(who, None)
        self._wanted[who] = question  # what is asked first in a round of questions is begun first
        self._begin()
        return self._found.get(question)

    def known(self, request: PlanRequest, speeds: Mapping[NodeId, float]) -> Worked | None:
        """What is known of ``request``; nothing is begun."""
        return self._found.get(self._question(request, speeds))

    @property
    def busy(self) -> bool:
        """Whether anything that is wanted is not known yet."""
        return any(question not in self._found for question in self._wanted.values())

    def _begin(self) -> None:
        stale = self._running - set(self._wanted.values())
        for who, question in self._wanted.items():
            free = len(self._running) < AT_ONCE and len(self._running - stale) < 1
            if not free or question in self._found or question in self._running:
                continue
            if who in self._patient and (seconds := self._tasks.way.hand_rests_in) > 0:
                self._rest.start(ceil(1e3 * seconds))
            else:
                self._start(question)

    def _start(self, question: Question) -> None:
        assert self._model is not None, "a question is about a model"
        assert self._profile is not None, "and its profile"
        self._running.add(question)
        held = (self._model, self._profile, self._links)
        order = predicting.PlanOrder(*held[:2], question.request, dict(question.speeds), self._nodes, self._links)
        self._tasks.start(
            partial(predicting.outline, order),
            partial(self._worked, question, held),
            partial(self._refused, question, held),
        )

    def _worked(self, question: Question, held: Held, found: predicting.Outlined) -> None:
        self._keep(question, held, Worked(found.division, found.prediction, found.notes))

    def _refused(self, question: Question, held: Held, error: ShardboardError) -> None:
        self._keep(question, held, Worked(problem=str(error)))

    def _keep(self, question: Question, held: Held, worked: Worked) -> None:
        self._running.discard(question)
        if held[0] is self._model and held[1] is self._profile and held[2] == self._links:
            self._found[question] = worked
            while len(self._found) > KEPT:
                self._found.pop(next(key for key in self._found if key not in self._wanted.values()))
            self.changed.emit()
        self._begin()

    def _question(self, request: PlanRequest, speeds: Mapping[NodeId, float]) -> Question:
        fast = tuple((node, speeds.get(node, 1.0)) for node in request.nodes)
        return Question(request, fast, homes_of(self._nodes, request.nodes))
