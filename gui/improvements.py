"""The best single change of the plan on the screen, worked out by a worker.

What is asked anew cancels what was asked before; what a cancelled worker still finds is dropped.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from msgspec import Struct
from PySide6.QtCore import QObject, QTimer, Signal
from shiboken6 import isValid

from core.cost.links import Links
from core.cost.types import Prediction, Profile
from core.errors import Cancelled, ShardboardError
from core.plan.form import NodeId, PlanRequest
from gui.aims import Aim
from gui.bridge import Bridge
from gui.candidates import Answer
from gui.partition_plans import PartitionPlans
from gui.partition_state import PartitionState
from gui.tasks import Tasks
from gui.work import searching

if TYPE_CHECKING:
    from core.cluster.node import Node
    from core.model.graph import Model
    from core.plan.auto import Candidate
    from core.plan.improving import Change

DELAY_MS: Final = 300
"""Changes of a plan that follow one another faster are one."""
HELD_MS: Final = 500


class Asked(Struct, frozen=True, eq=False):
    """A plan that is to be improved, and what its predictions rest on."""

    request: PlanRequest
    prediction: Prediction
    model: Model
    profile: Profile
    links: Links
    nodes: tuple[NodeId, ...]
    """That may take part."""
    speeds: tuple[float, ...]
    aim: Aim
    known: tuple[Node, ...]
    """As the cluster knows them."""
    others: tuple[Candidate, ...] = ()
    """Plans that were weighed already."""

    def like(self, other: Asked | None) -> bool:
        """Whether the answer is the same."""
        return (
            other is not None
            and self.model is other.model
            and self.profile is other.profile
            and self.others is other.others
            and (self.request, self.links, self.nodes, self.speeds, self.aim, self.prediction)
            == (other.request, other.links, other.nodes, other.speeds, other.aim, other.prediction)
            and [node.info for node in self.known] == [node.info for node in other.known]
        )


def about(
    bridge: Bridge, plans: PartitionPlans, state: PartitionState, aim: Aim, weighed: Answer | None
) -> Asked | None:
    """What to ask of the plan that ``state`` shows; None while it, or what its predictions rest on, is not known.

    ``weighed``: the answer of the search for the best plan, if there is one.
    """
    request, prediction = plans.asked.get(state.strategy), plans.predictions.get(state.strategy)
    profile, usable = plans.profile(), plans.usable()
    if request is None or prediction is None or profile is None or bridge.model is None:
        return None
    if not set(request.nodes) <= set(usable):
        return None
    allowed = state.allowed(usable)
    nodes = tuple(node for node in usable if node in request.nodes or node in allowed)
    return Asked(
        request=request,
        prediction=prediction,
        model=bridge.model,
        profile=profile,
        links=bridge.links,
        nodes=nodes,
        speeds=tuple(bridge.speed_of(node) for node in nodes),
        aim=aim,
        known=tuple(bridge.nodes),
        others=weighed.choice.candidates if weighed is not None and weighed.choice is not None else (),
    )


class Improvements(QObject):
    """GUI thread. ``changed`` tells that other changes are known, or none any more."""

    changed = Signal()

    def __init__(self, tasks: Tasks, hold: Callable[[], bool], parent: QObject) -> None:
        """``hold`` says that something is wanted sooner."""
        super().__init__(parent)
        self._tasks, self._hold = tasks, hold
        self._asked: Asked | None = None
        self._cancel: threading.Event | None = None
        self.found: tuple[Change, ...] | None = None
        """The best change, and another strategy where that brings more; None while that is not known."""
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.timeout.connect(self._start)

    @property
    def busy(self) -> bool:
        """It is being worked out, or will be soon."""
        return self._cancel is not None or self._soon.isActive()

    def ask(self, asked: Asked | None) -> None:
        """About this plan and no other any more; None: about nothing."""
        if asked is self._asked or (asked is not None and asked.like(self._asked)):
            return
        before, self._asked = self._asked, asked
        if self._cancel is not None:
            self._cancel.set()
            self._cancel = None
        self._soon.stop()
        if asked is not None:
            self._soon.start(DELAY_MS)
        if self.found is not None and not _same_plan(before, asked):
            self.found = None
            self.changed.emit()

    def _start(self) -> None:
        if self._asked is None:
            return
        if self._hold():
            self._soon.start(HELD_MS)
            return
        cancel = self._cancel = self._tasks.cancel()
        self._tasks.start(
            partial(searching.improve, self._asked, cancel), partial(self._found, cancel), partial(self._failed, cancel)
        )

    def _found(self, cancel: threading.Event, changes: tuple[Change, ...]) -> None:
        if isValid(self) and cancel is self._cancel:  # else the page is gone, or asks about another plan
            self._cancel = None
            self.found = changes
            self.changed.emit()

    def _failed(self, cancel: threading.Event, error: ShardboardError) -> None:
        """A plan that makes no sense for the model has no best change; its problem is told elsewhere."""
        if not isinstance(error, Cancelled):
            self._found(cancel, ())


def _same_plan(before: Asked | None, asked: Asked | None) -> bool:
    """What was found of it is still worth showing until more is known."""
    if before is None or asked is None:
        return before is asked
    return (before.model, before.request, before.prediction) == (asked.model, asked.request, asked.prediction)
