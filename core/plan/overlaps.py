"""How many rows beyond its part a rank may usefully hold, so that windows that follow need no exchange (fused tiles).

One pass from the last operator to the first: what a window's output should have beyond its part says what its input
should have. Linear in the number of operators.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from core.plan.layouts import Group
from core.plan.operators import convolution, pooling, resampling
from core.plan.operators.base import OpView
from core.plan.operators.windows import Window
from core.plan.program import Op, Program

WINDOWS: Final = (1, 2, 4)
"""As many windowed operators, and all up to the next break, are provided for."""
MOST: Final = 4
"""Numbers for one value."""
BREAKS: Final = frozenset(
    {
        "InstanceNormalization",
        "GroupNormalization",
        "com.microsoft.GroupNorm",
        "MeanVarianceNormalization",
        "MatMul",
        "Gemm",
        "Einsum",
        "Transpose",
        "Reshape",
        "Attention",
        "LSTM",
        "GRU",
        "RNN",
        "GridSample",
        "NonMaxSuppression",
    }
)
"""Operators that read the whole image, or another axis of it, though a size may be the same before and after."""
_Depths = tuple[int, ...]
"""Rows wanted beyond a part so that no exchange is needed for 0, 1, ... max(WINDOWS) windows, and last for all."""
_NONE: Final = (0,) * (max(WINDOWS) + 2)


def overlaps(program: Program, opset: int) -> dict[tuple[str, int], tuple[int, ...]]:
    """For values of images and their spatial axes: increasing numbers of rows, the first 0; values that no window
    follows are not in it. No number is as large as half the axis: by then every rank would hold nearly all of it."""
    wanted: dict[tuple[str, int], _Depths] = {}
    for op in reversed(program.ops):
        for value, axis, depths in _asked(program, op, wanted, opset):
            wanted[value, axis] = tuple(map(max, wanted.get((value, axis), _NONE), depths))
    found = {}
    for (value, axis), depths in wanted.items():
        shape = program.types[value].shape
        numbers = _numbers(depths, shape[axis] if shape is not None else 0)
        if len(numbers) > 1:
            found[value, axis] = numbers
    return found


def _numbers(depths: _Depths, size: int) -> tuple[int, ...]:
    numbers = sorted({0, depths[-1], *(depths[count] for count in WINDOWS)})
    numbers = [number for number in numbers if number * 2 < size]
    while len(numbers) > MOST:
        del numbers[2]
    return tuple(numbers)


def _asked(
    program: Program, op: Op, wanted: Mapping[tuple[str, int], _Depths], opset: int
) -> Iterator[tuple[str, int, _Depths]]:
    """(input, axis, rows wanted of it) for the sake of one operator."""
    if op.key in BREAKS or not op.outputs or not op.outputs[0]:
        return
    made = program.types.get(op.outputs[0])
    if made is None or made.shape is None or not 3 <= len(made.shape) <= 5:
        return
    after = {
        axis: tuple(map(max, *(wanted.get((name, axis), _NONE) for name in (*op.outputs, ""))))
        for axis in range(2, len(made.shape))
    }
    windows = _windows(program, op, opset)
    if windows is not None:
        for axis, (window, counts) in windows.items():
            before = _before(window, after[axis], counts)
            if any(before):
                yield op.inputs[0], axis, before
        return
    for name in op.inputs:
        held = program.types.get(name)
        if name in program.constants or held is None or held.shape is None or len(held.shape) != len(made.shape):
            continue
        for axis, depths in after.items():
            if any(depths) and held.shape[axis] == made.shape[axis] > 1:
                yield name, axis, depths


def _before(window: Window, after: _Depths, counts: bool) -> _Depths:
    """``counts``: without enough rows it is this operator itself that needs an exchange."""
    shallow, everything = after[:-1], window.margin(after[-1])
    if counts:
        return (0, *(window.margin(rows) for rows in shallow[:-1]), everything)
    return (*(window.margin(rows) if rows else 0 for rows in shallow), everything if after[-1] else 0)


def _windows(program: Program, op: Op, opset: int) -> dict[int, tuple[Window, bool]] | None:
    """A window and whether it is wide enough to need neighbours, for each spatial axis; {} if it has none that is
    understood; None if the operator is not of this sort."""
    if op.key in convolution.FORMS or op.key in pooling.WINDOWED:
        view = _view(program, op, opset)
        kernels = None
        if view.known:
            kernels = convolution.kernels_of(view) if op.key in convolution.FORMS else pooling.kernels_of(view)
        return {axis: (kernel, kernel.margin(0) > 0) for axis, kernel in enumerate(kernels or (), start=2)}
    if op.key not in resampling.RULES:
        return None
    view = _view(program, op, opset)
    found: dict[int, tuple[Window, bool]] = {}
    if view.known:
        for axis in range(2, len(view.shape(0))):
            window = resampling.window_of(view, axis)
            if window is not None:
                found[axis] = window, window.margin(0) > 0
    return found


def _view(program: Program, op: Op, opset: int) -> OpView:
    return OpView(op, program.types, program.constants, program.fixed, Group((1.0,)), {}, {}, opset)
