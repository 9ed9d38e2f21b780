"""The comparison of all strategies, as the panel knows it: what goes on, and what was found so far."""

from __future__ import annotations

import statistics
import threading
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, Final

from msgspec import Struct
from PySide6.QtCore import QObject, Signal

from core.errors import Cancelled, ShardboardError
from core.plan.form import PlanRequest
from gui.bridge_nodes import Phase
from gui.work import comparing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core.commands.comparison import BenchReport, BenchRow, Refusal
    from gui.bridge import Bridge

ALIKE: Final = 0.03
"""Throughputs nearer to each other than this have no order."""


class Line(Struct, frozen=True, eq=False):
    """One strategy: what became of it, or why it could not be run."""

    strategy: str
    row: BenchRow | None = None
    request: PlanRequest | None = None
    why: str = ""


class Bench(QObject):
    """GUI thread. ``changed`` tells that there is more to see; ``progressed``, how far it is."""

    changed = Signal()
    progressed = Signal(str, float)
    """(strategy, share done of all)."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__(bridge)
        self._bridge = bridge
        self._cancel: threading.Event | None = None
        self.lines: tuple[Line, ...] = ()
        self.notes: tuple[str, ...] = ()
        self.model_name, self.micro_batch, self.items = "", 0, 0
        self.problem = ""
        """Why it ended early, in words; "" when it did not."""

    @property
    def running(self) -> bool:
        return self._cancel is not None

    def obstacle(self) -> str:
        """Why it cannot be started now, in words; "" when it can."""
        bridge = self._bridge
        if bridge.model is None or bridge.cluster is None:
            return self.tr("Open a model first.")
        if not bridge.ready_nodes():
            return self.tr("No node is ready.")
        if bridge.phase not in {Phase.IDLE, Phase.DEPLOYED}:
            return self.tr("Something else is going on; wait until it is done.")
        return ""

    def start(self, seconds: float) -> None:
        """Release what is deployed, then run every strategy on all ready nodes for about ``seconds`` each."""
        bridge = self._bridge
        if self.running or self.obstacle() or bridge.model is None or bridge.cluster is None:
            return
        nodes = bridge.ready_nodes()
        cancel = self._cancel = threading.Event()
        batch = bridge.micro_batch() or 1
        self.lines, self.notes, self.problem = (), (), ""
        self.model_name, self.micro_batch, self.items = bridge.model.name, batch, 0
        speeds = {node.id: bridge.speed_of(node.id) for node in nodes}
        profile = bridge.profile if bridge.profile is not None and bridge.profile.batch == batch else None
        order = comparing.CompareOrder(bridge.model, batch, profile, nodes, speeds, bridge.links, seconds)
        post = bridge.tasks.post
        steps = comparing.CompareSteps(
            begins=lambda text: post(partial(self._begins, cancel, text)),
            share=lambda done: post(partial(self._share, cancel, done)),
            ran=lambda row, request: post(partial(self._add, cancel, Line(row.strategy, row, request))),
            refused=lambda refusal: post(partial(self._refused, cancel, refusal)),
        )
        self._text = ""
        bridge._set_phase(Phase.COMPARING)
        bridge.tasks.start(
            partial(comparing.compare, bridge.cluster, order, bridge.give_up_deployment(), steps, cancel),
            self._done,
            self._failed,
        )
        self.changed.emit()

    def cancel(self) -> None:
        """Ends soon; what was measured so far stays."""
        if self._cancel is not None:
            self._cancel.set()

    # ------------------------------------------------------------ what comes

    def _begins(self, cancel: threading.Event, text: str) -> None:
        if cancel is self._cancel:
            self._text = text

    def _share(self, cancel: threading.Event, done: float) -> None:
        if cancel is self._cancel:
            words = self.tr("Comparing strategies: {0}").format(self._text)
            self._bridge._activity("bench", words, done)
            self.progressed.emit(self._text, done)

    def _add(self, cancel: threading.Event, line: Line) -> None:
        if cancel is self._cancel:
            self.lines = (*self.lines, line)
            self.changed.emit()

    def _refused(self, cancel: threading.Event, refusal: Refusal) -> None:
        self._add(cancel, Line(refusal.strategy, why=refusal.why))

    def _done(self, report: BenchReport) -> None:
        self.notes, self.items = report.notes, report.items
        self._end()

    def _failed(self, error: ShardboardError) -> None:
        self.problem = self.tr("Stopped.") if isinstance(error, Cancelled) else str(error)
        self._end()

    def _end(self) -> None:
        self._cancel = None
        self._bridge._activity("bench")
        self._bridge._set_phase(Phase.IDLE)
        self.changed.emit()


def fastest(lines: Sequence[Line]) -> str:
    """The strategy that was fastest, "" while fewer than two were measured."""
    rows = [line.row for line in lines if line.row is not None]
    return max(rows, key=lambda row: row.throughput).strategy if len(rows) > 1 else ""


def median_error(lines: Sequence[Line]) -> float | None:
    """Of predicted throughput, without its sign."""
    errors = [abs(line.row.error) for line in lines if line.row is not None]
    return statistics.median(errors) if errors else None


def right_pairs(lines: Sequence[Line]) -> tuple[int, int]:
    """(pairs of strategies whose order was predicted, pairs that differ enough to have one)."""
    rows = [line.row for line in lines if line.row is not None]
    right = whole = 0
    for one, other in combinations(rows, 2):
        if abs(one.throughput / other.throughput - 1) < ALIKE:
            continue
        whole += 1
        foretold = one.predicted_throughput > other.predicted_throughput
        right += foretold == (one.throughput > other.throughput)
    return right, whole
