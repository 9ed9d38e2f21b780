"""shardboard nodes: who is there, why somebody is not ready, and with --measure what nodes and links can do."""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Mapping, Set

from msgspec import Struct

from core.cluster.client import Cluster
from core.cluster.machines import THIS_MACHINE
from core.cluster.measured import Bound, Measurements
from core.cluster.node import Node
from core.cluster.opening import open_cluster
from core.cluster.words import ready_nodes
from core.commands.output import Progress, note, print_json, print_table
from core.commands.stopping import stop_on_interrupt
from core.cost.benchmark import NodeBenchmark, stale_reasons
from core.cost.links import WORKSTATION
from core.plan.form import NodeId
from core.run.calibrations import CalibrationStore
from core.units import format_bytes
from core.wire.messages import LinkSample
from core.wire.probing import SIZES


class NodeRow(Struct, frozen=True, kw_only=True):
    id: str
    name: str
    address: str
    state: str
    reason: str
    version: str
    system: str
    cpu: str
    cores: int
    threads: int
    memory_total: int
    memory_limit: int
    cpu_load: float | None
    rtt_ms: float | None
    owner: str
    speed: float | None
    """Under its CPU limit, as it was measured last; 1.0 is this workstation with one thread."""
    benchmark: NodeBenchmark | None
    stale: tuple[str, ...]
    """Why the benchmark does not hold any more."""
    not_measured: str
    """With --measure: why it was left out."""


class LinkRow(Struct, frozen=True, kw_only=True):
    source: str
    """Id of a node; "" is this workstation."""
    target: str
    round_trip_ms: float
    bits_per_s: float
    """Of a stream of messages."""
    limited_by: Bound
    samples: tuple[LinkSample, ...]
    """(bytes of each message, bytes per second)"""


class NodeList(Struct, frozen=True):
    """What ``nodes --json`` prints."""

    nodes: tuple[NodeRow, ...]
    discovery_problem: str | None
    links: tuple[LinkRow, ...]
    workstation: NodeBenchmark | None
    problems: tuple[str, ...]
    """Of links that could not be measured, and of the file that measurements are kept in."""


class _Told(Struct, frozen=True):
    """What came of measuring."""

    refused: Mapping[NodeId, str] = {}
    problems: tuple[str, ...] = ()


def run(options: argparse.Namespace) -> int:
    with stop_on_interrupt() as stop, open_cluster() as cluster:
        until = time.monotonic() + options.wait
        while time.monotonic() < until and not stop.wait(0.1):
            pass
        told = _measure(cluster, stop) if options.measure else _Told()
        nodes, problem = cluster.nodes(), cluster.discovery_problem
        known = cluster.measurements.now(nodes)
        problems = tuple(filter(None, (*told.problems, cluster.measurements_problem)))
    if options.json:
        speeds = known.speeds({node.id: node.info for node in nodes if node.info is not None})
        rows = tuple(_row(node, known, speeds, told) for node in nodes)
        print_json(NodeList(rows, problem, _links(known), known.benchmarks.get(WORKSTATION), problems))
        return 0
    if nodes:
        _print(nodes)
    else:
        note("No nodes were found. Start shardboard-agent on other machines; shardboard doctor looks for the cause.")
    if options.measure:
        _print_measured(nodes, known)
    for words in (problem, *problems, *told.refused.values(), *_stale_words(nodes, known)):
        if words:
            note(f"note: {words}")
    return 0


def _measure(cluster: Cluster, stop: threading.Event) -> _Told:
    """All that are ready, anew. Raises Cancelled."""
    ready = [node.id for node in ready_nodes(cluster.nodes())]
    busy = {node.id: f"{node.name} is not measured: it is {node.reason}." for node in cluster.nodes() if node.owner}
    if not ready:
        return _Told(busy)
    with Progress() as progress:
        progress.step("Measuring nodes and links")
        outcome = cluster.measure(ready, anew=True, progress=progress.share, cancel=stop)
    _forget_calibrations({node for node in ready if node not in outcome.refused})
    return _Told({**busy, **outcome.refused}, outcome.problems)


def _forget_calibrations(nodes: Set[NodeId]) -> None:
    """What runs have shown of nodes that were measured anew counts no more."""
    store = CalibrationStore()
    known = store.all()
    kept = [one for one in known if one.node not in nodes]
    if len(kept) < len(known):
        store.save(kept)


def _links(known: Measurements) -> tuple[LinkRow, ...]:
    return tuple(
        LinkRow(
            source=source,
            target=target,
            round_trip_ms=link.round_trip_s * 1000,
            bits_per_s=8 * link.bytes_per_s,
            limited_by=link.bound,
            samples=link.samples,
        )
        for (source, target), link in known.links.items()
        if source != target
    )


def _stale(node: Node, known: Measurements) -> tuple[str, ...]:
    benchmark = known.benchmarks.get(node.id)
    if benchmark is None or node.info is None:
        return ()
    return stale_reasons(benchmark, node.info, telemetry=node.telemetry)


def _stale_words(nodes: tuple[Node, ...], known: Measurements) -> list[str]:
    return [
        f"{node.name} {reason}. To measure it again: shardboard nodes --measure"
        for node in nodes
        for reason in _stale(node, known)
    ]


def _row(node: Node, known: Measurements, speeds: Mapping[NodeId, float], told: _Told) -> NodeRow:
    info = node.info
    return NodeRow(
        id=node.id,
        name=node.name,
        address=node.address,
        state=node.state,
        reason=node.reason,
        version=info.version if info else "",
        system=info.system if info else "",
        cpu=info.cpu if info else "",
        cores=info.cores if info else 0,
        threads=info.threads if info else 0,
        memory_total=info.memory_total if info else 0,
        memory_limit=info.memory_limit if info else 0,
        cpu_load=node.telemetry.cpu if node.telemetry else None,
        rtt_ms=node.rtt_s * 1000 if node.rtt_s is not None else None,
        owner=node.owner,
        speed=speeds.get(node.id),
        benchmark=known.benchmarks.get(node.id),
        stale=_stale(node, known),
        not_measured=told.refused.get(node.id, ""),
    )


def _print(nodes: tuple[Node, ...]) -> None:
    rows = []
    for node in nodes:
        info, load = node.info, node.telemetry
        rows.append(
            (
                node.name,
                node.address,
                str(node.state),
                f"{info.threads} of {info.cores}" if info else "–",
                format_bytes(info.memory_limit) if info else "–",
                f"{load.cpu:.0%}" if load else "–",
                f"{node.rtt_s * 1000:.1f}" if node.rtt_s is not None else "–",
                node.reason,
            )
        )
    print_table(("name", "address", "state", "threads", "memory", "cpu", "ms", ""), rows)


def _print_measured(nodes: tuple[Node, ...], known: Measurements) -> None:
    """Figures of all threads, with those of one thread behind them where there are several."""
    speeds = known.speeds({node.id: node.info for node in nodes if node.info is not None})
    names = {WORKSTATION: THIS_MACHINE} | {node.id: node.name for node in nodes}
    figures = []
    for node_id, name in names.items():
        one = known.benchmarks.get(node_id)
        if one is None:
            continue
        figures.append(
            (
                name,
                str(one.threads),
                _per_s(one.gemm_flops, one.gemm_core_flops, one.threads),
                _per_s(one.convolution_flops, one.convolution_core_flops, one.threads),
                _per_s(one.elementwise_bytes_per_s, one.elementwise_core_bytes_per_s, one.threads),
                _per_s(one.memory_bytes_per_s, one.memory_bytes_per_s, 1),
                format_bytes(one.free_memory),
                f"{speeds[node_id]:.2f}" if node_id in speeds else "1.00",
            )
        )
    if figures:
        units = ("GEMM GFLOP/s", "conv GFLOP/s", "element-wise GB/s", "memory GB/s", "free memory", "speed")
        print()
        print_table(("name", "threads", *units), figures)
    rows = []
    for (source, target), link in known.links.items():
        if source != target:
            rates = {sample.nbytes: f"{8 * sample.bytes_per_s / 1e6:.0f}" for sample in link.samples}
            cells = (rates.get(size, "–") for size in SIZES[::2] + SIZES[-1:])
            rows.append((names[source], names[target], f"{link.round_trip_s * 1000:.2f}", *cells, link.bound))
    if rows:
        sizes = (f"{format_bytes(size).replace('.00', '').replace('.0', '')}" for size in SIZES[::2] + SIZES[-1:])
        print("\nMbit/s with messages of")
        print_table(("from", "to", "ms", *sizes, "limited by"), rows)


def _per_s(rate: float, core_rate: float, threads: int) -> str:
    return f"{rate / 1e9:.1f}" if threads == 1 else f"{rate / 1e9:.1f} ({core_rate / 1e9:.1f})"
