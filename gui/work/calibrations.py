"""What runs showed of the nodes' speeds, on disk. Worker threads."""
# ruff: noqa: PLC0415 - onnx and onnxruntime are imported by the worker: the window is there a second earlier

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from core.run.calibration import Calibration


def load_calibrations() -> tuple[Calibration, ...]:
    from core.run.calibrations import CalibrationStore

    return CalibrationStore().all()


def save_calibrations(calibrations: Sequence[Calibration]) -> None:
    from core.run.calibrations import CalibrationStore

    CalibrationStore().save(calibrations)
