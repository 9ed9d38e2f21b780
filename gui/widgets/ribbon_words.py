"""What the ribbon says of a layer, a cut and a refusal; rich text for tooltips."""

from __future__ import annotations

from html import escape
from typing import Final

from PySide6.QtCore import QCoreApplication

from gui.widgets.formats import count
from gui.widgets.ribbon_model import Move, Refusal, RibbonModel
from gui.widgets.units import nbytes, percent, seconds

TENSORS_NAMED: Final = 4


def _tr(text: str, number: int = -1) -> str:
    return QCoreApplication.translate("ribbon", text, None, number)


def layer_words(model: RibbonModel, index: int, *, timed: bool, node: str) -> str:
    """Name, operator, time (or multiply-adds where the widths are not ``timed``) and the ``node`` that runs it."""
    layer, cost = model.layers[index], model.costs[index]
    lines = [f"<b>{escape(layer.name)}</b>", escape(layer.op)]
    if timed:
        total = sum(model.costs)
        share = cost / total if total else 0.0
        lines.append(_tr("{0}, {1} of the model").format(seconds(cost), percent(share, 1)))
    else:
        lines.append(_tr("{0} multiply-adds").format(count(cost)))
    if node:
        lines.append(_tr("runs on {0}").format(escape(node)))
    return "<br>".join(lines)


def cut_words(model: RibbonModel, index: int, position: int) -> str:
    """Between which layers cut ``index`` lies, and what crosses there."""
    before, after = model.layers[position - 1].name, model.layers[position].name
    head = _tr("Cut {0}: between {1} and {2}").format(index + 1, escape(before), escape(after))
    lines = [f"<b>{head}</b>"]
    cut = model.crossings.get(position)
    if cut is not None:
        lines.append(_tr("{0} cross for each micro-batch").format(nbytes(cut.nbytes)))
        lines += [escape(name) for name in cut.tensors[:TENSORS_NAMED]]
        if len(cut.tensors) > TENSORS_NAMED:
            lines.append(_tr("and %n more tensor(s)", len(cut.tensors) - TENSORS_NAMED))
    return "<br>".join(lines)


def refusal_words(move: Move, model: RibbonModel, node: str = "") -> str:
    """Why a cut goes no further; "" where nothing is refused. ``node``: on which a layer is kept."""
    match move.refusal:
        case Refusal.EMPTY_BEFORE:
            return _tr("No further: the stage before this cut would have no layer.")
        case Refusal.EMPTY_AFTER:
            return _tr("No further: the stage after this cut would have no layer.")
        case Refusal.KEPT:
            return _tr("No further: {0} is kept on {1}.").format(model.layers[move.kept].name, node)
        case None:
            return ""
