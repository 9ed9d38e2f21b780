"""How long a model's layers take on a node: pieces of the model are timed there, as graphs without weights.

What a piece takes is the node's; how its time is shared among its layers is this workstation's. What was timed is kept
piece by piece, so that a profile that was interrupted goes on where it ended.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
from msgspec import Struct

from core.cluster.measuring_steps import await_reply
from core.cost.profile import Timed, cached_at, layer_seconds, load_profile, profile_model, save_profile, segment_cuts
from core.cost.tables import tables
from core.cost.timeable import Timeable, timeable
from core.cost.types import Profile
from core.errors import PlanError, ProtocolError
from core.model.graph import Model
from core.plan.extract import Fragment, layer_graph, stages, whole
from core.plan.form import NodeId
from core.wire.messages import Measure, Measured

if TYPE_CHECKING:
    from core.cluster.client import Cluster

REPEATS: Final = 100
WHOLE_SECONDS: Final = 0.5
"""Of runs of the whole model, beyond the fewest."""
SEGMENTS_SECONDS: Final = 1.5
"""The same for all pieces together."""
ANSWER_SECONDS: Final = 120.0
WHOLE: Final = "whole"
HERE_SHARE: Final = 0.3
"""Of the progress: the workstation's own profile."""
_ROOM: Final = 2.5
"""Memory that a model takes while it is loaded, against its weights."""


class _Partial(Struct, frozen=True):
    """What was timed before a profile was interrupted."""

    seconds: Mapping[str, float]
    """By piece: WHOLE, or "first-last"."""


def profile_on(
    cluster: Cluster,
    node: NodeId,
    model: Model,
    batch: int,
    *,
    progress: Callable[[float], None] | None = None,
    cancel: threading.Event | None = None,
    resumed: Callable[[float], None] | None = None,
) -> Profile:
    """Time the layers of ``model`` on ``node``, with all its threads and without its CPU limit, for micro-batches of
    ``batch`` items; from the cache when that was done before. ``resumed`` is called with the share that an interrupted
    profile had done before this one goes on with it.

    Raises Cancelled, PlanError where the model cannot be timed in pieces, and what ``Cluster.request`` raises.
    """
    stop, report = cancel or threading.Event(), progress or (lambda _: None)
    info = cluster.node(node).info
    if info is None:
        raise PlanError(f"{cluster.node(node).name} is not connected, so nothing can be measured there.")
    path = cached_at(model, batch, info.threads, node=node)
    found = load_profile(path, model, batch)
    if found is None:
        here = profile_model(model, batch, progress=lambda done: report(HERE_SHARE * done), cancel=stop)
        found = _Profiling(cluster, node, model, here, path, stop, report, resumed).run()
        save_profile(path, found)
        _partial_at(path).unlink(missing_ok=True)
    report(1.0)
    return found


def at_speed_one(profile: Profile, speed: float) -> Profile:
    """A node's profile as of a machine of speed 1, for predictions: ``speed`` is the node's without its CPU limit."""
    seconds = tuple(speed * taken for taken in profile.layer_seconds)
    return msgspec.structs.replace(profile, layer_seconds=seconds, total_seconds=speed * profile.total_seconds)


class _Profiling:
    def __init__(
        self,
        cluster: Cluster,
        node: NodeId,
        model: Model,
        here: Profile,
        path: Path,
        stop: threading.Event,
        report: Callable[[float], None],
        resumed: Callable[[float], None] | None,
    ) -> None:
        self._cluster = cluster
        self._node = node
        self._model = model
        self._here = here
        self._partial = _partial_at(path)
        self._stop = stop
        self._report = report
        self._resumed = resumed
        self._seconds = _load_partial(self._partial)

    def run(self) -> Profile:
        model, here = self._model, self._here
        graph, count = layer_graph(model), len(here.layer_seconds)
        node = self._cluster.node(self._node)
        assert node.info is not None
        if not count:
            return msgspec.structs.replace(here, threads=node.info.threads, node=self._node)
        guess = np.array(here.layer_seconds)
        cuts = segment_cuts(model, here.batch, guess, here.total_seconds)
        at = tables(model, here.batch).cuts
        bounds = (0, *cuts, count)
        fragments = stages(graph, bounds, ((), *(at[position - 1].recomputed for position in cuts)))
        if self._seconds and self._resumed is not None:
            self._resumed(min(1.0, len(self._seconds) / (1 + len(fragments))))
        total = self._whole(node.info.memory_limit, len(fragments) == 1)
        timed = self._pieces(fragments, bounds, guess)
        if total is None:
            total = sum(piece.seconds for piece in timed)
        taken = layer_seconds(timed, total, count)
        runtime = (here.base_bytes, here.session_bytes, here.operator_bytes)
        return Profile(model.sha256, here.batch, node.info.threads, taken, total, *runtime, self._node)

    def _whole(self, memory: int, alone: bool) -> float | None:
        """None where the node has no memory for all of it, or its only piece is the whole."""
        if alone:
            return None
        made = timeable(self._model, whole(layer_graph(self._model)), self._here.batch)
        return self._timed(WHOLE, made, WHOLE_SECONDS) if _ROOM * made.weight_bytes < memory else None

    def _pieces(self, fragments: Sequence[Fragment], bounds: Sequence[int], guess: np.ndarray) -> list[Timed]:
        model, batch = self._model, self._here.batch
        nbytes, graph = tables(model, batch).nbytes, layer_graph(model)
        read = [set(fragment.inputs) for fragment in fragments]
        timed = []
        for index, (fragment, (first, last)) in enumerate(zip(fragments, pairwise(bounds), strict=True)):
            made = timeable(model, fragment, batch)
            seconds = self._timed(f"{first}-{last}", made, SEGMENTS_SECONDS / len(fragments))
            own = [layer for layer in fragment.layers if first <= layer < last]
            border = [name for name in fragment.inputs if name in graph.producer]
            border += [name for name in fragment.outputs if any(name in later for later in read[index + 1 :])]
            size = sum(nbytes.get(name, 0) for name in border)
            timed.append(Timed(tuple(own), guess[own] / guess[own].sum(), seconds, size))
            self._report(HERE_SHARE + (1 - HERE_SHARE) * (index + 1) / len(fragments))
        return timed

    def _timed(self, key: str, made: Timeable, seconds: float) -> float:
        """Of one run of a piece; kept."""
        known = self._seconds.get(key)
        if known is not None:
            return known
        asked = Measure(made.graph, made.inputs, REPEATS, seconds=seconds)
        reply = await_reply(self._cluster.request(self._node, asked, ANSWER_SECONDS), self._stop)
        if not isinstance(reply, Measured) or not reply.quiet_seconds > 0:
            name = self._cluster.node(self._node).name
            raise ProtocolError(f"{name} answered a measurement with {reply!r}.")
        self._seconds[key] = reply.quiet_seconds
        self._partial.write_bytes(msgspec.json.encode(_Partial(self._seconds)))
        return reply.quiet_seconds


def _partial_at(path: Path) -> Path:
    return path.with_suffix(".partial")


def _load_partial(path: Path) -> dict[str, float]:
    """What an interrupted profile left; nothing where there was none, or its file is damaged."""
    try:
        held = msgspec.json.decode(path.read_bytes(), type=_Partial).seconds
    except (OSError, msgspec.DecodeError):
        return {}
    return {key: seconds for key, seconds in held.items() if seconds > 0}
