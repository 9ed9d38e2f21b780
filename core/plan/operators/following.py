"""What the rules share that follow the layout of their inputs: shares of the work, broadcasting, terms of sums."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from core.plan.layouts import REPLICATED, Layout, Partial, Ranges, Replicated, Split, length
from core.plan.operators.base import AxisLink, Choice, Have, LinkRule, Local, OpView, Rule, emit_same

FLOATS: Final = frozenset({"float16", "bfloat16", "float32", "float64"})
MOST_FOLLOWED: Final = 3
"""Inputs that are held differently and are each followed by a choice of its own."""
MOST_RANGES: Final = 64
"""Of one rank's part; a split that needs more is not worth following."""


def shares_of(split: Split, size: int) -> tuple[float, ...]:
    """Of an operator whose work is even along the split axis of ``size``."""
    return tuple([length(ranges) / size for ranges in split.parts])


def steps_of(parts: Sequence[Ranges], size: int) -> tuple[Ranges, ...] | None:
    """Parts of an axis in steps of ``size`` indices; None where some step is not whole."""
    if any(bound % size for ranges in parts for one in ranges for bound in one):
        return None
    return tuple([tuple([(start // size, stop // size) for start, stop in ranges]) for ranges in parts])


def shares_of_terms(partial: Partial, view: OpView) -> tuple[float, ...]:
    """Each holder of a term does the whole operator on it."""
    return tuple([float(rank in partial.ranks) for rank in view.ranks])


def varies(view: OpView, index: int, axis: int) -> bool:
    """Whether an axis of an input may change between micro-batches."""
    found = view.inputs[index]
    return found is None or found.varying is None or found.varying[axis]


def splits(have: Have) -> list[tuple[int, Split]]:
    """The inputs that are held split, with their numbers."""
    return [(index, layout) for index, layout in enumerate(have) if type(layout) is Split]


def others_replicated(view: OpView, first: Layout) -> tuple[Layout | None, ...]:
    """The first input as given, every other one that is there whole."""
    return (first, *[REPLICATED if name else None for name in view.op.inputs[1:]])


def follow_first(view: OpView, split: Split, axes: Iterable[int], emit: Callable[[Local], None] = emit_same) -> Choice:
    """The first input stays split; ``axes`` are those of each output that its parts become."""
    outputs = tuple([Split(axis, split.parts) for axis in axes])
    shares = shares_of(split, view.shape(0)[split.axis])
    return Choice(others_replicated(view, split), outputs, shares, emit=emit)


def terms_through(view: OpView, held: Layout | None, emit: Callable[[Local], None] = emit_same) -> tuple[Choice, ...]:
    """A linear operator on the first input, where that comes in terms: on every term by itself."""
    first = view.inputs[0]
    if not isinstance(held, Partial) or first is None or first.dtype not in FLOATS:
        return ()
    outputs = (held,) * len(view.outputs)
    return (Choice(others_replicated(view, held), outputs, shares_of_terms(held, view), emit=emit),)


def aligned(view: OpView, split: Split, rank: int, size: int, inputs: Sequence[int]) -> dict[int, Layout] | None:
    """Layouts of broadcast ``inputs`` under a split of an axis of the result.

    The result has ``rank`` axes and is ``size`` long on that one. None where an input does not allow it.
    """
    found: dict[int, Layout] = {}
    for index in inputs:
        held = view.inputs[index]
        if held is None or held.shape is None or held.varying is None:
            return None
        axis = split.axis - rank + len(held.shape)
        if axis < 0:
            found[index] = REPLICATED
        elif held.varying[axis]:
            return None
        elif held.shape[axis] == size:
            found[index] = split if axis == split.axis else Split(axis, split.parts)
        elif held.shape[axis] == 1:
            found[index] = REPLICATED
        else:
            return None
    return found


def broadcast(view: OpView, have: Have) -> Iterator[Choice]:
    """Element by element, inputs broadcast to the output (shapes aligned at their ends): one choice per split input."""
    held = splits(have)
    if not held:
        return
    shape = view.out_shape()
    rank = len(shape)
    seen: list[Split] = []
    for index, layout in held:
        axis = layout.axis + rank - len(view.shape(index))
        split = Split(axis, layout.parts)
        if axis < 0 or view.shape(index)[layout.axis] != shape[axis] or split in seen or len(seen) == MOST_FOLLOWED:
            continue
        seen.append(split)
        given = [i for i, name in enumerate(view.op.inputs) if name]
        wanted = aligned(view, split, rank, shape[axis], given)
        if wanted is not None:
            inputs = tuple([wanted.get(i) for i in range(len(have))])
            yield Choice(inputs, (split,) * len(view.outputs), shares_of(split, shape[axis]))


def broadcast_links(view: OpView) -> Iterator[AxisLink]:
    """Each axis of the output with the same axis of every computed input that has it in full."""
    shape = view.out_shape()
    out = view.op.outputs[0]
    for index, name in enumerate(view.op.inputs):
        held = view.inputs[index]
        if not name or view.constant[index] or held is None or held.shape is None or held.varying is None:
            continue
        before = len(shape) - len(held.shape)
        for axis, size in enumerate(held.shape):
            if size > 1 and not held.varying[axis] and axis + before >= 0 and shape[axis + before] == size:
                yield AxisLink((out, axis + before), (name, axis))


def same_axis_links(
    view: OpView, pairs: Iterable[tuple[int, int]], outputs: Sequence[int] = (0,)
) -> Iterator[AxisLink]:
    """Links of the first input's axes with axes of outputs, given as (axis of the input, axis of the output)."""
    if view.constant[0]:
        return
    shape = view.shape(0)
    for before, after in pairs:
        if shape[before] > 1 and not varies(view, 0, before):
            for index in outputs:
                if view.op.outputs[index]:
                    yield AxisLink((view.op.outputs[index], after), (view.op.inputs[0], before))


AxisMap = Callable[[OpView], Sequence[int | None] | None]
"""For every axis of the first input the axis of the outputs that it becomes; None for those that cannot be followed.
None instead of all where nothing is known."""


def mapped(axes: AxisMap, *, linear: bool = False) -> tuple[Rule, LinkRule]:
    """Rule and links of an operator whose meaning on parts of the first input is its meaning on the whole."""

    def rule(view: OpView, have: Have) -> Iterable[Choice]:
        held = have[0]
        if held is None or type(held) is Replicated:
            return ()
        if isinstance(held, Partial):
            return terms_through(view, held) if linear else ()
        assert isinstance(held, Split)
        found = axes(view)
        after = found[held.axis] if found is not None else None
        return (follow_first(view, held, (after,) * len(view.outputs)),) if after is not None else ()

    def links(view: OpView) -> Iterable[AxisLink]:
        found = axes(view) or ()
        pairs = [(before, after) for before, after in enumerate(found) if after is not None]
        return same_axis_links(view, pairs, range(len(view.outputs)))

    return rule, links


def normal_axis(axis: int, rank: int) -> int:
    """Counted from the front."""
    return axis + rank if axis < 0 else axis


def constant_numbers(view: OpView, name: str, index: int) -> tuple[int, ...] | None:
    """Whole numbers that are an attribute or, in later opsets, a constant input; None where computed or absent."""
    found = view.numbers(name)
    if found is not None:
        return found
    value = view.value(index)
    return tuple([int(number) for number in value.reshape(-1).tolist()]) if value is not None else None
