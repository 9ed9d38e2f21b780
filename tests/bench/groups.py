"""One item through a group of nodes against the same item through one of them, both one thread a node."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from core.cluster.deployment import Deployment
from core.model.graph import Model
from tests.bench.bed import deployed
from tests.bench.latency import percentiles
from tests.bench.limits import Feed, Limit, ratios
from tests.bench.models import bench_model, bench_part
from tests.bench.options import emit
from tests.bench.timing import call_times

NODES = 2


def compare(name: str, strategy: str, chosen: argparse.Namespace, aims: dict[str, float]) -> None:
    """Deploy ``chosen.model`` whole on one node and under ``strategy`` on two; print one JSON object."""
    with tempfile.TemporaryDirectory() as folder:
        model = bench_model(chosen.model, Path(folder))
        feed = model.random_feed(1)
        with deployed(model, "single", 1, 1) as whole, deployed(model, strategy, NODES, 1) as group:
            check(model, feed, group)
            alone: list[float] = []
            together: list[float] = []
            figures = ratios(
                lambda: rate(whole, feed, chosen.seconds, alone),
                lambda: rate(group, feed, chosen.seconds, together),
                chosen.repeats,
            )
            shards = len(group.plan.shards)
        emit(
            name,
            chosen,
            limit="one agent of one thread with the whole model; the ratio is how many times faster the group is",
            aim=aims.get(chosen.model),
            items=1,
            alone_us=percentiles(alone),
            group_us=percentiles(together),
            shards=shards,
            processes=round(NODES * side_by_side([model.path] * NODES, model, feed, chosen.seconds), 3),
            without_messages=parts_alone(model, feed, chosen, Path(folder)),
            **figures,
        )


def check(model: Model, feed: Feed, deployment: Deployment) -> None:
    """The group's outputs are the whole model's, or the figures mean nothing."""
    outputs = deployment.infer(feed)
    for info, expected in zip(model.outputs, model.reference()(feed), strict=True):
        scale = float(np.max(np.abs(expected)))
        np.testing.assert_allclose(outputs[info.name], expected, rtol=0, atol=1e-3 * scale)


def rate(deployment: Deployment, feed: Feed, seconds: float, times: list[float]) -> float:
    """Items per second, one at a time, as the median call has it; the calls' microseconds are added to ``times``."""
    calls = call_times(lambda: deployment.infer(feed), seconds)
    times += calls
    return 1e6 / float(np.median(calls))


def parts_alone(model: Model, feed: Feed, chosen: argparse.Namespace, folder: Path) -> float | None:
    """How many times faster than the whole model its parts would be, each in a process of its own, side by side, if
    nothing had to travel. None where no part is known."""
    part = bench_part(chosen.model, NODES, folder)
    return None if part is None else round(side_by_side([part] * NODES, model, feed, chosen.seconds), 3)


def side_by_side(paths: Sequence[Path | None], model: Model, feed: Feed, seconds: float) -> float:
    """Rate of the slowest of several onnxruntime processes at once, in units of what one does alone with the whole
    model: below what their number lets hope where cores share memory or heat."""
    assert model.path is not None
    one = Limit([(model.path, feed)])
    several = Limit([(path, feed) for path in paths if path is not None])
    try:
        alone = one.rates(seconds)[0]
        return min(several.rates(seconds)) / alone
    finally:
        one.close()
        several.close()
