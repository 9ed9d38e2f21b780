"""Is a plan's output the whole model's? Compared before a deployment is called ready, and by ``run --verify``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from core.model.chance import draws
from core.model.graph import Model

Array = npt.NDArray[Any]


class Verification(Struct, frozen=True):
    """The verdict over all outputs of a model."""

    max_abs_error: float
    """Largest absolute difference of any element; infinite where a shape, a NaN or an infinity differs."""
    max_rel_error: float
    """Largest difference relative to its tensor's scale, which is the largest finite magnitude expected in it."""
    passed: bool
    reason: str = ""
    """For people: the first output that differs, and how. Empty when passed."""
    drawn: int = 0
    """Outputs that are drawn at random, of which only shape and type could be compared."""


def drawn_outputs(
    model: Model,
    reference: Callable[[Mapping[str, Array]], Sequence[Array]],
    feed: Mapping[str, Array],
    expected: Sequence[Array],
    rtol: float = 1e-4,
) -> frozenset[int]:
    """Places of the outputs that the whole model does not repeat on the same ``feed``, because it draws numbers."""
    if not draws(model.ir.graph):
        return frozenset()
    pairs = zip(expected, reference(feed), strict=True)
    again = [verify_outputs([one], [other], rtol) for one, other in pairs]
    return frozenset(place for place, found in enumerate(again) if not found.passed)


def verify_outputs(
    expected: Sequence[Array], actual: Sequence[Array], rtol: float = 1e-4, drawn: Collection[int] = ()
) -> Verification:
    """Compare a plan's outputs with the whole model's, pairwise in the order of the model's outputs.

    Floating point tensors pass when every difference is within ``rtol`` of the tensor's scale (for float16 at least
    four units of its last place); integers, booleans and strings must be equal. Sums are grouped differently in a
    shard than in the whole model, so the last bits of floating point results may differ. Of the places in ``drawn``
    only shape and type are compared.
    """
    if len(expected) != len(actual):
        reason = f"{len(actual)} outputs came, {len(expected)} were expected"
        return Verification(float("inf"), float("inf"), False, reason)
    worst_abs = worst_rel = 0.0
    reason = ""
    for index, (want, got) in enumerate(zip(expected, actual, strict=True)):
        one, other = np.asarray(want), np.asarray(got)
        abs_error, rel_error, problem = _form(one, other) if index in drawn else _difference(one, other, rtol)
        worst_abs, worst_rel = max(worst_abs, abs_error), max(worst_rel, rel_error)
        if problem and not reason:
            reason = f"output {index}: {problem}"
    return Verification(worst_abs, worst_rel, not reason, reason, len(drawn))


def _form(want: Array, got: Array) -> tuple[float, float, str]:
    """As ``_difference``, of shape and type alone."""
    infinite = float("inf")
    if want.shape != got.shape:
        return infinite, infinite, f"shape {list(got.shape)} instead of {list(want.shape)}"
    if want.dtype != got.dtype:
        return infinite, infinite, f"type {got.dtype} instead of {want.dtype}"
    return 0.0, 0.0, ""


def _difference(want: Array, got: Array, rtol: float) -> tuple[float, float, str]:
    """Absolute error, error relative to the scale of ``want``, and what is wrong ("" when nothing is)."""
    infinite = float("inf")
    form = _form(want, got)
    if form[2]:
        return form
    if want.size == 0:
        return 0.0, 0.0, ""
    if not np.issubdtype(want.dtype, np.inexact):
        return _exact_difference(want, got)
    finite = np.isfinite(want)
    if not np.array_equal(finite, np.isfinite(got)) or not np.array_equal(want[~finite], got[~finite], equal_nan=True):
        return infinite, infinite, "NaN or infinity in other places"
    wide = np.complex128 if np.iscomplexobj(want) else np.float64
    want_finite, got_finite = want[finite].astype(wide), got[finite].astype(wide)
    if want_finite.size == 0:
        return 0.0, 0.0, ""
    abs_error = float(np.max(np.abs(want_finite - got_finite)))
    scale = float(np.max(np.abs(want_finite)))
    rel_error = abs_error / scale if scale > 0 else abs_error
    tolerance = max(rtol, 4 * float(np.finfo(want.dtype).eps))
    problem = "" if rel_error <= tolerance else f"differs by {rel_error:.2g} of its scale (allowed {tolerance:.2g})"
    return abs_error, rel_error, problem


def _exact_difference(want: Array, got: Array) -> tuple[float, float, str]:
    differing = int(np.count_nonzero(want != got))
    if differing == 0:
        return 0.0, 0.0, ""
    problem = f"{differing} of {want.size} elements differ"
    if not np.issubdtype(want.dtype, np.number) and want.dtype != np.bool_:
        return 1.0, 1.0, problem
    abs_error = float(np.max(np.abs(want.astype(np.float64) - got.astype(np.float64))))
    scale = float(np.max(np.abs(want.astype(np.float64))))
    return abs_error, abs_error / scale if scale > 0 else abs_error, problem
