"""Imports point downwards only: gui and agent stand above core, and a node needs neither Qt nor onnx."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).parents[1]


def test_import_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True) == 0


def test_an_agent_loads_nothing_that_only_a_workstation_has() -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", "import agent.daemon, agent.options, sys; print(*sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert not {"onnx", "onnx_ir", "PIL", "PySide6", "pyqtgraph"} & set(loaded)
