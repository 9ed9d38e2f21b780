"""How true predictions were: errors, and whether the strategies came out in the right order."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, groupby

import numpy as np

from tests.bench.prediction_cells import Figures, Kept

AS_GOOD = 0.05
"""Share by which the strategy that was predicted to be best may be behind the best one that was measured."""
TIE = 0.02
"""Strategies that are nearer to each other than this have no order."""
LEAST_BYTES = 16e6
"""Nodes that grew by less say nothing about memory."""
MB = 1e6


def summary(kept: Sequence[Kept]) -> dict[str, object]:
    """Errors are |predicted / measured - 1|; a case is a model on so many agents with such a link."""
    ran = [(one.predicted, one.measured) for one in kept if one.predicted and one.measured]
    if not ran:
        return {"cells": 0}
    throughput = [abs(p.throughput / m.throughput - 1) for p, m in ran]
    latency = [abs(p.latency_s / m.latency_s - 1) for p, m in ran]
    loaded = [abs(p.loaded_latency_s / m.loaded_latency_s - 1) for p, m in ran]
    nodes = [pair for p, m in ran for pair in zip(p.nodes, m.nodes, strict=True)]
    memory = [abs(p.memory_bytes / m.memory_bytes - 1) for p, m in nodes if m.memory_bytes >= LEAST_BYTES]
    busy = [abs(p.busy - m.busy) for p, m in nodes]
    cases = [list(group) for _, group in groupby(sorted(kept, key=lambda one: one.cell), lambda one: one.cell.case)]
    ranked = [case for case in (_figures(case) for case in cases) if len(case) > 1]
    pairs = [right for case in ranked for right in _pairs(case)]
    return {
        "cells": len(ran),
        "refused": sum(bool(one.refused) for one in kept),
        "throughput_error": _errors(throughput),
        "latency_error": _errors(latency),
        "loaded_latency_error": _errors(loaded),
        "memory_error": _errors(memory) if memory else None,
        "busy_difference": _errors(busy),
        "cases": len(ranked),
        "best_strategy_right": round(float(np.mean([_best_is_right(case) for case in ranked])), 3) if ranked else None,
        "pairs_right": round(float(np.mean(pairs)), 3) if pairs else None,
        "kendall_tau": round(2 * float(np.mean(pairs)) - 1, 3) if pairs else None,
        "foreign_cores": round(max(m.foreign_cores for _, m in ran), 2),
    }


def table(kept: Sequence[Kept]) -> str:
    """Markdown."""
    headings = [
        *("model", "agents", "link", "strategy", "items/s predicted", "measured", "error"),
        *("latency ms, idle, predicted", "measured", "error", "under load, predicted", "measured", "error"),
        *("memory MB predicted", "grown"),
    ]
    lines = [f"| {' | '.join(headings)} |", f"|{' --- |' * len(headings)}"]
    for one in kept:
        place = f"| {one.cell.model} | {one.cell.agents} | {one.cell.link} | {one.cell.strategy} |"
        p, m = one.predicted, one.measured
        if p is None or m is None:
            lines.append(f"{place} refused | | | | | | | | | | |")
            continue
        lines.append(
            f"{place} {p.throughput:.4g} | {m.throughput:.4g} | {p.throughput / m.throughput - 1:+.0%} "
            f"{_latency(p.latency_s, m.latency_s)} {_latency(p.loaded_latency_s, m.loaded_latency_s)} "
            f"| {_memory(p)} | {_memory(m)} |"
        )
    return "\n".join(lines)


def _latency(predicted: float, measured: float) -> str:
    return f"| {predicted * 1e3:.4g} | {measured * 1e3:.4g} | {predicted / measured - 1:+.0%}"


def _memory(figures: Figures) -> str:
    return ", ".join(f"{node.memory_bytes / MB:.0f}" for node in figures.nodes)


def _errors(errors: Sequence[float]) -> dict[str, float]:
    return {
        "median": round(float(np.median(errors)), 4),
        "p90": round(float(np.percentile(errors, 90)), 4),
        "max": round(float(np.max(errors)), 4),
    }


def _figures(case: Sequence[Kept]) -> list[tuple[float, float]]:
    """(predicted, measured) throughput of each strategy."""
    return [(one.predicted.throughput, one.measured.throughput) for one in case if one.predicted and one.measured]


def _best_is_right(case: Sequence[tuple[float, float]]) -> bool:
    """The strategy predicted to be best is the best one, or not noticeably behind it."""
    _, chosen = max(case)
    return chosen >= (1 - AS_GOOD) * max(measured for _, measured in case)


def _pairs(case: Sequence[tuple[float, float]]) -> list[bool]:
    """Of each two strategies that measurably differ: whether they were predicted in the order in which they came."""
    return [
        (one[0] > other[0]) == (one[1] > other[1])
        for one, other in combinations(case, 2)
        if abs(one[1] / other[1] - 1) > TIE
    ]
