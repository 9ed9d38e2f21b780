"""A part of a model as operators on named values: what strategies divide, and what a shard's graph is written from.

A name without a mark is a value of the model, whole. What a rank holds of it carries a mark: ``x[1:0-384]`` are indices
0 to 383 of axis 1, ``x/partial`` is a term of a sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import numpy as np
import onnx_ir as ir
from msgspec import Struct

from core.model.graph import Model
from core.model.shapes import itemsize
from core.plan.extract import Fragment, LayerGraph
from core.plan.layouts import Ranges, length, selected


class TensorType(Struct, frozen=True):
    dtype: str
    """numpy name; "" where it is not known."""
    shape: tuple[int, ...] | None
    """For the plan's micro-batch; None where it is not known."""
    varying: tuple[bool, ...] | None = None
    """Per axis: whether the size may change between micro-batches. None: unknown rank, anything may change."""

    @property
    def nbytes(self) -> int:
        """0 where it is not known."""
        return prod(self.shape) * itemsize(self.dtype) if self.shape is not None and self.dtype else 0

    @property
    def port_shape(self) -> tuple[int | None, ...] | None:
        """With None where the size may change."""
        if self.shape is None or self.varying is None:
            return None
        return tuple(None if varies else size for size, varies in zip(self.shape, self.varying, strict=True))

    def resized(self, axis: int, size: int) -> TensorType:
        """The type of a part of it: another, fixed size along one axis."""
        assert self.shape is not None
        assert self.varying is not None
        shape = (*self.shape[:axis], size, *self.shape[axis + 1 :])
        return TensorType(self.dtype, shape, (*self.varying[:axis], False, *self.varying[axis + 1 :]))


class Constant(Struct, frozen=True):
    """A weight, or the slice of one that a rank needs. Nothing is read until the bytes are wanted."""

    tensor: ir.TensorProtocol
    take: tuple[tuple[int, Ranges], ...] = ()
    """(axis, ranges) to keep, each axis once, axes increasing. Empty: all of it."""

    @property
    def shape(self) -> tuple[int, ...]:
        shape = [int(size) for size in self.tensor.shape.numpy()]
        for axis, ranges in self.take:
            shape[axis] = length(ranges)
        return tuple(shape)

    @property
    def dtype(self) -> str:
        return str(self.tensor.dtype.numpy().name)

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.tensor.nbytes // max(1, self.tensor.size)

    def numpy(self) -> np.ndarray:
        """The values; a large weight is read for it."""
        array = np.asarray(self.tensor.numpy())
        for axis, ranges in self.take:
            pieces = [array[(slice(None),) * axis + (slice(start, stop),)] for start, stop in ranges]
            array = pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=axis)
        return array

    def sliced(self, axis: int, ranges: Ranges) -> Constant:
        """A part of it: ``ranges`` of one axis, joined in that order."""
        held = dict(self.take)
        held[axis] = selected(ranges, held[axis]) if axis in held else ranges
        return Constant(self.tensor, tuple(sorted(held.items())))


class Op(Struct, frozen=True, eq=False):
    """One ONNX operator."""

    type: str
    inputs: tuple[str, ...]
    """"" where an optional one is absent."""
    outputs: tuple[str, ...]
    attributes: Mapping[str, ir.Attr] = {}
    domain: str = ""
    overload: str = ""
    name: str = ""
    layer: int = -1
    """Of the model; -1: added by the partition (merging, slicing)."""
    share: float = 1.0
    """Part of the layer's multiply-adds that is done here."""
    captures: tuple[str, ...] = ()
    """Values that subgraphs read from outside; their names cannot change."""
    bundle: int = -1
    """Operators with the same number (and not -1) run in one shard: what is between them has no declared type."""

    @property
    def key(self) -> str:
        """Operator type, with the domain where it is not ONNX's own."""
        return f"{self.domain}.{self.type}" if self.domain else self.type

    @property
    def reads(self) -> tuple[str, ...]:
        """Every value it needs, each once."""
        return tuple(dict.fromkeys(name for name in (*self.inputs, *self.captures) if name))


class Program(Struct, frozen=True, eq=False):
    """Operators in an order in which they can run. Every value is an input, a constant, or made by one operator."""

    ops: tuple[Op, ...]
    inputs: tuple[str, ...]
    """Values that come from outside."""
    outputs: tuple[str, ...]
    """Values that others read."""
    types: Mapping[str, TensorType]
    """Of inputs, outputs, and every value that is not only between operators of one bundle."""
    constants: Mapping[str, Constant]
    fixed: frozenset[str] = frozenset()
    """Values of operators that hang on nothing but constants (weights that are decompressed)."""


def program_of(model: Model, graph: LayerGraph, fragment: Fragment, batch: int, *, pinned: bool = False) -> Program:
    """The operators of a fragment. ``pinned``: sizes never change, a micro-batch always has ``batch`` items."""
    nodes = list(model.ir.graph)
    ops = tuple(_op(nodes[layer], layer, graph) for layer in fragment.layers)
    constants = {name: _constant(model, name) for name in fragment.constants}
    names = {*fragment.inputs, *fragment.outputs, *(name for op in ops for name in op.outputs if name)}
    types = {name: _type(model, name, batch, pinned) for name in names if name not in constants}
    types |= {name: TensorType(c.dtype, c.shape, (False,) * len(c.shape)) for name, c in constants.items()}
    fixed = {name for layer in fragment.layers if layer in graph.fixed for name in graph.makes[layer]}
    return Program(ops, fragment.inputs, fragment.outputs, types, constants, frozenset(fixed))


def _op(node: ir.Node, layer: int, graph: LayerGraph) -> Op:
    inputs = tuple(value.name or "" if value is not None else "" for value in node.inputs)
    return Op(
        type=node.op_type,
        inputs=inputs,
        outputs=tuple(value.name or "" for value in node.outputs),
        attributes=dict(node.attributes),
        domain=node.domain,
        overload=node.overload,
        name=node.name or "",
        layer=layer,
        captures=tuple(name for name in graph.needs[layer] if name not in inputs),
    )


def _constant(model: Model, name: str) -> Constant:
    tensor = model.ir.graph.initializers[name].const_value
    assert tensor is not None, f"initializer {name!r} has no value"
    return Constant(tensor)


def _type(model: Model, name: str, batch: int, pinned: bool) -> TensorType:
    shape, dtype = model.shapes(batch).get(name, (None, ""))
    varying = model.varying(name)
    if shape is None or varying is None:
        return TensorType(dtype, shape, None)
    free = not pinned or model.hangs_on_data(name)
    return TensorType(dtype, shape, tuple(size is None and free for size in varying))
