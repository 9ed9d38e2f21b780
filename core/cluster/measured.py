"""What was measured of nodes and of the links between them, kept on disk between programs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Iterable, Mapping
from math import inf, isfinite
from pathlib import Path
from typing import Final, Literal, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import asdict

from core.cluster.node import Node
from core.cost.benchmark import EVEN, Mix, NodeBenchmark, speed_for
from core.cost.links import WORKSTATION, Line, Link, Links
from core.cost.messages import HOP_SECONDS
from core.paths import data_dir
from core.plan.form import NodeId
from core.wire.keys import replace_private
from core.wire.messages import LinkSample, NodeInfo

log = logging.getLogger(__name__)

MEASUREMENTS_FILE: Final = "measurements.json"
FORMAT: Final = 1
"""Raised when the file changes shape or figures change their meaning."""

Pair = tuple[NodeId, NodeId]
Bound = Literal["line", "processors", "limit"]
"""The network itself; the processors at both ends, which encrypt and copy; the --link-limit of an end."""
End = tuple[str, int]
"""Where one end of a link is: its address ("" is this workstation), and its --link-limit in bit/s."""


def local_agents(threads: int) -> NodeId:
    """Stands for all throw-away agents of so many threads on this machine, as if they were a node: each is a new one,
    but what they can do stays."""
    return NodeId(f"local {threads}")


def end_of(node: Node | None) -> End:
    """None is this workstation."""
    if node is None:
        return "", 0
    return node.host, node.info.link_limit if node.info is not None else 0


class MeasuredLink(Struct, frozen=True, kw_only=True):
    """One direction between two nodes, or a node and the workstation (the node "")."""

    when: float
    """Unix time."""
    round_trip_s: float
    """Of a small message and its answer, the work at both ends included: what people are shown."""
    way_s: float
    """The part of it that is not the work at both ends, which predictions count for themselves."""
    samples: tuple[LinkSample, ...]
    """The sweep, smallest messages first; sizes that the link is too slow for are left out."""
    bytes_per_s: float
    """Of the fastest stream of large messages."""
    bound: Bound
    """What keeps a stream from being faster."""
    loopback: bool = False
    """Both ends are on one machine."""
    ends: tuple[End, End] = (("", 0), ("", 0))
    """When it was measured. Where an end is now another one, this may be another link."""

    @property
    def link(self) -> Link:
        """As predictions take it: beside the work at both ends, and beside the limits that nodes keep to."""
        return Link(2 * HOP_SECONDS + self.way_s, self.bytes_per_s if self.bound == "line" else inf)


class MeasuredInterface(Struct, frozen=True):
    """What the workstation carries when it talks to several machines at once."""

    when: float
    """Unix time."""
    bytes_per_s: float
    """Each way, all together."""
    shared: bool
    """It sets the pace then. Else the others' lines do, and how much it could carry is not known."""


class Measurements(Struct, frozen=True):
    """All that is known. A value: whoever holds one is not surprised by what is measured later."""

    benchmarks: Mapping[NodeId, NodeBenchmark] = {}
    """By node; this workstation itself is the node "", and see ``local_agents``."""
    links: Mapping[Pair, MeasuredLink] = {}
    """By (from, to); each direction for itself."""
    interface: MeasuredInterface | None = None
    """Of the workstation; None: not measured, the fastest of its links counts."""

    def merged(self, newer: Measurements) -> Measurements:
        """What is in ``newer`` counts, unless it is older."""
        return Measurements(
            _merged(self.benchmarks, newer.benchmarks),
            _merged(self.links, newer.links),
            newer.interface or self.interface,
        )

    def without(self, nodes: Collection[NodeId]) -> Measurements:
        gone = frozenset(nodes)
        return Measurements(
            {node: one for node, one in self.benchmarks.items() if node not in gone},
            {pair: one for pair, one in self.links.items() if not gone.intersection(pair)},
            self.interface,
        )

    def now(self, nodes: Iterable[Node]) -> Measurements:
        """What holds of ``nodes`` and the workstation as they are now: links whose ends moved, or were limited
        otherwise, are left out."""
        ends = {node.id: end_of(node) for node in nodes} | {WORKSTATION: end_of(None)}
        return Measurements(
            {node: one for node, one in self.benchmarks.items() if node in ends},
            {
                (source, target): one
                for (source, target), one in self.links.items()
                if (ends.get(source), ends.get(target)) == one.ends
            },
            self.interface,
        )

    def speeds(self, infos: Mapping[NodeId, NodeInfo], mix: Mix = EVEN) -> dict[NodeId, float]:
        """Of the nodes that were measured, under their present CPU limits; 1.0 is this workstation with one thread."""
        here = self.benchmarks.get(WORKSTATION)
        if here is None:
            return {}
        found = {}
        for node, info in infos.items():
            if node in self.benchmarks:
                same = info.threads == 1 and self._is_here(node)  # the very same core: a difference is noise
                found[node] = (1.0 if same else speed_for(mix, self.benchmarks[node], here)) * info.cpu_limit
        return found

    def _is_here(self, node: NodeId) -> bool:
        """Whether a node is on the workstation itself, as far as its links were measured."""
        link = self.links.get((WORKSTATION, node))
        return link is not None and link.loopback

    def links_of(self, nodes: Iterable[NodeId]) -> Links:
        """What predictions are to know of the network between ``nodes`` and the workstation.

        Loopback is left out: that is what is taken for nodes of one machine. So are limits: those of ``Machine`` count.
        """
        ends = {WORKSTATION, *nodes}
        known = {pair: one.link for pair, one in self.links.items() if ends.issuperset(pair) and not one.loopback}
        if self.interface is None:
            return Links(known)
        here = tuple(node for node in sorted(ends) if node == WORKSTATION or self._is_here(node))
        fastest = max((link.bytes_per_s for pair, link in known.items() if WORKSTATION in pair), default=inf)
        rate = max(self.interface.bytes_per_s, fastest) if self.interface.shared else inf
        return Links(known, (Line(here, rate),))


class MeasurementStore:
    """The file. Any thread may call any method; what two programs write is merged, and the newer figure counts."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path if path is not None else data_dir() / MEASUREMENTS_FILE
        self._lock = threading.Lock()
        self.problem = ""
        """Why what the file holds was not taken, or cannot be kept, in words; "" when there is nothing to say."""

    def load(self) -> Measurements:
        """What is kept; nothing where there is no file, or one that is damaged or of another version: ``problem`` then
        says so, and everything is measured anew."""
        with self._lock:
            return self._load()

    def add(self, newer: Measurements) -> Measurements:
        """Keep ``newer`` beside what is there, and return all. Where the file cannot be written ``problem`` says so."""
        with self._lock:
            merged = self._load().merged(newer)
            problem = self.problem
            try:
                replace_private(self._path, _encoded(merged))
            except OSError as error:
                problem = f"What was measured cannot be kept in {self._path}: {error.strerror or error}."
            self._note(problem)
            return merged

    def _load(self) -> Measurements:
        self._note("")
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return Measurements()
        except OSError as error:
            self._note(f"{self._path} cannot be read: {error.strerror or error}. Nodes and links are measured anew.")
            return Measurements()
        try:
            return _decoded(content)
        except _OtherFormatError:
            words = "was written by another version of Shardboard"
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
            words = f"is damaged: {error}"
        self._note(f"{self._path} {words}. Nodes and links are measured anew.")
        return Measurements()

    def _note(self, problem: str) -> None:
        if problem and problem != self.problem:
            log.warning("%s", problem)
        self.problem = problem


class _LinkRecord(Struct, frozen=True):
    source: NodeId
    target: NodeId
    measured: MeasuredLink


class _Head(Struct, frozen=True):
    format: int


class _File(Struct, frozen=True):
    format: int
    benchmarks: dict[NodeId, NodeBenchmark]
    links: tuple[_LinkRecord, ...]
    interface: MeasuredInterface | None = None


class _OtherFormatError(Exception):
    pass


def _encoded(measurements: Measurements) -> bytes:
    links = tuple(_LinkRecord(*pair, one) for pair, one in sorted(measurements.links.items()))
    content = _File(FORMAT, dict(sorted(measurements.benchmarks.items())), links, measurements.interface)
    return msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n"


def _decoded(content: bytes) -> Measurements:
    """Raises _OtherFormatError, DecodeError, or ValueError for figures that nothing can have."""
    if msgspec.json.decode(content, type=_Head).format != FORMAT:
        raise _OtherFormatError
    file = msgspec.json.decode(content, type=_File)
    for one in file.benchmarks.values():
        rates = [value for name, value in asdict(one).items() if name.endswith(("_flops", "_per_s"))]
        sane = one.threads >= 1 and one.free_memory >= 0 and 0 < one.held <= 1
        if not sane or not all(isfinite(rate) and rate > 0 for rate in rates):
            raise ValueError("a node's figures are not above zero")
    for record in file.links:
        link = record.measured
        rates = [link.bytes_per_s, *(sample.bytes_per_s for sample in link.samples)]
        if not all(isfinite(rate) and rate > 0 for rate in (link.round_trip_s, *rates)) or not 0 <= link.way_s < inf:
            raise ValueError("a link's figures are not above zero")
    if file.interface is not None and not 0 < file.interface.bytes_per_s < inf:
        raise ValueError("the interface's figures are not above zero")
    return Measurements(
        file.benchmarks,
        {(record.source, record.target): record.measured for record in file.links},
        file.interface,
    )


_T = TypeVar("_T", NodeBenchmark, MeasuredLink)
_K = TypeVar("_K")


def _merged(older: Mapping[_K, _T], newer: Mapping[_K, _T]) -> dict[_K, _T]:
    merged = dict(older)
    for key, one in newer.items():
        if key not in merged or merged[key].when <= one.when:
            merged[key] = one
    return merged
