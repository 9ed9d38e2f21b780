"""What plans would reach. Worker threads, but for what follows the mouse, which says so."""
# ruff: noqa: PLC0415 - onnx and onnxruntime are imported by the worker: the window is there a second earlier

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct

from core.cost.links import UNKNOWN, Links
from core.plan.form import NodeId, PlanRequest

if TYPE_CHECKING:
    from core.cluster.node import Node
    from core.cost.types import Prediction, Profile
    from core.model.graph import Model
    from core.model.types import Layer
    from core.plan.division import Division
    from core.plan.draft import Costs
    from core.plan.outline import Outline


class PlanOrder(Struct, frozen=True, eq=False):
    """A plan that is to be foretold, and what that rests on."""

    model: Model
    profile: Profile
    request: PlanRequest
    speeds: Mapping[NodeId, float]
    nodes: Sequence[Node]
    """As the cluster knows them."""
    links: Links = UNKNOWN

    @property
    def costs(self) -> Costs:
        """As planning takes them."""
        from core.cluster.machines import machines_of
        from core.plan.draft import Costs

        return Costs(self.profile, self.speeds, machines_of(self.nodes), self.links)


def predict(order: PlanOrder) -> Prediction:
    """GUI thread, once a model is open: by sums over the layers. PlanError where the request makes no sense."""
    from core.cost.predict import predict as core_predict

    costs = order.costs
    return core_predict(order.profile, order.model, order.request, costs.speeds, costs.machines, costs.links)


class Outlined(NamedTuple):
    division: Division
    prediction: Prediction
    notes: tuple[str, ...]


def outline(order: PlanOrder) -> Outlined:
    """How a plan divides the model and what it would reach. PlanError where the model cannot be divided so."""
    from core.cost.dataflow import predict_outline

    found, costs = outline_of(order), order.costs
    told = predict_outline(order.profile, found, order.model, costs.speeds, costs.machines, costs.links)
    return Outlined(found.division, told, found.notes)


def outline_of(order: PlanOrder, *, foretold: bool = True) -> Outline:
    """Its shards and what travels, with notes on how fast that is by sums where it is ``foretold``. PlanError as
    ``outline``."""
    from core.plan.compile import outline_plan

    costs = order.costs
    return outline_plan(
        order.model,
        order.request,
        profile=costs.profile,
        speeds=costs.speeds,
        machines=costs.machines,
        links=costs.links,
        foretold=foretold,
    )


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
