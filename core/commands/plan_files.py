"""Plans as ``plan --save`` writes them and ``run --plan`` reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Final

import msgspec

from core.cluster.node import Node
from core.commands.planning import Choice
from core.errors import InputError, PlacementError, PlanError, SinkError
from core.model.graph import Model
from core.plan.form import NodeId, PlanFile, PlanRequest
from core.plan.strategy_text import parse_strategy, simplified

_AXES: Final = (None, "rows", "columns")
_EXACT: Final = 1e-6


def save_plan(path: Path, choice: Choice, names: Mapping[NodeId, str]) -> None:
    """Raises SinkError when the file cannot be written."""
    plan = choice.compiled.plan
    file = PlanFile(
        model=plan.model,
        model_name=plan.model_name,
        request=plan.request,
        node_names=tuple(names[node] for node in plan.request.nodes),
    )
    try:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(file), indent=2) + b"\n")
    except OSError as error:
        raise SinkError(f"The plan {path} cannot be written: {error.strerror or error}.") from error


def load_plan(path: Path, model: Model) -> PlanFile:
    """Raises InputError when it is no plan, or one for another model."""
    try:
        file = msgspec.json.decode(path.read_bytes(), type=PlanFile)
    except OSError as error:
        raise InputError(f"The plan {path} cannot be read: {error.strerror or error}.") from error
    except msgspec.DecodeError as error:
        raise InputError(f"{path} is not a plan of shardboard plan --save: {error}.") from error
    if file.format != PlanFile.__struct_defaults__[0]:
        raise InputError(f"{path} has plan format {file.format}, which this version does not know.")
    if file.model != model.sha256:
        raise PlanError(
            f"{path} is a plan for another model: {file.model_name} with hash {file.model[:12]}, not {model.name} "
            f"with hash {model.sha256[:12]}.",
            hint="Make a new one with shardboard plan --save.",
        )
    try:
        _check(file)
    except PlanError as error:
        words = f"The plan {path} does not agree with itself: {error.message}"
        raise PlanError(words, hint="Make a new one with shardboard plan --save.") from error
    return file


def _check(file: PlanFile) -> None:
    """Files are edited by hand, too. Raises PlanError; what the model has to do with is left to the compiler."""
    request = file.request
    levels = simplified(parse_strategy(request.strategy, len(request.nodes)))
    if len(file.node_names) != len(request.nodes):
        raise PlanError(f"it has {len(request.nodes)} nodes, but {len(file.node_names)} names.")
    for name, axis in (("tensor_axis", request.tensor_axis), ("spatial_axis", request.spatial_axis)):
        if axis not in _AXES:
            raise PlanError(f'{name} is "rows" or "columns", not {axis!r}.')
    if request.shares is None:
        return
    if len(request.shares) != len(request.nodes):
        raise PlanError(f"it has {len(request.nodes)} nodes, but {len(request.shares)} shares.")
    for first in range(0, len(request.nodes), levels.group):
        group = request.shares[first : first + levels.group]
        wrong = next((share for share in group if not isfinite(share) or share <= 0), None)
        if wrong is not None:
            raise PlanError(f"a share is above 0, not {wrong:g}.")
        if abs(sum(group) - 1.0) > _EXACT:
            raise PlanError(f"the shares {', '.join(f'{share:g}' for share in group)} do not add up to 1.")


def place_plan(file: PlanFile, nodes: Sequence[Node]) -> PlanRequest:
    """The plan's request on the nodes that are there: the same ones, else those of the same names, else in order.

    Raises PlacementError when there are too few.
    """
    there = {node.id for node in nodes}
    by_name = {node.name: node.id for node in nodes}
    wanted = file.request.nodes
    if all(node in there for node in wanted):
        return file.request
    if len(by_name) == len(nodes) and all(name in by_name for name in file.node_names):
        return msgspec.structs.replace(file.request, nodes=tuple(by_name[name] for name in file.node_names))
    if len(nodes) < len(wanted):
        raise PlacementError(
            f"The plan is for {len(wanted)} nodes ({', '.join(file.node_names)}), {len(nodes)} are there."
        )
    return msgspec.structs.replace(file.request, nodes=tuple(node.id for node in nodes[: len(wanted)]))
