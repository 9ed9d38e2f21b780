"""What the inspector says of a layer and of what travels between nodes: pure functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from PySide6.QtCore import QCoreApplication

from core.cost.types import Profile
from core.model.types import Cut, Layer
from core.plan.division import Division, Exchange
from gui.inspector import Inspection
from gui.widgets.division_model import Mark, form_of
from gui.widgets.division_words import (
    counted,
    kind_meaning,
    kind_word,
    links_words,
    part_words,
    split_word,
    why_not_split,
)
from gui.widgets.formats import count
from gui.widgets.layer_list import shape_text
from gui.widgets.units import nbytes, percent, seconds

EXCHANGES_NAMED: Final = 12
TENSORS_NAMED: Final = 6


def _tr(text: str) -> str:
    return QCoreApplication.translate("partition", text)


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
