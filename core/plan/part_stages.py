"""Cut a program that is a part of a model already into stages that follow one another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise

from core.errors import PlanError
from core.plan.program import Op, Program

_LEAST_SECONDS = 1e-9
"""What an operator without work counts for."""


def cut_program(program: Program, speeds: Sequence[float], seconds: Callable[[Op], float]) -> list[Program]:
    """As many stages as there are ``speeds``, cut where the work, in order, is shared by speed.

    What hangs on constants only is repeated in each stage that reads it. PlanError where there are too few operators.
    """
    moving = [op for op in program.ops if not _is_fixed(op, program)]
    if len(moving) < len(speeds):
        raise PlanError(
            f"A part of {len(moving)} operators cannot be cut into {len(speeds)} stages.",
            hint="Put pipeline outermost, or use fewer stages.",
        )
    bounds = _bounds([seconds(op) + _LEAST_SECONDS for op in moving], speeds)
    stage_of = {
        name: stage
        for stage, (first, last) in enumerate(pairwise(bounds))
        for op in moving[first:last]
        for name in op.outputs
        if name
    }
    return [
        _stage(program, moving[first:last], stage, stage_of, len(speeds))
        for stage, (first, last) in enumerate(pairwise(bounds))
    ]


def _is_fixed(op: Op, program: Program) -> bool:
    return all(name in program.fixed for name in op.outputs if name)


def _bounds(seconds: Sequence[float], speeds: Sequence[float]) -> list[int]:
    """First operator of each stage, and the end; every stage has at least one."""
    done = list(accumulate(seconds))
    bounds = [0]
    for share in list(accumulate(speeds))[:-1]:
        goal = done[-1] * share / sum(speeds)
        nearest = min(range(len(done)), key=lambda i: abs(done[i] - goal)) + 1
        bounds.append(min(max(nearest, bounds[-1] + 1), len(done) - (len(speeds) - len(bounds))))
    return [*bounds, len(done)]


def _stage(program: Program, own: Sequence[Op], stage: int, stage_of: dict[str, int], stages: int) -> Program:
    is_last = stage == stages - 1
    passed = [name for name in program.outputs if name not in stage_of] if is_last else []
    needed = {name for op in own for name in op.reads} | {*passed}
    repeated: list[Op] = []
    for op in reversed(program.ops):
        if _is_fixed(op, program) and not needed.isdisjoint(op.outputs):
            repeated.append(op)
            needed.update(op.reads)
    ops = (*reversed(repeated), *own)
    reads = dict.fromkeys([*(name for op in ops for name in op.reads), *passed])
    made = dict.fromkeys(name for op in own for name in op.outputs if name)
    elsewhere = [name for name in reads if stage_of.get(name, stage) != stage or name in program.inputs]
    later = {name for op in program.ops if stage_of.get(_first(op), stage) > stage for name in op.reads}
    outputs = (*(name for name in made if name in later or name in program.outputs), *passed)
    constants = {name: held for name, held in program.constants.items() if name in reads}
    return Program(ops, tuple(elsewhere), outputs, program.types, constants, program.fixed)


def _first(op: Op) -> str:
    return next((name for name in op.outputs if name), "")
