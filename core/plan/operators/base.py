"""What an operator rule is: from how a group holds the inputs to how it can run the operator.

A rule lists *choices*. Each says which layout it wants of every input, which layout the outputs then have, what part of
the work each rank does, and how to write the operator for one rank. Bringing the inputs into the wanted layouts is not
a rule's business; nor is the choice that always exists, every input and output replicated.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from msgspec import Struct

from core.plan.layouts import Group, Layout, Segments
from core.plan.program import Constant, Op, TensorType

_Made = TypeVar("_Made")
MOST_READ_BYTES = 1 << 16
"""Larger constants are weights: a rule does not look into them."""


class Local(Protocol):
    """One rank's copy of an operator, while it is written. Values between added operators need no type."""

    rank: int
    inputs: tuple[str, ...]
    """Local names, in the layouts that the choice wants; "" where absent."""
    outputs: tuple[str, ...]
    """Local names to be made."""

    def add(
        self,
        op_type: str,
        inputs: Sequence[str],
        outputs: Sequence[str] | None = None,
        *,
        domain: str = "",
        **attributes: Any,
    ) -> str:
        """Add any operator; without ``outputs`` it has one, with a fresh name. Returns the first output's name."""

    def constant(self, array: np.ndarray) -> str:
        """A small constant made here; returns its name."""

    def same(self, inputs: Sequence[str] | None = None, outputs: Sequence[str] | None = None, **changed: Any) -> None:
        """The operator itself, on the rank's own inputs and outputs unless others are given; attributes in ``changed``
        replace its own, None takes one away."""


def emit_same(local: Local) -> None:
    """The operator as it is: its meaning on the parts is its meaning on the whole."""
    local.same()


class Choice(Struct, frozen=True, eq=False):
    """One way in which a group can run an operator."""

    inputs: tuple[Layout | None, ...]
    """Wanted; None where an input is absent."""
    outputs: tuple[Layout, ...]
    shares: tuple[float, ...]
    """Part of the whole operator's work that each rank does; with halo rows computed twice they exceed 1 in all."""
    kind: str = ""
    """For operators with weights, how they are divided: one of KINDS. "" : it follows the layout of its inputs."""
    emit: Callable[[Local], None] = emit_same
    """Called for each rank that takes part: those that hold something of every wanted input and of some output."""


KINDS = ("columns", "rows", "groups", "heads", "vocabulary", "directions")
"""columns: output features or channels; rows: input features or channels, which leaves a sum; groups: of a convolution,
or products side by side; heads: of attention written as one operator; vocabulary: entries of a table, which leaves a
sum; directions: of a recurrent operator."""


class AxisLink(NamedTuple):
    """Two axes that are shared out together. The parent is ``outer`` times a stretch of child x ``inner``.

    The same axis: outer = inner = 1. Reshape of 768 features (parent) to 12 heads of 64 (child: the 12): inner = 64. Of
    2304 to (3, 12, 64): outer = 3, inner = 64. A stretch that begins at ``offset`` of the parent, as with Split and
    Concat: offset, outer = 1, inner = 1. A child may be the axis of a value that is not there, by a name of its own:
    the groups of a convolution, the heads of an operator that takes them as features.
    """

    child: tuple[str, int]
    """(value, axis)"""
    parent: tuple[str, int]
    outer: int = 1
    inner: int = 1
    offset: int = 0


class OpView:
    """An operator with everything that a rule may want to know."""

    def __init__(
        self,
        op: Op,
        types: Mapping[str, TensorType],
        constants: Mapping[str, Constant],
        fixed: frozenset[str],
        group: Group,
        segments: Mapping[tuple[str, int], Segments],
        overlaps: Mapping[tuple[str, int], tuple[int, ...]],
        opset: int,
    ) -> None:
        self.op = op
        self.opset = opset
        """Of ONNX's own operators."""
        self.group = group
        self.inputs: tuple[TensorType | None, ...] = tuple(types.get(name) if name else None for name in op.inputs)
        self.outputs: tuple[TensorType, ...] = tuple(types.get(name, TensorType("", None)) for name in op.outputs)
        self.constant: tuple[bool, ...] = tuple(name in constants or name in fixed for name in op.inputs)
        """Whether each input is a weight: it can be had in every layout for nothing."""
        self._constants = constants
        self._segments = segments
        self._overlaps = overlaps
        self._kept: dict[Hashable, Any] = {}

    def once(self, key: Hashable, make: Callable[[], _Made]) -> _Made:
        """What ``make`` gave at the first call with this key: for what does not depend on how inputs are held, since a
        rule is asked again for every way in which they may be."""
        if key not in self._kept:
            self._kept[key] = make()
        found: _Made = self._kept[key]
        return found

    @property
    def ranks(self) -> range:
        return self.group.ranks

    @cached_property
    def known(self) -> bool:
        """Whether the shapes of all inputs and outputs are known; rules are only asked where they are."""
        held = [t for t, name in zip(self.inputs, self.op.inputs, strict=True) if name]
        held += [t for t, name in zip(self.outputs, self.op.outputs, strict=True) if name]
        return all(t is not None and t.shape is not None and t.varying is not None for t in held)

    def has(self, index: int) -> bool:
        """Whether an optional input is given."""
        return index < len(self.op.inputs) and bool(self.op.inputs[index])

    def shape(self, index: int) -> tuple[int, ...]:
        """Of an input, whole."""
        found = self.inputs[index]
        assert found is not None
        assert found.shape is not None
        return found.shape

    def out_shape(self, index: int = 0) -> tuple[int, ...]:
        found = self.outputs[index].shape
        assert found is not None
        return found

    def value(self, index: int) -> np.ndarray | None:
        """The value of an input that is a small constant; None if it is computed, large, or absent."""
        if not self.has(index):
            return None
        constant = self._constants.get(self.op.inputs[index])
        return constant.numpy() if constant is not None and constant.nbytes <= MOST_READ_BYTES else None

    def number(self, name: str, default: int) -> int:
        attribute = self.op.attributes.get(name)
        return attribute.as_int() if attribute is not None else default

    def real(self, name: str, default: float) -> float:
        attribute = self.op.attributes.get(name)
        return attribute.as_float() if attribute is not None else default

    def numbers(self, name: str) -> tuple[int, ...] | None:
        attribute = self.op.attributes.get(name)
        return tuple(attribute.as_ints()) if attribute is not None else None

    def text(self, name: str, default: str) -> str:
        attribute = self.op.attributes.get(name)
        return attribute.as_string() if attribute is not None else default

    def segments(self, value: str, axis: int) -> Segments:
        """How an axis of ``value`` is best shared out, for the sake of those who read it (heads stay whole, ...)."""
        return self._segments.get((value, axis)) or ((self._size(value, axis), 1),)

    def overlaps(self, value: str, axis: int) -> tuple[int, ...]:
        """Rows that a rank may hold beyond its part on either side, so that windows that follow need no exchange:
        a few increasing numbers that begin with 0."""
        return self._overlaps.get((value, axis), (0,))

    def _size(self, value: str, axis: int) -> int:
        for name, found in zip((*self.op.inputs, *self.op.outputs), (*self.inputs, *self.outputs), strict=True):
            if name == value and found is not None and found.shape is not None:
                return found.shape[axis]
        raise KeyError(value)


Have = Sequence[Layout | None]
"""How the group holds each input now; None where absent. Weights are given as replicated."""
Rule = Callable[[OpView, Have], Iterable[Choice]]
LinkRule = Callable[[OpView], Iterable[AxisLink]]
