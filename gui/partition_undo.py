"""Undo for the Partition page: an edit is the state before and the state after."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Final

from PySide6.QtGui import QUndoCommand

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
