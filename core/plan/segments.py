"""Which stretches of an axis must stay together when it is shared out: heads, grouped queries and their keys, the
queries, keys and values of one projection.

Operators say which axes are shared out together (``AxisLink``); granules and boundaries spread along these links until
nothing changes.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from math import lcm
from typing import Final

from core.plan.layouts import Segments, joined_segments
from core.plan.operators.base import AxisLink
from core.plan.program import TensorType

MOST_SEGMENTS: Final = 64
"""Axes with more stretches than this (hundreds of concatenated pieces) are left alone."""
_Axis = tuple[str, int]


def solve_segments(links: Iterable[AxisLink], types: Mapping[str, TensorType]) -> dict[_Axis, Segments]:
    """How each linked axis is best shared out; axes that are not in it may be divided anywhere.

    A child may be the axis of a value that is not there (the heads of an operator that takes them as features): it is
    as long as the shortest of its parents says.
    """
    links = tuple(links)
    types = {**_not_there(links, types), **types}
    found: dict[_Axis, Segments] = {}
    touching: dict[_Axis, list[AxisLink]] = defaultdict(list)
    queue: deque[AxisLink] = deque()
    for link in links:
        if _size(types, link.child) is None or _size(types, link.parent) is None:
            continue
        touching[link.child].append(link)
        touching[link.parent].append(link)
        if link.outer != 1 or link.inner != 1 or _size(types, link.child) != _size(types, link.parent):
            queue.append(link)
    while queue:
        link = queue.popleft()
        child = found.get(link.child) or ((_size(types, link.child) or 0, 1),)
        parent = found.get(link.parent) or ((_size(types, link.parent) or 0, 1),)
        for axis, before, after in (
            (link.parent, parent, joined_segments(parent, _embedded(child, link, parent))),
            (link.child, child, joined_segments(child, _projected(parent, link, child))),
        ):
            if before != after and len(after) <= MOST_SEGMENTS:
                found[axis] = after
                queue.extend(touching[axis])
    return found


def _not_there(links: Iterable[AxisLink], types: Mapping[str, TensorType]) -> dict[str, TensorType]:
    """Types of children that no operator makes."""
    lengths: dict[str, int] = {}
    for link in links:
        size = _size(types, link.parent)
        if link.child[0] not in types and size is not None:
            length = (size - link.offset) // (link.outer * link.inner)
            lengths[link.child[0]] = min(length, lengths.get(link.child[0], length))
    return {name: TensorType("", (length,), (False,)) for name, length in lengths.items()}


def _size(types: Mapping[str, TensorType], axis: _Axis) -> int | None:
    held = types.get(axis[0])
    if held is None or held.shape is None or not 0 <= axis[1] < len(held.shape):
        return None
    return held.shape[axis[1]]


def _total(segments: Segments) -> int:
    return sum(size for size, _ in segments)


def _embedded(child: Segments, link: AxisLink, parent: Segments) -> Segments:
    """What the child asks of its parent."""
    own = tuple((size * link.inner, granule * link.inner) for size, granule in child) * link.outer
    after = _total(parent) - link.offset - _total(own)
    if after < 0:
        return parent
    return (*_free(link.offset), *own, *_free(after))


def _free(size: int) -> Segments:
    return ((size, 1),) if size else ()


def _projected(parent: Segments, link: AxisLink, child: Segments) -> Segments:
    """What the parent asks of its child."""
    stretch = _total(child) * link.inner
    found = child
    for block in range(link.outer):
        first = link.offset + block * stretch
        found = joined_segments(found, _shrunk(_window(parent, first, first + stretch), link.inner) or child)
    return found


def _window(segments: Segments, first: int, last: int) -> Segments:
    """The stretches of [first, last)."""
    kept = []
    start = 0
    for size, granule in segments:
        low, high = max(start, first), min(start + size, last)
        if low < high:
            fits = (low - start) % granule == 0 and (high - low) % granule == 0
            kept.append((high - low, granule if fits else high - low))
        start += size
    return tuple(kept)


def _shrunk(segments: Segments, inner: int) -> Segments:
    """Of an axis whose elements are ``inner`` of the given one's; boundaries between them are dropped."""
    if inner == 1:
        return segments
    found: list[tuple[int, int]] = []
    size = 0
    granule = 1
    for stretch, grain in segments:
        size += stretch
        granule = lcm(granule, grain)
        if size % inner == 0:
            units = size // inner
            grains = lcm(granule, inner) // inner
            found.append((units, grains if units % grains == 0 else units))
            size, granule = 0, 1
    return tuple(found) if size == 0 else ()
