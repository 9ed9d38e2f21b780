"""What is chosen on the Partition page, and undo for it: an edit is the state before and the state after."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Final

from PySide6.QtCore import QObject, Signal
from PySide6.QtGui import QUndoCommand, QUndoStack

from core.plan.form import NodeId
from gui.partition_state import PartitionState

MERGE_SECONDS: Final = 1.0
"""Steps of one cut by key that follow each other faster than this are one step of undo."""


class Edit(QUndoCommand):
    """One change of the state."""

    def __init__(
        self,
        apply: Callable[[PartitionState], None],
        before: PartitionState,
        after: PartitionState,
        text: str,
        key: int,
    ) -> None:
        super().__init__(text)
        self._apply, self._before, self._after, self._key = apply, before, after, key
        self._when = time.monotonic()

    def id(self) -> int:
        return self._key

    def redo(self) -> None:
        self._go_to(self._after)

    def undo(self) -> None:
        self._go_to(self._before)

    def _go_to(self, state: PartitionState) -> None:
        """What goes wrong is told as it is for a slot: an exception that passes through Qt here ends the process."""
        try:
            self._apply(state)
        except Exception:  # noqa: BLE001 - told by the hook, as everything that goes wrong in a slot
            sys.excepthook(*sys.exc_info())

    def mergeWith(self, other: QUndoCommand) -> bool:
        if not isinstance(other, Edit) or self._key < 0 or other._when - self._when > MERGE_SECONDS:
            return False
        self._after, self._when = other._after, other._when
        return True


class Choices(QObject):
    """The state of the page, which only edits change. GUI thread."""

    edited = Signal()
    """A person goes on by hand; the state is still the one before."""
    changed = Signal()
    """Another state counts: by an edit, an undo or a redo."""

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self.state = PartitionState()
        self.stack = QUndoStack(self)

    def edit(self, after: PartitionState, text: str, key: int = -1) -> None:
        """``text``: what the edit is called; edits of one ``key`` (not −1) that follow fast are one step of undo."""
        if after != self.state:
            self.edited.emit()
            self.stack.push(Edit(self._take, self.state, after, text, key))

    def see(self, nodes: Sequence[NodeId]) -> None:
        """New nodes join; that is no edit."""
        self.state = self.state.seen(nodes)

    def begin_anew(self, micro_batch: int) -> None:
        """With another model, of which nothing can be undone yet."""
        self.stack.clear()
        self.state = self.state.for_another_model(micro_batch)

    def _take(self, state: PartitionState) -> None:
        """Nodes seen meanwhile stay known."""
        self.state = state.seen(self.state.order)
        self.changed.emit()
