"""Measures nodes. Everything here blocks, reports progress, and can be cancelled; links are in ``link_measuring``.

A node that another workstation holds is left out and told to ``refused`` with words; so is one that went away. Nothing
is kept here: see ``core.cluster.keeping``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import TYPE_CHECKING, Final

import onnxruntime as ort
import psutil
from msgspec import Struct
from msgspec.structs import replace

from core.cluster.evening import NOISE, evened
from core.cluster.link_measuring import measure_links
from core.cluster.machines import machines_of
from core.cluster.measured import Measurements
from core.cluster.measuring_steps import Progress, Steps, await_reply, cancelled, is_usable
from core.cluster.node import Node
from core.cluster.words import ready_nodes
from core.cost.benchmark import KEPT_BUSY, NodeBenchmark, stale_reasons
from core.cost.links import WORKSTATION
from core.cost.speed import Kernel, convolution_kernel, elementwise_kernel, gemm_kernel, local_rate, memory_kernel
from core.errors import Cancelled, ProtocolError, ShardboardError
from core.plan.form import NodeId
from core.wire.messages import Measure, Measured

if TYPE_CHECKING:
    from core.cluster.client import Cluster

__all__ = ["Outcome", "Progress", "check_nodes", "measure_links", "measure_nodes"]

REPEATS: Final = 60
KERNEL_SECONDS: Final = 0.08
"""For one kernel, beside loading it and a first run."""
SLOW_SECONDS: Final = 1.5
"""A node that has taken so long is not measured a second time."""
MEMORY_BYTES: Final = 48 * 1024**2
"""Of the largest tensors; more than the caches of all but a few servers hold."""
_MEMORY_SHARE: Final = 1 / 16
"""Of a node's memory limit, that those tensors take at most."""
MEMORY_NOISE: Final = 0.15
"""Other programs share the memory and its caches, even while they leave a core alone."""
ALONE_SECONDS: Final = 0.3
"""For a node that seems to be kept from its work: it is asked again while nothing else is measured."""
_ENGINE: Final = f"onnxruntime {ort.__version__} CPUExecutionProvider"
_ANSWER_SECONDS: Final = 30.0


class Outcome(Struct, frozen=True):
    """What ``Cluster.measure`` came to."""

    measurements: Measurements
    """All that is known now."""
    refused: Mapping[NodeId, str] = {}
    """Why nodes were not measured, each a sentence."""
    stale: Mapping[NodeId, tuple[str, ...]] = {}
    """Of nodes whose earlier benchmark was kept: why it no longer holds (see ``benchmark.stale_reasons``)."""
    problems: tuple[str, ...] = ()
    """Of links that could not be measured, each a sentence."""


class Look(Struct, frozen=True):
    """What a short look at a node showed of its benchmark."""

    stale: tuple[str, ...]
    """Why it no longer holds: see ``benchmark.stale_reasons``."""
    freed: NodeBenchmark | None = None
    """The same where other programs leave more to the node than they did."""


class _Task(Struct, frozen=True):
    """One figure of a benchmark."""

    figure: str
    kernel: Kernel
    threads: int


def measure_nodes(
    cluster: Cluster,
    nodes: Sequence[NodeId],
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
    refused: dict[NodeId, str] | None = None,
) -> dict[NodeId, NodeBenchmark]:
    """Benchmark ``nodes``, and this workstation as the node "". Machines side by side, agents of one in turns.

    This workstation is measured before and after, and its better figures count. About a second a node, on a slow one
    under 5. Raises Cancelled.
    """
    stop = cancel or threading.Event()
    measured = [node for node in dict.fromkeys(nodes) if is_usable(cluster, node, refused)]
    steps = Steps(progress, 2 + len(measured))
    here: dict[str, float] = {}
    computing = _tasks(1)
    _measure_here([*computing, _Task("memory", memory_kernel(MEMORY_BYTES), 1)], here, stop, steps)
    turns: dict[str, list[NodeId]] = {}
    machines = machines_of([cluster.node(node) for node in measured])
    for node in measured:
        turns.setdefault(machines[node].name, []).append(node)
    found: dict[NodeId, NodeBenchmark] = {}

    def measure_machine(group: Sequence[NodeId]) -> None:
        for node in group:
            try:
                found[node] = _benchmark(cluster, node, stop, steps)
            except Cancelled:
                raise
            except ShardboardError as error:
                if refused is not None:
                    refused[node] = error.message

    if turns:
        with ThreadPoolExecutor(len(turns), thread_name_prefix="measure") as pool:
            for done in [pool.submit(measure_machine, group) for group in turns.values()]:
                done.result()
    _measure_here(computing, here, stop, steps)
    benchmarks = _held(cluster, {node: found[node] for node in measured if node in found}, stop)
    benchmarks[WORKSTATION] = _made(here, 1, int(psutil.virtual_memory().available), _ENGINE)
    return _evened(benchmarks, cluster.measurements.benchmarks)


def check_nodes(
    cluster: Cluster,
    nodes: Sequence[NodeId],
    cancel: threading.Event | None = None,
    benchmarks: Mapping[NodeId, NodeBenchmark] | None = None,
) -> dict[NodeId, Look]:
    """Whether the kept benchmarks of ``nodes`` still hold, by a measurement of a quarter of a second each; nodes that
    have none, that are in use, or that cannot be measured now, are left out. ``benchmarks`` are looked at in place of
    those that are kept. Raises Cancelled."""
    stop = cancel or threading.Event()
    kept = cluster.measurements.benchmarks if benchmarks is None else benchmarks
    idle = {node.id for node in ready_nodes(cluster.nodes())}
    checked = [node for node in dict.fromkeys(nodes) if node in kept and node in idle]
    machines = machines_of([cluster.node(node) for node in checked])
    turns: dict[str, list[NodeId]] = {}
    for node in checked:
        turns.setdefault(machines[node].name, []).append(node)
    rates: dict[NodeId, float] = {}
    held: dict[NodeId, float] = {}

    def check_machine(group: Sequence[NodeId]) -> None:
        for node in group:
            threads = kept[node].threads
            try:
                core = _asked(cluster, cluster.node(node), gemm_kernel(), 1, stop)
                every = core if threads == 1 else _asked(cluster, cluster.node(node), gemm_kernel(), threads, stop)
            except Cancelled:
                raise
            except ShardboardError:
                continue
            rates[node], held[node] = gemm_kernel().amount / core.quiet_seconds, every.held

    if turns:
        with ThreadPoolExecutor(len(turns), thread_name_prefix="check") as pool:
            for done in [pool.submit(check_machine, group) for group in turns.values()]:
                done.result()
    looks: dict[NodeId, Look] = {}
    for node in (node for node in checked if node in rates):
        now = cluster.node(node)
        if now.info is not None:
            left = None if machines[node].here else _left(cluster, now, held[node], stop)
            telemetry, rate = now.telemetry, rates[node]
            reasons = stale_reasons(kept[node], now.info, telemetry=telemetry, gemm_core_flops=rate, held=left)
            freed = left is not None and kept[node].held < left
            looks[node] = Look(reasons, replace(kept[node], held=left) if freed else None)
    return looks


def _left(cluster: Cluster, node: Node, held: float, stop: threading.Event) -> float:
    """The part of a node's time that other programs leave to it; where ``held`` says that it is less than all, it is
    asked again while nothing else is measured. Nodes of this machine share its cores by turns: nothing is said of them.
    """
    if held >= KEPT_BUSY or node.info is None:
        return 1.0
    try:
        again = _asked(cluster, node, gemm_kernel(), node.info.threads, stop, ALONE_SECONDS)
    except Cancelled:
        raise
    except ShardboardError:
        return 1.0
    return again.held if again.held < KEPT_BUSY else 1.0


def _held(
    cluster: Cluster, benchmarks: Mapping[NodeId, NodeBenchmark], stop: threading.Event
) -> dict[NodeId, NodeBenchmark]:
    """With what other programs leave to each node, as ``_left`` finds it."""
    machines = machines_of([cluster.node(node) for node in benchmarks])
    return {
        node: replace(one, held=1.0 if machines[node].here else _left(cluster, cluster.node(node), one.held, stop))
        for node, one in benchmarks.items()
    }


def _tasks(threads: int) -> list[_Task]:
    kernels = {"gemm": gemm_kernel(), "convolution": convolution_kernel(), "elementwise": elementwise_kernel()}
    tasks = [_Task(f"{name}_core", kernel, 1) for name, kernel in kernels.items()]
    if threads > 1:
        tasks += [_Task(name, kernel, threads) for name, kernel in kernels.items()]
    return tasks


def _benchmark(cluster: Cluster, node_id: NodeId, stop: threading.Event, steps: Steps) -> NodeBenchmark:
    """Each figure of computing twice, the others in between, and the best counts: other programs come and go. On a slow
    node once must do."""
    node = cluster.node(node_id)
    info = node.info
    if info is None:
        raise ProtocolError(f"{node.name} has not told what it is yet.")
    tasks = _tasks(info.threads)
    nbytes = min(MEMORY_BYTES, int(_MEMORY_SHARE * info.memory_limit))
    sequence = [*tasks, _Task("memory", memory_kernel(nbytes), info.threads), *tasks]
    rates: dict[str, float] = {}
    held: list[float] = []
    free = 0
    begun = time.monotonic()
    for task in sequence:
        if task.figure in rates and time.monotonic() - begun > SLOW_SECONDS:
            break
        told = _asked(cluster, node, task.kernel, task.threads, stop)
        free = told.free_memory
        rates[task.figure] = max(task.kernel.amount / told.quiet_seconds, rates.get(task.figure, 0.0))
        if task.threads == info.threads:
            held.append(told.held)
        steps.advance(1 / len(sequence), f"measuring {node.name}")
    return replace(_made(rates, info.threads, free, info.engine), held=median(held))


def _measure_here(tasks: Sequence[_Task], rates: dict[str, float], stop: threading.Event, steps: Steps) -> None:
    """What this workstation does of each, where that is more than ``rates`` says."""
    for task in tasks:
        if stop.is_set():
            raise cancelled()
        rate = local_rate(task.kernel, task.threads, REPEATS, KERNEL_SECONDS)
        rates[task.figure] = max(rate, rates.get(task.figure, 0.0))
        steps.advance(1 / len(tasks), "measuring this workstation")


def _made(rates: Mapping[str, float], threads: int, free: int, engine: str) -> NodeBenchmark:
    def of(name: str) -> float:
        # Where all threads do less than one, other programs were in their way: a node always has that one.
        return max(rates.get(name, 0.0), rates[f"{name}_core"])

    return NodeBenchmark(
        when=time.time(),
        threads=threads,
        gemm_flops=of("gemm"),
        gemm_core_flops=rates["gemm_core"],
        convolution_flops=of("convolution"),
        convolution_core_flops=rates["convolution_core"],
        elementwise_bytes_per_s=of("elementwise"),
        elementwise_core_bytes_per_s=rates["elementwise_core"],
        memory_bytes_per_s=rates["memory"],
        free_memory=free,
        engine=engine,
    )


def _asked(
    cluster: Cluster,
    node: Node,
    kernel: Kernel,
    threads: int,
    stop: threading.Event,
    seconds: float = KERNEL_SECONDS,
) -> Measured:
    """A node runs ``kernel`` for so long, and says what it took."""
    body = Measure(kernel.graph, kernel.inputs, REPEATS, threads, seconds)
    reply = await_reply(cluster.request(node.id, body, _ANSWER_SECONDS), stop)
    if not isinstance(reply, Measured) or not reply.quiet_seconds > 0 or reply.free_memory < 0 or not reply.held > 0:
        raise ProtocolError(f"{node.name} answered a measurement with {reply!r}.")
    return reply


_FIGURES: Final = tuple(name for name in NodeBenchmark.__struct_fields__ if name.endswith(("_flops", "_per_s")))


def _evened(
    measured: Mapping[NodeId, NodeBenchmark], known: Mapping[NodeId, NodeBenchmark]
) -> dict[NodeId, NodeBenchmark]:
    """The same figures where nodes differ by noise: see ``core.cluster.evening``."""
    figures = {
        name: evened(
            {node: getattr(one, name) for node, one in measured.items()},
            {node: getattr(one, name) for node, one in known.items()},
            NOISE if name.endswith("_flops") else MEMORY_NOISE,
        )
        for name in _FIGURES
    }
    return {
        node: replace(one, **{name: values[node] for name, values in figures.items()}) for node, one in measured.items()
    }
