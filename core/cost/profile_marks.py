"""Marks of profiles that were begun: one that is still there when its program is gone was interrupted.

A mark is a small file beside the cached profiles, written when measuring begins and removed when it ends.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import psutil
from msgspec import Struct

from core.errors import Cancelled
from core.paths import cache_dir
from core.plan.form import Sha256

if TYPE_CHECKING:
    from core.model.graph import Model

STEP: Final = 0.1
"""Of the share that is done, between two writes."""
_log = logging.getLogger(__name__)


class ProfileMark(Struct, frozen=True):
    """How far the measuring of one model at one batch had come."""

    model: Sha256
    batch: int
    process: int
    """That began it."""
    when: float
    """Unix time at which it began."""
    share: float = 0.0
    """Done, 0 to 1."""


class Marker:
    """Of a measurement that goes on."""

    def __init__(self, model: Model, batch: int) -> None:
        self._path = _path(model, batch)
        self._mark = ProfileMark(model.sha256, batch, os.getpid(), time.time())
        self._write()

    def reached(self, share: float) -> None:
        """More is done by now."""
        if share >= self._mark.share + STEP:
            self._mark = msgspec.structs.replace(self._mark, share=share)
            self._write()

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)

    def _write(self) -> None:
        """A mark that cannot be written is missed by nobody but the next session."""
        try:
            self._path.write_bytes(msgspec.json.encode(self._mark))
        except OSError as error:
            _log.warning("%s cannot be written: %s", self._path, error)


@contextmanager
def marked(model: Model, batch: int) -> Iterator[Marker]:
    """Around a measurement. The mark stays behind only where it was cancelled, or the program ended."""
    marker = Marker(model, batch)
    try:
        yield marker
    except Cancelled:
        raise
    except BaseException:
        marker.remove()
        raise
    marker.remove()


def interrupted(model: Model, batch: int) -> ProfileMark | None:
    """Of an earlier measurement that never came to its end; None where there is none, or one goes on elsewhere."""
    try:
        mark = msgspec.json.decode(_path(model, batch).read_bytes(), type=ProfileMark)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        _log.warning("the mark of an interrupted profile cannot be read: %s", error)
        return None
    goes_on: bool = mark.process != os.getpid() and psutil.pid_exists(mark.process) and _is_older(mark)
    return None if goes_on else mark


def _is_older(mark: ProfileMark) -> bool:
    """Whether the process of that number began before the mark: a number is given to another process in time."""
    try:
        return bool(psutil.Process(mark.process).create_time() <= mark.when)
    except psutil.Error:
        return False


def _path(model: Model, batch: int) -> Path:
    folder = cache_dir() / "profiles"
    folder.mkdir(exist_ok=True)
    return folder / f"{model.sha256[:32]}-{batch}.begun"
