"""Predictions as the strategy cards and the scatter of all plans show them: pure functions."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QCoreApplication

from core.cost.types import Prediction
from core.plan.division import Division
from core.plan.form import PlanRequest
from gui.aims import BOUNDED, LATENCY, MEMORY, SAME, THROUGHPUT, Aim
from gui.bridge import Bridge
from gui.partition_state import HYBRID, PIPELINE, QUICK, REPLICATE, SINGLE, SPATIAL, STRATEGIES, TENSOR
from gui.partition_words import lacking_words, node_names
from gui.widgets.basics import Kind
from gui.widgets.division_model import Lane
from gui.widgets.division_picture import Picture
from gui.widgets.division_words import totals_words
from gui.widgets.pareto_model import Spot
from gui.widgets.ribbon_model import RibbonModel
from gui.widgets.strategy_card import CardFigures
from gui.widgets.units import DASH, nbytes, percent, quantity, seconds, short_quantity


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
    alone: Prediction | None = None,
) -> CardFigures:
    """What the card of one strategy says; ``best``: by ``aim``; ``problem``: why it cannot be predicted; ``able``: it
    can be chosen; ``alone``: what the card of one node shows."""
    if problem:
        return CardFigures(verdict=problem, short=_tr("not possible"), kind="bad", able=able)
    if request is None:
        return _too_few(strategy)
    if prediction is None:
        words = (
            (_tr("Working out…"), _tr("working out…")) if working else (_tr("Known when the layers are timed."), DASH)
        )
        return CardFigures(verdict=words[0], short=words[1])
    verdict, short, kind = _verdict(bridge, request, prediction, alone)
    if kind != "bad" and not aim.meets(prediction):
        verdict, kind = _tr("Slower to answer than the {0} asked for.").format(seconds(aim.bound_s)), "warn"
        short = _tr("answers too late")
    return CardFigures(
        throughput=quantity(prediction.throughput),
        rate=short_quantity(prediction.throughput, 3 if prediction.timed else 2),
        latency=seconds(prediction.latency_s),
        memory=nbytes(max(node.memory_bytes for node in prediction.nodes)),
        efficiency=percent(prediction.efficiency),
        verdict=verdict,
        short=short,
        kind=kind,
        best=_best_word(aim) if best else "",
        stressed=THROUGHPUT if aim.kind == BOUNDED else aim.kind,
        timed=prediction.timed,
    )


def _too_few(strategy: str) -> CardFigures:
    """There are no nodes for it."""
    words = {
        TENSOR: (_tr("Needs two nodes that are ready."), _tr("needs 2 nodes")),
        SPATIAL: (_tr("Needs two nodes that are ready."), _tr("needs 2 nodes")),
        HYBRID: (_tr("Needs four nodes that are ready."), _tr("needs 4 nodes")),
    }
    verdict, short = words.get(strategy, (_tr("Needs a node that is ready."), _tr("needs a node")))
    return CardFigures(verdict=verdict, short=short, able=strategy in QUICK)


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


def _verdict(
    bridge: Bridge, request: PlanRequest, prediction: Prediction, one_node: Prediction | None
) -> tuple[str, str, Kind]:
    """Whether a plan is worth it: in a sentence, in a few letters, and what kind of news that is."""
    lacking = lacking_words(bridge, prediction)
    if lacking:
        return lacking, _tr("does not fit"), "bad"
    if request.strategy == SINGLE:
        name = bridge.name_of(request.nodes[0])
        return _tr("On {0}.").format(name), _tr("on {0}").format(name), ""
    alone, agreed = _alone(prediction, one_node)
    name = bridge.name_of(prediction.single_node)
    if not alone:
        return "", "", ""
    gain = prediction.throughput / alone
    if len(request.nodes) == 1:
        return _tr("With one node this is the same as one node alone."), _tr("as one node"), ""
    times = _tr("{0} × alone").format(f"{gain:.1f}" if gain >= 1 else f"{gain:.2f}")
    if gain < 1 - SAME:
        text = _tr("Slower than {0} alone, which does {1} items/s.") if agreed else _tr("Slower than {0} alone.")
        return text.format(name, quantity(alone)), times, "warn"
    if gain < 1 + SAME:
        return _tr("As fast as {0} alone.").format(name), _tr("as fast as one"), ""
    return _tr("{0} times as fast as {1} alone.").format(f"{gain:.1f}", name), times, "good"


def _alone(prediction: Prediction, one_node: Prediction | None) -> tuple[float, bool]:
    """Items per second that a plan is compared with, by the same measure as its own; and whether the card of one node
    shows no other figure for that node."""
    if one_node is None or one_node.nodes[0].node != prediction.single_node:
        return prediction.single_throughput, True
    if one_node.timed == prediction.timed:
        return one_node.throughput, True
    return prediction.single_throughput, False


def spot_of(bridge: Bridge, request: PlanRequest, prediction: Prediction) -> Spot:
    """One plan in the scatter, with what is said of it."""
    lacking = lacking_words(bridge, prediction)
    memory = nbytes(max(node.memory_bytes for node in prediction.nodes))
    lines = [
        node_names(bridge, request.nodes),
        _tr("{0} items/s, latency {1}, under load {2}").format(
            quantity(prediction.throughput), seconds(prediction.latency_s), seconds(prediction.loaded_latency_s)
        ),
        _tr("memory {0} at most, efficiency {1}").format(memory, percent(prediction.efficiency)),
    ]
    lines += [lacking] if lacking else []
    title = strategy_words(request.strategy)[0] if request.strategy in STRATEGIES else request.strategy
    return Spot(request, prediction.throughput, prediction.latency_s, not lacking, title, "\n".join(lines))
