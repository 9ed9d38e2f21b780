"""shardboard demo: agents on this machine, a bundled model, a run, and the panel that shows it."""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import tempfile
from pathlib import Path
from typing import Final

import msgspec

from core.commands.output import note, print_json
from core.commands.panel import has_display, panel_command, panel_environment, require_panel
from core.commands.reports import print_report
from core.errors import InputError, JobError, SinkError
from core.run.report import RunReport

CLOSE_SECONDS: Final = 30.0


def run(options: argparse.Namespace) -> int:
    try:
        require_panel()
    except InputError as missing:
        return _in_terminal(options, missing)
    if options.screenshots is not None:
        _make_folder(options.screenshots)
    with tempfile.TemporaryDirectory(prefix="shardboard-demo-", ignore_cleanup_errors=True) as folder:
        result = Path(folder) / "result.json"
        code = _run_panel(options, result)
        if code == 0 and result.exists():
            report = msgspec.json.decode(result.read_bytes(), type=RunReport)
            if options.json:
                print_json(report)
            else:
                print_report(report)
            if options.screenshots is not None:
                note(f"The pages are pictured in {options.screenshots}.")
        elif code == 0 and options.headless:
            raise JobError("The demo ended without a result.")
    return code


def _run_panel(options: argparse.Namespace, result: Path) -> int:
    command = [*panel_command(), "--demo", "--nodes", str(options.nodes), "--result", str(result)]
    if options.seconds is not None:
        command += ["--seconds", str(options.seconds)]
    if options.screenshots is not None:
        command += ["--screenshots", str(options.screenshots)]
    environment = panel_environment()
    if options.headless or not has_display():
        environment["QT_QPA_PLATFORM"] = "offscreen"
    process = subprocess.Popen(command, env=environment)
    try:
        return process.wait()
    except KeyboardInterrupt:
        # The panel got Ctrl-C too and stops its agents in order; they would end with it in any case.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(CLOSE_SECONDS)
        raise
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(f"Pictures cannot be saved in {folder}: {error.strerror or error}.") from error


def _in_terminal(options: argparse.Namespace, missing: InputError) -> int:
    """The same agents, model and run without the panel, where its packages are not installed."""
    from core.commands.demo_terminal import run_demo  # noqa: PLC0415 - needs onnx, which may be missing too

    note(f"{missing} The demo runs in the terminal instead" + (", without pictures." if options.screenshots else "."))
    report = run_demo(options.nodes, options.seconds)
    if options.json:
        print_json(report)
    else:
        print_report(report)
    return 0
