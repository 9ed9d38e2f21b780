"""One rank's program while it is written: operators with local names, the weights it needs, the types of its values."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any
from zlib import crc32

import numpy as np
import onnx_ir as ir

from core.model.chance import CHANCE
from core.plan.layouts import Layout, Partial, Ranges, Replicated, Split, length
from core.plan.program import Constant, Op, Program, TensorType


class RankProgram:
    """Grows operator by operator; ``finished`` gives the program."""

    def __init__(self, rank: int, taken: frozenset[str] = frozenset()) -> None:
        """``taken``: names of the program that is being divided, which nothing made here may have."""
        self.rank = rank
        self.types: dict[str, TensorType] = {}
        self.constants: dict[str, Constant] = {}
        self.inputs: dict[str, None] = {}
        self.outputs: dict[str, None] = {}
        self.ops: list[Op] = []
        self._taken = taken
        self._bundles = 0
        self._fresh = 0

    @classmethod
    def continuing(cls, program: Program) -> RankProgram:
        """One that begins with what ``program`` has."""
        made = cls(0, names_of(program))
        made.types = dict(program.types)
        made.constants = dict(program.constants)
        made.inputs = dict.fromkeys(program.inputs)
        made.ops = list(program.ops)
        made._bundles = max((op.bundle for op in program.ops), default=0) + 1
        return made

    def new_bundle(self) -> int:
        self._bundles += 1
        return self._bundles

    def own(self, name: str) -> str:
        """``name``, changed where the divided program has it already; always in the same way."""
        while name in self._taken:
            name += "'"
        return name

    def fresh(self, stem: str) -> str:
        """Another name with each call."""
        self._fresh += 1
        return self.own(f"{stem}/{self._fresh}")

    def weight(self, name: str, constant: Constant) -> str:
        """Declare a weight under a name; the same name is the same weight."""
        if name not in self.constants:
            self.constants[name] = constant
            self.types[name] = TensorType(constant.dtype, constant.shape, (False,) * len(constant.shape))
        return name

    def small(self, array: np.ndarray, stem: str) -> str:
        """A small constant made here."""
        return self.weight(self.fresh(stem), Constant(ir.Tensor(np.asarray(array, order="C"))))

    def add(
        self,
        op_type: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        bundle: int,
        *,
        name: str = "",
        domain: str = "",
        layer: int = -1,
        **attributes: Any,
    ) -> str:
        held = {attr.name: attr for attr in ir.convenience.convert_attributes(attributes)}
        self.ops.append(
            Op(
                op_type,
                tuple(inputs),
                tuple(outputs),
                held,
                domain,
                "",
                name or f"{op_type}({outputs[0]})",
                layer,
                bundle=bundle,
            )
        )
        return outputs[0]

    def finished(self) -> Program:
        fixed = hanging_on_constants(self.ops, self.constants)
        return Program(tuple(self.ops), tuple(self.inputs), tuple(self.outputs), self.types, self.constants, fixed)


def hanging_on_constants(ops: Iterable[Op], constants: Collection[str]) -> frozenset[str]:
    """Values that operators make of nothing but constants; ``ops`` are in an order in which they can run."""
    fixed: set[str] = set()
    for op in ops:
        reads = op.reads
        if reads and op.type not in CHANCE and all(name in constants or name in fixed for name in reads):
            fixed.update(filter(None, op.outputs))
    return frozenset(fixed)


class LocalOp:
    """Writes one rank's copy of an operator (the ``Local`` that choices write to)."""

    def __init__(
        self, program: RankProgram, op: Op, inputs: tuple[str, ...], outputs: tuple[str, ...], share: float
    ) -> None:
        self.rank = program.rank
        self.inputs = inputs
        self.outputs = outputs
        self._program = program
        self._op = op
        self._share = share
        self._bundle = program.new_bundle()

    def add(
        self,
        op_type: str,
        inputs: Sequence[str],
        outputs: Sequence[str] | None = None,
        *,
        domain: str = "",
        **attributes: Any,
    ) -> str:
        made = tuple(outputs) if outputs is not None else (self._program.fresh(self.outputs[0]),)
        return self._program.add(op_type, inputs, made, self._bundle, domain=domain, **attributes)

    def constant(self, array: np.ndarray) -> str:
        return self._program.small(array, f"{self.outputs[0]}/constant")

    def same(self, inputs: Sequence[str] | None = None, outputs: Sequence[str] | None = None, **changed: Any) -> None:
        op = self._op
        attributes: Mapping[str, ir.Attr] = op.attributes
        if changed:
            given = {name: value for name, value in changed.items() if value is not None}
            fresh = {attr.name: attr for attr in ir.convenience.convert_attributes(given)}
            attributes = {name: attr for name, attr in op.attributes.items() if name not in changed} | fresh
        self._program.ops.append(
            Op(
                type=op.type,
                inputs=tuple(inputs if inputs is not None else self.inputs),
                outputs=tuple(outputs if outputs is not None else self.outputs),
                attributes=attributes,
                domain=op.domain,
                overload=op.overload,
                name=op.name,
                layer=op.layer,
                share=self._share * op.share,
                captures=op.captures,
                bundle=self._bundle,
            )
        )


def local_name(value: str, layout: Layout, program: RankProgram) -> str:
    """What a rank calls its part of ``value``."""
    if isinstance(layout, Replicated):
        return value
    if isinstance(layout, Partial):
        return program.own(f"{value}/partial")
    return program.own(f"{value}[{layout.axis}:{shown(layout.parts[program.rank])}]")


def names_of(program: Program) -> frozenset[str]:
    """Every name that a program's operators know, in their subgraphs too."""
    names = {*program.types, *program.constants, *program.inputs}
    for op in program.ops:
        names.update(op.inputs, op.outputs, op.captures)
        for attribute in op.attributes.values():
            names.update(_inner_names(attribute))
    return frozenset(names)


def _inner_names(attribute: ir.Attr) -> Iterator[str]:
    graphs: Sequence[ir.Graph] = ()
    if attribute.type == ir.AttributeType.GRAPH:
        graphs = (attribute.as_graph(),)
    elif attribute.type == ir.AttributeType.GRAPHS:
        graphs = attribute.as_graphs()
    for graph in graphs:
        yield from (value.name for value in graph.inputs if value.name)
        yield from graph.initializers
        for node in graph:
            yield from (value.name for value in node.outputs if value.name)
            for inner in node.attributes.values():
                yield from _inner_names(inner)


def shown(ranges: Ranges) -> str:
    """ "0-384", "0-64+768-832"; many ranges by their number, their length and a checksum."""
    if len(ranges) > 3:
        return f"{len(ranges)} ranges of {length(ranges)} #{crc32(repr(ranges).encode()):08x}"
    return "+".join(f"{start}-{stop}" for start, stop in ranges)


def local_type(whole: TensorType, layout: Layout, rank: int) -> TensorType:
    """Type of a rank's part of a tensor."""
    return whole.resized(layout.axis, length(layout.parts[rank])) if isinstance(layout, Split) else whole
