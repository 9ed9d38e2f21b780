"""What plans would reach. Worker threads, but for what follows the mouse, which says so."""
# ruff: noqa: PLC0415 - onnx and onnxruntime are imported by the worker: the window is there a second earlier

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from core.cost.links import UNKNOWN, Links
from core.plan.form import NodeId, PlanRequest

if TYPE_CHECKING:
    from core.cluster.node import Node
    from core.cost.types import Prediction, Profile
    from core.model.graph import Model
    from core.model.types import Layer
    from core.plan.division import Division


def predict(
    profile: Profile,
    model: Model,
    request: PlanRequest,
    speeds: Mapping[NodeId, float],
    nodes: Sequence[Node],
    links: Links = UNKNOWN,
) -> Prediction:
    from core.cluster.machines import machines_of
    from core.cost.predict import predict as core_predict

    return core_predict(profile, model, request, speeds, machines_of(nodes), links)


class Outlined(NamedTuple):
    division: Division
    prediction: Prediction
    notes: tuple[str, ...]


def outline(
    model: Model,
    profile: Profile,
    request: PlanRequest,
    speeds: Mapping[NodeId, float],
    nodes: Sequence[Node],
    links: Links = UNKNOWN,
) -> Outlined:
    """How ``request`` divides the model and what it would reach. PlanError where the model cannot be divided so."""
    from core.cluster.machines import machines_of
    from core.cost.dataflow import predict_outline
    from core.plan.compile import outline_plan

    machines = machines_of(nodes)
    found = outline_plan(model, request, profile=profile, speeds=speeds, machines=machines, links=links)
    return Outlined(found.division, predict_outline(profile, found, model, speeds, machines, links), found.notes)


def balanced_cuts(
    profile: Profile,
    model: Model,
    speeds: Mapping[NodeId, float],
    nodes: Sequence[Node],
    links: Links = UNKNOWN,
    pins: Sequence[tuple[int, NodeId]] = (),
) -> tuple[int, ...]:
    """For a pipeline over the nodes of ``speeds``, in their order, with each layer of ``pins`` on its node."""
    from core.cluster.machines import machines_of
    from core.cost.predict import balanced_cuts as core_balanced_cuts

    order = list(speeds)
    machines = machines_of(nodes)
    return core_balanced_cuts(
        profile, model, list(speeds.values()), nodes=order, links=links, machines=machines, pins=pins
    )


def place_cut(
    profile: Profile,
    model: Model,
    request: PlanRequest,
    index: int,
    speeds: Mapping[NodeId, float],
    nodes: Sequence[Node],
    links: Links = UNKNOWN,
) -> tuple[int, ...]:
    """The cuts of ``request`` with one of them put where it is best."""
    from core.cluster.machines import machines_of
    from core.cost.one_cut import place_cut as core_place_cut

    return core_place_cut(profile, model, request, index, speeds, machines_of(nodes), links)


def bottleneck_words(
    prediction: Prediction,
    request: PlanRequest,
    layers: Sequence[Layer],
    nodes: Sequence[Node],
    links: Links,
    sent: Mapping[tuple[NodeId, NodeId], int] | None,
) -> str:
    """GUI thread, once a model is open: what sets the pace, without a full stop. ``sent`` as ``core`` has it."""
    from core.cluster.machines import machines_of
    from core.plan.bottleneck import bottleneck_words as core_words

    names = {node.id: node.name for node in nodes}
    return core_words(prediction, names, request, layers, sent=sent, links=links, machines=machines_of(nodes))
