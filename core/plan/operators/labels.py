"""Operators described by labels: axes of inputs and outputs that carry the same label are shared out together.

A product of matrices has rows "m", columns "n" and the summed "k"; attention has heads "h", each of which is a stretch
of indices of the features. From such a *pattern* come the choices that follow the inputs, the seeds and the links.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import lcm
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from msgspec import Struct

from core.plan.layouts import (
    REPLICATED,
    Layout,
    Partial,
    Ranges,
    Segments,
    Split,
    all_segments_joined,
    clipped,
    length,
    scaled,
    shifted,
    split_by,
    tidy,
)
from core.plan.operators.base import AxisLink, Choice, Have, LinkRule, Local, OpView, Rule, emit_same
from core.plan.operators.following import shares_of_terms

Parts = tuple[Ranges, ...]
"""Of a label, in its steps, for every rank."""


class Axis(NamedTuple):
    """What an axis has to do with a label: nothing but stretches in which a step of the label is ``unit`` indices."""

    label: str
    stretches: tuple[tuple[int, int], ...] = ((0, 1),)
    """(first index, unit). Queries, keys and values of heads of 64, side by side: ((0, 64), (768, 64), (1536, 64))."""


def in_units(label: str, unit: int) -> Axis:
    return Axis(label, ((0, unit),))


Axes = Mapping[int, Axis]
"""By axis; the axes that are left out cannot be split."""
NO_AXES: Axes = MappingProxyType({})


class Division(NamedTuple):
    """What a choice shares out, for those who write the operator for a rank."""

    label: str
    """ "": an input comes in terms."""
    parts: Parts
    ranks: tuple[int, ...]
    terms: bool
    """Whether the outputs are terms of a sum."""

    def steps(self, label: str, whole: int, rank: int) -> int:
        """How many steps of ``label`` the rank has; ``whole`` if it is not the one that is shared out."""
        return length(self.parts[rank]) if label == self.label else whole


Write = Callable[[Division], Callable[[Local], None]]


def write_same(_: Division) -> Callable[[Local], None]:
    return emit_same


class Pattern(Struct, frozen=True, eq=False):
    """An operator's labels."""

    inputs: tuple[Axes, ...]
    """One for each input of the operator."""
    outputs: tuple[Axes, ...]
    summed: frozenset[str] = frozenset()
    """Labels that no output has: split along one of them, each rank's outputs are terms of a sum."""
    linear: tuple[int, ...] = ()
    """Inputs of which a term gives a term of the outputs."""
    kinds: Mapping[str, str] = MappingProxyType({})
    """How the operator's weights are divided along a label. Seeds are offered for these, in this order."""
    write: Write = write_same
    """Writes the operator for a rank."""


Build = Callable[[OpView], Pattern | None]
"""What an operator's labels are; None: it cannot be divided. Asked only where all shapes are known."""


def axes_of(view: OpView, given: Mapping[int, Axes]) -> tuple[Axes, ...]:
    """One entry for each input of the operator, absent ones too."""
    return tuple(given.get(index, NO_AXES) if view.has(index) else NO_AXES for index in range(len(view.op.inputs)))


def outputs_of(view: OpView, given: Mapping[int, Axes]) -> tuple[Axes, ...]:
    return tuple(given.get(index, NO_AXES) if name else NO_AXES for index, name in enumerate(view.op.outputs))


def single(view: OpView, *indices: int) -> bool:
    """Whether each of these inputs has one element, or is absent."""
    return all(not view.has(i) or all(size == 1 for size in view.shape(i)) for i in indices)


def broadcast_axes(view: OpView, index: int, out: Axes, sizes: Sequence[int]) -> Axes:
    """Labels of an input that is broadcast to an output of these sizes and labels."""
    if not view.has(index):
        return NO_AXES
    shape = view.shape(index)
    shift = len(sizes) - len(shape)
    return {i: out[i + shift] for i, size in enumerate(shape) if i + shift in out and size == sizes[i + shift]}


def without(inputs: tuple[str, ...], *left_out: int) -> tuple[str, ...]:
    """Inputs with some optional ones taken away."""
    kept = [("" if i in left_out else name) for i, name in enumerate(inputs)]
    while kept and not kept[-1]:
        kept.pop()
    return tuple(kept)


def added_once(index: int, required: str = "") -> Write:
    """The operator adds input ``index`` to its outputs: where they are terms, only the first rank does.

    ``required``: dtype of the zero that stands for the input on the others, where the operator cannot be without it.
    """

    def write(division: Division) -> Callable[[Local], None]:
        def emit(local: Local) -> None:
            inputs = local.inputs
            if local.rank != division.ranks[0]:
                kept = without(inputs, index)
                inputs = (*kept, local.constant(np.zeros(1, required))) if required else kept
            local.same(inputs)

        return emit if division.terms else emit_same

    return write


def rule_of(build: Build) -> Rule:
    def rule(view: OpView, have: Have) -> Iterable[Choice]:
        pattern = view.once(build, lambda: build(view)) if view.known else None
        return choices(view, have, pattern) if pattern is not None else ()

    return rule


def links_of(build: Build) -> LinkRule:
    def link(view: OpView) -> Iterable[AxisLink]:
        pattern = build(view) if view.known else None
        return links(view, pattern) if pattern is not None else ()

    return link


def tables(builds: Mapping[str, Build]) -> tuple[Mapping[str, Rule], Mapping[str, LinkRule]]:
    """RULES and LINKS of operators that are described by patterns alone."""
    rules = {key: rule_of(build) for key, build in builds.items()}
    return MappingProxyType(rules), MappingProxyType({key: links_of(build) for key, build in builds.items()})


def choices(view: OpView, have: Have, pattern: Pattern) -> Iterator[Choice]:
    """All choices of the operator's one pattern, each once: those that follow the inputs, then the seeds."""
    seen: set[tuple[str, Parts]] = set()
    for index, layout in enumerate(have):
        if isinstance(layout, Split):
            axis = pattern.inputs[index].get(layout.axis)
            parts = _steps(layout.parts, axis) if axis is not None else None
            if axis is None or parts is None or (axis.label, parts) in seen:
                continue
            seen.add((axis.label, parts))
            yield from divided(view, pattern, axis.label, parts)
        elif isinstance(layout, Partial) and index in pattern.linear:
            yield from _of_terms(view, pattern, index, layout)
    for label, parts, found in view.once(_seeds, lambda: _seeds(view, pattern)):
        if (label, parts) not in seen:
            yield from found


def divided(view: OpView, pattern: Pattern, label: str, parts: Parts) -> Iterator[Choice]:
    """The choice that shares out a label like this, if the operator can."""
    ranks = tuple(rank for rank, ranges in enumerate(parts) if ranges)
    terms = label in pattern.summed
    if not ranks or _varies(view, pattern, label) or (terms and not Split(0, parts).exact):
        return
    inputs = tuple(
        (_laid_out(axes, label, parts) or REPLICATED) if view.has(index) else None
        for index, axes in enumerate(pattern.inputs)
    )
    if len({*zip(view.op.inputs, inputs, strict=True)}) != len({*view.op.inputs}):
        return  # the same value would be wanted in two layouts
    outputs: list[Layout] = []
    for name, axes in zip(view.op.outputs, pattern.outputs, strict=True):
        layout = _laid_out(axes, label, parts) or (Partial(ranks) if terms else None)
        if layout is None and name:
            return
        outputs.append(layout or REPLICATED)
    total = max(stop for ranges in parts for _, stop in ranges)
    shares = tuple(length(ranges) / total for ranges in parts)
    emit = pattern.write(Division(label, parts, ranks, terms))
    yield Choice(inputs, tuple(outputs), shares, pattern.kinds.get(label, ""), emit)


def links(view: OpView, pattern: Pattern) -> Iterator[AxisLink]:
    """Joins the axes of each label.

    Heads that no tensor has as an axis of their own become axis 0 of a value that is not there, "{first
    output}/{label}": so they stay whole all the same.
    """
    places: dict[str, list[tuple[str, int, Axis]]] = {}
    for names, several in ((view.op.outputs, pattern.outputs), (view.op.inputs, pattern.inputs)):
        for name, axes in zip(names, several, strict=True):
            for index, axis in axes.items() if name else ():
                places.setdefault(axis.label, []).append((name, index, axis))
    for label, found in places.items():
        single = [(name, index) for name, index, axis in found if axis.stretches == ((0, 1),)]
        child = single[0] if single else (f"{view.op.outputs[0]}/{label}", 0)
        for name, index, axis in found:
            for offset, unit in axis.stretches:
                if (name, index) != child:
                    yield AxisLink(child, (name, index), inner=unit, offset=offset)


def _of_terms(view: OpView, pattern: Pattern, index: int, held: Partial) -> Iterator[Choice]:
    if view.op.inputs.count(view.op.inputs[index]) > 1:
        return  # the product of two sums is not the sum of products
    inputs = tuple(held if i == index else REPLICATED if view.has(i) else None for i, _ in enumerate(view.op.inputs))
    outputs = tuple(held if name else REPLICATED for name in view.op.outputs)
    yield Choice(inputs, outputs, shares_of_terms(held, view), "", pattern.write(Division("", (), held.ranks, True)))


def _laid_out(axes: Axes, label: str, parts: Parts) -> Split | None:
    for index, axis in axes.items():
        if axis.label == label:
            return Split(index, tuple(_indices(ranges, axis) for ranges in parts))
    return None


def _indices(ranges: Ranges, axis: Axis) -> Ranges:
    return tidy(one for offset, unit in axis.stretches for one in shifted(scaled(ranges, unit), offset))


def _steps(parts: Parts, axis: Axis) -> Parts | None:
    """The label's parts from those of one of its axes; None where a step would be torn apart."""
    if axis.stretches == ((0, 1),):
        return parts
    offset, unit = axis.stretches[0]
    last = (
        axis.stretches[1][0] if len(axis.stretches) > 1 else max((r[1] for ranges in parts for r in ranges), default=0)
    )
    found = []
    for ranges in parts:
        own = clipped(ranges, offset, last)
        steps = tuple(((start - offset) // unit, (stop - offset) // unit) for start, stop in own)
        if _indices(steps, axis) != tidy(ranges):  # a step is torn, or the stretches are not cut alike
            return None
        found.append(steps)
    return tuple(found)


def _seeds(view: OpView, pattern: Pattern) -> list[tuple[str, Parts, tuple[Choice, ...]]]:
    seeds = [(label, _seed(view, pattern, label)) for label in pattern.kinds]
    return [(label, parts, tuple(divided(view, pattern, label, parts))) for label, parts in seeds if parts is not None]


def _seed(view: OpView, pattern: Pattern, label: str) -> Parts | None:
    """The label shared out by speed, as those who hold its axes like it best."""
    places = _places(view.op.outputs, pattern.outputs, label) or _places(view.op.inputs, pattern.inputs, label)
    wishes = [_wish(view.segments(name, index), axis) for name, index, axis in places if len(axis.stretches) == 1]
    usable = [wish for wish in wishes if wish is not None]
    if not usable or len(usable) != len(wishes):
        return None
    parts = split_by(all_segments_joined(usable), 0, view.group).parts
    return parts if sum(map(bool, parts)) > 1 else None


def _places(names: tuple[str, ...], several: tuple[Axes, ...], label: str) -> list[tuple[str, int, Axis]]:
    return [
        (name, index, axis)
        for name, axes in zip(names, several, strict=True)
        for index, axis in (axes.items() if name else ())
        if axis.label == label
    ]


def _wish(segments: Segments, axis: Axis) -> Segments | None:
    """Segments of an axis as segments of its label; None where they do not fall on whole steps."""
    _, unit = axis.stretches[0]
    if unit == 1:
        return segments
    found = []
    for size, granule in segments:
        if size % unit:
            return None
        found.append((size // unit, lcm(granule, unit) // unit))
    return tuple(found)


def _varies(view: OpView, pattern: Pattern, label: str) -> bool:
    for types, several in ((view.inputs, pattern.inputs), (view.outputs, pattern.outputs)):
        for found, axes in zip(types, several, strict=True):
            for index, axis in axes.items():
                if axis.label == label and found is not None and found.varying is not None and found.varying[index]:
                    return True
    return False
