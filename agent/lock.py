"""One agent for one state folder: two with the same identity would look like one node that is in two places."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from core.errors import InputError


class StateLock:
    """Held until closed, or until the process ends in whatever way. Raises InputError when another agent holds it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _lock(self._descriptor)
        except OSError as error:
            os.close(self._descriptor)
            raise InputError(
                f"Another agent is running with its state in {folder}.", hint="Give this one its own --state-dir."
            ) from error

    def close(self) -> None:
        os.close(self._descriptor)


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
