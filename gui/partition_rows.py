"""Predictions as the ribbon's stages and the rows of nodes show them: pure functions."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from msgspec import structs
from PySide6.QtCore import QCoreApplication

from core.cluster.node import Node, NodeState
from core.cost.types import NodePrediction, Prediction
from core.model.types import Cut, Layer
from core.plan.form import NodeId, PlanRequest
from gui import nestings
from gui.bridge import Bridge
from gui.partition_state import HYBRID, PIPELINE, QUICK, REPLICATE, SINGLE, SPATIAL, TENSOR, PartitionState
from gui.partition_words import memory_share
from gui.shares import by_speed, in_percent
from gui.widgets.cycle_bar import Cycle
from gui.widgets.division_words import counted
from gui.widgets.node_budget import NodeBudgetRow
from gui.widgets.ribbon_view import RibbonNode
from gui.widgets.states import state_word
from gui.widgets.units import nbytes, percent, quantity, seconds


def _tr(text: str) -> str:
    return QCoreApplication.translate("partition", text)


def ribbon_nodes(bridge: Bridge, request: PlanRequest, prediction: Prediction | None) -> list[RibbonNode]:
    """The nodes of a request in their order, with their time per micro-batch."""
    by_id = {p.node: p for p in prediction.nodes} if prediction else {}
    made = []
    for node_id in request.nodes:
        predicted = by_id.get(node_id)
        detail = ""
        if predicted is not None:
            detail = f"{seconds(predicted.compute_s)} · {percent(predicted.share)}"
        made.append(RibbonNode(node_id, bridge.name_of(node_id), bridge.colour(node_id), detail))
    return made


def quick_words(request: PlanRequest | None, layers: Sequence[Layer], cuts: Sequence[Cut]) -> tuple[str, str]:
    """Of a plan that divides no layers: what the signs of its ribbon mean, and what it comes to."""
    if request is None:
        return "", ""
    if request.strategy == REPLICATE and len(request.nodes) > 1:
        weights = nbytes(sum(layer.parameter_bytes for layer in layers))
        signs = _tr("A lane for each node: all layers, for items of its own.")
        return signs, _tr("Nothing travels between nodes; each holds all weights, {0}.").format(weights)
    signs = _tr("Grey: bytes that would cross if the model were cut there; valleys cut cheaply.")
    sizes = {cut.position: cut.nbytes for cut in cuts}
    if not request.cuts or any(position not in sizes for position in request.cuts):
        return signs, "" if len(request.nodes) > 1 else _tr("Nothing travels between nodes.")
    total = nbytes(sum(sizes[position] for position in request.cuts))
    return signs, f"{counted('hand-over', len(request.cuts)).capitalize()}, {_tr('{0} a micro-batch').format(total)}"


def rows_hint(strategy: str) -> str:
    """What the figures of the rows are of, and what a hand can do with a row."""
    if strategy == PIPELINE:
        return _tr("for each micro-batch; drag a node onto a stage to give it that stage")
    if strategy in {TENSOR, SPATIAL}:
        return _tr("for each micro-batch; shares are of the work of every layer")
    if strategy == HYBRID:
        return _tr("for each micro-batch; shares are of the work of a node's group")
    return _tr("for each micro-batch")


def budget_rows(
    bridge: Bridge,
    state: PartitionState,
    request: PlanRequest | None,
    prediction: Prediction | None,
    layers: int,
    usable: Collection[NodeId],
) -> list[NodeBudgetRow]:
    """A row for each node: those that take part first, in their order."""
    shares = group_shares(bridge, request) if request else {}
    taking = request.nodes if request else ()
    by_id = {node.id: node for node in bridge.nodes}
    if request is not None and request.strategy == SINGLE:
        taking = tuple(node for node in state.order if node in by_id)  # which one is alone moves no row
    rest = [node for node in state.order if node in by_id and node not in taking]
    predicted = {p.node: p for p in prediction.nodes} if prediction else {}
    rows = []
    for node_id in (*taking, *rest):
        node = by_id.get(node_id)
        if node is None:
            continue
        if request is not None and node_id in request.nodes:
            mark = prediction.bottleneck if prediction and request.strategy not in {SINGLE, REPLICATE} else None
            row = _taking_row(bridge, node, request, predicted.get(node_id), layers, marked=mark == node_id)
            rows.append(structs.replace(row, share=shares.get(node_id, -1)))
        else:
            rows.append(_idle_row(bridge, node, usable=node_id in usable))
    return rows


def _taking_row(
    bridge: Bridge, node: Node, request: PlanRequest, predicted: NodePrediction | None, layers: int, *, marked: bool
) -> NodeBudgetRow:
    place = request.nodes.index(node.id)
    row = NodeBudgetRow(
        id=node.id,
        name=node.name,
        colour=bridge.colour(node.id),
        chosen=True,
        usable=True,
        note=_speed_words(bridge, node),
        runs=_runs(request, place, layers),
        movable=request.strategy not in {SINGLE, REPLICATE} and len(request.nodes) > 1,
    )
    if predicted is None:
        return row
    share = memory_share(node, predicted)
    memory = nbytes(predicted.memory_bytes)
    if node.info is not None and node.info.memory_limit:
        memory = _tr("{0} of {1}").format(memory, nbytes(node.info.memory_limit))
    return structs.replace(
        row,
        time=_tr("{0} · busy {1}").format(seconds(predicted.compute_s), percent(predicted.share)),
        short_time=seconds(predicted.compute_s),
        cycle=Cycle(predicted.compute_s, predicted.receive_s, predicted.send_s, predicted.wait_s),
        sends=nbytes(predicted.sent_bytes),
        memory=memory,
        memory_share=share,
        badge=_tr("does not fit") if share > 1 else _tr("bottleneck") if marked else "",
        badge_kind="bad" if share > 1 else "warn",
    )


def _idle_row(bridge: Bridge, node: Node, *, usable: bool) -> NodeBudgetRow:
    if usable:
        note = _speed_words(bridge, node)
    elif node.state is NodeState.BUSY and node.owner:
        note = _tr("held by {0}").format(node.owner)
    else:
        note = state_word(node.state)
    return NodeBudgetRow(
        id=node.id,
        name=node.name,
        colour=bridge.colour(node.id),
        chosen=False,
        usable=usable,
        note=note,
        runs=_tr("not used") if usable else "",
    )


def _runs(request: PlanRequest, place: int, layers: int) -> str:
    if request.strategy == SINGLE:
        return _tr("Whole model")
    if request.strategy == REPLICATE:
        return _tr("Replica {0}").format(place + 1)
    if request.strategy != PIPELINE:
        return _place_words(nestings.of_request(request).place(place))
    if request.cuts is None:
        return _tr("Stage {0}").format(place + 1)
    edges = (0, *request.cuts, layers)
    if edges[place + 1] - edges[place] == 1:
        return _tr("Layer {0}").format(edges[place + 1])
    return _tr("Layers {0}–{1}").format(edges[place] + 1, edges[place + 1])


def _place_words(places: Sequence[tuple[str, int]]) -> str:
    """``Replica 1, part 2``."""
    words = {REPLICATE: _tr("replica {0}"), PIPELINE: _tr("stage {0}")}
    text = ", ".join(words.get(kind, _tr("part {0}")).format(at + 1) for kind, at in places)
    return text[:1].upper() + text[1:]


def group_shares(bridge: Bridge, request: PlanRequest) -> dict[NodeId, int]:
    """Per cent of its group's work for each node, where the strategy divides layers; else nothing."""
    if request.strategy in QUICK:
        return {}
    nesting = nestings.of_request(request)
    if not nesting.kinds & {TENSOR, SPATIAL}:
        return {}
    set_by_hand = tuple(zip(nesting.nodes, request.shares, strict=True)) if request.shares is not None else None
    found: dict[NodeId, int] = {}
    for group in nesting.groups:
        speeds = {node: bridge.speed_of(node) for node in group}
        found |= by_speed(group, speeds) if set_by_hand is None else in_percent(group, set_by_hand)
    return found


def _speed_words(bridge: Bridge, node: Node) -> str:
    speed = bridge.speeds.get(NodeId(node.id))
    if speed is None:
        return _tr("speed not measured yet")
    calibrated = bridge.speed_of(node.id)
    text = _tr("{0} × this machine") if calibrated == speed else _tr("{0} × this machine, as it ran")
    return text.format(quantity(calibrated, 2))
