"""Where a pipeline may be divided, and what then travels.

Every position between two layers is legal. What crosses is what the first side makes and the second side uses. Two
things are run on both sides instead of being sent: small subgraphs of integers, masks and shapes that hang only on
light integer inputs and on single numbers (exporters share one such tensor among all layers), and values that are no
tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import onnx_ir as ir

from core.model.chance import CHANCE
from core.model.layers import used_values
from core.model.shapes import nbytes
from core.model.types import Cut
from core.model.work import multiply_adds

Concrete = Mapping[str, tuple[tuple[int, ...] | None, str]]

_LIGHT_INPUT: Final = 64 * 1024
"""Bytes up to which an integer model input is worth sending to both sides."""
_LIGHT_CONSTANT: Final = 4 * 1024 * 1024
_LIGHT_TABLE: Final = 64 * 1024
"""Bytes up to which a table of floats may be held by both sides: a position table may, an embedding may not."""
_LIGHT_PRODUCT: Final = 1 << 22
_NUMBER: Final = 64
"""Bytes up to which an integer value may be sent so that something larger can be made again from it."""
_WORTH_A_NUMBER: Final = 1024
_MAX_CLOSURE: Final = 256

_CHEAP: Final = frozenset(
    {
        "Abs", "Add", "And", "Cast", "CastLike", "Ceil", "Clip", "Concat", "ConstantOfShape", "Cos", "CumSum",
        "Div", "Equal", "Erf", "Exp", "Expand", "EyeLike", "Flatten", "Floor", "Gather", "GatherElements",
        "GatherND", "Greater", "GreaterOrEqual", "Identity", "IsInf", "IsNaN", "Less", "LessOrEqual", "Log", "Max",
        "Min", "Mod", "Mul", "Neg", "Not", "Or", "Pad", "Pow", "Range", "Reciprocal", "ReduceMax", "ReduceMin",
        "ReduceProd", "ReduceSum", "Reshape", "Round", "ScatterND", "Shape", "Sign", "Sin", "Size", "Slice",
        "Split", "Sqrt", "Squeeze", "Sub", "Tile", "Transpose", "Trilu", "Unsqueeze", "Where", "Xor", "MatMul",
        "Einsum",
    }
)  # fmt: skip
_TABLE_READERS: Final = frozenset({"Gather", "GatherElements", "GatherND"})
_PRODUCTS: Final = frozenset({"MatMul", "Einsum"})
_INTEGERS: Final = ("int", "uint", "bool")


_SEQUENCES: Final = frozenset(
    {
        "SplitToSequence", "SequenceConstruct", "SequenceInsert", "SequenceErase", "SequenceEmpty", "SequenceMap",
        "Optional",
    }
)  # fmt: skip


def _is_no_tensor(node: ir.Node, value: ir.Value) -> bool:
    return node.op_type in _SEQUENCES or isinstance(value.type, ir.SequenceType | ir.OptionalType)


class _Closure(NamedTuple):
    """How to make a value again."""

    layers: frozenset[int]
    numbers: frozenset[ir.Value]
    """What must be sent for that."""


def find_cuts(model: ir.Model, shapes: Concrete) -> tuple[Cut, ...]:
    """One cut per position 1 .. number of layers - 1, in order."""
    nodes = list(model.graph)
    return _Finder(model, nodes, shapes).cuts()


class _Finder:
    def __init__(self, model: ir.Model, nodes: list[ir.Node], shapes: Concrete) -> None:
        self._nodes = nodes
        self._shapes = shapes
        self._index = {node: position for position, node in enumerate(nodes)}
        self._uses = [used_values(node) for node in nodes]
        self._outputs = frozenset(model.graph.outputs)
        self._closures = self._find_closures(frozenset(model.graph.inputs))
        self._no_tensors = frozenset(value for node in nodes for value in node.outputs if _is_no_tensor(node, value))

    def cuts(self) -> tuple[Cut, ...]:
        leaving: dict[ir.Value, int] = {}
        for position, uses in enumerate(self._uses):
            leaving |= {value: position for value in uses if value.producer() is not None}
        ends: dict[int, list[ir.Value]] = {}
        alive: dict[ir.Value, None] = {}
        has_output = False
        found = []
        for position in range(1, len(self._nodes)):
            made = self._nodes[position - 1].outputs
            has_output = has_output or any(value in self._outputs for value in made)
            for value in ends.pop(position - 1, ()):
                alive.pop(value, None)
            for value in made:
                if leaving.get(value, -1) >= position:
                    alive[value] = None
                    ends.setdefault(leaving[value], []).append(value)
            found.append(self._cut(position, list(alive), has_output))
        return tuple(found)

    def _cut(self, position: int, alive: list[ir.Value], has_output: bool) -> Cut:
        again: set[int] = set()
        carried = dict.fromkeys(value for value in alive if not self._worth_making(value))
        if not carried and not has_output:
            carried = dict.fromkeys(alive)  # else nothing at all would be left for the first side to do
        for value in alive:
            if value not in carried:
                again |= self._closures[value].layers
                carried |= dict.fromkeys(sorted(self._closures[value].numbers, key=lambda number: number.name or ""))
        carried = self._without_sequences(carried, again)
        return Cut(
            position=position,
            tensors=tuple(value.name or "" for value in carried),
            nbytes=sum(nbytes(*self._known(value)) for value in carried),
            recomputed=tuple(sorted(again)),
        )

    def _worth_making(self, value: ir.Value) -> bool:
        closure = self._closures.get(value)
        return closure is not None and (not closure.numbers or nbytes(*self._known(value)) > _WORTH_A_NUMBER)

    def _without_sequences(self, carried: dict[ir.Value, None], again: set[int]) -> dict[ir.Value, None]:
        """Tensors to carry so that the second side can make the sequences among ``carried`` itself."""
        if not self._no_tensors.intersection(carried):
            return carried
        wanted: dict[ir.Value, None] = {}
        pending = list(reversed(carried))
        while pending:
            value = pending.pop()
            producer = value.producer()
            if value in self._no_tensors and producer is not None:
                again.add(self._index[producer])
                pending.extend(used for used in self._uses[self._index[producer]] if used.producer() is not None)
            elif value in self._closures and value not in carried:
                again |= self._closures[value].layers
                wanted |= dict.fromkeys(self._closures[value].numbers)
            else:
                wanted[value] = None
        return wanted

    def _find_closures(self, inputs: frozenset[ir.Value]) -> dict[ir.Value, _Closure]:
        """Values worth making again, and what that takes."""
        closures = self._constant_closures()
        for position, node in enumerate(self._nodes):
            if node.outputs[0] in closures or not self._is_cheap(node):
                continue
            layers, numbers = {position}, set[ir.Value]()
            for value in self._uses[position]:
                if value in closures:
                    layers |= closures[value].layers
                    numbers |= closures[value].numbers
                elif self._is_number(value):
                    numbers.add(value)
                elif not (self._is_light_input(value) if value in inputs else self._is_light_constant(node, value)):
                    break
            else:
                itself = bool(numbers) and all(self._is_number(value) for value in node.outputs)
                if len(layers) <= _MAX_CLOSURE and not itself:
                    closures |= dict.fromkeys(node.outputs, _Closure(frozenset(layers), frozenset(numbers)))
        return closures

    def _constant_closures(self) -> dict[ir.Value, _Closure]:
        """Values that hang on constants only are weights that the graph computes: each side makes its own."""
        closures: dict[ir.Value, _Closure] = {}
        for position, node in enumerate(self._nodes):
            uses = self._uses[position]
            if node.op_type not in CHANCE and all(used in closures or used.is_initializer() for used in uses):
                layers = frozenset({position}).union(*(closures[used].layers for used in uses if used in closures))
                closures |= dict.fromkeys(node.outputs, _Closure(layers, frozenset()))
        return closures

    def _is_number(self, value: ir.Value) -> bool:
        shape, dtype = self._known(value)
        small = shape is not None and dtype.startswith(_INTEGERS) and nbytes(shape, dtype) <= _NUMBER
        return small and value.producer() is not None

    def _is_cheap(self, node: ir.Node) -> bool:
        if node.op_type not in _CHEAP or node.domain:
            return False
        if node.op_type not in _PRODUCTS:
            return True
        shapes = [self._shape(value) for value in node.inputs]
        outputs = [self._shape(value) for value in node.outputs]
        return None not in outputs and multiply_adds(node, shapes, outputs) <= _LIGHT_PRODUCT

    def _is_light_input(self, value: ir.Value) -> bool:
        shape, dtype = self._known(value)
        return shape is not None and dtype.startswith(_INTEGERS) and nbytes(shape, dtype) <= _LIGHT_INPUT

    def _is_light_constant(self, node: ir.Node, value: ir.Value) -> bool:
        tensor = value.const_value
        if tensor is None or not value.is_initializer():
            return False
        table = node.op_type in _TABLE_READERS and tensor.dtype.is_floating_point()
        return tensor.nbytes <= (_LIGHT_TABLE if table else _LIGHT_CONSTANT)

    def _known(self, value: ir.Value) -> tuple[tuple[int, ...] | None, str]:
        return self._shapes.get(value.name or "", (None, ""))

    def _shape(self, value: ir.Value | None) -> tuple[int, ...] | None:
        return None if value is None else self._known(value)[0]
