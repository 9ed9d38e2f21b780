"""How much memory the intermediate tensors of a program need at once."""

from __future__ import annotations

from collections import Counter

from core.plan.program import Program


def peak_bytes(program: Program) -> int:
    """Peak of live tensors while ``program`` runs once on a micro-batch; weights are not counted.

    A tensor lives from the operator that makes it (an input: from the start) to its last reader; outputs to the end.
    What lies only between added operators has no known size and counts nothing.
    """
    types, constants = program.types, program.constants

    def size(name: str) -> int:
        return types[name].nbytes if name in types and name not in constants else 0

    readers = Counter(name for op in program.ops for name in op.reads)
    readers.update(program.outputs)
    live = sum(map(size, program.inputs))
    peak = live
    for op in program.ops:
        live += sum(size(name) for name in op.outputs if readers[name])
        peak = max(peak, live)
        for name in op.reads:
            readers[name] -= 1
            if readers[name] == 0:
                live -= size(name)
    return peak
