"""What ``run`` needs before anything starts: model, input, output and plan file, each refused in words if it is bad."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from core.commands.output import Progress
from core.commands.plan_files import SavedPlan, load_plan
from core.commands.planning import check_batch
from core.commands.wanted import Wanted, wanted_of
from core.errors import SinkError
from core.model.graph import Model
from core.model.library import LibraryEntry, resolve_model
from core.model.processing import Processing, apply_processing, default_processing, load_processing
from core.run.sink import Sink, check_writable, open_sink
from core.run.source import Source, is_pictures, open_source


@dataclass(frozen=True, slots=True)
class Work:
    model: Model
    """With its processing, where the input is pictures."""
    name: str
    source: Source
    sink: Sink | None
    plan: SavedPlan | None
    asked: Wanted | None
    """None: auto, or what the plan says."""


def open_model(text: str, progress: Progress) -> tuple[Model, LibraryEntry | None]:
    """A file or a model of the library; reference models are built on first use."""

    def building(share: float) -> None:
        progress.share(share, "building it")

    return resolve_model(text, building)


@contextmanager
def open_work(options: argparse.Namespace, progress: Progress) -> Iterator[Work]:
    """The sink is abandoned when what follows fails. Raises InputError in one of its kinds."""
    asked = wanted_of(options)
    if options.output is not None:
        _check_output(options.output)
    base, entry = open_model(options.model, progress)
    processing = _processing(options, base, entry)
    model = apply_processing(base, processing)
    check_batch(options, model)
    source = open_source(options.input, model)
    plan = load_plan(options.plan, model) if options.plan is not None else None
    sink = open_sink(options.output, processing.labels or (entry.labels if entry else ())) if options.output else None
    try:
        yield Work(model, base.name, source, sink, plan, asked)
    finally:
        if sink is not None:
            sink.abandon()  # does nothing once it was closed


def _check_output(path: Path) -> None:
    """At once: opening a large model takes a while. Raises SinkError."""
    if path.suffix.lower() not in {".npz", ".csv"}:
        raise SinkError(f"Results cannot be written as {path.name}.", hint="Choose a name that ends in .npz or .csv.")
    check_writable(path)


def _processing(options: argparse.Namespace, model: Model, entry: LibraryEntry | None) -> Processing:
    """Pictures need processing; arrays are taken as the model itself wants them, and answered as it answers.

    Outputs that are kept as arrays stay the model's own, unless a person chose otherwise for this model.
    """
    if not is_pictures(options.input):
        return Processing()
    chosen = load_processing(model.sha256)
    if chosen is not None:
        return chosen
    guess = entry.processing if entry is not None and entry.processing.inputs else default_processing(model)
    keeps_arrays = options.output is not None and options.output.suffix.lower() == ".npz"
    return Processing(inputs=guess.inputs) if keeps_arrays else guess
