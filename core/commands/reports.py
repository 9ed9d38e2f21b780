"""A run's report as people read it."""

from __future__ import annotations

from core.commands.output import note, print_table
from core.run.report import RunReport
from core.units import format_bytes


def print_report(report: RunReport) -> None:
    """The table on stdout, what else is worth knowing on stderr."""
    names = ", ".join(use.name for use in report.nodes)
    print(f"{report.model}: {report.strategy} on {names}, micro-batches of {report.micro_batch}")
    for name, value in _figures(report):
        print(f"  {name:<11}{value}")
    print()
    print_table(
        ("node", "items", "busy", "cpu", "sent", "received"),
        [
            (
                use.name,
                str(use.items),
                f"{use.busy:.0%}",
                f"{use.cpu:.0%}",
                format_bytes(use.sent_bytes),
                format_bytes(use.received_bytes),
            )
            for use in report.nodes
        ],
    )
    for words in report.notes:
        note(f"note: {words}")


def _figures(report: RunReport) -> list[tuple[str, str]]:
    latency, predicted = report.latency_ms, report.predicted
    beside = f" (predicted {predicted.throughput:.1f})" if predicted is not None else ""
    loaded = ""
    if predicted is not None:
        loaded = f" (predicted {predicted.loaded_latency_ms:.2f}; on idle nodes {predicted.latency_ms:.2f})"
    figures = [
        ("items", f"{report.items}"),
        ("time", f"{report.seconds:.2f} s"),
        ("throughput", f"{report.throughput:.1f} items/s{beside}"),
        ("latency", f"{latency.p50:.2f} ms, 95 %: {latency.p95:.2f}, 99 %: {latency.p99:.2f}{loaded}"),
    ]
    if report.efficiency is not None:
        words = f"{report.efficiency:.0%} of what these nodes would do, each with the whole model to itself"
        figures.append(("efficiency", words))
    if report.verified is not None:
        figures.append(("verified", f"yes, largest difference {report.max_abs_error or 0.0:.2g}"))
    return figures
