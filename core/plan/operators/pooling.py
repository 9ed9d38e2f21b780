"""Pooling over windows and over the whole image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import Final

import numpy as np

from core.plan.layouts import Partial, Split
from core.plan.operators.base import AxisLink, Choice, Have, LinkRule, Local, OpView, Rule
from core.plan.operators.following import others_replicated, shares_of, shares_of_terms
from core.plan.operators.windows import Sliding, divided, emit_rows, sliding

WINDOWED: Final = ("MaxPool", "AveragePool", "LpPool", "com.microsoft.QLinearAveragePool")
WHOLE: Final = ("GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool", "com.microsoft.QLinearGlobalAveragePool")
LINEAR: Final = frozenset({"AveragePool", "GlobalAveragePool"})
"""A sum of tensors pools to the sum of what they pool to."""


def _plain(view: OpView) -> bool:
    """Channels come second, and one output is wanted: indices of maxima count through the whole tensor."""
    return len(view.shape(0)) > 2 and len(view.op.outputs) == 1 and not view.number("channels_last", 0)


def _choices(view: OpView, have: Have) -> Iterator[Choice]:
    held = have[0]
    if not _plain(view):
        return
    if isinstance(held, Partial):
        if view.op.key in LINEAR:
            yield Choice(others_replicated(view, held), (held,), shares_of_terms(held, view))
    elif isinstance(held, Split) and held.axis < 2:
        if len(held.ranks) > 1:
            yield Choice(others_replicated(view, held), (held,), shares_of(held, view.shape(0)[held.axis]))
    elif isinstance(held, Split):
        yield from _windows(view, held) if view.op.key in WINDOWED else _averages(view, held)


def _windows(view: OpView, held: Split) -> Iterator[Choice]:
    kernels = kernels_of(view)
    if kernels is None:
        return
    at = held.axis - 2
    for x, made in divided(view, held, kernels[at], view.op.outputs[0]):
        emit = partial(emit_rows, kernels, at, made.parts)
        yield Choice(others_replicated(view, x), (made,), shares_of(made, kernels[at].made), emit=emit)


def kernels_of(view: OpView) -> tuple[Sliding, ...] | None:
    """One for each spatial axis of pooling over windows; None if its attributes and shapes disagree."""
    if not _plain(view):
        return None
    return sliding(view, view.numbers("kernel_shape") or (), ceil=bool(view.number("ceil_mode", 0)))


def _averages(view: OpView, held: Split) -> Iterator[Choice]:
    """The mean over the image is the sum of the ranks' means, each weighted by its part of the image."""
    if view.op.key != "GlobalAveragePool" or view.outputs[0].dtype not in {"float16", "float32", "float64"}:
        return
    size = view.shape(0)[held.axis]
    if not held.exact:
        touching = divided(view, held, Sliding(size, size, 1), view.op.inputs[0])
        if not touching or not touching[0][0].exact:
            return
        held = touching[0][0]
    if len(held.ranks) > 1:
        shares = shares_of(held, size)
        dtype = np.dtype(view.outputs[0].dtype)
        emit = partial(_emit_weighted, shares, dtype)
        yield Choice(others_replicated(view, held), (Partial(held.ranks),), shares, emit=emit)


def _emit_weighted(shares: tuple[float, ...], dtype: np.dtype[np.floating], local: Local) -> None:
    mean = f"{local.outputs[0]}/mean"
    local.same(outputs=[mean])
    local.add("Mul", [mean, local.constant(np.array(shares[local.rank], dtype))], local.outputs)


def _links(view: OpView) -> Iterator[AxisLink]:
    if _plain(view):
        for axis in (0, 1):
            yield AxisLink((view.op.inputs[0], axis), (view.op.outputs[0], axis))


RULES: Final[Mapping[str, Rule]] = MappingProxyType(dict.fromkeys((*WINDOWED, *WHOLE), _choices))
LINKS: Final[Mapping[str, LinkRule]] = MappingProxyType(dict.fromkeys((*WINDOWED, *WHOLE), _links))
