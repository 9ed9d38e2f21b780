from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def command_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("command-home")


@pytest.fixture(autouse=True)
def own_home(command_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One home for all of these tests: measured profiles are kept in it."""
    monkeypatch.setenv("SHARDBOARD_HOME", str(command_home))
    return command_home
