"""Does the planner tell the truth? Every strategy on real agents, predicted before and measured after.

    python -m tests.bench.prediction [--models resnet50 lstm] [--strategies tensor] [--agents 2 3]
                                     [--links loopback 100M] [--seconds 4] [--patience 30]
                                     [--results FILE] [--again | --predict | --report]

The last agent of a cell computes half of the time. A prediction knows what the program measures by itself (the model's
layers, the nodes' speeds, the links) and nothing of the run. Cells are kept in FILE, so that a run can be continued;
--again repeats those that are chosen, --predict only predicts them anew from new measurements, --report only prints.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from msgspec.structs import replace

from core.commands.planning import Costs, predicted
from core.commands.wanted import comparable
from core.model.library import resolve_model
from core.paths import cache_dir
from tests.bench.limits import (
    CORES_AT_ONCE,
    FOREIGN_CORES,
    MEMORY_AT_ONCE,
    cores_at_once,
    foreign_cores,
    machine,
    memory_at_once,
)
from tests.bench.prediction_cells import Cell, Cells, Kept
from tests.bench.prediction_errors import summary, table
from tests.bench.prediction_run import foretold, measured_costs, run_cell

MICRO_BATCHES = {"resnet50": 1, "mobilenetv2": 2, "bert-base": 1, "gpt2": 1, "lstm": 64}
"""Items that travel together. A micro-batch takes some 30 to 300 ms of one core; the LSTM's 0.5 ms."""
TRIES = 3
"""A cell that was disturbed is run again, as often as this."""
MEMORY_LOOKS = 10
"""At the beginning, for the most that the way to memory carries."""


def main() -> None:
    chosen = _options()
    path = chosen.results or cache_dir() / "prediction.json"
    cells = Cells(path)
    wanted = list(_wanted(chosen))
    if chosen.predict:
        _predict(cells, wanted)
    elif not chosen.report:
        _run(chosen, cells, wanted)
    kept = cells.of(wanted)
    print(msgspec.json.encode({"benchmark": "prediction", **summary(kept), "machine": machine()}).decode())
    print()
    print(table(kept))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(MICRO_BATCHES))
    parser.add_argument("--strategies", nargs="+", help="default: every one that so many agents can take")
    parser.add_argument("--agents", nargs="+", type=int, default=[2, 3])
    parser.add_argument("--links", nargs="+", default=["loopback", "100M"])
    parser.add_argument("--seconds", type=float, default=4.0, help="of steady running of a cell")
    parser.add_argument("--patience", type=float, default=30.0, help="to wait for a quiet machine before a cell")
    parser.add_argument("--results", type=Path, help="file in which cells are kept")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--again", action="store_true", help="run also cells that are kept already")
    what.add_argument("--predict", action="store_true", help="run nothing, predict anew what was run")
    what.add_argument("--report", action="store_true", help="run nothing")
    return parser.parse_args()


def _wanted(chosen: argparse.Namespace) -> Iterator[Cell]:
    for model in chosen.models:
        for agents in chosen.agents:
            for link in chosen.links:
                for strategy in chosen.strategies or comparable(agents):
                    yield Cell(model, agents, link, strategy)


def _run(chosen: argparse.Namespace, cells: Cells, wanted: Sequence[Cell]) -> None:
    folder = cache_dir() / "prediction-agents"
    costs: dict[tuple[str, int, str], Costs] = {}
    memory = max(memory_at_once() for _ in range(MEMORY_LOOKS))
    for number, cell in enumerate(wanted):
        if cell in cells and not chosen.again:
            continue
        model, _ = resolve_model(cell.model)
        micro_batch = MICRO_BATCHES.get(cell.model, 1)
        _await_quiet(chosen.patience, memory)
        if cell.case not in costs:
            costs[cell.case] = measured_costs(cell, model, micro_batch, folder)
            _await_quiet(chosen.patience, memory)
        began = time.perf_counter()
        tries = [run_cell(cell, model, micro_batch, costs[cell.case], folder, chosen.seconds)]
        while _disturbance(tries[-1], memory) > 0 and len(tries) < TRIES:
            _await_quiet(chosen.patience, memory)
            tries.append(run_cell(cell, model, micro_batch, costs[cell.case], folder, chosen.seconds))
        best = min(tries, key=lambda one: _disturbance(one, memory))
        cells.keep(best)
        took = time.perf_counter() - began
        print(f"{number + 1}/{len(wanted)} {cell.key} ({took:.1f} s): {_told(best)}", file=sys.stderr, flush=True)


def _predict(cells: Cells, wanted: Sequence[Cell]) -> None:
    folder = cache_dir() / "prediction-agents"
    costs: dict[tuple[str, int, str], Costs] = {}
    for kept in cells.of(wanted):
        if kept.request is None:
            continue
        model, _ = resolve_model(kept.cell.model)
        if kept.cell.case not in costs:
            costs[kept.cell.case] = measured_costs(kept.cell, model, kept.micro_batch, folder)
        known = costs[kept.cell.case]
        again = replace(kept, predicted=foretold(predicted(model, kept.request, known).prediction, known))
        cells.keep(again)
        print(f"{kept.cell.key}: {_told(again)}", file=sys.stderr, flush=True)


def _await_quiet(seconds: float, memory: float) -> None:
    """Until the machine does nothing else and has all its cores and its way to memory, but no longer than this."""
    end = time.perf_counter() + seconds
    while (left := end - time.perf_counter()) > 0:
        if _missing(foreign_cores(min(1.0, left)), cores_at_once(), memory_at_once() / memory) <= 0:
            return


def _missing(foreign: float, cores: float, memory: float) -> float:
    """By how much others have disturbed: parts of cores, and of the ``memory`` bandwidth. 0: not so that it shows."""
    return sum(
        max(0.0, missing) for missing in (foreign - FOREIGN_CORES, CORES_AT_ONCE - cores, MEMORY_AT_ONCE - memory)
    )


def _disturbance(kept: Kept, memory: float) -> float:
    found = kept.measured
    if found is None:
        return 0.0
    return _missing(found.foreign_cores, found.cores_at_once, found.memory_at_once / memory)


def _told(kept: Kept) -> str:
    if kept.measured is None or kept.predicted is None:
        return kept.refused
    error = kept.predicted.throughput / kept.measured.throughput - 1
    return (
        f"{kept.predicted.throughput:.3g} items/s predicted, {kept.measured.throughput:.3g} measured ({error:+.0%}), "
        f"{kept.measured.foreign_cores:.2f} foreign cores"
    )


if __name__ == "__main__":
    main()
