from __future__ import annotations

import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from msgspec.structs import replace

from core.errors import InputError, SinkError
from core.plan.form import NodeId, PlanRequest, Sha256
from core.run.history import SCHEMA_VERSION, delete_run, export_runs, list_runs, load_run, save_run
from core.run.report import Latency, NodeUse, Predicted, RunReport

REPORT = RunReport(
    model="digits-cnn",
    strategy="pipeline",
    items=640,
    seconds=2.0,
    throughput=325.0,
    latency_ms=Latency(10.0, 14.0, 20.0),
    nodes=(
        NodeUse("pi-1", NodeId("a" * 40), 640, 0.9, 0.4, 1000, 2000),
        NodeUse("pi-2", NodeId("b" * 40), 640, 0.7, 0.3, 2000, 1000),
    ),
    verified=True,
    max_abs_error=1e-6,
    predicted=Predicted(330.0, 9.0, {"pi-1": 1 << 20, "pi-2": 1 << 21}),
    efficiency=0.8,
    started=1000.0,
    micro_batch=8,
    request=PlanRequest("pipeline", (NodeId("a" * 40), NodeId("b" * 40)), 8, (5,)),
    model_sha256=Sha256("0" * 64),
    input="random:640",
    throughput_series=(300.0, 340.0),
    notes=("a note",),
)


@pytest.fixture
def history(tmp_path: Path) -> Path:
    return tmp_path / "history.sqlite"


def test_a_saved_run_comes_back_whole(history: Path) -> None:
    run_id = save_run(REPORT, path=history)
    assert load_run(run_id, path=history) == REPORT


def test_runs_are_listed_newest_first_with_their_key_figures(history: Path) -> None:
    first = save_run(REPORT, path=history)
    second = save_run(replace(REPORT, started=2000.0, model="other"), path=history)
    runs = list_runs(path=history)
    assert [run.id for run in runs] == [second, first]
    assert (runs[1].model, runs[1].strategy, runs[1].nodes) == ("digits-cnn", "pipeline", ("pi-1", "pi-2"))
    assert (runs[1].items, runs[1].throughput, runs[1].latency_p50_ms) == (640, 325.0, 10.0)
    assert [run.id for run in list_runs(limit=1, path=history)] == [second]


def test_a_deleted_run_is_gone_and_its_id_is_not_used_again(history: Path) -> None:
    run_id = save_run(REPORT, path=history)
    assert delete_run(run_id, path=history)
    assert not delete_run(run_id, path=history)
    with pytest.raises(InputError, match=f"no run {run_id}"):
        load_run(run_id, path=history)
    assert save_run(REPORT, path=history) != run_id


def test_export_writes_json_and_csv(history: Path, tmp_path: Path) -> None:
    run_id = save_run(REPORT, path=history)
    export_runs([run_id], tmp_path / "runs.json", path=history)
    assert json.loads((tmp_path / "runs.json").read_text())[0]["latency_ms"]["p95"] == 14.0
    export_runs([run_id], tmp_path / "runs.csv", path=history)
    header, line = (tmp_path / "runs.csv").read_text().splitlines()
    assert dict(zip(header.split(","), line.split(","), strict=True))["throughput"] == "325.0"
    with pytest.raises(SinkError, match="cannot be written"):
        export_runs([run_id], tmp_path / "missing" / "runs.csv", path=history)


def test_a_history_of_a_newer_version_is_refused_and_left_alone(history: Path) -> None:
    save_run(REPORT, path=history)
    connection = sqlite3.connect(history)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.commit()
    connection.close()
    before = history.read_bytes()
    with pytest.raises(InputError, match="newer Shardboard"):
        list_runs(path=history)
    assert history.read_bytes() == before


def test_a_file_that_is_no_history_is_named(history: Path) -> None:
    history.write_bytes(b"not a database at all, " * 100)
    with pytest.raises(InputError, match=r"history\.sqlite cannot be used"):
        list_runs(path=history)


def test_many_threads_may_save_at_once(history: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda _: save_run(REPORT, path=history), range(32)))
    assert len(set(ids)) == 32
    assert len(list_runs(path=history)) == 32
