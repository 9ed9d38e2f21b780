from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def session_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def own_home(session_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One home for all of these tests: measured profiles are kept in it."""
    monkeypatch.setenv("SHARDBOARD_HOME", str(session_home))
    return session_home
