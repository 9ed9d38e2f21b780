"""What a person asks for with --strategy and its companions, checked in two steps: before anything starts, as far as
that goes, and when the nodes are there."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from core.cluster.node import Node
from core.commands.assignment import assigned
from core.commands.shares import fractions
from core.cost.types import Machine
from core.errors import PlanError
from core.model.graph import Model
from core.plan.form import NodeId, PlanRequest
from core.plan.strategy_text import (
    PIPELINE,
    REPLICATE,
    SINGLE,
    SPATIAL,
    TENSOR,
    Levels,
    Written,
    format_strategy,
    read_strategy,
    settled,
    simplified,
)

AUTO: Final = "auto"


class Wanted(Struct, frozen=True):
    """One strategy with what was said of it."""

    written: Written
    tensor_axis: str | None = None
    spatial_axis: str | None = None
    shares: tuple[float, ...] | None = None
    """Per cent, in the order of the nodes."""

    @property
    def bare(self) -> str | None:
        """The one kind, where neither a count nor nodes were given."""
        alone = len(self.written.kinds) == 1 and self.written.counts == (None,) and self.written.nodes is None
        return self.written.kinds[0] if alone else None


def wanted(
    text: str, *, tensor_axis: str | None = None, spatial_axis: str | None = None, shares: Sequence[float] | None = None
) -> Wanted:
    """Raises PlanError when the text does not parse or what is said does not go with it."""
    written = read_strategy(text)
    for option, given, kinds in (
        ("--tensor-axis", tensor_axis, {TENSOR}),
        ("--spatial-axis", spatial_axis, {SPATIAL}),
        ("--shares", shares, {TENSOR, SPATIAL}),
    ):
        if given is not None and not kinds & set(written.kinds):
            raise PlanError(
                f"{option} is for a strategy with a {' or '.join(sorted(kinds, reverse=True))} level; "
                f"'{text.strip()}' has none.",
                hint="Leave it out, or choose another strategy.",
            )
    return Wanted(written, tensor_axis, spatial_axis, tuple(shares) if shares is not None else None)


def wanted_of(options: argparse.Namespace) -> Wanted | None:
    """What --strategy and its companions say; None: auto, or a saved plan. Raises PlanError."""
    said = {"--tensor-axis": options.tensor_axis, "--spatial-axis": options.spatial_axis, "--shares": options.shares}
    if options.strategy is None or options.strategy.strip().lower() == AUTO:
        for option, given in said.items():
            if given is not None:
                why = "a saved plan says that itself" if getattr(options, "plan", None) else "auto decides that itself"
                raise PlanError(f"{option} goes with --strategy: {why}.", hint=f"Leave {option} out.")
        return None
    asked = wanted(
        options.strategy,
        tensor_axis=options.tensor_axis,
        spatial_axis=options.spatial_axis,
        shares=options.shares,
    )
    _check_number(asked, options)
    return asked


def _check_number(asked: Wanted, options: argparse.Namespace) -> None:
    """As soon as the options tell how many nodes there will be. Raises PlanError."""
    if options.local:
        names = tuple(f"local-{index + 1}" for index in range(options.local))
        _levels(asked, len(names), names)
    elif options.node and asked.written.nodes is None:
        _levels(asked, len(dict.fromkeys(options.node)))


def _levels(asked: Wanted, nodes: int, names: Sequence[str] = ()) -> Levels:
    levels = settled(asked.written, 1 if asked.bare == SINGLE else nodes, names)
    if asked.shares is not None:
        _fractions(asked.shares, levels, names)
    return levels


def _fractions(shares: Sequence[float], levels: Levels, names: Sequence[str]) -> tuple[float, ...]:
    dividing = simplified(levels)
    if dividing.group == 1 and levels.count > 1:
        raise PlanError(
            f"--shares needs a group of nodes that work on the same layers; '{format_strategy(dividing)}' has none.",
            hint="Put tensor or spatial innermost, or leave --shares out.",
        )
    return fractions(shares, dividing, levels.nodes or names)


def placed(
    asked: Wanted,
    model: Model,
    batch: int,
    nodes: Sequence[Node],
    speeds: Mapping[NodeId, float],
    machines: Mapping[NodeId, Machine],
) -> PlanRequest:
    """The request on the nodes that are there: those it names, the fastest for single, otherwise all of them.

    Raises PlanError when it does not suit their number or their names.
    """
    names = [node.name for node in nodes]
    ids = [node.id for node in nodes]
    if asked.bare == SINGLE:
        ids = [max(ids, key=lambda node: speeds[node])]
    elif asked.bare == PIPELINE:
        ids = ids[: len(model.layers(batch))]  # the others would have nothing to do
    levels = _levels(asked, len(ids), names)
    if levels.nodes is not None:
        ids = [nodes[names.index(name)].id for name in levels.nodes]
    elif len(simplified(levels).levels) > 1 and asked.shares is None:
        ids = list(assigned(ids, speeds, machines))
    shares = _fractions(asked.shares, levels, names) if asked.shares is not None else None
    return PlanRequest(
        format_strategy(Levels(simplified(levels).levels)),
        tuple(ids),
        batch,
        tensor_axis=asked.tensor_axis,
        spatial_axis=asked.spatial_axis,
        shares=shares,
    )


def comparable(nodes: int) -> tuple[str, ...]:
    """Strategies worth a comparison on so many nodes: each kind, and the nestings of two equal-sided levels."""
    if nodes < 2:
        return (SINGLE,)
    ranks = next((count for count in range(2, nodes // 2 + 1) if nodes % count == 0), None)
    nested = [f"{outer}({nodes // ranks}) > {TENSOR}({ranks})" for outer in (REPLICATE, PIPELINE)] if ranks else []
    return (SINGLE, REPLICATE, PIPELINE, TENSOR, SPATIAL, *nested)
