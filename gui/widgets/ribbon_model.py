"""What the ribbon shows, without Qt: the layers of a model on a line from 0 to 1 and the rules for cutting it.

The line is as long as the model takes to run; a layer is as wide as its share. Layers that take next to no time keep a
sliver, so that they can be pointed at; all slivers together are at most 4 % of the line.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from enum import Enum
from itertools import groupby, pairwise
from typing import Protocol

import numpy as np
from msgspec import Struct

from gui.pins import Kept

SLIVERS = 0.04
COVERED = 0.5
"""Share of the line whose module must be known for modules to be shown."""


class LayerLike(Protocol):
    """The part of ``core.model.types.Layer`` that the ribbon reads."""

    @property
    def name(self) -> str: ...
    @property
    def op(self) -> str: ...
    @property
    def group(self) -> str: ...


class CutLike(Protocol):
    """The part of ``core.model.types.Cut`` that the ribbon reads."""

    @property
    def position(self) -> int: ...
    @property
    def tensors(self) -> tuple[str, ...]: ...
    @property
    def nbytes(self) -> int: ...


class Refusal(Enum):
    """Why a cut does not go where it was pulled."""

    EMPTY_BEFORE = "the stage before it would have no layer"
    EMPTY_AFTER = "the stage after it would have no layer"
    KEPT = "a layer that is kept on a node would come to another"


class Move(Struct, frozen=True):
    """The cuts after one of them was pulled to a place, and why it stopped short of it."""

    cuts: tuple[int, ...]
    refusal: Refusal | None
    kept: int = -1
    """The layer of a refusal KEPT."""


class Band(Struct, frozen=True):
    """A run of layers of one module: ``first`` to ``last``, the latter excluded."""

    label: str
    first: int
    last: int


def split_group(group: str) -> tuple[str, ...]:
    """The levels of a module path: ``"layer1/layer1.0/layer1.0.conv1"`` is layer1, layer1.0, conv1.

    Without slashes dots part the levels, and a number stays with the name before it: ``"encoder.layer.0"``.
    """
    if "/" not in group:
        return _merge_numbers(group.split("."))
    levels: list[str] = []
    above = ""
    for part in filter(None, group.split("/")):
        rest = part.removeprefix(f"{above}.") if above else part
        levels.append(part if rest.isdigit() else rest)
        above = part
    return tuple(levels)


def module_paths(layers: Sequence[LayerLike]) -> list[tuple[str, ...]]:
    """The modules that hold each layer; where the file names none, the names of the layers tell: ``layer1.0.conv1``."""
    paths = [split_group(layer.group or _dotted(layer.name).rpartition(".")[0]) for layer in layers]
    modules = {path[:depth] for path in paths for depth in range(1, len(path) + 1)}
    for place, layer in enumerate(layers):
        own = split_group(_dotted(layer.name))
        if own in modules:  # features.0 belongs with features.0.relu
            paths[place] = own
    return paths


def _dotted(name: str) -> str:
    return name if "." in name and "/" not in name else ""


def _merge_numbers(parts: Sequence[str]) -> tuple[str, ...]:
    levels: list[str] = []
    for part in filter(None, parts):
        if part.isdigit() and levels and not levels[-1][-1].isdigit():
            levels[-1] += f".{part}"
        else:
            levels.append(part)
    return tuple(levels)


class RibbonModel:
    """The layers, how wide each is, what crosses at every position. Immutable."""

    def __init__(self, layers: Sequence[LayerLike], costs: Sequence[float], crossings: Sequence[CutLike]) -> None:
        """``costs``: one for each layer, in any unit (seconds, multiply-adds); only their shares count.

        Raises ValueError when ``costs`` and ``layers`` differ in length.
        """
        if len(layers) != len(costs):
            raise ValueError(f"{len(layers)} layers but {len(costs)} costs")
        self.layers: tuple[LayerLike, ...] = tuple(layers)
        self.costs: tuple[float, ...] = tuple(costs)
        self.crossings: Mapping[int, CutLike] = {
            cut.position: cut for cut in crossings if 0 < cut.position < len(layers)
        }
        self.positions: tuple[int, ...] = tuple(sorted(self.crossings))
        self.edges = _edges(self.costs)
        """float64 [layers + 1]: layer i covers edges[i] to edges[i + 1]."""
        self._paths = _without_common_prefix(module_paths(self.layers))
        self._rows: dict[int, tuple[tuple[Band, ...], ...]] = {}

    def __len__(self) -> int:
        return len(self.layers)

    # ---------------------------------------------------------------- places

    def layer_at(self, u: float) -> int:
        """The layer under ``u`` (0..1)."""
        return int(np.clip(np.searchsorted(self.edges, u, side="right") - 1, 0, len(self) - 1))

    def position_at(self, u: float) -> int | None:
        """The legal cut position nearest to ``u``; None for a model that cannot be cut."""
        if not self.positions:
            return None
        return min(self._around(self._first_edge_after(u)), key=lambda p: abs(float(self.edges[p]) - u))

    def _first_edge_after(self, u: float) -> int:
        return int(np.searchsorted(self.edges, u, side="left"))

    def _around(self, position: int) -> tuple[int, ...]:
        """The legal positions next to ``position`` on both sides."""
        i = bisect_right(self.positions, position)
        return self.positions[max(0, i - 2) : i + 1]

    def nearest(self, position: int) -> int:
        """The legal position nearest to ``position``."""
        return min(self.positions, key=lambda p: abs(p - position)) if self.positions else position

    # ---------------------------------------------------------------- cutting

    def stages(self, cuts: Sequence[int]) -> tuple[range, ...]:
        """The layers of each stage."""
        return tuple(range(first, last) for first, last in pairwise((0, *cuts, len(self))))

    def stage_of(self, cuts: Sequence[int], layer: int) -> int:
        return bisect_right(list(cuts), layer)

    def move(self, cuts: Sequence[int], index: int, position: int, pins: Kept = ()) -> Move:
        """Pull cut ``index`` to ``position``: it stops where a stage next to it would become empty, or where one of
        ``pins`` would leave its stage."""
        low = cuts[index - 1] if index > 0 else 0
        high = cuts[index + 1] if index + 1 < len(cuts) else len(self)
        before = max((layer for layer, stage in pins if stage <= index), default=-1)
        after = min((layer for layer, stage in pins if stage > index), default=len(self))
        allowed = [p for p in self.positions if low < p < high and before < p <= after]
        if not allowed:
            return Move(tuple(cuts), Refusal.EMPTY_AFTER if position > cuts[index] else Refusal.EMPTY_BEFORE)
        target = min(allowed, key=lambda p: abs(p - position))
        moved = (*cuts[:index], target, *cuts[index + 1 :])
        if position < allowed[0]:
            return Move(moved, Refusal.KEPT, before) if before > low else Move(moved, Refusal.EMPTY_BEFORE)
        if position > allowed[-1]:
            return Move(moved, Refusal.KEPT, after) if after < high - 1 else Move(moved, Refusal.EMPTY_AFTER)
        return Move(moved, None)

    def step(self, cuts: Sequence[int], index: int, steps: int, pins: Kept = ()) -> Move:
        """Move cut ``index`` by so many legal positions; past the last one it stays and says why."""
        at = self.positions.index(self.nearest(cuts[index])) + steps
        if at < 0:
            return Move(tuple(cuts), Refusal.EMPTY_BEFORE)
        if at >= len(self.positions):
            return Move(tuple(cuts), Refusal.EMPTY_AFTER)
        return self.move(cuts, index, self.positions[at], pins)

    def step_group(self, cuts: Sequence[int], index: int, direction: int, pins: Kept = ()) -> Move:
        """Move cut ``index`` to the next place where another module begins; by one layer where there is none."""
        starts = [band.first for band in self.bands(max(self.depth, 1)) if 0 < band.first < len(self)]
        here = cuts[index]
        beyond = [p for p in starts if (p > here if direction > 0 else p < here)]
        if not beyond:
            return self.step(cuts, index, direction, pins)
        return self.move(cuts, index, beyond[0] if direction > 0 else beyond[-1], pins)

    def crossing_bytes(self, position: int) -> int:
        cut = self.crossings.get(position)
        return cut.nbytes if cut else 0

    def even_cuts(self, speeds: Sequence[float]) -> tuple[int, ...] | None:
        """Cuts that give each stage work in proportion to its node's speed, as nearly as the layers allow.

        None when there are fewer legal positions than cuts needed.
        """
        needed = len(speeds) - 1
        if needed > len(self.positions):
            return None
        shares = np.cumsum(speeds) / sum(speeds)
        cuts: list[int] = []
        free = list(self.positions)
        for i, share in enumerate(shares[:-1].tolist()):
            last = len(free) - (needed - 1 - i)
            place = min(range(last), key=lambda p: abs(float(self.edges[free[p]]) - share))
            cuts.append(free[place])
            free = free[place + 1 :]
        return tuple(cuts)

    # ---------------------------------------------------------------- modules

    @property
    def depth(self) -> int:
        """How many levels the module names have, without what all share."""
        return max((len(path) for path in self._paths), default=0)

    def bands(self, depth: int) -> tuple[Band, ...]:
        """Runs of layers whose module names agree in the first ``depth`` levels; layers without a name are left out."""
        bands = []
        first = 0
        for path, run in groupby(path[:depth] for path in self._paths):
            count = len(list(run))
            if path:
                bands.append(Band(_label(path), first, first + count))
            first += count
        return tuple(bands)

    def band_rows(self, room: int) -> tuple[tuple[Band, ...], ...]:
        """At most two rows of bands: a coarse one, and the finest one with no more than ``room`` bands."""
        if room not in self._rows:
            self._rows[room] = self._find_rows(room)
        return self._rows[room]

    def _covered(self, bands: Sequence[Band]) -> float:
        return sum(float(self.edges[band.last] - self.edges[band.first]) for band in bands)

    def _find_rows(self, room: int) -> tuple[tuple[Band, ...], ...]:
        levels = [bands for depth in range(1, self.depth + 1) if self._covered(bands := self.bands(depth)) >= COVERED]
        coarse = next((bands for bands in levels if len(bands) > 1), levels[0] if levels else ())
        if not coarse or len(coarse) > 3 * room:
            return ()
        finer = [bands for bands in levels if len(coarse) < len(bands) <= room]
        return (coarse, finer[-1]) if finer else (coarse,)


def _edges(costs: Sequence[float]) -> np.ndarray:
    work = np.maximum(np.asarray(costs, dtype=np.float64), 0.0)
    if not len(work):
        return np.zeros(1)
    total = float(work.sum())
    shares = work / total if total > 0 else np.full(len(work), 1.0 / len(work))
    shares = np.maximum(shares, SLIVERS / len(work))
    edges = np.concatenate(([0.0], np.cumsum(shares)))
    edges /= edges[-1]
    return edges


def _without_common_prefix(paths: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    named = [path for path in paths if path]
    shared = 0
    if named:
        shortest = min(len(path) for path in named)
        while shared < shortest - 1 and len({path[shared] for path in named}) == 1:
            shared += 1
    return [path[shared:] for path in paths]


def _label(path: tuple[str, ...]) -> str:
    """``layer1.0`` rather than ``0``."""
    return ".".join(path[-2:]) if len(path) > 1 and path[-1].isdigit() else path[-1]
