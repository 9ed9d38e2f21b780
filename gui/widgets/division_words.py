"""A division in words: which part of a layer runs on which node, what travels for it, and what it all comes to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Final

from PySide6.QtCore import QCoreApplication

from core.plan.division import Division, Exchange, LayerDivision, NodePart
from core.plan.form import NodeId
from core.plan.layouts import Ranges, apportion, length, merged
from gui.widgets.division_model import KINDS, Form, Mark, form_of, inner_kind, shown_exchanges
from gui.widgets.ribbon_model import LayerLike
from gui.widgets.units import nbytes, percent

RANGES_NAMED: Final = 4
LINKS_NAMED: Final = 6
EXCHANGES_NAMED: Final = 5
CONVOLUTIONS: Final = frozenset({"Conv", "ConvTranspose", "QLinearConv", "ConvInteger"})

Name = Callable[[str], str]
"""A node's id to its name; "" is the client."""


def _tr(text: str, number: int = -1) -> str:
    return QCoreApplication.translate("division", text, None, number)


def kind_word(kind: str) -> str:
    """A kind of exchange as people call it."""
    words = {
        "all-reduce": _tr("all-reduce"),
        "reduce-scatter": _tr("reduce-scatter"),
        "reduce": _tr("reduce"),
        "all-gather": _tr("all-gather"),
        "all-to-all": _tr("all-to-all"),
        "halo": _tr("halo"),
        "hand-over": _tr("hand-over"),
        "input": _tr("input"),
        "output": _tr("output"),
    }
    return words.get(kind, kind)


def counted(kind: str, number: int) -> str:
    """``24 all-reduces``."""
    words = {
        "all-reduce": _tr("%n all-reduce(s)", number),
        "reduce-scatter": _tr("%n reduce-scatter(s)", number),
        "reduce": _tr("%n reduce(s)", number),
        "all-gather": _tr("%n all-gather(s)", number),
        "all-to-all": _tr("%n all-to-all(s)", number),
        "halo": _tr("%n halo exchange(s)", number),
        "hand-over": _tr("%n hand-over(s)", number),
    }
    return words.get(kind, f"{number} {kind}")


def kind_meaning(kind: str) -> str:
    """What an exchange is for, in a sentence."""
    words = {
        "all-reduce": _tr("Each node has a term of a sum; all get the sum."),
        "reduce-scatter": _tr("Each node has a term of a sum; each gets its part of the sum."),
        "reduce": _tr("Each node has a term of a sum; this machine adds them up."),
        "all-gather": _tr("Each node has a part; all get the whole."),
        "all-to-all": _tr("Each node has a part along one axis and gets a part along another."),
        "halo": _tr("Each node gets the rows beside its own from its neighbours."),
        "hand-over": _tr("A stage hands its results to the next."),
    }
    return words.get(kind, "")


# ---------------------------------------------------------------- layers


def split_word(layer: LayerDivision, op: str) -> str:
    """What a layer is split by: "columns", "channels", "image rows"."""
    kind = inner_kind(layer)
    channels = op in CONVOLUTIONS
    words = {
        "whole": _tr("not split"),
        "replicated": _tr("not split"),
        "items": _tr("items"),
        "columns": _tr("output channels") if channels else _tr("columns"),
        "rows": _tr("input channels") if channels else _tr("rows"),
        "groups": _tr("groups of channels"),
        "heads": _tr("heads"),
        "vocabulary": _tr("vocabulary"),
        "directions": _tr("directions"),
        "image rows": _tr("image rows"),
        "image columns": _tr("image columns"),
        "positions": _tr("positions"),
        "split": _tr("as its inputs are"),
    }
    return " + ".join(words.get(one, one) for one in kind.split(" + "))


def _range_word(layer: LayerDivision, op: str) -> str:
    """What the indices of a part are called."""
    kind = inner_kind(layer)
    if kind in {"columns", "groups"} and op in CONVOLUTIONS:
        return _tr("channels")
    words = {
        "columns": _tr("columns"),
        "groups": _tr("channels"),
        "items": _tr("items"),
        "heads": _tr("columns"),
        "vocabulary": _tr("entries"),
        "directions": _tr("directions"),
        "image rows": _tr("image rows"),
        "image columns": _tr("image columns"),
        "positions": _tr("positions"),
    }
    found = words.get(kind)
    return found or _tr("indices of axis {0}:").format(layer.axis)


def ranges_words(ranges: Ranges) -> str:
    """``0–1535``, ``0–383, 768–1151``; both ends are meant."""
    shown = [f"{start}–{stop - 1}" if stop - start > 1 else str(start) for start, stop in ranges[:RANGES_NAMED]]
    more = len(ranges) - RANGES_NAMED
    return ", ".join(shown) + (_tr(" and %n more range(s)", more) if more > 0 else "")


def part_words(layer: LayerDivision, part: NodePart, form: Form, op: str) -> str:
    """What one node does of a layer, without its name."""
    if form is Form.WHOLE or form is Form.COPIES:
        return _tr("all of it")
    if part.ranges is None:
        return _tr("a term of the sum, {0}").format(percent(part.share))
    if not part.ranges:
        return _tr("nothing")
    return f"{_range_word(layer, op)} {ranges_words(part.ranges)}"


def layer_words(layer: LayerDivision, op: str, name: Name) -> str:
    """Which part of a layer runs where: "columns 0–1535 on lab-1, 1536–3071 on lab-2"."""
    replicas = sorted({part.replica for part in layer.parts})
    said = [_replica_words(layer, [p for p in layer.parts if p.replica == replica], op, name) for replica in replicas]
    if len(said) < 2:
        return "".join(said) or _tr("runs on no node: its result is known beforehand")
    return "; ".join(_tr("replica {0}: {1}").format(at + 1, words) for at, words in enumerate(said))


def _replica_words(layer: LayerDivision, parts: Sequence[NodePart], op: str, name: Name) -> str:
    form = form_of(layer, parts)
    names = ", ".join(name(part.node) for part in parts)
    if form is Form.WHOLE:
        return _tr("runs on {0}").format(names)
    if form is Form.COPIES:
        return _tr("not split: {0} each run all of it").format(names)
    if form is Form.TERMS:
        shares = ", ".join(_tr("{0} on {1}").format(percent(part.share), name(part.node)) for part in parts)
        return _tr("{0}, a term of the sum each: {1}").format(split_word(layer, op), shares)
    busy = [part for part in parts if part.ranges != ()]
    word = _range_word(layer, op)
    pieces = [
        _tr("{0} on {1}").format(
            ranges_words(part.ranges) if part.ranges is not None else percent(part.share), name(part.node)
        )
        for part in busy
    ]
    return f"{word} {', '.join(pieces)}"


def sizes_words(layer: LayerDivision, op: str, replica: int, shares: Mapping[NodeId, int] | None, name: Name) -> str:
    """How much of a layer each node of a replica has: ``image rows: 14 on lab-1, 18 on lab-2``; "" where nothing is
    counted. ``shares``: per cent that would be set; None: as the layer is divided."""
    parts = [part for part in layer.parts if part.replica == replica]
    sizes = [length(part.ranges) for part in parts if part.ranges is not None]
    if len(sizes) < max(len(parts), 2) or form_of(layer, parts) is Form.COPIES:
        return ""
    about = ""
    if shares is not None:
        held = merged(one for part in parts for one in part.ranges or ())  # neighbours may hold the same rows
        sizes = list(apportion(length(held), [max(shares.get(part.node, 0), 1e-9) for part in parts]))
        about = _tr("about ")
    listed = ", ".join(_tr("{0} on {1}").format(size, name(part.node)) for size, part in zip(sizes, parts, strict=True))
    return f"{about}{listed} ({_range_word(layer, op).removesuffix(':')})"


def why_not_split(division: Division, layer: LayerLike) -> str:
    """Why a layer is not divided, as the planner says it; "" where it does not."""
    heads = (f"{layer.name} (", f"{layer.name}:")
    return next((said for said in division.fallbacks if said.startswith(heads)), "")


# ---------------------------------------------------------------- exchanges


def links_words(exchange: Exchange, name: Name) -> list[str]:
    """``lab-1 → lab-2, 192 KiB`` for each link, the largest first."""
    links = sorted(exchange.links, key=lambda link: -link[2])
    lines = [f"{name(source)} → {name(target)}, {nbytes(size)}" for source, target, size in links[:LINKS_NAMED]]
    if len(links) > LINKS_NAMED:
        lines.append(_tr("and %n more link(s)", len(links) - LINKS_NAMED))
    return lines


def mark_tip(mark: Mark, layers: Sequence[LayerLike], name: Name) -> str:
    """Rich text: what one mark stands for."""
    head = f"<b>{escape(kind_word(mark.kind))}</b>, {nbytes(mark.nbytes)}"
    if len(mark.exchanges) == 1:
        exchange = mark.exchanges[0]
        lines = [head, escape(_of_tensor(exchange, layers))]
        lines += [escape(text) for text in links_words(exchange, name)]
    else:
        lines = [f"<b>{escape(counted(mark.kind, len(mark.exchanges)))}</b>, {nbytes(mark.nbytes)}"]
        some = mark.exchanges[:EXCHANGES_NAMED]
        lines += [escape(f"{_of_tensor(one, layers)}: {nbytes(one.nbytes)}") for one in some]
        if len(mark.exchanges) > EXCHANGES_NAMED:
            lines.append(escape(_tr("and %n more", len(mark.exchanges) - EXCHANGES_NAMED)))
    return "<br>".join([*lines, f"<i>{escape(kind_meaning(mark.kind))}</i>"])


def _of_tensor(exchange: Exchange, layers: Sequence[LayerLike]) -> str:
    if 0 <= exchange.layer < len(layers):
        return _tr("{0}, for {1}").format(exchange.tensor, layers[exchange.layer].name)
    return exchange.tensor


# ---------------------------------------------------------------- totals


def totals_words(division: Division) -> str:
    """``24 all-reduces, 9.0 MiB a micro-batch; 96 % of the multiply-adds are split; no rule for: Foo``."""
    exchanges = shown_exchanges(division)
    counts = Counter(one.kind for one in exchanges)
    sizes = sum(one.nbytes for one in exchanges)
    listed = ", ".join(counted(kind, counts[kind]) for kind in KINDS if counts[kind])
    said = [
        _tr("{0}, {1} a micro-batch").format(listed, nbytes(sizes)) if listed else _tr("nothing travels between nodes")
    ]
    groups = any(form_of(layer, layer.parts) is not Form.WHOLE for layer in division.layers if layer.parts)
    if groups:
        said.append(_tr("{0} of the multiply-adds are split").format(percent(division.split_share)))
    if division.without_rule:
        said.append(_tr("no rule for: {0}").format(", ".join(division.without_rule)))
    text = "; ".join(said)
    return text[:1].upper() + text[1:]
