"""The model's outputs out of what a replica's shards send, whole, in pieces, or as terms of a sum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from core.errors import ProtocolError
from core.plan.form import CLIENT, Plan, Slice
from core.wire.pieces import join, name_at_consumer

Array = npt.NDArray[Any]
_Piece = tuple[str, tuple[Slice, ...]]
"""(its name on the wire, its place in the output)"""


class Outputs:
    """Which pieces of each output a replica of ``plan`` sends for a micro-batch.

    A piece is named after its place, so that the same name means the same numbers whichever replica sends it.
    """

    def __init__(self, plan: Plan) -> None:
        replica_of = {shard.id: shard.replica for shard in plan.shards}
        self._terms: list[dict[str, dict[int, list[_Piece]]]] = [{} for _ in range(plan.replicas)]
        """Of each replica: by output and number of the term, its pieces."""
        for route in plan.routes:
            if route.consumer == CLIENT:
                terms = self._terms[replica_of[route.producer]].setdefault(route.target, {})
                terms.setdefault(route.term or 0, []).append((name_at_consumer(route), route.at))
        self.names = tuple(
            frozenset(name for terms in outputs.values() for pieces in terms.values() for name, _ in pieces)
            for outputs in self._terms
        )
        """Of each replica: the names on the wire of all that makes up one micro-batch's results."""

    def join(self, replica: int, arrived: Mapping[str, Array]) -> dict[str, Array]:
        """The model's outputs, read-only, from all of ``names[replica]``; other pieces among them do not count. Terms
        are added in the order of their numbers.

        Raises ProtocolError where a piece does not fit its place, or a term does not fit the others.
        """
        return {
            output: _added([join([(place, arrived[name]) for name, place in terms[term]]) for term in sorted(terms)])
            for output, terms in self._terms[replica].items()
        }


def _added(terms: Sequence[Array]) -> Array:
    first = terms[0]
    if len(terms) == 1:
        return first
    if any((one.shape, one.dtype) != (first.shape, first.dtype) for one in terms):
        shapes = ", ".join(f"{one.dtype} {one.shape}" for one in terms)
        raise ProtocolError(f"The terms of an output are not alike: {shapes}.")
    total = np.add(first, terms[1])
    for term in terms[2:]:
        np.add(total, term, out=total)
    total.flags.writeable = False
    return total
