"""What this workstation itself costs a plan: its messages, and what its cores take from each other. Measured in the
background, within the panel's own process, so that the window's part of it is in the figures; then kept.

Both are measured while nothing else goes on: no job, no benchmark, nothing that somebody looks at.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from msgspec import Struct
from PySide6.QtCore import QObject, QTimer, Signal

from core.errors import Cancelled, ShardboardError
from core.plan.form import Sha256
from gui.tasks import Tasks
from gui.work import timing

if TYPE_CHECKING:
    from core.cluster.client import Cluster
    from core.cost.messages import MessageCosts
    from core.model.graph import Model

LOOK_MS: Final = 200
AGAIN_MS: Final = 60_000
"""After it was given up because other programs disturbed it."""
QUIET_LOOKS: Final = 4
"""Times in a row that nothing else goes on, before something is measured."""


class _Key(Struct, frozen=True):
    """What cores side by side depend on."""

    model: Sha256
    batch: int
    nodes: int


class MachineCosts(QObject):
    """GUI thread."""

    changed = Signal()
    """Other figures are known."""
    activity = Signal(str, float)
    """(what is measured, share done or -1); ("", -1) when it ends."""

    def __init__(self, tasks: Tasks, hold: Callable[[], bool], parent: QObject) -> None:
        """``hold`` says that something goes on that would disturb."""
        super().__init__(parent)
        self._tasks, self._hold = tasks, hold
        self._cluster: Cluster | None = None
        self.messages: MessageCosts | None = None
        """None: not measured yet; typical ones count."""
        self.problem = ""
        """Why messages were not measured, in words."""
        self._asks_messages = False
        self._model: Model | None = None
        self._key: _Key | None = None
        self._together: dict[_Key, float] = {}
        self._looking_up: set[_Key] = set()
        self._cancel: threading.Event | None = None
        self._at_work = 0
        """Workers that have not come to their end, also of what was given up."""
        self._quiet = 0
        self._again = QTimer(self)
        self._again.setSingleShot(True)
        self._again.setInterval(AGAIN_MS)
        self._again.timeout.connect(self._try_again)
        self._look = QTimer(self)
        self._look.setInterval(LOOK_MS)
        self._look.timeout.connect(self._go_on)

    # ------------------------------------------------------------ what is wanted and known

    def begin(self, cluster: Cluster) -> None:
        """From now on measure what is not known."""
        self._cluster = cluster
        self._asks_messages = True
        self._tasks.start(timing.kept_message_costs, self._kept)

    def _kept(self, costs: MessageCosts | None) -> None:
        self.take(costs)
        self._watch()

    def take(self, costs: MessageCosts | None) -> None:
        """They were measured, here or elsewhere."""
        if costs is not None:
            self._asks_messages, self.problem = False, ""
            if costs != self.messages:
                self.messages = costs
                self.changed.emit()

    def want(self, model: Model | None, batch: int, nodes: int) -> None:
        """What the cores take from each other while ``nodes`` agents of this machine run ``model``."""
        self._model = model
        self._key = _Key(model.sha256, batch, nodes) if model is not None else None
        key = self._key
        if model is None or key is None or key in self._together or key in self._looking_up:
            return
        self._looking_up.add(key)
        self._tasks.start(partial(timing.kept_together, model, batch, nodes), partial(self._looked_up, key))

    def _looked_up(self, key: _Key, speed: float | None) -> None:
        if speed is not None:
            self._note(key, speed)
        else:
            self._watch()

    def together(self) -> float:
        """Speed of each core of this machine while all compute, for what is wanted now; 1.0 until it is known."""
        return self._together.get(self._key, 1.0) if self._key is not None else 1.0

    @property
    def busy(self) -> bool:
        """Something is being measured."""
        return self._cancel is not None

    @property
    def settled(self) -> bool:
        """All that is wanted is known, or was given up."""
        return self._cluster is None or not (self._asks_messages or self._asks_together())

    def _asks_together(self) -> bool:
        return self._cluster is not None and self._key is not None and self._key not in self._together

    # ------------------------------------------------------------ measuring

    def pause(self) -> None:
        """Something comes first. What was being measured is begun again later."""
        self._quiet = 0
        if self._cancel is not None:
            self._cancel.set()
            self._end()
            self._watch()

    def give_up(self) -> None:
        """A person does not want to wait: typical figures count until they are measured from the Nodes page."""
        if self._asks_messages:
            self.problem = self.tr("Stopped. Typical figures count until nodes are measured again.")
        self._asks_messages = False
        if self._key is not None:
            self._together.setdefault(self._key, 1.0)
        self.pause()

    @property
    def idle(self) -> bool:
        """Any thread: nothing that was started here runs any more."""
        return self._at_work == 0

    def stop(self) -> None:
        """For good."""
        self._cluster = None
        self.pause()
        self._look.stop()
        self._again.stop()

    def _try_again(self) -> None:
        """The machine may be quiet by now."""
        self._asks_messages = self.messages is None
        self._watch()

    def _watch(self) -> None:
        if not self.settled:
            self._look.start()

    def _go_on(self) -> None:
        if self.settled and not self.busy:
            self._look.stop()
        elif self._hold():
            self.pause()
        elif not self.busy:
            self._quiet += 1
            if self._quiet >= QUIET_LOOKS:
                self._start()

    def _start(self) -> None:
        cluster, model, key = self._cluster, self._model, self._key
        if cluster is None:
            return
        cancel = self._cancel = threading.Event()
        self._at_work += 1
        self._tasks.way.take("measure")
        failed = partial(self._failed, cancel)
        if self._asks_messages:
            self._show(cancel, 0.0)
            self._tasks.start(
                partial(timing.measure_messages, cluster, partial(self._share, cancel), cancel),
                partial(self._measured, cancel),
                failed,
            )
        elif model is not None and key is not None:
            self.activity.emit(self.tr("Measuring {0} on several cores at once").format(model.name), -1.0)
            self._tasks.start(
                partial(timing.measure_together, cluster, model, key.batch, key.nodes, cancel),
                partial(self._measured_together, cancel, key),
                failed,
            )
        else:
            self._at_work -= 1
            self._end()

    def _share(self, cancel: threading.Event, share: float) -> None:
        """Worker thread."""
        self._tasks.post_to(self, self._show, cancel, share)

    def _show(self, cancel: threading.Event, share: float) -> None:
        if cancel is self._cancel:
            self.activity.emit(self.tr("Measuring what messages cost on this machine"), share)

    def _measured(self, cancel: threading.Event, costs: MessageCosts | None) -> None:
        self._at_work -= 1
        if cancel is self._cancel:
            self._end()
            self._asks_messages = False
            self.take(costs)

    def _measured_together(self, cancel: threading.Event, key: _Key, speed: float) -> None:
        self._at_work -= 1
        if cancel is self._cancel:
            self._end()
        self._note(key, speed)

    def _note(self, key: _Key, speed: float) -> None:
        self._together[key] = speed
        if key == self._key and speed != 1.0:
            self.changed.emit()

    def _failed(self, cancel: threading.Event, error: ShardboardError) -> None:
        self._at_work -= 1
        if cancel is not self._cancel:
            return
        self._end()
        if isinstance(error, Cancelled):  # somebody asked for nodes and links to be measured: later
            self._quiet = 0
        elif self._asks_messages:
            self._asks_messages, self.problem = False, str(error)
            self._again.start()
        elif self._key is not None:
            self._together.setdefault(self._key, 1.0)

    def _end(self) -> None:
        self._cancel = None
        self._tasks.way.give("measure")
        self.activity.emit("", -1.0)
