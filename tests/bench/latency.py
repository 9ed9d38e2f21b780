"""One item at a time through one agent against the same call of onnxruntime in this process; encryption is on.

python -m tests.bench.latency [--model digits-mlp] [--repeats 5]
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from core.model.library import resolve_model
from tests.bench.bed import deployed
from tests.bench.limits import session
from tests.bench.options import emit, options

CALLS = 500


def main() -> None:
    chosen = options(__doc__, model="digits-mlp", micro_batch=1)
    model, _ = resolve_model(chosen.model)
    assert model.path is not None
    feed = model.random_feed(1)
    run = session(model.path).run
    local: list[float] = []
    remote: list[float] = []
    with deployed(model, "single", 1, 1) as deployment:
        for _ in range(chosen.repeats):
            local += timed(lambda: run(None, feed))
            remote += timed(lambda: deployment.infer(feed))
    emit(
        "latency",
        chosen,
        limit="the same call of onnxruntime in this process",
        local_us=percentiles(local),
        remote_us=percentiles(remote),
        overhead_us=round(float(np.median(remote) - np.median(local)), 1),
    )


def timed(call: Callable[[], object]) -> list[float]:
    """Microseconds of each of CALLS calls, after a tenth as many that do not count."""
    times = []
    for i in range(CALLS + CALLS // 10):
        start = time.perf_counter()
        call()
        if i >= CALLS // 10:
            times.append((time.perf_counter() - start) * 1e6)
    return times


def percentiles(times: list[float]) -> dict[str, float]:
    return {f"p{p}": round(float(np.percentile(times, p)), 1) for p in (50, 99)}


if __name__ == "__main__":
    main()
