"""How axes correspond to those of the same elements in another shape, and what a split becomes there."""

from __future__ import annotations

from collections.abc import Sequence

from core.plan.layouts import Range, Ranges, tidy


def axis_groups(
    before: Sequence[int], varying_before: Sequence[bool], after: Sequence[int], varying_after: Sequence[bool]
) -> list[tuple[list[int], list[int]]] | None:
    """The smallest runs of axes of one shape and of the other with the same number of elements, in order.

    Fixed axes of size 1 are in none of them. None where sizes that vary do not match, or a size is 0.
    """
    if 0 in before:
        return None
    sources = [axis for axis, size in enumerate(before) if size != 1 or varying_before[axis]]
    targets = [axis for axis, size in enumerate(after) if size != 1 or varying_after[axis]]
    found: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(sources) and j < len(targets):
        first_i, first_j = i, j
        left, right = before[sources[i]], after[targets[j]]
        i, j = i + 1, j + 1
        while left != right:
            if left < right:
                if i == len(sources):
                    return None
                left *= before[sources[i]]
                i += 1
            else:
                if j == len(targets):
                    return None
                right *= after[targets[j]]
                j += 1
        varies = any(varying_before[axis] for axis in sources[first_i:i])
        made_varies = any(varying_after[axis] for axis in targets[first_j:j])
        # a varying axis that happens to be 1 now may belong to this run although the sizes agree without it
        if made_varies and not varies and i < len(sources) and before[sources[i]] == 1:
            i += 1
        elif varies and not made_varies and j < len(targets) and after[targets[j]] == 1:
            j += 1
        elif varies != made_varies:
            return None
        found.append((sources[first_i:i], targets[first_j:j]))
    if i < len(sources) or j < len(targets):
        return None
    return found


def carried(ranges: Ranges, inner: int, period: int, new_inner: int, new_period: int, most: int) -> Ranges | None:
    """Ranges of an axis in terms of another axis of the same elements; None where they are not ranges of it.

    An axis is known by the number of elements of one index of it (``inner``) and of the whole axis (``period``); the
    pattern of what is held is repeated outside of it. ``most``: ranges that may come out.
    """
    flat = [(start * inner, stop * inner) for start, stop in ranges]
    if new_period > period:
        repeats = new_period // period
        if new_period % period or repeats * len(flat) > most * 4:
            return None
        flat = [(start + turn * period, stop + turn * period) for turn in range(repeats) for start, stop in flat]
    elif new_period < period:
        if period % new_period or period // new_period > most * 4:
            return None
        pattern = _repeated(flat, new_period, period // new_period)
        if pattern is None:
            return None
        flat = pattern
    found = tidy(flat)
    if len(found) > most or any(start % new_inner or stop % new_inner for start, stop in found):
        return None
    return tuple([(start // new_inner, stop // new_inner) for start, stop in found])


def _repeated(flat: Sequence[Range], period: int, repeats: int) -> list[Range] | None:
    """The pattern that ``flat`` consists of, once for each of the stretches of ``period``, in order."""
    stretches: list[list[Range]] = [[] for _ in range(repeats)]
    now = 0
    for start, stop in flat:
        at = start
        while at < stop:
            turn = at // period
            if turn < now:
                return None
            now = turn
            end = min(stop, (turn + 1) * period)
            stretches[turn].append((at - turn * period, end - turn * period))
            at = end
    first = tidy(stretches[0])
    return list(first) if all(tidy(stretch) == first for stretch in stretches) else None
