"""Sums over ranges of a model's layers, so that a cut can be dragged and every figure moves with it.

Everything that does not depend on the cuts is counted once for a model and a batch size and kept with the model;
a question about layers ``first`` to ``last`` is then a difference of two sums.
"""

from __future__ import annotations

import weakref
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from itertools import accumulate, pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from core.model.graph import Model
from core.model.shapes import nbytes
from core.model.types import Cut
from core.plan.blobs import BLOB_DTYPES
from core.plan.extract import LayerGraph, layer_graph

_META_KEY: Final = "shardboard.cost_tables"


KEPT: Final = 3
CLIENT: Final = -1
"""As a stage: where inputs come from and results go."""


class Tables:
    """What the cost model asks of a model at one batch size. Never changed once made."""

    def __init__(self, model: Model, batch: int) -> None:
        self._model = weakref.ref(model)
        shapes = model.shapes(batch)
        self.graph: LayerGraph = layer_graph(model)
        self.count = len(self.graph.needs)
        self.cuts: tuple[Cut, ...] = model.cuts(batch)
        self.nbytes = {name: nbytes(*entry) for name, entry in shapes.items()}
        self.readers: dict[str, list[int]] = defaultdict(list)
        """Layers that read a value, in order."""
        for layer, names in enumerate(self.graph.needs):
            for name in names:
                self.readers[name].append(layer)
        self.own_weights, self.shared_weights = self._weights(model)
        """Prefix sums of the bytes of weights that one layer alone uses; and of each other its bytes and its layers."""
        self.live = self._live_bytes()
        again = self.graph.fixed.union(*{cut.recomputed for cut in self.cuts})
        self.essential = np.array([0, *accumulate(int(layer not in again) for layer in range(self.count))])
        """Prefix count of the layers that are never run again elsewhere: a stage with one of them has work to do."""
        self.legal = np.array(
            [all(shapes.get(name, (None, ""))[1] in BLOB_DTYPES for name in cut.tensors) for cut in self.cuts], bool
        )
        """Per cut: everything that crosses it can travel."""
        self.crossing = np.array([sum(map(self._travelling_bytes, cut.tensors)) for cut in self.cuts], np.float64)
        """Bytes per cut."""

        self.kept: dict[object, object] = {}
        """What others worked out from these tables, the newest last."""

    def keep(self, key: object, found: object) -> None:
        """Keep it, and no more than ``KEPT`` such."""
        self.kept = {**dict(list(self.kept.items())[1 - KEPT :]), key: found}

    def belong_to(self, model: Model) -> bool:
        """Whether they were counted for this very model: a copy of its graph may carry them along."""
        return self._model() is model

    def weight_bytes(self, first: int, last: int, again: Collection[int] = ()) -> int:
        """Bytes of the distinct weights that layers [first, last) and ``again`` use."""
        extra = {layer for layer in again if not first <= layer < last}
        own = self.own_weights[last] - self.own_weights[first]
        own += sum(self.own_weights[layer + 1] - self.own_weights[layer] for layer in extra)
        for size, layers in self.shared_weights:
            place = bisect_left(layers, first)
            if (place < len(layers) and layers[place] < last) or any(layer in extra for layer in layers):
                own += size
        return own

    def activation_bytes(self, first: int, last: int) -> int:
        """Most bytes alive at once while layers [first, last) run."""
        return int(self.live[first:last].max(initial=0))

    def traffic(self, bounds: Sequence[int]) -> dict[tuple[int, int], int]:
        """Bytes from each stage of a pipeline to each that it sends anything, straight from where it is made to where
        it is read; the stages are those between ``bounds``, and CLIENT. In the order in which a stage sends."""
        nbytes: Counter[tuple[int, int]] = Counter()
        stage_of = _StageOf(bounds)
        for name in self.graph.inputs:
            for stage in sorted({stage_of(layer) for layer in self.readers.get(name, ())}):
                nbytes[CLIENT, stage] += self.nbytes.get(name, 0)
        for stage, (first, last) in enumerate(pairwise(bounds)):
            if stage == 0:
                continue
            cut = self.cuts[first - 1]
            for name in cut.tensors:
                producer = self.graph.producer[name]
                if (
                    producer not in cut.recomputed
                    and producer not in self.graph.fixed
                    and self._read_in(name, first, last, cut.recomputed)
                ):
                    nbytes[stage_of(producer), stage] += self.nbytes.get(name, 0)
        for name in self.graph.outputs:
            if name in self.graph.producer:
                nbytes[stage_of(self.graph.producer[name]), CLIENT] += self.nbytes.get(name, 0)
        return dict(nbytes)

    def _travelling_bytes(self, name: str) -> int:
        return 0 if self.graph.producer[name] in self.graph.fixed else self.nbytes.get(name, 0)

    def _read_in(self, name: str, first: int, last: int, again: Collection[int]) -> bool:
        readers = self.readers.get(name, [])
        place = bisect_left(readers, first)
        return (place < len(readers) and readers[place] < last) or any(layer in again for layer in readers[:place])

    def _weights(self, model: Model) -> tuple[list[int], list[tuple[int, list[int]]]]:
        """Prefix sums of the weights that one layer uses alone; and the others with all layers that use them."""
        own = [0] * self.count
        shared = []
        for name, value in model.ir.graph.initializers.items():
            layers = sorted(self._users(name))
            size = value.const_value.nbytes if value.const_value is not None else 0
            if len(layers) == 1:
                own[layers[0]] += size
            elif layers:
                shared.append((size, layers))
        return [0, *accumulate(own)], shared

    def _users(self, name: str) -> set[int]:
        """Layers that read a weight, itself or decompressed by layers that go where their readers are."""
        users: set[int] = set()
        for layer in self.readers.get(name, ()):
            if layer in self.graph.fixed:
                users = users.union(*(self._users(made) for made in self.graph.makes[layer]))
            else:
                users.add(layer)
        return users

    def _live_bytes(self) -> npt.NDArray[np.int64]:
        """Per layer: bytes of the tensors that are alive while it runs in the whole model."""
        change = np.zeros(self.count + 1, np.int64)
        for name, layer in self.graph.producer.items():
            readers = self.readers.get(name)
            until = self.count - 1 if name in self.graph.outputs else readers[-1] if readers else layer
            change[layer] += self.nbytes.get(name, 0)
            change[until + 1] -= self.nbytes.get(name, 0)
        for name in self.graph.inputs:
            if readers := self.readers.get(name):
                change[0] += self.nbytes.get(name, 0)
                change[readers[-1] + 1] -= self.nbytes.get(name, 0)
        return np.cumsum(change[:-1])


class _StageOf:
    def __init__(self, bounds: Sequence[int]) -> None:
        self._firsts = list(bounds[1:-1])

    def __call__(self, layer: int) -> int:
        return bisect_left(self._firsts, layer + 1)


def tables(model: Model, batch: int) -> Tables:
    """The tables of ``model`` at ``batch``; counted on first use, then kept with the model's graph."""
    held: dict[int, Any] = model.ir.meta.setdefault(_META_KEY, {})
    found = held.get(batch)
    if not isinstance(found, Tables) or not found.belong_to(model):
        found = held[batch] = Tables(model, batch)
    return found
