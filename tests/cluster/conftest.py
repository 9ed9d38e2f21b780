from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.cluster.local import LocalAgents, start_local_agents


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keys and paired nodes of a test are its own."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("SHARDBOARD_HOME", str(home))
    return home


@pytest.fixture
def start(own_home: Path) -> Iterator[Callable[..., LocalAgents]]:
    """Starts agents that are stopped after the test."""
    started: list[LocalAgents] = []

    def begin(count: int = 1, **options: object) -> LocalAgents:
        started.append(start_local_agents(count, **options))  # type: ignore[arg-type]
        return started[-1]

    yield begin
    for agents in started:
        agents.close()


@pytest.fixture
def until() -> Callable[..., object]:
    """Polls a condition until it is truthy."""

    def wait(condition: Callable[[], object], seconds: float = 60.0) -> object:
        deadline = time.monotonic() + seconds
        while not (value := condition()):
            assert time.monotonic() < deadline, f"the condition did not come true in {seconds} s"
            time.sleep(0.01)
        return value

    return wait
