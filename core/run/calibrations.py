"""Where calibrations are kept between sessions: one JSON file, written whole."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from core.paths import data_dir
from core.plan.form import NodeId, Sha256
from core.run.calibration import Calibration, factors_for

KEPT: Final = 2000
"""The newest ones; a few hundred bytes each."""
_log = logging.getLogger(__name__)


class CalibrationStore:
    """Any thread. A file that cannot be read counts as empty and is written anew; the log says so."""

    def __init__(self, path: Path | None = None) -> None:
        """``path``: None for the file in the data folder."""
        self._path = path if path is not None else data_dir() / "calibrations.json"
        self._lock = threading.Lock()

    def all(self) -> tuple[Calibration, ...]:
        """Newest last."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=tuple[Calibration, ...])
        except FileNotFoundError:
            return ()
        except (OSError, msgspec.DecodeError) as error:
            _log.warning("%s cannot be read and counts as empty: %s", self._path, error)
            return ()

    def factors(self, model: Sha256) -> dict[NodeId, float]:
        """By node, for one model."""
        return factors_for(model, self.all())

    def save(self, calibrations: Iterable[Calibration]) -> None:
        """Keep these and no others. OSError when they cannot be written."""
        part = self._path.with_name(f"{self._path.name}.{os.getpid()}.part")
        with self._lock:
            part.write_bytes(msgspec.json.format(msgspec.json.encode(tuple(calibrations)[-KEPT:])))
            part.replace(self._path)
