"""Divide a program over the ranks of one group: what each rank runs, and what travels between them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from core.cost.exchange import LinkCost
from core.plan.exchange import Exchange, Hop, Names, cut
from core.plan.form import Slice
from core.plan.layouts import REPLICATED, Group, Layout, Partial, Split
from core.plan.program import Op, Program
from core.plan.rank_program import LocalOp, RankProgram, local_name, local_type
from core.plan.search import Found, Step, takes_part

_FIXED_ELEMENT_BY_ELEMENT: Final = frozenset(
    {"Cast", "Identity", "Neg", "Sqrt", "Reciprocal", "Tanh", "Sigmoid", "Relu"}
)


class Import(Struct, frozen=True):
    """An input of a rank's program: an input of the divided program, or a part of it."""

    rank: int
    name: str
    value: str
    slices: tuple[Slice, ...]
    layer: int
    """That it is for."""


class GroupProgram(Struct, frozen=True, eq=False):
    programs: tuple[RankProgram, ...]
    hops: tuple[Hop, ...]
    imports: tuple[Import, ...]
    exports: Mapping[str, Mapping[Layout, Names]]
    """Outputs of the divided program: each form in which the group holds them; none is Partial."""


def divide(program: Program, group: Group, found: Found, link: LinkCost, level: int = 0) -> GroupProgram:
    """Write what the search found, for every rank. ``level``: how many groups lie around this one."""
    return _Division(program, group, found, link, level).run()


class _Division:
    def __init__(self, program: Program, group: Group, found: Found, link: LinkCost, level: int) -> None:
        self._program = program
        self._group = group
        self._found = found
        self._programs = tuple(RankProgram(rank, level) for rank in group.ranks)
        self._exchange = Exchange(self._programs, program.types, link)
        self._forms: dict[str, dict[Layout, Names]] = {}
        self._imports: list[Import] = []
        self._fixed = {name: op for op in program.ops for name in op.outputs if name in program.fixed}

    def run(self) -> GroupProgram:
        for name, layout in self._found.inputs.items():
            self._provide(name, layout, -1)
        for step in self._found.steps:
            self._write(step)
        for name in self._program.outputs:
            held = self._forms.setdefault(name, {})
            if not any(not isinstance(layout, Partial) for layout in held):
                self._provide(name, REPLICATED, -1)
        exports: dict[str, dict[Layout, Names]] = {
            name: {layout: names for layout, names in self._forms[name].items() if not isinstance(layout, Partial)}
            for name in self._program.outputs
        }
        return GroupProgram(self._programs, tuple(self._exchange.hops), tuple(self._imports), exports)

    # ------------------------------------------------------------ operators

    def _write(self, step: Step) -> None:
        op, choice = step.op, step.choice
        if choice is None:
            self._write_whole(op)
            return
        inputs = [
            self._provide(name, want, op.layer) if name and want is not None else None
            for name, want in zip(op.inputs, choice.inputs, strict=True)
        ]
        names: list[list[str | None]] = [[None] * len(self._programs) for _ in op.outputs]
        for rank, program in enumerate(self._programs):
            if not takes_part(choice, rank, self._group):
                continue
            taken = tuple(held[rank] or "" if held is not None else "" for held in inputs)
            made = tuple(
                self._output(program, name, layout) if name else ""
                for name, layout in zip(op.outputs, choice.outputs, strict=True)
            )
            choice.emit(LocalOp(program, op, taken, made, choice.shares[rank]))
            for index, name in enumerate(made):
                names[index][rank] = name or None
        for name, layout, held in zip(op.outputs, choice.outputs, names, strict=True):
            if name:
                self._forms[name] = {layout: tuple(held)}

    def _output(self, program: RankProgram, value: str, layout: Layout) -> str:
        name = local_name(value, layout, program)
        program.types[name] = local_type(self._program.types[value], layout, program.rank)
        return name

    def _write_whole(self, op: Op) -> None:
        for name in op.reads:
            self._provide(name, REPLICATED, op.layer)
        for program in self._programs:
            outputs = tuple(self._output(program, name, REPLICATED) if name else "" for name in op.outputs)
            LocalOp(program, op, op.inputs, outputs, 1.0).same()
        for name in op.outputs:
            if name:
                self._forms[name] = {REPLICATED: (name,) * len(self._programs)}

    # ------------------------------------------------------------ values

    def _provide(self, value: str, want: Layout, layer: int) -> Names:
        forms = self._forms.setdefault(value, {})
        if want in forms:
            return forms[want]
        if value in self._program.constants:
            forms[want] = self._weight(value, want)
        elif value in self._fixed:
            forms[want] = self._decompressed(value, want, layer)
        elif value in self._program.inputs and REPLICATED not in forms:
            forms[want] = self._imported(value, want, layer)
        else:
            self._exchange.convert(value, forms, want, layer)
        return forms[want]

    def _weight(self, value: str, want: Layout) -> Names:
        constant = self._program.constants[value]
        made: list[str | None] = []
        for rank, program in enumerate(self._programs):
            if isinstance(want, Split):
                ranges = want.parts[rank]
                named = (
                    program.weight(local_name(value, want, program), constant.sliced(want.axis, ranges))
                    if ranges
                    else None
                )
                made.append(named)
            elif isinstance(want, Partial) and rank != want.ranks[0]:
                made.append(None)
            else:
                made.append(program.weight(value, constant))
        return tuple(made)

    def _decompressed(self, value: str, want: Layout, layer: int) -> Names:
        """What an operator makes of constants: of a part of them where it works element by element, else cut out."""
        op = self._fixed[value]
        source = self._fixed_inputs(op, want) if isinstance(want, Split) else None
        if source is not None:
            inputs = [self._provide(name, layout, layer) if name else None for name, layout in source]
            made: list[str | None] = []
            for rank, program in enumerate(self._programs):
                taken = tuple(held[rank] or "" if held is not None else "" for held in inputs)
                if not isinstance(want, Split) or not want.parts[rank]:
                    made.append(None)
                    continue
                name = self._output(program, value, want)
                LocalOp(program, op, taken, (name,), 1.0).same()
                made.append(name)
            return tuple(made)
        forms = self._forms.setdefault(value, {})
        if REPLICATED not in forms:
            self._write_whole(op)
            forms = self._forms[value]
        return self._exchange.convert(value, forms, want, layer)

    def _fixed_inputs(self, op: Op, want: Split) -> list[tuple[str, Layout]] | None:
        """Layouts of a fixed operator's inputs that give its output in layout ``want``; None if that is not simple."""
        rank = len(self._program.types[op.inputs[0]].shape or ())
        if op.domain or len(op.outputs) != 1:
            return None
        if op.type in _FIXED_ELEMENT_BY_ELEMENT:
            return [(op.inputs[0], want)]
        if op.type == "Transpose":
            perm = op.attributes.get("perm")
            axes = list(perm.as_ints()) if perm is not None else list(reversed(range(rank)))
            return [(op.inputs[0], Split(axes[want.axis], want.parts))]
        if op.type == "DequantizeLinear":
            block = op.attributes.get("block_size")
            if block is not None and block.as_int():
                return None
            along = op.attributes.get("axis")
            axis = (along.as_int() if along is not None else 1) % max(rank, 1)
            wanted: list[tuple[str, Layout]] = [(op.inputs[0], want)]
            for name in op.inputs[1:]:
                per_axis = bool(name) and len(self._program.types[name].shape or ()) == 1
                wanted.append((name, Split(0, want.parts) if per_axis and axis == want.axis else REPLICATED))
            return wanted
        return None

    def _imported(self, value: str, want: Layout, layer: int) -> Names:
        """Each rank fetches what it wants of an input of the whole program."""
        made: list[str | None] = []
        for rank, program in enumerate(self._programs):
            if isinstance(want, Partial) and rank != want.ranks[0]:
                made.append(None)
                continue
            if not isinstance(want, Split):
                made.append(self._fetched(program, value, value, (), layer))
                continue
            if not want.parts[rank]:
                made.append(None)
                continue
            name = local_name(value, want, program)
            ranges = want.parts[rank]
            if len(ranges) == 1:
                made.append(self._fetched(program, value, name, (Slice(want.axis, *ranges[0]),), layer))
            elif name not in program.types:
                low, high = min(a for a, _ in ranges), max(b for _, b in ranges)
                span = self._fetched(
                    program, value, f"{name}/span{program.mark}", (Slice(want.axis, low, high),), layer
                )
                program.types[name] = local_type(self._program.types[value], want, rank)
                inner = tuple((a - low, b - low) for a, b in ranges)
                made.append(cut(program, span, name, want.axis, inner, program.new_bundle()))
            else:
                made.append(name)
        return tuple(made)

    def _fetched(self, program: RankProgram, value: str, name: str, slices: tuple[Slice, ...], layer: int) -> str:
        if name not in program.inputs:
            held = self._program.types[value]
            for one in slices:
                held = held.resized(one.axis, one.stop - one.start)
            program.types[name] = held
            program.inputs[name] = None
            self._imports.append(Import(program.rank, name, value, slices, layer))
        return name
