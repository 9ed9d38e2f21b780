"""Replicate on two nodes against two independent onnxruntime processes running the same file on the same inputs.

python -m tests.bench.replicate [--model resnet50] [--micro-batch 8] [--repeats 3] [--seconds 10]
"""

from __future__ import annotations

import math
from statistics import median

from core.model.library import resolve_model
from tests.bench.bed import deployed, micro_batches_per_second
from tests.bench.limits import Limit, call_seconds, ratios
from tests.bench.options import emit, options


def main() -> None:
    chosen = options(__doc__, model="resnet50", micro_batch=8)
    model, _ = resolve_model(chosen.model)
    assert model.path is not None
    feed = model.random_feed(chosen.micro_batch)
    call = median(call_seconds(model.path, feed, 5))
    count = max(8, 2 * math.ceil(chosen.seconds / call))
    limit = Limit([(model.path, feed)] * 2)
    try:
        with deployed(model, "replicate", 2, chosen.micro_batch) as deployment:
            micro_batches_per_second(deployment, feed, chosen.micro_batch, 8)
            figures = ratios(
                lambda: sum(limit.rates(chosen.seconds / 2)),
                lambda: micro_batches_per_second(deployment, feed, chosen.micro_batch, count),
                chosen.repeats,
            )
    finally:
        limit.close()
    emit("replicate", chosen, limit="two independent onnxruntime processes, pinned", count=count, **figures)


if __name__ == "__main__":
    main()
