"""Divide a program over the ranks of one group: what each rank runs, and what travels between them."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from msgspec import Struct

from core.cost.exchange import LinkCost
from core.model.chance import CHANCE
from core.plan.decompressed import dividing_choice
from core.plan.exchange import Exchange, Hop, Names
from core.plan.form import Slice
from core.plan.layouts import REPLICATED, Group, Layout, Partial, Split, covers, span
from core.plan.merging import cut_from_span
from core.plan.op_options import takes_part
from core.plan.operators.base import Choice
from core.plan.program import Op, Program
from core.plan.rank_program import LocalOp, RankProgram, local_name, local_type, names_of
from core.plan.search import Found, Step


class Import(Struct, frozen=True):
    """An input of a rank's program: an input of the divided program, or a part of it."""

    rank: int
    name: str
    value: str
    slices: tuple[Slice, ...]
    layer: int
    """That it is for."""


class GroupProgram(Struct, frozen=True, eq=False):
    """A program divided among ranks."""

    programs: tuple[RankProgram, ...]
    hops: tuple[Hop, ...]
    imports: tuple[Import, ...]
    exports: Mapping[str, Mapping[Layout, Names]]
    """Outputs of the divided program: each form in which the group holds them; only those that the client adds up are
    Partial. All their names are outputs of the ranks' programs."""


def divide(
    program: Program, group: Group, found: Found, link: LinkCost, opset: int, added_outside: Collection[str] = ()
) -> GroupProgram:
    """Write what the search found, for every rank. ``opset``: of ONNX's own operators. ``added_outside``: outputs that
    may leave as terms of a sum, which the client adds up."""
    return _Division(program, group, found, link, opset, added_outside).run()


class _Division:
    def __init__(
        self,
        program: Program,
        group: Group,
        found: Found,
        link: LinkCost,
        opset: int,
        added_outside: Collection[str],
    ) -> None:
        self._program = program
        self._group = group
        self._found = found
        self._opset = opset
        self._added_outside = added_outside
        taken = names_of(program)
        self._programs = tuple(RankProgram(rank, taken) for rank in group.ranks)
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
            if not any(self._is_whole(name, layout) for layout in held):
                self._provide(name, (self._exchange.two_steps(name) if held else None) or REPLICATED, -1)
        exports: dict[str, dict[Layout, Names]] = {
            name: {layout: names for layout, names in self._forms[name].items() if self._is_whole(name, layout)}
            for name in self._program.outputs
        }
        for names in (names for forms in exports.values() for names in forms.values()):
            for program, own in zip(self._programs, names, strict=True):
                if own is not None:
                    program.outputs[own] = None
        return GroupProgram(self._programs, tuple(self._exchange.hops), tuple(self._imports), exports)

    def _is_whole(self, name: str, layout: Layout) -> bool:
        """Whether a form has all of the value; terms of it only where the client adds them up."""
        if isinstance(layout, Partial):
            return name in self._added_outside
        shape = self._program.types[name].shape or ()
        return not isinstance(layout, Split) or covers(layout, shape[layout.axis])

    # ------------------------------------------------------------ operators

    def _write(self, step: Step) -> None:
        op, choice = step.op, step.choice
        if choice is None:
            self._write_whole(op, op.layer)
            return
        for name, layout, held in zip(
            op.outputs, choice.outputs, self._write_choice(op, choice, op.layer), strict=True
        ):
            if name:
                self._forms[name] = {layout: held}

    def _write_choice(self, op: Op, choice: Choice, layer: int) -> list[Names]:
        """What the ranks call each output. ``layer``: for which the inputs are fetched."""
        inputs = [
            self._provide(name, want, layer) if name and want is not None else None
            for name, want in zip(op.inputs, choice.inputs, strict=True)
        ]
        names: list[list[str | None]] = [[None] * len(self._programs) for _ in op.outputs]
        for rank, program in enumerate(self._programs):
            if not takes_part(choice, rank):
                continue
            taken = tuple(held[rank] or "" if held is not None else "" for held in inputs)
            made = tuple(
                self._output(program, name, layout) if name else ""
                for name, layout in zip(op.outputs, choice.outputs, strict=True)
            )
            choice.emit(LocalOp(program, op, taken, made, choice.shares[rank]))
            for index, name in enumerate(made):
                names[index][rank] = name or None
        return [tuple(held) for held in names]

    def _output(self, program: RankProgram, value: str, layout: Layout) -> str:
        name = local_name(value, layout, program)
        program.types[name] = local_type(self._program.types[value], layout, program.rank)
        return name

    def _write_whole(self, op: Op, layer: int) -> None:
        for name in op.reads:
            self._provide(name, REPLICATED, layer)
        drawn = op.type in CHANCE  # by one rank for all: others would have drawn something else
        for program in self._programs[:1] if drawn else self._programs:
            outputs = tuple(self._output(program, name, REPLICATED) if name else "" for name in op.outputs)
            LocalOp(program, op, op.inputs, outputs, 1.0).same()
        for name in filter(None, op.outputs):
            held = self._exchange.handed_out(name, layer) if drawn else (name,) * len(self._programs)
            self._forms.setdefault(name, {})[REPLICATED] = held

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
        """Each rank has the slice of a constant that it needs."""
        constant = self._program.constants[value]
        made: list[str | None] = []
        for program in self._programs:
            if not _held_by(want, program.rank):
                made.append(None)
            elif isinstance(want, Split):
                own = constant.sliced(want.axis, want.parts[program.rank])
                made.append(program.weight(local_name(value, want, program), own))
            else:
                made.append(program.weight(value, constant))
        return tuple(made)

    def _decompressed(self, value: str, want: Layout, layer: int) -> Names:
        """What an operator makes of constants: each rank's part of parts of them, or else cut out of the whole."""
        op = self._fixed[value]
        choice = None
        if isinstance(want, Split):
            choice = dividing_choice(self._program, op, want, self._group, self._opset)
        if choice is not None:
            return self._write_choice(op, choice, layer)[0]
        forms = self._forms[value]
        if REPLICATED not in forms:
            self._write_whole(op, layer)
        return self._exchange.convert(value, forms, want, layer)

    def _imported(self, value: str, want: Layout, layer: int) -> Names:
        """Each rank fetches what it wants of an input of the whole program."""
        made: list[str | None] = []
        for program in self._programs:
            if not _held_by(want, program.rank):
                made.append(None)
                continue
            name = local_name(value, want, program)
            if not isinstance(want, Split):
                made.append(self._fetched(program, value, value, (), layer))
                continue
            ranges = want.parts[program.rank]
            stretch = (Slice(want.axis, *span(ranges)),)
            if len(ranges) == 1:
                self._fetched(program, value, name, stretch, layer)
            elif name not in program.types:
                fetched = self._fetched(program, value, program.own(f"{name}/span"), stretch, layer)
                program.types[name] = local_type(self._program.types[value], want, program.rank)
                cut_from_span(program, fetched, name, want.axis, ranges, program.new_bundle())
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


def _held_by(want: Layout, rank: int) -> bool:
    """Whether a rank takes something of what all of them can have; of terms the first is the whole, the others none."""
    if isinstance(want, Partial):
        return rank == want.ranks[0]
    return not isinstance(want, Split) or bool(want.parts[rank])
