"""Plan files as the command line takes and gives them; ``core.plan`` reads, checks and writes them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from core.cluster.node import Node
from core.commands.planning import Choice
from core.commands.stale import MEASURE_AGAIN
from core.errors import SinkError
from core.model.graph import Model
from core.plan.form import NodeId, PlanRequest
from core.plan.plan_disk import read_plan_file, write_plan_file
from core.plan.plan_file import PlanFile, plan_file_of
from core.plan.plan_fit import fit_model, fit_to
from core.run.sink import check_writable

_OTHER_KINDS: Final = {".onnx", ".npz", ".npy", ".csv"}
DIFFERENT: Final = 0.1
"""A prediction that differs by more from the one that was saved is worth a word."""


class SavedPlan(Struct, frozen=True):
    """A plan file that is one for the model at hand; which nodes it runs on is settled when they are known."""

    path: Path
    file: PlanFile


def save_plan(path: Path, model: Model, choice: Choice, names: Mapping[NodeId, str]) -> None:
    """Raises SinkError when the file cannot be written."""
    request = choice.compiled.plan.request
    write_plan_file(path, plan_file_of(model, request, names, choice.prediction, time.time()))


def check_save(path: Path) -> None:
    """Before anything starts. Raises SinkError where a plan cannot be saved under this name."""
    if path.suffix.lower() in _OTHER_KINDS:
        raise SinkError(f"A plan is not written as {path.name}.", hint="Choose a name that ends in .json.")
    check_writable(path)


def load_plan(path: Path, model: Model) -> SavedPlan:
    """Raises InputError when it cannot be read, PlanError when it is no plan, or one for another model."""
    file = read_plan_file(path)
    fit_model(file, model, str(path))
    return SavedPlan(path, file)


def place_plan(
    plan: SavedPlan, model: Model, nodes: Sequence[Node], *, batch: int | None = None, throw_away: bool = False
) -> tuple[PlanRequest, tuple[str, ...]]:
    """The plan's request on the nodes that are there, and what a person should know of it.

    ``batch`` takes the place of the plan's micro-batch. ``throw_away``: the nodes are new each time, so that nothing is
    said of their new keys. Raises PlacementError when its nodes are not there.
    """
    fit = fit_to(plan.file, model, nodes, str(plan.path))
    placement = replace(fit.placement, renewed=()) if throw_away else fit.placement
    request = fit.request if batch is None else replace(fit.request, micro_batch=batch)
    return request, (*fit.notes, *placement.words)


def since_saved(plan: SavedPlan, choice: Choice) -> tuple[str, ...]:
    """What changed since the plan was saved, where that is much."""
    then = plan.file.predicted
    if then is None or choice.compiled.plan.request.micro_batch != plan.file.micro_batch:
        return ()
    now = choice.prediction.throughput
    if then.throughput <= 0 or abs(now / then.throughput - 1) <= DIFFERENT:
        return ()
    words = (
        f"When the plan was saved {_rate(then.throughput)} items/s were predicted, now it is {_rate(now)}: it was "
        f"edited since, or nodes or links are not what they were. {MEASURE_AGAIN}"
    )
    return (words,)


def _rate(rate: float) -> str:
    return f"{rate:.3g}" if rate < 999.5 else f"{rate:.0f}"
