"""What the truth test (tests/bench/prediction) makes of its cells; the cells themselves are no test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.prediction_cells import Cell, Cells, Figures, Kept, Node
from tests.bench.prediction_errors import summary, table
from tests.bench.prediction_run import steady_rate


def kept(strategy: str, predicted: float, measured: float, *, model: str = "m") -> Kept:
    def figures(throughput: float, memory: int) -> Figures:
        return Figures(throughput, 1 / throughput, 2 / throughput, (Node(memory, 0.5),))

    cell = Cell(model, 2, "loopback", strategy)
    return Kept(cell, 0.0, 1, None, figures(predicted, 100_000_000), figures(measured, 125_000_000))


def test_errors_are_of_all_cells_that_ran() -> None:
    refused = Kept(Cell("m", 2, "loopback", "spatial"), 0.0, 1, refused="It has no rows.")
    told = summary([kept("single", 10, 10), kept("pipeline", 12, 10), kept("tensor", 5, 10), refused])
    assert told["cells"] == 3
    assert told["refused"] == 1
    assert told["throughput_error"] == {"median": 0.2, "p90": pytest.approx(0.44), "max": 0.5}
    assert told["memory_error"] == {"median": 0.2, "p90": 0.2, "max": 0.2}


def test_the_best_strategy_may_be_five_per_cent_behind() -> None:
    right = [kept("single", 10, 9.6), kept("pipeline", 9, 10)]
    wrong = [kept("single", 10, 9.4, model="n"), kept("pipeline", 9, 10, model="n")]
    assert summary(right)["best_strategy_right"] == 1
    assert summary(wrong)["best_strategy_right"] == 0
    both = summary([*right, *wrong])
    assert (both["cases"], both["best_strategy_right"]) == (2, 0.5)


def test_pairs_that_hardly_differ_have_no_order() -> None:
    cells = [kept("single", 10, 10), kept("pipeline", 11, 9.9), kept("tensor", 5, 4), kept("replicate", 4, 8)]
    told = summary(cells)
    # tensor is rightly behind both, replicate too, and wrongly behind tensor
    assert told["pairs_right"] == pytest.approx(4 / 5)
    assert told["kendall_tau"] == pytest.approx(3 / 5)


def test_the_table_has_a_line_for_each_cell() -> None:
    lines = table([kept("single", 11, 10), Kept(Cell("m", 2, "100M", "spatial"), 0.0, 1, refused="No.")]).splitlines()
    assert len(lines) == 4
    assert "| 11 | 10 | +10% |" in lines[2]
    assert "refused" in lines[3]


def test_cells_are_kept_between_runs(tmp_path: Path) -> None:
    path = tmp_path / "cells.json"
    one = kept("single", 10, 9)
    Cells(path).keep(one)
    again = Cells(path)
    assert one.cell in again
    assert again.of([one.cell, Cell("m", 3, "100M", "tensor")]) == [one]
    assert one.cell not in Cells(path, fresh=True)


def test_the_rate_leaves_out_filling_and_draining() -> None:
    moments = [0.5, 0.5, 0.5, *(1 + 0.1 * step for step in range(40)), 6.0, 7.0]
    assert steady_rate(moments, 5.0, 1) == pytest.approx(10, rel=0.01)
    assert steady_rate(moments, 5.0, 3) == pytest.approx(10, rel=0.01)


def test_few_micro_batches_that_end_in_pairs_have_the_rate_of_the_pairs() -> None:
    moments = [10 + 2 * pair + late for pair in range(5) for late in (0.0, 0.1)]
    assert steady_rate(moments[:9], moments[6], 2) == pytest.approx(1)
