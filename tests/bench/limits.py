"""The physical limit: independent onnxruntime processes, one thread each, pinned, that talk to nobody meanwhile."""

from __future__ import annotations

import hashlib
import multiprocessing as mp
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import psutil

Feed = dict[str, npt.NDArray[np.generic]]

FOREIGN_CORES = 0.15
"""Cores used by processes of nobody here, above which a repeat is measured again."""
CORES_AT_ONCE = 0.9
"""Speed of a core while another works too, below which the host of a virtual machine has taken one of them away."""
MEMORY_AT_ONCE = 0.75
"""Of the most bytes a second, below which other machines on the same host take the way to memory."""
_HASHED = bytes(32 << 20)
_COPIED = 32 << 20
"""Bytes, more than caches hold."""


def session(path: str | Path, threads: int = 1) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def pin(core: int) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core % (os.cpu_count() or 1)})


def _loop(pipe: Connection, core: int, path: str, feed: Feed) -> None:
    pin(core)
    run = session(path).run
    run(None, feed), run(None, feed)
    pipe.send("ready")
    while (seconds := pipe.recv()) is not None:
        calls, start = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - start) < seconds or not calls:
            run(None, feed)
            calls += 1
        pipe.send(calls / elapsed)


def call_seconds(path: str | Path, feed: Feed, calls: int) -> list[float]:
    """Seconds of each of ``calls`` calls with one thread, after two that do not count."""
    run = session(path).run
    run(None, feed), run(None, feed)
    times = []
    for _ in range(calls):
        start = time.perf_counter()
        run(None, feed)
        times.append(time.perf_counter() - start)
    return times


class Limit:
    """One pinned process for each (model file, feed); they loop when told to."""

    def __init__(self, jobs: Sequence[tuple[str | Path, Feed]]) -> None:
        context = mp.get_context("spawn")
        self._pipes: list[Connection] = []
        self._processes: list[mp.process.BaseProcess] = []
        for core, (path, feed) in enumerate(jobs):
            ours, theirs = context.Pipe()
            process = context.Process(target=_loop, args=(theirs, core, str(path), feed), daemon=True)
            process.start()
            self._pipes.append(ours)
            self._processes.append(process)
        for pipe in self._pipes:
            pipe.recv()

    def rates(self, seconds: float) -> list[float]:
        """Calls per second of each process while all of them run."""
        for pipe in self._pipes:
            pipe.send(seconds)
        return [pipe.recv() for pipe in self._pipes]

    def close(self) -> None:
        for pipe in self._pipes:
            pipe.send(None)
        for process in self._processes:
            process.join(10)


def ratios(
    limit: Callable[[], float], ours: Callable[[], float], repeats: int
) -> dict[str, dict[str, float] | list[float]]:
    """limit, ours, limit, ours, ... limit; each ratio is ours over the mean of the limits on both sides of it.

    A repeat in which the rest of the machine was busy is measured again, at most as often again as asked for.
    """
    kept: list[tuple[float, float, float]] = []
    tries = 0
    before, noise_before = _watched(limit)
    while tries < 2 * repeats and sum(1 for row in kept if row[2] < FOREIGN_CORES) < repeats:
        tries += 1
        value, noise = _watched(ours)
        after, noise_after = _watched(limit)
        kept.append(((before + after) / 2, value, max(noise_before, noise, noise_after)))
        before, noise_before = after, noise_after
    kept = sorted(kept, key=lambda row: row[2])[:repeats]
    return {
        "limit_per_s": _summary([row[0] for row in kept]),
        "ours_per_s": _summary([row[1] for row in kept]),
        "ratio": _summary([row[1] / row[0] for row in kept]),
        "foreign_cores": [round(row[2], 2) for row in kept],
    }


def _watched(measure: Callable[[], float]) -> tuple[float, float]:
    """The measurement, and the cores that processes of nobody here used meanwhile."""
    start, machine, mine = time.perf_counter(), machine_seconds(), family_seconds()
    value = measure()
    elapsed = time.perf_counter() - start
    return value, max(0.0, (machine_seconds() - machine - (family_seconds() - mine)) / elapsed)


def foreign_cores(seconds: float) -> float:
    """Cores that processes of nobody here use for so long."""
    return _watched(lambda: time.sleep(seconds) or 0.0)[1]


def cores_at_once() -> float:
    """Speed of a core while two work, against one that works alone. In a thread's own time, so that it tells what other
    machines on the same host take, and nothing of this one; hashing needs no memory that they would share."""

    def hashed() -> None:
        hashlib.sha256(_HASHED).digest()

    (alone,), both = _seconds([hashed]), _seconds([hashed, hashed])
    return alone / max(both)


def memory_at_once(repeats: int = 3) -> float:
    """Bytes per second that each of two threads reads and writes elsewhere while the other does so too, in its own
    time."""
    places = [(np.zeros(_COPIED, np.uint8), np.ones(_COPIED, np.uint8)) for _ in range(2)]
    copies = [partial(np.copyto, target, source) for target, source in places]
    _seconds(copies)  # memory is given out when it is first written
    return _COPIED / min(max(_seconds(copies)) for _ in range(repeats))


def _seconds(works: Sequence[Callable[[], None]]) -> list[float]:
    """Of each, side by side, in its thread's own time."""
    taken = [0.0] * len(works)
    together = threading.Barrier(len(works))

    def timed(which: int) -> None:
        together.wait()
        begun = time.thread_time()
        works[which]()
        taken[which] = time.thread_time() - begun

    workers = [threading.Thread(target=timed, args=(which,)) for which in range(len(works))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return taken


def machine_seconds() -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0))


def family_seconds() -> float:
    me = psutil.Process()
    total = 0.0
    for process in [me, *me.children(recursive=True)]:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def _summary(values: Sequence[float]) -> dict[str, float]:
    return {
        "median": round(float(np.median(values)), 4),
        "min": round(float(min(values)), 4),
        "max": round(float(max(values)), 4),
    }


def machine() -> dict[str, str | int]:
    return {
        "cores": os.cpu_count() or 0,
        "python": sys.version.split()[0],
        "onnxruntime": ort.__version__,
        "system": sys.platform,
    }
