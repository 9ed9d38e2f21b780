"""The division of a model as a person reads it on a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from msgspec import Struct

from core.commands.division_report import (
    COLLECTIVES,
    WHOLE,
    WORKSTATION,
    DivisionReport,
    ExchangeRow,
    MannerRow,
    PartRow,
    by_group,
)
from core.commands.output import format_table
from core.plan.layouts import Ranges
from core.units import format_bytes

MOST_MANNERS: Final = 12
MOST_RANKS: Final = 4
"""More members of a group than this are not told one by one."""
MOST_NODES: Final = 8
MOST_LINES: Final = 6
_MOST_OPERATORS: Final = 3
_MOST_RANGES: Final = 3


def division_words(division: DivisionReport, nodes: Sequence[str]) -> Iterator[str]:
    """Paragraphs, the most important first; none for a plan that was not to divide any layer."""
    divided = any(
        row.kind not in WHOLE and len(parts) > 1 for row in division.manners for parts in by_group(row).values()
    )
    if not divided and not division.fallbacks and not division.without_rule and not division.collectives:
        return
    yield f"{percent(division.split_share)} of the multiply-adds are divided{_collectives(division)}."
    yield _manners(division.manners)
    if any(WORKSTATION not in (link.source, link.target) for link in division.links):
        yield links_words(division, nodes)
    if division.without_rule:
        yield f"no rule yet, so their inputs are gathered: {', '.join(division.without_rule)}"
    if division.fallbacks:
        yield "\n".join(["not divided:", *_some(division.fallbacks)])


def _some(lines: Sequence[str]) -> list[str]:
    shown = [f"  {line}" for line in lines[:MOST_LINES]]
    more = len(lines) - MOST_LINES
    return [*shown, f"  and {more} more, see --json"] if more > 0 else shown


def _collectives(division: DivisionReport) -> str:
    if not division.collectives:
        return "; no collective is needed"
    replicas = {row.replica for row in division.exchanges if row.kind in COLLECTIVES}
    told = _told(division.exchanges, min(replicas))
    where = " (in each replica)" if len(replicas) > 1 else ""
    return (
        f"; a micro-batch{where} takes {_number(division.collectives, 'collective')}, "
        f"which send{'s' if division.collectives == 1 else ''} {format_bytes(division.collective_bytes)}: {told}"
    )


def _told(exchanges: Sequence[ExchangeRow], replica: int) -> str:
    rows = [row for row in exchanges if row.replica == replica and row.kind in COLLECTIVES]
    return ", ".join(f"{row.count} {row.kind} ({format_bytes(row.nbytes)})" for row in rows)


# ---------------------------------------------------------------- manners


def _manners(rows: Sequence[MannerRow]) -> str:
    groups = _groups(rows)
    ranks = max(map(len, groups.values()))
    alone = len(groups) == 1
    columns = tuple(*groups.values()) if alone else tuple(f"rank {rank + 1}" for rank in range(ranks))
    lines = _merged([_line(row, groups) for row in rows])
    table = [cells for line in lines[:MOST_MANNERS] for cells in _cells(line, ranks, with_nodes=not alone)]
    headings = ("divided by", "layers", "operators", "work", *(() if alone else ("nodes",)), *_ends(columns))
    told = [format_table(headings, table)]
    rest = lines[MOST_MANNERS:]
    if rest:
        layers, work = sum(line.layers for line in rest), sum(line.work for line in rest)
        told.append(f"and {_number(layers, 'layer')} with {percent(work)} of the work in other ways, see --json")
    return "\n".join(told)


_Groups = Mapping[tuple[int, int], Sequence[str]]
"""Names of the nodes that work on the same layers, by replica and stage; rank 0 first."""


def _groups(rows: Sequence[MannerRow]) -> _Groups:
    found: dict[tuple[int, int], tuple[str, ...]] = {}
    for row in rows:
        for place, parts in by_group(row).items():
            if len(parts) > len(found.get(place, ())):
                found[place] = tuple(part.node for part in parts)
    return found


class _Line(Struct, frozen=True):
    """Layers that are divided alike, maybe by several groups each in its own way."""

    kind: str
    layers: int
    operators: tuple[str, ...]
    work: float
    alike: tuple[tuple[tuple[str, ...], tuple[Sequence[str], ...]], ...]
    """(what each rank has, the groups of nodes of which that is true)"""


def _line(row: MannerRow, groups: _Groups) -> _Line:
    alike: dict[tuple[str, ...], list[Sequence[str]]] = {}
    for place, parts in by_group(row).items():
        held = {part.node: _cell(row, part) for part in parts}
        alike.setdefault(tuple(held.get(node, "–") for node in groups[place]), []).append(groups[place])
    return _Line(
        row.kind, row.layers, row.operators, row.work, tuple((cells, tuple(held)) for cells, held in alike.items())
    )


def _merged(lines: Sequence[_Line]) -> list[_Line]:
    """Layers of one stage with those of another that are divided alike."""
    found: dict[tuple[object, ...], _Line] = {}
    for line in lines:
        key = (line.kind, *(cells for cells, _ in line.alike))
        same = found.get(key) if len(line.alike) == 1 else None
        if same is None:
            found[key if len(line.alike) == 1 else (line,)] = line
            continue
        groups = tuple(dict.fromkeys((*same.alike[0][1], *line.alike[0][1])))
        found[key] = _Line(
            line.kind,
            same.layers + line.layers,
            tuple(dict.fromkeys((*same.operators, *line.operators))),
            same.work + line.work,
            ((line.alike[0][0], groups),),
        )
    return sorted(found.values(), key=lambda line: (line.kind in WHOLE, -line.work))


def _cells(line: _Line, ranks: int, *, with_nodes: bool) -> Iterator[tuple[str, ...]]:
    """One row of the table for all groups that divide alike."""
    kind = {"replicated": "(all on each)", "whole": "(not)"}.get(line.kind, line.kind)
    head = (kind, str(line.layers), _operators(line.operators), percent(line.work))
    for cells, members in line.alike:
        yield *head, *((_nodes(members),) if with_nodes else ()), *_ends((*cells, *[""] * (ranks - len(cells))))
        head = ("", "", "", "")


def _ends(cells: tuple[str, ...]) -> tuple[str, ...]:
    """The first and the last, where there are too many to be told one by one."""
    return cells if len(cells) <= MOST_RANKS else (*cells[:2], "…", cells[-1])


def _nodes(groups: Sequence[Sequence[str]]) -> str:
    told = [", ".join(names) if len(names) <= MOST_RANKS else f"{names[0]} … {names[-1]}" for names in groups]
    return " / ".join(told if len(told) <= MOST_RANKS else [told[0], "…", told[-1]])


def _cell(row: MannerRow, part: PartRow) -> str:
    if row.kind in WHOLE:
        return "all"
    return _ranges(part.ranges) if part.ranges else percent(part.share) if part.share else "–"


def _ranges(ranges: Ranges) -> str:
    """With the last index, as people count."""
    shown = "+".join(f"{start}-{stop - 1}" if stop - start > 1 else str(start) for start, stop in ranges[:_MOST_RANGES])
    return f"{shown}+…" if len(ranges) > _MOST_RANGES else shown


def _operators(operators: Sequence[str]) -> str:
    shown = ", ".join(operators[:_MOST_OPERATORS])
    return f"{shown}, …" if len(operators) > _MOST_OPERATORS else shown


# ---------------------------------------------------------------- links


def links_words(division: DivisionReport, nodes: Sequence[str]) -> str:
    """Bytes from each node to each other, and from and to the workstation, for one micro-batch of their replica."""
    sent = Counter({(link.source, link.target): link.nbytes for link in division.links})
    between = [nbytes for link, nbytes in sent.items() if WORKSTATION not in link] or list(sent.values())
    if not between:
        return ""
    if len(nodes) > MOST_NODES:
        return (
            f"sent for a micro-batch: {format_bytes(sum(between))} over {_number(len(between), 'link')} between nodes, "
            f"{format_bytes(max(between))} at most over one, see --json"
        )
    ends = [*nodes, WORKSTATION]
    rows = [
        (source, *(format_bytes(sent[source, target]) if (source, target) in sent else "–" for target in ends))
        for source in ends
    ]
    return format_table(("sent for a micro-batch to", *ends), rows)


def percent(share: float) -> str:
    """ "100 %" only where it is all, "0 %" only where it is nothing."""
    if 0 < share < 0.0005:
        return "<0.1 %"
    if 0.9995 <= share < 1:
        return ">99.9 %"
    return (
        f"{share:.1%}".replace("%", " %") if 0 < share < 0.1 or 0.99 < share < 1 else f"{share:.0%}".replace("%", " %")
    )


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
