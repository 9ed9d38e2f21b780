"""Saving the results that the panel shows, by the same writers as a run's own output."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from core.run.sink import open_sink
from core.run.source import Batch
from gui.work.running import Result


def export_results(path: Path, items: Sequence[Result], labels: Sequence[str]) -> None:
    """Write items to a .npz or .csv file in the order given. Worker thread. Raises SinkError."""
    sink = open_sink(path, labels)
    try:
        for item in items:
            outputs = {name: np.asarray(array)[None] for name, array in item.outputs.items()}
            sink.write(outputs, Batch({}, 1, item.index, (item.name,) if item.name else ()))
        sink.close()
    finally:
        sink.abandon()
