"""What cores take from each other: a model runs slower here while other processes run it on the other cores, since they
share caches and the way to memory. Measured once for each model and micro-batch, and kept.
"""

from __future__ import annotations

import hashlib
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy.typing as npt
import onnxruntime as ort
import psutil

from core.cost.clock import compute_clock
from core.errors import Cancelled
from core.model.graph import Model
from core.model.reader import open_model
from core.paths import cache_dir

REVISION: Final = 3
"""Raised when it is measured otherwise."""
MOST_OTHERS: Final = 3
"""Processes beside this one; what more would take is worked out from them."""
FEWEST_ROUNDS, MOST_ROUNDS = 3, 9
"""Alone and side by side in turns: a host gives a virtual machine other cores from one second to the next."""
ROUNDS_SECONDS: Final = 3.0
"""No more rounds begin after them, but for the fewest."""
SECONDS: Final = 0.15
"""Of runs alone, and of runs side by side, in a round, beyond the fewest."""
FEWEST_RUNS, MOST_RUNS = 2, 200
LEAST: Final = 0.2
"""A core is never taken to be slower than this because of the others."""
_READY_SECONDS: Final = 60.0
_MEMORY_SHARE: Final = 0.5
"""Of what is free, that the sessions may take."""
_LOOP: Final = "from core.cost.side_by_side import loop; loop()"


def speed_side_by_side(
    model: Model,
    batch: int,
    nodes: int,
    cancel: threading.Event | None = None,
    progress: Callable[[float], None] | None = None,
) -> float:
    """Speed of each core of this machine while all of them run ``model`` with ``batch`` items, against one alone; at
    most 1.0. ``nodes`` are to compute here at a time: no more are tried. ``progress`` is told which share is done.

    1.0 where it cannot be measured: a model without a file, no memory, no process can be started. Raises Cancelled.
    """
    others = _others(model, nodes)
    if others < 1:
        return 1.0
    path = _kept_at(model, batch, others)
    kept = _read(path)
    if kept is None:
        if (others + 1) * 2 * _weight_bytes(model) > _MEMORY_SHARE * _free():
            return 1.0
        try:
            kept = _measured(model, batch, others, cancel, progress or (lambda _share: None))
        except (OSError, subprocess.SubprocessError, psutil.Error, RuntimeError):
            return 1.0
        _save(path, kept)
    return _of_all(kept, others)


def kept_side_by_side(model: Model, batch: int, nodes: int) -> float | None:
    """The same as far as it was measured before; None: it was not."""
    others = _others(model, nodes)
    if others < 1:
        return 1.0
    kept = _read(_kept_at(model, batch, others))
    return _of_all(kept, others) if kept is not None else None


def _others(model: Model, nodes: int) -> int:
    """Processes to run beside this one; 0: there is nothing to measure."""
    if model.path is None or getattr(sys, "frozen", False):
        return 0
    return max(0, min(_cores(), nodes, MOST_OTHERS + 1) - 1)


def _of_all(kept: float, others: int) -> float:
    """While all cores compute, not only those that were tried."""
    return max(LEAST, 1.0 - (1.0 - kept) * (_cores() - 1) / others)


def _cores() -> int:
    return os.cpu_count() or 1


def _measured(
    model: Model, batch: int, others: int, cancel: threading.Event | None, progress: Callable[[float], None]
) -> float:
    assert model.path is not None
    feed = open_model(model.path).random_feed(batch)  # the file is without pre- and postprocessing
    session = _session(str(model.path))
    session.run(None, feed)
    processes: list[subprocess.Popen[str]] = []
    alone: list[float] = []
    beside: list[float] = []
    try:
        processes.extend(_start(str(model.path), batch) for _ in range(others))
        for process in processes:
            assert process.stdout is not None
            if not process.stdout.readline():
                raise RuntimeError("the other process ended")
        others_at_work = [psutil.Process(process.pid) for process in processes]
        end = time.perf_counter() + ROUNDS_SECONDS

        def told() -> None:
            done, left = len(alone) + len(beside), max(0.0, end - time.perf_counter())
            progress(min(done / (2 * FEWEST_ROUNDS), max(done / (2 * MOST_ROUNDS), 1 - left / ROUNDS_SECONDS)))

        while len(beside) < FEWEST_ROUNDS or (time.perf_counter() < end and len(beside) < MOST_ROUNDS):
            for other in others_at_work:
                other.suspend()
            alone.append(_seconds(session, feed, cancel))
            told()
            for other in others_at_work:
                other.resume()
            beside.append(_seconds(session, feed, cancel))
            told()
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    return min(1.0, min(alone) / min(beside))  # whatever else disturbs a round makes it longer


def _start(path: str, batch: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _LOOP, path, str(batch)]
    root = str(Path(__file__).resolve().parents[2])
    paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    )


def loop() -> None:
    """Another process: runs the model until it is killed, or whoever started it is gone."""
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    path, batch = sys.argv[1], int(sys.argv[2])
    feed, session = open_model(Path(path)).random_feed(batch), _session(path)
    session.run(None, feed)
    session.run(None, feed)
    print("ready", flush=True)
    while True:
        session.run(None, feed)


def _session(path: str) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _seconds(
    session: ort.InferenceSession, feed: Mapping[str, npt.NDArray[Any]], cancel: threading.Event | None
) -> float:
    """Median of one run, after one that is not counted."""
    session.run(None, feed)
    clock = compute_clock(1)
    taken: list[float] = []
    end = time.perf_counter() + SECONDS
    while len(taken) < FEWEST_RUNS or (time.perf_counter() < end and len(taken) < MOST_RUNS):
        if cancel is not None and cancel.is_set():
            raise Cancelled("Measuring the model was stopped.")
        begun = clock()
        session.run(None, feed)
        taken.append(clock() - begun)
    return statistics.median(taken)


def _weight_bytes(model: Model) -> int:
    values = model.ir.graph.initializers.values()
    return sum(value.const_value.nbytes for value in values if value.const_value is not None)


def _free() -> int:
    return int(psutil.virtual_memory().available)


def _kept_at(model: Model, batch: int, others: int) -> Path:
    words = repr((REVISION, model.sha256, batch, others, os.cpu_count(), ort.__version__))
    folder = cache_dir() / "side-by-side"
    folder.mkdir(exist_ok=True)
    return folder / f"{hashlib.sha256(words.encode()).hexdigest()}.json"


def _read(path: Path) -> float | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=float)
    except (OSError, msgspec.DecodeError):
        return None  # not measured yet, or damaged


def _save(path: Path, speed: float) -> None:
    partial = path.with_suffix(f".{os.getpid()}.{threading.get_ident()}")
    partial.write_bytes(msgspec.json.encode(speed))
    partial.replace(path)
