"""All stages that a pipeline could have, as tables from one position in the model to another.

Row a, column b: a stage that begins at ``positions[a]`` and ends before ``positions[b]``. Seconds, bytes and memory are
those that ``core.cost.chain`` counts for it, but for tensors that several later stages read, which count once when they
are sent.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from core.cost.memory import ARENA
from core.cost.messages import IN_FLIGHT, TYPICAL, MessageCosts
from core.cost.nodes import NodeCost
from core.cost.tables import Tables
from core.wire.pacing import SHORT_SECONDS

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

FEWEST_POSITIONS: Final = 16


class Stages(Struct, frozen=True, eq=False):
    positions: Ints
    """0, the places that may be cut, and the number of layers."""
    allowed: Bools
    """The stage has layers of its own, gets something and makes something, and what crosses its ends can travel."""
    seconds: Floats
    """At speed 1."""
    received: Floats
    """Bytes from other stages."""
    given: Floats
    """Bytes from the client."""
    sent: Floats
    """Bytes for other stages."""
    results: Floats
    """Bytes for the client."""
    memory: Floats
    """Bytes: weights, activations, and what waits; without the runtime's own."""
    handling: Floats
    """Seconds, at speed 1, of all messages at this stage's end of them."""

    def cycle_seconds(self, cost: NodeCost) -> Floats:
        """The least time between two micro-batches on such a node."""
        compute = self.seconds / cost.speed
        handling = self.handling * (cost.cpu_limit / cost.speed)
        if cost.spare_core:
            return np.maximum(compute, handling)
        return np.maximum(compute, compute * cost.cpu_limit + handling)

    def through_seconds(self, cost: NodeCost) -> Floats:
        """What the stage adds to the time of one micro-batch alone."""
        found: Floats = (self.seconds + self.handling) * (cost.cpu_limit / cost.speed)
        return found


def stages_of(known: Tables, layer_seconds: Sequence[float], most: int, messages: MessageCosts = TYPICAL) -> Stages:
    """Tables with at most so many positions: of longer models the narrowest of several neighbours. The last few are
    kept with ``known``: cuts that follow a mouse are balanced again and again."""
    key = tuple(layer_seconds), most, messages
    found = known.kept.get(key)
    if not isinstance(found, Stages):
        found = _made(known, layer_seconds, most, messages)
        known.keep(key, found)
    return found


def _made(known: Tables, layer_seconds: Sequence[float], most: int, messages: MessageCosts) -> Stages:
    positions = _positions(known, most)
    count, ends = known.count, positions[None, :] > positions[:, None]
    prefix = np.concatenate([[0.0], np.cumsum(layer_seconds)])
    again = [known.cuts[p - 1].recomputed if 0 < p < count else () for p in positions]
    extra = np.array([sum(layer_seconds[layer] for layer in layers) for layers in again])
    essential = known.essential[positions]
    allowed = ends & (essential[None, :] > essential[:, None])
    received, sent = _between(known, positions)
    given, results = _client(known, positions)
    allowed &= (received + given > 0) & (sent + results > 0)
    traffic = np.stack([received, sent, given, results])
    memory = _held(known, positions, again) + ARENA * IN_FLIGHT * traffic.sum(axis=0)
    handling = messages.message_s * (traffic > 0).sum(axis=0) + messages.byte_s * traffic.sum(axis=0)
    seconds = prefix[positions][None, :] - prefix[positions][:, None] + extra[:, None]
    seconds += messages.run_s + messages.switch_s * (seconds >= SHORT_SECONDS)
    return Stages(positions, allowed, seconds, received, given, sent, results, memory, handling)


def _positions(known: Tables, most: int) -> Ints:
    legal = np.flatnonzero(known.legal) + 1
    if legal.size > max(most, FEWEST_POSITIONS):
        groups = np.array_split(legal, max(most, FEWEST_POSITIONS))
        legal = np.array([group[np.argmin(known.crossing[group - 1])] for group in groups])
    return np.concatenate([[0], legal, [known.count]]).astype(np.int64)


def _between(known: Tables, positions: Ints) -> tuple[Floats, Floats]:
    size, graph = len(positions), known.graph
    received, sent = np.zeros((size, size)), np.zeros((size, size))
    for index, position in enumerate(positions):
        if not 0 < position < known.count:
            continue
        cut = known.cuts[position - 1]
        recomputed = frozenset(cut.recomputed)
        for name in cut.tensors:
            producer = graph.producer[name]
            if producer in recomputed or producer in graph.fixed:
                continue
            nbytes, readers = known.nbytes.get(name, 0), known.readers.get(name, [])
            place = bisect_left(readers, position)
            if any(layer in recomputed for layer in readers[:place]):
                first = int(position)
            elif place < len(readers):
                first = readers[place]
            else:
                continue
            received[index, np.searchsorted(positions, first, "right") :] += nbytes
            sent[: np.searchsorted(positions, producer, "right"), index] += nbytes
    return received, sent


def _client(known: Tables, positions: Ints) -> tuple[Floats, Floats]:
    size, graph = len(positions), known.graph
    given, results = np.zeros((size, size)), np.zeros((size, size))
    for name in graph.inputs:
        readers = np.array([*known.readers.get(name, []), known.count])
        first = readers[np.searchsorted(readers, positions).clip(max=len(readers) - 1)]
        given += known.nbytes.get(name, 0) * (positions[None, :] > first[:, None])
    for name in graph.outputs:
        if (producer := graph.producer.get(name)) is not None:
            inside = (positions[:, None] <= producer) & (producer < positions[None, :])
            results += known.nbytes.get(name, 0) * inside
    return given, results


def _held(known: Tables, positions: Ints, again: Sequence[Sequence[int]]) -> Floats:
    """Weights and live tensors."""
    own = np.array(known.own_weights, np.float64)
    extra = np.array([sum(own[layer + 1] - own[layer] for layer in layers) for layers in again])
    held = own[positions][None, :] - own[positions][:, None] + extra[:, None]
    for nbytes, layers in known.shared_weights:
        users = np.array([*layers, known.count])
        first = users[np.searchsorted(users, positions).clip(max=len(users) - 1)]
        held = held + nbytes * (positions[None, :] > first[:, None])
    peaks = np.maximum.reduceat(known.live, positions[:-1])
    grown = np.triu(np.broadcast_to(peaks, (len(peaks), len(peaks))))
    live = np.zeros_like(held)
    live[:-1, 1:] = np.maximum.accumulate(grown, axis=1)
    found: Floats = held + ARENA * live
    return found
