"""Every run that was made on this workstation, kept in a SQLite file: the report as JSON, and columns to list it by.

The file's ``user_version`` is its schema version; an older file is brought up to date when it is opened, one written
by a newer Shardboard is refused and left alone. Every function opens the file, so any thread and several processes may
use it.
"""

from __future__ import annotations

import contextlib
import csv
import io
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from core.errors import InputError, SinkError
from core.paths import data_dir
from core.run.report import RunReport

SCHEMA_VERSION: Final = 1
FILE_NAME: Final = "history.sqlite"
_BUSY_SECONDS: Final = 5.0

_MIGRATIONS: Final = (
    """
    CREATE TABLE runs (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        started REAL NOT NULL,
        model TEXT NOT NULL,
        model_sha256 TEXT NOT NULL,
        strategy TEXT NOT NULL,
        nodes TEXT NOT NULL,
        items INTEGER NOT NULL,
        seconds REAL NOT NULL,
        throughput REAL NOT NULL,
        latency_p50_ms REAL NOT NULL,
        report TEXT NOT NULL
    )
    """,
)
"""``_MIGRATIONS[n]`` takes a file from version n to n + 1."""


class RunSummary(Struct, frozen=True):
    """A run as listed."""

    id: int
    started: float
    """Unix time."""
    model: str
    model_sha256: str
    strategy: str
    nodes: tuple[str, ...]
    """Names."""
    items: int
    seconds: float
    throughput: float
    """Items per second."""
    latency_p50_ms: float


_COLUMNS: Final = ", ".join(RunSummary.__struct_fields__)


def save_run(report: RunReport, *, path: Path | None = None) -> int:
    """Keep a run; returns its id. Raises InputError when the history file cannot be used."""
    values = (
        report.started,
        report.model,
        report.model_sha256,
        report.strategy,
        msgspec.json.encode([node.name for node in report.nodes]).decode(),
        report.items,
        report.seconds,
        report.throughput,
        report.latency_ms.p50,
        msgspec.json.encode(report).decode(),
    )
    with _open(path) as connection:
        cursor = connection.execute(
            "INSERT INTO runs (started, model, model_sha256, strategy, nodes, items, seconds, throughput, "
            "latency_p50_ms, report) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            values,
        )
        return int(cursor.lastrowid or 0)


def list_runs(*, limit: int = 1000, path: Path | None = None) -> tuple[RunSummary, ...]:
    """The newest runs first."""
    with _open(path) as connection:
        rows = connection.execute(
            f"SELECT {_COLUMNS} FROM runs ORDER BY started DESC, id DESC LIMIT ?",  # noqa: S608 - constant columns
            (limit,),
        ).fetchall()
    return tuple(_summary(dict(zip(RunSummary.__struct_fields__, row, strict=True))) for row in rows)


def _summary(row: dict[str, Any]) -> RunSummary:
    return RunSummary(**{**row, "nodes": tuple(msgspec.json.decode(row["nodes"], type=list[str]))})


def load_run(run_id: int, *, path: Path | None = None) -> RunReport:
    """The whole report. Raises InputError when there is no such run, or it was written by another version."""
    with _open(path) as connection:
        row = connection.execute("SELECT report FROM runs WHERE id = ?", (run_id,)).fetchone()
    if row is None:
        raise InputError(f"There is no run {run_id} in the history.")
    try:
        return msgspec.json.decode(row[0], type=RunReport)
    except msgspec.DecodeError as error:
        raise InputError(f"Run {run_id} of the history cannot be read: {error}.") from error


def delete_run(run_id: int, *, path: Path | None = None) -> bool:
    """Whether there was such a run."""
    with _open(path) as connection:
        return connection.execute("DELETE FROM runs WHERE id = ?", (run_id,)).rowcount > 0


def export_runs(run_ids: Sequence[int], target: Path, *, path: Path | None = None) -> None:
    """Write runs to ``target``: whole reports as a JSON list, or one line each when its name ends in .csv.

    Raises SinkError when it cannot be written, InputError for an unknown run.
    """
    reports = [load_run(run_id, path=path) for run_id in run_ids]
    if target.suffix.lower() == ".csv":
        content = _as_csv(reports).encode()
    else:
        content = msgspec.json.format(msgspec.json.encode(reports), indent=2)
    try:
        target.write_bytes(content)
    except OSError as error:
        raise SinkError(f"{target} cannot be written: {error.strerror or error}.") from error


def _as_csv(reports: Sequence[RunReport]) -> str:
    text = io.StringIO()
    rows = [_csv_row(report) for report in reports]
    writer = csv.DictWriter(text, tuple(rows[0]) if rows else (), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _csv_row(report: RunReport) -> dict[str, object]:
    return {
        "started": report.started,
        "model": report.model,
        "strategy": report.strategy,
        "nodes": " ".join(node.name for node in report.nodes),
        "micro_batch": report.micro_batch,
        "items": report.items,
        "seconds": report.seconds,
        "throughput": report.throughput,
        "latency_p50_ms": report.latency_ms.p50,
        "latency_p95_ms": report.latency_ms.p95,
        "latency_p99_ms": report.latency_ms.p99,
        "predicted_throughput": report.predicted.throughput if report.predicted is not None else None,
        "efficiency": report.efficiency,
        "verified": report.verified,
    }


@contextlib.contextmanager
def _open(path: Path | None) -> Iterator[sqlite3.Connection]:
    """A connection in a transaction that is committed at the end."""
    file = path if path is not None else data_dir() / FILE_NAME
    try:
        with contextlib.closing(sqlite3.connect(file, timeout=_BUSY_SECONDS)) as connection:
            _bring_up_to_date(connection, file)
            with connection:
                yield connection
    except sqlite3.Error as error:
        raise InputError(
            f"The history {file} cannot be used: {error}.", hint="Move it away to begin a new one."
        ) from error


def _bring_up_to_date(connection: sqlite3.Connection, file: Path) -> None:
    version = _version(connection)
    if version == SCHEMA_VERSION:
        return
    if version > SCHEMA_VERSION:
        raise InputError(
            f"The history {file} was written by a newer Shardboard (its version is {version}, this one knows "
            f"{SCHEMA_VERSION}).",
            hint="Install that version, or move the file away to begin a new one.",
        )
    connection.execute("BEGIN IMMEDIATE")  # another process may be doing the same
    for step in range(_version(connection), SCHEMA_VERSION):
        connection.execute(_MIGRATIONS[step])
        connection.execute(f"PRAGMA user_version = {step + 1}")
    connection.commit()


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
