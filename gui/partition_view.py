"""Predictions in the words and figures of the Partition page: pure functions from what is known to what is shown."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from msgspec import structs
from PySide6.QtCore import QCoreApplication

from core.cluster.node import Node, NodeState
from core.cost.types import NodePrediction, Prediction, Profile
from core.model.types import Cut, Layer
from core.plan.division import Division, Exchange
from core.plan.form import NodeId, PlanRequest
from gui import nestings, work
from gui.aims import BOUNDED, LATENCY, MEMORY, SAME, THROUGHPUT, Aim
from gui.bridge import Bridge
from gui.inspector import Inspection
from gui.partition_state import (
    HYBRID,
    PIPELINE,
    QUICK,
    REPLICATE,
    SINGLE,
    SPATIAL,
    STRATEGIES,
    TENSOR,
    PartitionState,
)
from gui.shares import by_speed, in_percent
from gui.widgets.cycle_bar import Cycle
from gui.widgets.division_model import Lane, Mark, form_of, link_bytes
from gui.widgets.division_picture import Picture
from gui.widgets.division_words import (
    counted,
    kind_meaning,
    kind_word,
    links_words,
    part_words,
    split_word,
    totals_words,
    why_not_split,
)
from gui.widgets.formats import count
from gui.widgets.layer_list import shape_text
from gui.widgets.node_budget import NodeBudgetRow
from gui.widgets.pareto_model import Spot
from gui.widgets.ribbon import RibbonNode
from gui.widgets.ribbon_model import RibbonModel
from gui.widgets.states import state_word
from gui.widgets.strategy_card import CardFigures
from gui.widgets.units import nbytes, percent, quantity, seconds

EXCHANGES_NAMED: Final = 12
TENSORS_NAMED: Final = 6


def _tr(text: str) -> str:
    return QCoreApplication.translate("partition", text)


def strategy_words(strategy: str) -> tuple[str, str]:
    """Title of a strategy, and what it does in a sentence."""
    tr = QCoreApplication.translate
    words = {
        SINGLE: (tr("partition", "One node"), tr("partition", "All on one node.")),
        REPLICATE: (tr("partition", "Replicate"), tr("partition", "A copy each.")),
        PIPELINE: (tr("partition", "Pipeline"), tr("partition", "Some layers each.")),
        TENSOR: (tr("partition", "Tensor"), tr("partition", "A part of every layer each.")),
        SPATIAL: (tr("partition", "Spatial"), tr("partition", "A strip of the input each.")),
        HYBRID: (tr("partition", "Hybrid"), tr("partition", "Strategies within one another.")),
    }
    return words[strategy]


# ---------------------------------------------------------------- cards


def card_figures(
    bridge: Bridge,
    strategy: str,
    request: PlanRequest | None,
    prediction: Prediction | None,
    *,
    best: bool,
    aim: Aim = Aim(),  # noqa: B008 - it cannot be changed
    problem: str = "",
    working: bool = False,
    able: bool = True,
) -> CardFigures:
    """What the card of one strategy says; ``best``: by ``aim``; ``problem``: why it cannot be predicted; ``able``: it
    can be chosen."""
    if problem:
        return CardFigures(verdict=problem, kind="bad", able=able)
    if request is None:
        words = {
            TENSOR: _tr("Needs two nodes that are ready."),
            SPATIAL: _tr("Needs two nodes that are ready."),
            HYBRID: _tr("Needs four nodes that are ready."),
        }
        return CardFigures(verdict=words.get(strategy, _tr("Needs a node that is ready.")), able=strategy in QUICK)
    if prediction is None:
        return CardFigures(verdict=_tr("Working out…") if working else _tr("Known when the layers are timed."))
    verdict, kind = _verdict(bridge, request, prediction)
    if kind != "bad" and not aim.meets(prediction):
        verdict, kind = _tr("Slower to answer than the {0} asked for.").format(seconds(aim.bound_s)), "warn"
    return CardFigures(
        throughput=quantity(prediction.throughput),
        latency=seconds(prediction.latency_s),
        memory=nbytes(max(node.memory_bytes for node in prediction.nodes)),
        efficiency=percent(prediction.efficiency),
        verdict=verdict,
        kind=kind,  # type: ignore[arg-type] # one of Kind, see _verdict
        best=_best_word(aim) if best else "",
        stressed=THROUGHPUT if aim.kind == BOUNDED else aim.kind,
    )


def _best_word(aim: Aim) -> str:
    words = {LATENCY: _tr("quickest"), MEMORY: _tr("least memory")}
    return words.get(aim.kind, _tr("fastest"))


def picture_of(
    strategy: str, lanes: Sequence[Lane], ribbon: RibbonModel | None, division: Division | None
) -> Picture | None:
    """What a card shows of a division; None while it is not known."""
    if not lanes or ribbon is None:
        return None
    title, about = strategy_words(strategy)
    words = f"{title}: {about}"
    if division is not None:
        words = f"{words} {totals_words(division)}"
    return Picture(tuple(lanes), ribbon.edges, words)


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


def lacking_words(bridge: Bridge, prediction: Prediction) -> str:
    """Which node lacks the memory for a plan, and how much it needs; "" where all have enough."""
    full = next((n for n in prediction.nodes if _memory_share(bridge.node(n.node), n) > 1), None)
    node = bridge.node(full.node) if full is not None else None
    if full is None or node is None or node.info is None:
        return ""
    text = _tr("Does not fit: {0} needs {1} and may use {2}.")
    return text.format(node.name, nbytes(full.memory_bytes), nbytes(node.info.memory_limit))


def full_strategies(bridge: Bridge, predictions: Mapping[str, Prediction | None]) -> frozenset[str]:
    """Those that some node lacks the memory for."""
    return frozenset(name for name, told in predictions.items() if told is not None and not _fits(bridge, told))


def _fits(bridge: Bridge, prediction: Prediction) -> bool:
    return all(_memory_share(bridge.node(one.node), one) <= 1 for one in prediction.nodes)


# ---------------------------------------------------------------- all plans


def spot_of(bridge: Bridge, request: PlanRequest, prediction: Prediction) -> Spot:
    """One plan in the scatter, with what is said of it."""
    fits = _fits(bridge, prediction)
    memory = nbytes(max(node.memory_bytes for node in prediction.nodes))
    lines = [
        node_names(bridge, request.nodes),
        _tr("{0} items/s, latency {1}").format(quantity(prediction.throughput), seconds(prediction.latency_s)),
        _tr("memory {0} at most, efficiency {1}").format(memory, percent(prediction.efficiency)),
    ]
    if not fits:
        lines.append(_verdict(bridge, request, prediction)[0])
    title = strategy_words(request.strategy)[0] if request.strategy in STRATEGIES else request.strategy
    return Spot(request, prediction.throughput, prediction.latency_s, fits, title, "\n".join(lines))


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
    shares = group_shares(bridge, request) if request else {}
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
    share = _memory_share(node, predicted)
    memory = nbytes(predicted.memory_bytes)
    if node.info is not None and node.info.memory_limit:
        memory = _tr("{0} of {1}").format(memory, nbytes(node.info.memory_limit))
    return structs.replace(
        row,
        time=_tr("{0} compute · busy {1}").format(seconds(predicted.compute_s), percent(predicted.share)),
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


def bottleneck(
    bridge: Bridge, request: PlanRequest, prediction: Prediction, layers: Sequence[Layer], division: Division | None
) -> str:
    """What sets the pace, without a full stop."""
    crossing = link_bytes(division) if division is not None and request.strategy not in QUICK else None
    sent = {(NodeId(a), NodeId(b)): size for (a, b), size in crossing.items()} if crossing is not None else None
    return work.bottleneck_words(prediction, request, layers, bridge.nodes, bridge.links, sent)


# ---------------------------------------------------------------- inspector


def layer_inspection(
    layer: Layer,
    profile: Profile | None,
    cut: Cut | None,
    division: Division | None = None,
    name: Callable[[str], str] = str,
) -> Inspection:
    """A layer, what it costs, how ``division`` divides it; else what would cross if the model were cut before it."""
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
    if division is not None:
        rows += _division_rows(layer, division, name)
    elif cut is not None:
        rows += [
            (_tr("Cut before it"), None),
            (_tr("Would cross"), nbytes(cut.nbytes)),
            (_tr("Tensors"), "\n".join(cut.tensors[:TENSORS_NAMED])),
        ]
    return Inspection(layer.name, rows, layer.group)


def _division_rows(layer: Layer, division: Division, name: Callable[[str], str]) -> list[tuple[str, str | None]]:
    divided = division.layers[layer.index]
    rows: list[tuple[str, str | None]] = [(_tr("Division"), None), (_tr("Divided by"), split_word(divided, layer.op))]
    for part in divided.parts:
        form = form_of(divided, [other for other in divided.parts if other.replica == part.replica])
        rows.append((name(part.node), part_words(divided, part, form, layer.op)))
    why = why_not_split(division, layer)
    if why:
        rows.append((_tr("Why"), why))
    for exchange in division.exchanges:
        if exchange.layer == layer.index:
            rows.append((kind_word(exchange.kind).capitalize(), None))
            rows += exchange_rows(exchange, name)
    return rows


def exchange_rows(exchange: Exchange, name: Callable[[str], str]) -> list[tuple[str, str | None]]:
    """What one exchange moves, and from where to where."""
    return [
        (_tr("Tensor"), exchange.tensor),
        (_tr("Bytes"), nbytes(exchange.nbytes)),
        (_tr("Links"), "\n".join(links_words(exchange, name))),
    ]


def mark_inspection(mark: Mark, layers: Sequence[Layer], name: Callable[[str], str]) -> Inspection:
    """The exchanges that one mark of the ribbon stands for."""
    rows: list[tuple[str, str | None]] = [
        (_tr("Bytes"), nbytes(mark.nbytes)),
        (_tr("What it is"), kind_meaning(mark.kind)),
    ]
    for exchange in mark.exchanges[:EXCHANGES_NAMED]:
        where = layers[exchange.layer].name if 0 <= exchange.layer < len(layers) else _tr("This workstation")
        rows.append((_tr("For {0}").format(where), None))
        rows += exchange_rows(exchange, name)
    more = len(mark.exchanges) - EXCHANGES_NAMED
    if more > 0:
        rows.append((_tr("More"), str(more)))
    title = counted(mark.kind, len(mark.exchanges)) if len(mark.exchanges) > 1 else kind_word(mark.kind).capitalize()
    return Inspection(title, rows, _tr("for one micro-batch"))
