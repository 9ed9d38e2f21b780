"""Values that a program hands on without making them: a graph's output must be made by one of its operators."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

import msgspec

from core.plan.program import Op, Program

PASSED: Final = "/passed_on"
"""Ending of a shard's output that repeats one of its inputs or a constant."""


def identity(value: str, result: str) -> Op:
    """Repeats a value under another name."""
    return Op("Identity", (value,), (result,), name=result)


def passed_name(value: str, taken: Collection[str]) -> str:
    """A name for the repeated value that is not ``taken``."""
    name = f"{value}{PASSED}"
    while name in taken:
        name += "_"
    return name


def passing(program: Program) -> tuple[Program, Mapping[str, str]]:
    """The program with every output made by an operator, and the name by which each output leaves."""
    made = {name for op in program.ops for name in op.outputs}
    passed = {name: passed_name(name, program.types) for name in program.outputs if name not in made}
    names = {name: passed.get(name, name) for name in program.outputs}
    if not passed:
        return program, names
    whole = msgspec.structs.replace(
        program,
        ops=(*program.ops, *(identity(value, name) for value, name in passed.items())),
        outputs=tuple(names.values()),
        types={**program.types, **{name: program.types[value] for value, name in passed.items()}},
    )
    return whole, names
