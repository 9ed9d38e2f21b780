"""What the ribbon of divided layers says at the mouse and to a screen reader."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from PySide6.QtCore import QCoreApplication

from core.plan.division import Division
from core.plan.form import NodeId
from gui.shares import LEAST
from gui.widgets import division_words as said
from gui.widgets import ribbon_words
from gui.widgets.division_edges import Edge, Percents
from gui.widgets.division_words import Name
from gui.widgets.ribbon_model import RibbonModel
from gui.widgets.tips import whole


def _tr(text: str, number: int = -1) -> str:
    return QCoreApplication.translate("division", text, None, number)


def layer_tip(model: RibbonModel, division: Division | None, layer: int, *, timed: bool, name: Name) -> str:
    """Rich text: a layer, what it costs, which part of it runs where; why it is not split."""
    lines = [ribbon_words.layer_words(model, layer, timed=timed, node="")]
    if division is not None:
        lines.append(escape(said.layer_words(division.layers[layer], model.layers[layer].op, name)))
        why = said.why_not_split(division, model.layers[layer])
        lines += [f"<i>{escape(why)}</i>"] if why else []
    return "<br>".join(lines)


def edge_tip(edge: Edge, percents: Percents, name: Name) -> str:
    """Rich text: both nodes beside an edge with their shares."""
    shares = (f"{escape(name(node))} {percents[NodeId(node)]} %" for node in edge.nodes)
    return whole(f"<b>{' · '.join(shares)}</b>")


def edge_hint() -> str:
    """What can be done with an edge."""
    return _tr("Drag to share otherwise; double click to share by speed.")


def sizes_tip(
    model: RibbonModel, division: Division, layer: int, edge: Edge, shares: Percents | None, name: Name
) -> str:
    """Rich text: how much of a layer each node would have; "" where nothing is counted. ``shares``: not worked out."""
    one = model.layers[layer]
    told = said.sizes_words(division.layers[layer], one.op, edge.lane, shares, name)
    return escape(f"{one.name}: {told}") if told else ""


def starved_words(node: str) -> str:
    """Why an edge goes no further."""
    text = _tr("No further: {0} would have less than {1} % of the work. Its menu leaves it out.")
    return text.format(node, LEAST)


def edge_said(edges: Sequence[Edge], number: int, percents: Percents, name: Name) -> str:
    """For a screen reader: the edge that the keys move."""
    upper, lower = (NodeId(node) for node in edges[number].nodes)
    text = _tr("Edge {0} of {1}: {2} {3} %, {4} {5} %. Up and Down move it; Return shares by speed.")
    shares = percents.get(upper, 0), percents.get(lower, 0)
    return text.format(number + 1, len(edges), name(upper), shares[0], name(lower), shares[1])


def layer_said(model: RibbonModel, division: Division, layer: int, node: str, name: Name) -> str:
    """For a screen reader: a layer, and the ``node`` of it that the keys are at; "": none."""
    one = model.layers[layer]
    words = f"{one.name}: {said.layer_words(division.layers[layer], one.op, name)}"
    return words + _tr(". At {0}: Delete leaves it out, Return opens a menu").format(name(node)) if node else words


def whole_said(model: RibbonModel, division: Division | None) -> str:
    """For a screen reader: what there is."""
    layers = _tr("%n layer(s)", len(model))
    if division is None:
        return layers + " · " + _tr("working out how they are divided")
    return f"{layers}. {said.totals_words(division)}"
