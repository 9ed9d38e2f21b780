"""Runs through a deployment. Worker threads."""
# ruff: noqa: PLC0415 - onnx and onnxruntime are imported by the worker: the window is there a second earlier

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from msgspec import Struct, structs

from core.plan.form import NodeId
from core.run.report import RunProgress, RunReport, as_predicted
from gui.work.recalibrating import Ran
from gui.work.recalibrating import predict as predict_ran

if TYPE_CHECKING:
    from core.cluster.deployment import Deployment
    from core.cost.types import Prediction
    from core.model.graph import Model
    from core.model.library import LibraryEntry
    from core.plan.verify import Verification

PROGRESS_SECONDS: Final = 0.2


class RunOrder(NamedTuple):
    spec: str
    repeat: int
    in_flight: int | None
    sink: str
    seconds: float | None
    verification: Verification | None
    prediction: Prediction | None
    names: Mapping[NodeId, str]
    ran: Ran | None = None
    """What the run is predicted with where other numbers of micro-batches are under way than in ``prediction``."""


class Result(Struct, frozen=True, eq=False):
    """What one item gave."""

    index: int
    """Number of the item within the run."""
    outputs: dict[str, Any]
    """This item's part of each output."""
    picture: Any
    """uint8 (height, width) or (height, width, channels) where the item is a picture, else None."""
    name: str = ""
    """What people call the item, such as its file's name."""


class RunSteps(NamedTuple):
    progress: Callable[[RunProgress], None]
    results: Callable[[list[Result]], None]


def run(
    deployment: Deployment,
    model: Model,
    entry: LibraryEntry | None,
    order: RunOrder,
    steps: RunSteps,
    drain: threading.Event,
    cancel: threading.Event,
) -> RunReport:
    """Run inputs through a deployment; ``drain`` ends it early with a report, ``cancel`` drops it with Cancelled."""
    from core.run.runner import run_job
    from core.run.sink import CallbackSink, TeeSink, open_sink
    from core.run.source import open_source
    from gui.run_feed import PatientSource, ResultFeed

    source = PatientSource(open_source(order.spec, model), order.repeat, order.seconds, drain)
    feed = ResultFeed(steps.results)
    shown = CallbackSink(feed.take)
    labels = entry.labels if entry is not None else ()
    sink = TeeSink(shown, open_sink(order.sink, labels)) if order.sink else shown
    progress = _seldom(steps.progress)
    report = run_job(deployment, source, sink, in_flight=order.in_flight, progress=progress, cancel=cancel)
    feed.flush()
    verification, prediction = order.verification, _of_run(order)
    return structs.replace(
        report,
        input=order.spec,
        verified=verification.passed if verification else None,
        max_abs_error=verification.max_abs_error if verification else None,
        predicted=as_predicted(prediction, order.names) if prediction else None,
        efficiency=order.prediction.efficiency_at(report.throughput) if order.prediction else None,
    )


def _seldom(progress: Callable[[RunProgress], None]) -> Callable[[RunProgress], None]:
    """What the window does with each is taken from the run."""
    told_at = 0.0

    def tell(news: RunProgress) -> None:
        nonlocal told_at
        now = time.monotonic()
        if now - told_at >= PROGRESS_SECONDS:
            told_at = now
            progress(news)

    return tell


def _of_run(order: RunOrder) -> Prediction | None:
    """With as many micro-batches under way as the run has."""
    prediction = order.prediction
    if order.ran is None or prediction is None or prediction.in_flight == order.ran.in_flight:
        return prediction
    return predict_ran(order.ran)


def save_run(report: RunReport) -> int:
    from core.run import history

    return history.save_run(report)
