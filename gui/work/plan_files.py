"""Plans as files. Worker threads."""
# ruff: noqa: PLC0415 - onnx and onnxruntime are imported by the worker: the window is there a second earlier

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from core.plan.form import NodeId, PlanRequest

if TYPE_CHECKING:
    from core.cluster.node import Node
    from core.cost.types import Prediction
    from core.model.graph import Model
    from core.plan.plan_fit import Fit


def load_plan(path: Path, model: Model, nodes: Sequence[Node]) -> Fit:
    """The file's plan on ``model`` and ``nodes``. Raises InputError, PlanError or PlacementError, in words."""
    from core.plan.plan_disk import read_plan_file
    from core.plan.plan_fit import fit_to

    return fit_to(read_plan_file(path), model, nodes, path.name)


def save_plan(
    path: Path,
    model: Model,
    request: PlanRequest,
    names: Mapping[NodeId, str],
    prediction: Prediction | None,
    now: float,
) -> None:
    """``now``: Unix time. Raises SinkError."""
    from core.plan.plan_disk import write_plan_file
    from core.plan.plan_file import plan_file_of

    write_plan_file(path, plan_file_of(model, request, names, prediction, now))
