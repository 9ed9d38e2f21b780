"""Keeps what was measured: loads it, measures what is missing, says what no longer holds.

One measurement at a time: what a person asks for interrupts what goes on in the background, which is taken up later.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from core.cluster.events import MeasurementsChanged
from core.cluster.measured import MeasuredLink, Measurements, MeasurementStore, Pair, local_agents
from core.cluster.node import Node
from core.cluster.words import ready_nodes
from core.cost.benchmark import NodeBenchmark, free_memory, stale_reasons
from core.cost.links import WORKSTATION
from core.errors import Cancelled
from core.plan.form import NodeId

if TYPE_CHECKING:
    from core.cluster.client import Cluster
    from core.cluster.measuring import Outcome, Progress

_CHECKED_SECONDS: Final = 240.0
"""A measurement that was found to hold is not looked at again for so long."""
_TICK_SECONDS: Final = 0.05


class Keeper:
    """Any thread may call any method. ``changed`` is called with every change, on the thread that made it."""

    def __init__(
        self, cluster: Cluster, store: MeasurementStore | None, changed: Callable[[MeasurementsChanged], None]
    ) -> None:
        """``store`` None: nothing is kept between programs."""
        self._cluster = cluster
        self._store = store
        self._changed = changed
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._wanted = 0
        """People who wait for their turn."""
        self._interrupt: threading.Event | None = None
        """Ends what is measured in the background now."""
        self._checked_at: dict[NodeId, float] = {}
        self._links_checked_at: dict[NodeId, float] = {}
        self.measurements = store.load() if store is not None else Measurements()
        self._stale_nodes: Mapping[NodeId, tuple[str, ...]] = {}
        self._stale_links: Mapping[NodeId, tuple[str, ...]] = {}

    @property
    def stale(self) -> Mapping[NodeId, tuple[str, ...]]:
        """Why benchmarks, and measured links, no longer hold, of those that were looked at."""
        return _joined(self._stale_nodes, self._stale_links)

    @property
    def busy(self) -> bool:
        """Something is being measured."""
        return self._turn.locked()

    @property
    def problem(self) -> str:
        """Why measurements of earlier days were not taken, or cannot be kept; "" when there is nothing to say."""
        return self._store.problem if self._store is not None else ""

    def measure(
        self,
        nodes: Sequence[NodeId],
        *,
        anew: bool = False,
        links: bool = True,
        progress: Progress | None = None,
        cancel: threading.Event | None = None,
    ) -> Outcome:
        """Measure what is not known yet of ``nodes`` and of the links between them and this workstation; with ``anew``,
        everything. Blocks: about a second for each node of a machine, then up to 20 s for links; ``progress`` may be
        called on any thread. Benchmarks of earlier days are looked at shortly: ``Outcome.stale``.

        A node that another workstation holds is left out: ``Outcome.refused``. Raises Cancelled; what was known before,
        and what was measured by then, is kept.
        """
        stop = cancel or threading.Event()
        with self._asked_turn(stop):
            return self._measure(nodes, anew=anew, links=links, progress=progress, stop=stop)

    def check_links(
        self, nodes: Sequence[NodeId], cancel: threading.Event | None = None
    ) -> Mapping[NodeId, tuple[str, ...]]:
        """Look now whether the measured links between ``nodes``, and between them and this workstation, still hold:
        why they do not, by node. About a second. Raises Cancelled."""
        stop = cancel or threading.Event()
        with self._asked_turn(stop):
            self._look_at_links(nodes, stop)
        return {node: self._stale_links[node] for node in nodes if node in self._stale_links}

    def measure_in_background(self, nodes: Sequence[NodeId], interrupt: threading.Event) -> Outcome:
        """What is missing. Raises Cancelled when ``interrupt`` is set, also by someone who asks for a measurement."""
        with self.turn(interrupt):
            return self._measure(nodes, anew=False, links=True, progress=None, stop=interrupt)

    @contextmanager
    def turn(self, interrupt: threading.Event) -> Iterator[None]:
        """Nothing else is measured meanwhile; ``interrupt`` is set as soon as someone asks for a measurement. Raises
        Cancelled when it is set before the turn has come."""
        while not self._turn.acquire(timeout=_TICK_SECONDS):
            if interrupt.is_set():
                raise Cancelled("Measuring was stopped.")
        try:
            with self._lock:
                self._interrupt = interrupt
                if self._wanted:
                    interrupt.set()
            yield
        finally:
            with self._lock:
                self._interrupt = None
            self._turn.release()

    @contextmanager
    def _asked_turn(self, stop: threading.Event) -> Iterator[None]:
        with self._lock:
            self._wanted += 1
            if self._interrupt is not None:
                self._interrupt.set()
        try:
            while not self._turn.acquire(timeout=_TICK_SECONDS):
                if stop.is_set():
                    raise Cancelled("Measuring was stopped.")
        finally:
            with self._lock:
                self._wanted -= 1
        try:
            yield
        finally:
            self._turn.release()

    def _measure(
        self, nodes: Sequence[NodeId], *, anew: bool, links: bool, progress: Progress | None, stop: threading.Event
    ) -> Outcome:
        from core.cluster.measuring import Outcome, check_nodes, measure_links, measure_nodes  # noqa: PLC0415 - onnx

        cluster = self._cluster
        refused: dict[NodeId, str] = {}
        problems: list[str] = []
        missing = [node for node in nodes if anew or not self._is_benchmarked(node)]
        if missing and not anew:
            adopted = self._adopted(missing, stop)
            self._learn(Measurements(adopted), holding=adopted)
            missing = [node for node in missing if node not in adopted]
        half = 0.5 if links else 1.0
        if missing:
            found = measure_nodes(cluster, missing, _part(progress, 0.0, half), stop, refused)
            self._learn(Measurements({**found, **self._of_local_agents(found)}), holding=found)
        kept = [node for node in nodes if node not in missing and self._is_due(node, self._checked_at)]
        if kept:
            looks = check_nodes(cluster, kept, stop)
            self._learn(Measurements({node: look.freed for node, look in looks.items() if look.freed is not None}))
            self._note(nodes={node: look.stale for node, look in looks.items()})
        if links:
            due = [] if anew else [node for node in nodes if self._is_due(node, self._links_checked_at)]
            if due:
                self._look_at_links(nodes, stop)
            there = [node for node in nodes if node not in refused]
            others, known = self._beside(there) if anew else ([], self.measurements.now(self._known(nodes)).links)
            ways = measure_links(cluster, [*there, *others], _part(progress, half, 1.0), stop, refused, problems, known)
            self._learn(Measurements(links=ways), links_of=there if anew else ())
            self._measure_interface([*there, *others], anew, stop)
        if progress is not None:
            progress(1.0, "")
        stale = {node: self.stale[node] for node in nodes if node in self.stale}
        return Outcome(self.measurements, refused, stale, tuple(problems))

    def _look_at_links(self, nodes: Sequence[NodeId], stop: threading.Event) -> None:
        from core.cluster.link_checking import check_links  # noqa: PLC0415 - as measuring

        now = self.measurements.now(self._known(nodes))
        found = check_links(self._cluster, nodes, now.links, stop)
        self._links_checked_at.update(dict.fromkeys(set(nodes) - set(found), time.monotonic()))
        self._note(links={node: found.get(node, ()) for node in nodes})

    def _measure_interface(self, nodes: Sequence[NodeId], anew: bool, stop: threading.Event) -> None:
        from core.cluster.interface_measuring import measure_interface  # noqa: PLC0415 - as measuring

        now = self.measurements.now(self._known(nodes))
        if now.interface is None or anew:
            self._learn(Measurements(interface=measure_interface(self._cluster, nodes, now.links, stop)))

    def _beside(self, nodes: Sequence[NodeId]) -> tuple[list[NodeId], Mapping[Pair, MeasuredLink]]:
        """Other nodes that are free, and the links that need not be measured where only those of ``nodes`` are."""
        others = [node.id for node in ready_nodes(self._cluster.nodes()) if node.id not in nodes]
        known = self.measurements.now(self._known([*nodes, *others])).links if others else {}
        kept = {pair: one for pair, one in known.items() if not one.loopback and not {*pair}.intersection(nodes)}
        return others, kept

    def _adopted(self, nodes: Sequence[NodeId], stop: threading.Event) -> dict[NodeId, NodeBenchmark]:
        """Throw-away agents of this machine that do what others of their kind were measured to do."""
        from core.cluster.measuring import check_nodes  # noqa: PLC0415 - onnx

        kept = self.measurements.benchmarks
        alike = {}
        for node in self._known(nodes):
            if node.source == "local" and node.info is not None and node.telemetry is not None and WORKSTATION in kept:
                one = kept.get(local_agents(node.info.threads))
                if one is not None and not stale_reasons(one, node.info):
                    alike[node.id] = replace(one, free_memory=free_memory(node.info, node.telemetry))
        looks = check_nodes(self._cluster, list(alike), stop, alike) if alike else {}
        return {node: one for node, one in alike.items() if node in looks and not looks[node].stale}

    def _of_local_agents(self, found: Mapping[NodeId, NodeBenchmark]) -> dict[NodeId, NodeBenchmark]:
        local = [node.id for node in self._known(list(found)) if node.source == "local"]
        return {local_agents(found[node].threads): found[node] for node in local}

    def _known(self, nodes: Sequence[NodeId]) -> list[Node]:
        return [node for node in self._cluster.nodes() if node.id in nodes]

    def _is_benchmarked(self, node_id: NodeId) -> bool:
        """And still computes with the same runtime and threads: otherwise the figures say nothing of it."""
        benchmark = self.measurements.benchmarks.get(node_id)
        info = next((node.info for node in self._cluster.nodes() if node.id == node_id), None)
        known_here = WORKSTATION in self.measurements.benchmarks
        return benchmark is not None and known_here and (info is None or not stale_reasons(benchmark, info))

    def _is_due(self, node: NodeId, checked_at: Mapping[NodeId, float]) -> bool:
        return time.monotonic() - checked_at.get(node, -_CHECKED_SECONDS) >= _CHECKED_SECONDS

    def _note(
        self,
        nodes: Mapping[NodeId, tuple[str, ...]] | None = None,
        links: Mapping[NodeId, tuple[str, ...]] | None = None,
    ) -> None:
        """What a look at nodes, and at their links, showed; () where they hold."""
        now = time.monotonic()
        with self._lock:
            before = self.stale
            self._checked_at.update((node, now) for node, words in (nodes or {}).items() if not words)
            self._stale_nodes = _renewed(self._stale_nodes, nodes or {})
            self._stale_links = _renewed(self._stale_links, links or {})
            changed = self.stale != before
        if changed:
            self._changed(MeasurementsChanged(self.measurements, self.stale))

    def _learn(
        self,
        newer: Measurements,
        holding: Mapping[NodeId, object] | None = None,
        links_of: Sequence[NodeId] = (),
    ) -> None:
        """Keep what was measured, if anything; benchmarks of ``holding`` hold from now on, and all ``links_of``."""
        if not newer.benchmarks and not newer.links and newer.interface is None:
            return
        fresh = holding or {}
        now = time.monotonic()
        throw_away = [node.id for node in self._cluster.nodes() if node.source == "local"]
        lasting = newer.without(throw_away)
        if self._store is not None and (lasting.benchmarks or lasting.links or lasting.interface is not None):
            self._store.add(lasting)
        with self._lock:
            self.measurements = self.measurements.merged(newer)
            self._stale_nodes = _renewed(self._stale_nodes, dict.fromkeys(fresh, ()))
            self._stale_links = _renewed(self._stale_links, dict.fromkeys(links_of, ()))
            self._checked_at.update((node, now) for node in fresh)
            self._links_checked_at.update((node, now) for node in links_of)
        infos = {node.id: node.info for node in self._cluster.nodes() if node.info is not None and node.id in fresh}
        self._cluster.set_speeds(self.measurements.speeds(infos))
        self._changed(MeasurementsChanged(self.measurements, self.stale))


_Reasons = Mapping[NodeId, tuple[str, ...]]


def _joined(one: _Reasons, other: _Reasons) -> _Reasons:
    return {node: (*one.get(node, ()), *other.get(node, ())) for node in {**one, **other}}


def _renewed(before: _Reasons, found: _Reasons) -> _Reasons:
    """What was found counts for its nodes; () takes them out."""
    rest = {node: words for node, words in before.items() if node not in found}
    return {**rest, **{node: words for node, words in found.items() if words}}


def _part(progress: Progress | None, begin: float, end: float) -> Progress | None:
    """Progress of a part of the whole."""
    if progress is None:
        return None
    return lambda share, words: progress(begin + share * (end - begin), words)
