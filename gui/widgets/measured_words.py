"""What was measured of nodes and links, in words and figures."""

from __future__ import annotations

from PySide6.QtCore import QCoreApplication, QDateTime

from core.cluster.measured import MeasuredLink
from core.cluster.node import CONNECTED
from gui.bridge import Bridge
from gui.widgets import units
from gui.widgets.formats import count


def _tr(text: str) -> str:
    return QCoreApplication.translate("measured", text)


def link_words(link: MeasuredLink) -> str:
    """``0.35 ms · 940 Mbit/s``."""
    return f"{units.seconds(link.round_trip_s)} · {units.bits_per_s(link.bytes_per_s)}"


def benchmark_rows(bridge: Bridge, node_id: str) -> list[tuple[str, str]]:
    """(name, figure) of a node's benchmark; nothing where there is none."""
    benchmark = bridge.measurements.benchmarks.get(node_id)  # type: ignore[call-overload]
    if benchmark is None:
        return []
    each = _tr("{0}, one thread {1}") if benchmark.threads > 1 else "{0}"
    return [
        (_tr("Matrix products"), each.format(_flops(benchmark.gemm_flops), _flops(benchmark.gemm_core_flops))),
        (
            _tr("Convolutions"),
            each.format(_flops(benchmark.convolution_flops), _flops(benchmark.convolution_core_flops)),
        ),
        (
            _tr("Element by element"),
            each.format(
                _rate(benchmark.elementwise_bytes_per_s),
                _rate(benchmark.elementwise_core_bytes_per_s),
            ),
        ),
        (_tr("Memory bandwidth"), _rate(benchmark.memory_bytes_per_s)),
        (_tr("Free memory"), units.nbytes(benchmark.free_memory)),
        (_tr("Measured"), QDateTime.fromSecsSinceEpoch(int(benchmark.when)).toString("yyyy-MM-dd HH:mm")),
    ]


def link_rows(bridge: Bridge, node_id: str) -> list[tuple[str, str]]:
    """(other end, figures) of a node's measured links: to this workstation first, then to the other nodes."""
    ends = ["", *(node.id for node in bridge.nodes if node.id != node_id and node.state in CONNECTED)]
    found = [(end, bridge.link_between(node_id, end)) for end in ends]
    return [
        (bridge.name_of(end) if end else _tr("This workstation"), link_words(link))
        for end, link in found
        if link is not None
    ]


def benchmark_words(bridge: Bridge, node_id: str) -> list[str]:
    return [f"{name}: {figure}" for name, figure in benchmark_rows(bridge, node_id)]


def links_words(bridge: Bridge, node_id: str) -> list[str]:
    return [_tr("To {0}: {1}").format(name, figure) for name, figure in link_rows(bridge, node_id)]


def _flops(value: float) -> str:
    return _tr("{0}FLOP/s").format(count(value))


def _rate(value: float) -> str:
    return _tr("{0}/s").format(units.nbytes(value))
