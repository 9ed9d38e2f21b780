"""Reads a plan file of the present format, and checks all that can be checked without its model and its nodes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from core.errors import PlanError
from core.plan.form import NodeId, Sha256
from core.plan.json_text import Fields, JsonText, Value, shown
from core.plan.plan_file_types import AGAIN, PROGRAM, Expected, Mark, Pin, PlanFile, PlanModel, PlanNode
from core.plan.strategy_text import PIPELINE, Levels, parse_strategy

ID_CHARACTERS: Final = 40
HASH_CHARACTERS: Final = 64
AXES: Final = ("rows", "columns")
ROUNDED: Final = 0.11
"""Per cent that rounded shares may miss: 33.3 three times is meant as a whole."""
EXACT: Final = 1e-7
"""Shares that miss a whole by no more are taken as they are, so that what was saved comes back."""
MOST_LAYERS: Final = 10_000_000
MOST_ITEMS: Final = 65536
MOST_NODES: Final = 1000
_TOP: Final = (
    "format", "written_by", "saved", "model", "strategy", "micro_batch", "nodes", "cuts", "pins", "tensor_axis",
    "spatial_axis", "predicted",
)  # fmt: skip


class PlanReader:
    """Reads the fields of a plan, and checks all that can be checked without its model and its nodes."""

    def __init__(self, text: JsonText, value: Value) -> None:
        self._text = text
        self._top = Fields(text, value, "", _TOP)

    def file(self) -> PlanFile:
        top = self._top
        model = self._model(top.need("model"))
        micro_batch = top.whole("micro_batch", 1, MOST_ITEMS)
        nodes, percents = self._nodes()
        strategy, levels = self._strategy(len(nodes))
        return PlanFile(
            model=model,
            strategy=strategy,
            micro_batch=micro_batch,
            nodes=nodes,
            cuts=self._cuts(levels),
            shares=self._shares(levels, nodes, percents),
            pins=self._pins(nodes),
            tensor_axis=self._axis("tensor_axis"),
            spatial_axis=self._axis("spatial_axis"),
            predicted=self._predicted(),
            saved=top.string("saved") if top.has("saved") else None,
            written_by=top.string("written_by") if top.has("written_by") else PROGRAM,
        )

    def _model(self, value: Value) -> PlanModel:
        fields = Fields(self._text, value, '"model"', PlanModel.__struct_fields__)
        return PlanModel(
            fields.string("name"),
            _hash(fields, "sha256"),
            fields.whole("layers", 1, MOST_LAYERS) if fields.has("layers") else None,
            fields.whole("parameters", 0, _MOST_PARAMETERS) if fields.has("parameters") else None,
            _hash(fields, "processed_sha256") if fields.has("processed_sha256") else None,
        )

    def _nodes(self) -> tuple[tuple[PlanNode, ...], list[Value | None]]:
        """And each one's share, not checked yet."""
        nodes: list[PlanNode] = []
        percents: list[Value | None] = []
        values = self._top.array("nodes")
        if not values:
            raise self._top.wrong("nodes", "The plan has no nodes", AGAIN)
        if len(values) > MOST_NODES:
            raise self._text.wrong(values[MOST_NODES], f"A plan has {MOST_NODES:,} nodes at most, not {len(values):,}")
        for value in values:
            fields = Fields(self._text, value, f"nodes[{len(nodes)}]", ("name", "id", "share_percent"))
            node = PlanNode(
                fields.string("name") if fields.has("name") else None,
                _node_id(fields) if fields.has("id") else None,
            )
            if node == PlanNode(None, None):
                raise self._text.wrong(value, "This node has neither a name nor an id")
            same = next((one for one in nodes if one.id == node.id and (node.id or one.name == node.name)), None)
            if same is not None:
                key = "id" if node.id is not None else "name"
                raise fields.wrong(key, f"This node is there twice: {shown(same.called)}", "Each node has one place.")
            nodes.append(node)
            percents.append(fields.need("share_percent") if fields.has("share_percent") else None)
        return tuple(nodes), percents

    def _strategy(self, nodes: int) -> tuple[str, Levels]:
        text = self._top.string("strategy")
        try:
            levels = parse_strategy(text, nodes)
        except PlanError as error:
            words = error.message.partition("\n")[0].removesuffix(".")
            raise self._top.wrong("strategy", words, error.hint) from None
        if levels.nodes is not None:
            raise self._top.wrong(
                "strategy", 'The nodes of a plan are those in "nodes"', "Leave out '@' and the names."
            )
        return text, levels

    def _cuts(self, levels: Levels) -> tuple[Mark, ...] | None:
        if not self._top.has("cuts"):
            return None
        values = self._top.array("cuts")
        marks = [self._mark(value, f"cuts[{index}]") for index, value in enumerate(values)]
        positions = [(mark.position, value) for mark, value in zip(marks, values, strict=True) if mark.position]
        for (before, _), (after, value) in pairwise(positions):
            if (after or 0) <= (before or 0):
                raise self._text.wrong(value, f"Cuts must increase; {after} follows {before}")
        stages = [level.count for level in levels.levels if level.kind == PIPELINE]
        if len(stages) == 1 and len(values) != stages[0] - 1:
            count = f"{stages[0]} stages have {stages[0] - 1} cut{'s' if stages[0] != 2 else ''}"
            few = f"{count} between them, not {len(values)}"
            raise self._top.wrong("cuts", few, 'Or leave "cuts" out: then they are placed by cost.')
        if not stages and values:
            words = f"{shown(self._top.string('strategy'))} has no cuts: only a pipeline has"
            raise self._top.wrong("cuts", words, "Leave them out.")
        return tuple(marks)

    def _mark(self, value: Value, path: str, *more: str) -> Mark:
        fields = Fields(self._text, value, path, ("position", "layer", *more))
        mark = Mark(
            fields.whole("position", 0 if more else 1, MOST_LAYERS) if fields.has("position") else None,
            fields.string("layer") if fields.has("layer") else None,
        )
        if mark == Mark(None, None):
            raise self._text.wrong(value, f'{path} has neither a "position" nor a "layer"')
        return mark

    def _shares(
        self, levels: Levels, nodes: Sequence[PlanNode], percents: Sequence[Value | None]
    ) -> tuple[float, ...] | None:
        given = [value for value in percents if value is not None]
        if not given:
            return None
        if levels.group == 1:
            words = f"{shown(self._top.string('strategy'))} has no group of nodes that share layers out"
            raise self._text.wrong_key(
                given[0], words, 'Leave "share_percent" out, or put tensor or spatial innermost.'
            )
        found: list[float] = []
        for index, value in enumerate(percents):
            if value is None:
                words = f'{shown(nodes[index].called)} has no "share_percent", and others have'
                raise self._text.wrong(self._top.array("nodes")[index], words, "Give every node one, or none.")
            fields = Fields(self._text, self._top.array("nodes")[index], "", ("name", "id", "share_percent"))
            percent = fields.number("share_percent")
            if percent == 0:
                raise self._text.wrong(value, "A share is above 0 per cent", "Leave a node out that is to do nothing.")
            found.append(percent / 100)
        for first in range(0, len(found), levels.group):
            group = found[first : first + levels.group]
            total = sum(group)
            if abs(total - 1.0) * 100 > ROUNDED:
                last = percents[min(first + levels.group, len(found)) - 1]
                assert last is not None
                names = " and ".join(shown(node.called) for node in nodes[first : first + levels.group])
                hint = "Shares are per cent, not fractions." if abs(total - 0.01) < _FRACTIONS else ""
                words = f"The shares of {names} add up to {100 * total:g}, not 100"
                raise self._text.wrong(last, words, hint or "Change them so that they do.")
            if abs(total - 1.0) > EXACT:
                found[first : first + levels.group] = [share / total for share in group]
        return tuple(found)

    def _pins(self, nodes: Sequence[PlanNode]) -> tuple[Pin, ...]:
        if not self._top.has("pins"):
            return ()
        found = []
        for index, value in enumerate(self._top.array("pins")):
            mark = self._mark(value, f"pins[{index}]", "node")
            fields = Fields(self._text, value, f"pins[{index}]", ("position", "layer", "node"))
            node = fields.string("node")
            at = [place for place, one in enumerate(nodes) if node in (one.name, one.id)]
            if len(at) != 1:
                there = f"There are {', '.join(shown(one.called) for one in nodes)}."
                what = "is not among the plan's nodes" if not at else "is the name of several of the plan's nodes"
                raise fields.wrong("node", f"{shown(node)} {what}", there if not at else "Give its id instead.")
            found.append(Pin(mark, at[0]))
        return tuple(found)

    def _axis(self, key: str) -> str | None:
        if not self._top.has(key):
            return None
        axis = self._top.string(key)
        if axis not in AXES:
            raise self._top.wrong(key, f'"{key}" is "rows" or "columns", not "{shown(axis)}"')
        return axis

    def _predicted(self) -> Expected | None:
        if not self._top.has("predicted"):
            return None
        fields = Fields(self._text, self._top.need("predicted"), '"predicted"', Expected.__struct_fields__)
        memory: dict[str, int] = {}
        if fields.has("memory_bytes"):
            held = fields.need("memory_bytes")
            names = tuple(held.what) if isinstance(held.what, dict) else ()
            by_node = Fields(self._text, held, '"memory_bytes"', names)
            memory = {name: by_node.whole(name, 0, _MOST_PARAMETERS) for name in names}
        return Expected(
            throughput=fields.number("throughput"),
            latency_ms=fields.number("latency_ms"),
            efficiency=fields.number("efficiency") if fields.has("efficiency") else None,
            bottleneck=fields.string("bottleneck") if fields.has("bottleneck") else None,
            memory_bytes=memory,
        )


_MOST_PARAMETERS: Final = 1 << 60
_FRACTIONS: Final = 1e-4


def _hash(fields: Fields, key: str) -> Sha256:
    found = fields.string(key)
    if len(found) != HASH_CHARACTERS or not all(one in "0123456789abcdef" for one in found):
        raise fields.wrong(key, f'"{key}" has {HASH_CHARACTERS} digits 0-9 and a-f; this is none', AGAIN)
    return Sha256(found)


def _node_id(fields: Fields) -> NodeId:
    found = fields.string("id")
    if len(found) != ID_CHARACTERS or not (found.isascii() and found.isprintable()):
        raise fields.wrong(
            "id",
            f"A node's id has {ID_CHARACTERS} characters; this has {len(found)}",
            "Leave the id out: then the node is found by its name.",
        )
    return NodeId(found)
