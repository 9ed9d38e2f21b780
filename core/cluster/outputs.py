"""The model's outputs out of what a replica's shards send, whole or in pieces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

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
        self._pieces: list[dict[str, list[_Piece]]] = [{} for _ in range(plan.replicas)]
        for route in plan.routes:
            if route.consumer == CLIENT:
                pieces = self._pieces[replica_of[route.producer]].setdefault(route.target, [])
                pieces.append((name_at_consumer(route), route.at))
        self.names = tuple(
            frozenset(name for pieces in outputs.values() for name, _ in pieces) for outputs in self._pieces
        )
        """Of each replica: the names on the wire of all that makes up one micro-batch's results."""

    def join(self, replica: int, arrived: Mapping[str, Array]) -> dict[str, Array]:
        """The model's outputs, read-only, from all of ``names[replica]``; other pieces among them do not count.

        Raises ProtocolError where a piece does not fit its place.
        """
        return {
            output: join([(place, arrived[name]) for name, place in pieces])
            for output, pieces in self._pieces[replica].items()
        }
