from __future__ import annotations

from pathlib import Path

import pytest

from core.cost.kept_messages import keep_message_costs
from core.cost.messages import TYPICAL


@pytest.fixture(scope="session")
def command_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What messages cost is known there: a command that found the machine too busy to measure it would predict
    otherwise than the one before. Measuring it has tests of its own."""
    home = tmp_path_factory.mktemp("command-home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHARDBOARD_HOME", str(home))
        keep_message_costs(TYPICAL)
    return home


@pytest.fixture(autouse=True)
def own_home(command_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One home for all of these tests: measured profiles are kept in it."""
    monkeypatch.setenv("SHARDBOARD_HOME", str(command_home))
    return command_home
