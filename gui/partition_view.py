"""Predictions in the words and figures of the Partition page: pure functions from what is known to what is shown."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from PySide6.QtCore import QCoreApplication

from core.cluster.node import Node, NodeState
from core.cost.types import NodePrediction, Prediction, Profile
from core.model.types import Cut, Layer
from core.plan.form import NodeId, PlanRequest
from gui.bridge import Bridge
from gui.inspector import Inspection
from gui.partition_state import PIPELINE, REPLICATE, SINGLE, PartitionState
from gui.widgets.formats import count
from gui.widgets.layer_list import shape_text
from gui.widgets.node_budget import NodeBudgetRow
from gui.widgets.ribbon import RibbonNode
from gui.widgets.states import state_word
from gui.widgets.strategy_card import CardFigures
from gui.widgets.units import nbytes, percent, quantity, seconds

TENSORS_NAMED: Final = 6
SAME: Final = 0.03
"""Predictions closer to each other than this are called the same."""


def _tr(text: str) -> str:
    return QCoreApplication.translate("partition", text)


def strategy_words(strategy: str) -> tuple[str, str]:
    """Title of a strategy, and what it does in a sentence."""
    tr = QCoreApplication.translate
    words = {
        SINGLE: (tr("partition", "One node"), tr("partition", "The whole model on one node.")),
        REPLICATE: (
            tr("partition", "Replicate"),
            tr("partition", "A copy on each; the free one takes the next."),
        ),
        PIPELINE: (
            tr("partition", "Pipeline"),
            tr("partition", "Each runs some layers and hands on."),
        ),
    }
    return words[strategy]


# ---------------------------------------------------------------- cards


def card_figures(
    bridge: Bridge, request: PlanRequest | None, prediction: Prediction | None, *, best: bool, problem: str = ""
) -> CardFigures:
    """What the card of one strategy says; ``problem``: why it cannot be predicted."""
    if request is None:
        return CardFigures(verdict=_tr("Needs a node that is ready."), kind="")
    if prediction is None:
        return CardFigures(verdict=problem or _tr("Known when the layers are timed."), kind="bad" if problem else "")
    verdict, kind = _verdict(bridge, request, prediction)
    return CardFigures(
        throughput=quantity(prediction.throughput),
        latency=seconds(prediction.latency_s),
        memory=nbytes(max(node.memory_bytes for node in prediction.nodes)),
        efficiency=percent(prediction.efficiency),
        verdict=verdict,
        kind=kind,  # type: ignore[arg-type] # one of Kind, see _verdict
        best=best,
    )


def _verdict(bridge: Bridge, request: PlanRequest, prediction: Prediction) -> tuple[str, str]:
    full = next((n for n in prediction.nodes if _memory_share(bridge.node(n.node), n) > 1), None)
    if full is not None:
        node = bridge.node(full.node)
        assert node is not None
        assert node.info is not None
        text = _tr("Does not fit: {0} needs {1} and may use {2}.")
        return text.format(node.name, nbytes(full.memory_bytes), nbytes(node.info.memory_limit)), "bad"
    if request.strategy == SINGLE:
        return _tr("On {0}.").format(bridge.name_of(request.nodes[0])), ""
    alone = prediction.single_throughput
    name = bridge.name_of(prediction.single_node)
    if not alone:
        return "", ""
    gain = prediction.throughput / alone
    if len(request.nodes) == 1:
        return _tr("With one node this is the same as one node alone."), ""
    if gain < 1 - SAME:
        text = _tr("Slower than {0} alone, which does {1} items/s.")
        return text.format(name, quantity(alone)), "warn"
    if gain < 1 + SAME:
        return _tr("As fast as {0} alone.").format(name), ""
    return _tr("{0} times as fast as {1} alone.").format(f"{gain:.1f}", name), "good"


def fastest_strategy(predictions: Mapping[str, Prediction | None]) -> str:
    """The strategy with the highest throughput, "" while none is predicted; the simpler one wins among equals."""
    best, reached = "", 0.0
    for strategy in (SINGLE, REPLICATE, PIPELINE):
        prediction = predictions.get(strategy)
        if prediction is not None and prediction.throughput > reached * (1 + SAME):
            best, reached = strategy, prediction.throughput
    return best


# ---------------------------------------------------------------- ribbon and rows


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


def budget_rows(
    bridge: Bridge,
    state: PartitionState,
    request: PlanRequest | None,
    prediction: Prediction | None,
    layers: int,
    usable: Collection[NodeId],
) -> list[NodeBudgetRow]:
    """A row for each node: those that take part first, in their order."""
    taking = request.nodes if request else ()
    by_id = {node.id: node for node in bridge.nodes}
    rest = [node for node in state.order if node in by_id and node not in taking]
    predicted = {p.node: p for p in prediction.nodes} if prediction else {}
    rows = []
    for node_id in (*taking, *rest):
        node = by_id.get(node_id)
        if node is None:
            continue
        if node_id in taking and request is not None:
            mark = prediction.bottleneck if prediction and request.strategy == PIPELINE else None
            rows.append(_taking_row(bridge, node, request, predicted.get(node_id), layers, marked=mark == node_id))
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
        movable=request.strategy == PIPELINE and len(request.nodes) > 1,
    )
    if predicted is None:
        return row
    share = _memory_share(node, predicted)
    memory = nbytes(predicted.memory_bytes)
    if node.info is not None and node.info.memory_limit:
        memory = _tr("{0} of {1}").format(memory, nbytes(node.info.memory_limit))
    return NodeBudgetRow(
        id=row.id,
        name=row.name,
        colour=row.colour,
        chosen=True,
        usable=True,
        note=row.note,
        runs=row.runs,
        movable=row.movable,
        compute=_tr("{0} · busy {1}").format(seconds(predicted.compute_s), percent(predicted.share)),
        compute_share=predicted.share,
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
    if request.cuts is None:
        return _tr("Stage {0}").format(place + 1)
    edges = (0, *request.cuts, layers)
    if edges[place + 1] - edges[place] == 1:
        return _tr("Layer {0}").format(edges[place + 1])
    return _tr("Layers {0}–{1}").format(edges[place] + 1, edges[place + 1])


def _speed_words(bridge: Bridge, node: Node) -> str:
    speed = bridge.speeds.get(NodeId(node.id))
    if speed is None:
        return _tr("speed not measured yet")
    return _tr("{0} × this machine").format(quantity(speed, 2))


def _memory_share(node: Node | None, predicted: NodePrediction) -> float:
    if node is None or node.info is None or not node.info.memory_limit:
        return -1.0
    return predicted.memory_bytes / node.info.memory_limit


def verified_words(error: float | None) -> str:
    """What the comparison with the whole model found."""
    if error is None:
        return _tr("Deployed.")
    if error == 0:
        return _tr("Verified: its outputs are equal to the whole model's, bit for bit.")
    return _tr("Verified: max error {0} against the whole model.").format(f"{error:.0e}".replace("e-0", "e-"))


def node_names(bridge: Bridge, nodes: Sequence[str]) -> str:
    """Names, joined."""
    return ", ".join(bridge.name_of(node) for node in nodes)


# ---------------------------------------------------------------- inspector


def layer_inspection(layer: Layer, profile: Profile | None, cut: Cut | None) -> Inspection:
    """A layer, what it costs, and what would cross if the model were cut in front of it."""
    rows: list[tuple[str, str | None]] = [(_tr("Operator"), layer.op)]
    if profile is not None:
        took = profile.layer_seconds[layer.index]
        share = took / profile.total_seconds if profile.total_seconds else 0.0
        rows.append((_tr("Time"), f"{seconds(took)} ({percent(share, 1)})"))
    rows += [
        (_tr("Multiply-adds"), count(layer.macs)),
        (_tr("Weights"), nbytes(layer.parameter_bytes)),
        (_tr("Output"), shape_text(layer.output_shape)),
        (_tr("Output size"), nbytes(layer.output_bytes)),
    ]
    if cut is not None:
        rows += [
            (_tr("Cut before it"), None),
            (_tr("Would cross"), nbytes(cut.nbytes)),
            (_tr("Tensors"), "\n".join(cut.tensors[:TENSORS_NAMED])),
        ]
    return Inspection(layer.name, rows, layer.group)
