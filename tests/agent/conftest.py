"""Real agents and workstations that are paired with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.agent.driver import (
    AgentProcess,
    Linear,
    Workstation,
)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., AgentProcess]]:
    """Starts agents that share one key file and end with the test."""
    agents: list[AgentProcess] = []

    def begin(*options: str, shared_key: bool = True, name: str | None = None, port: int = 0) -> AgentProcess:
        folder = tmp_path / (name or f"agent-{len(agents)}")
        key_file = tmp_path / "shared.key" if shared_key else None
        if key_file is not None:
            Workstation.make_key(key_file)
        agents.append(AgentProcess(folder, *options, key_file=key_file, port=port))
        return agents[-1]

    yield begin
    for agent in agents:
        agent.close()


@pytest.fixture
def new_station(tmp_path: Path) -> Iterator[Callable[..., Workstation]]:
    """Makes workstations that are paired with the agents given."""
    stations: list[Workstation] = []

    def make(*agents: AgentProcess, name: str = "desk") -> Workstation:
        stations.append(Workstation())
        for agent in agents:
            stations[-1].pair(agent, tmp_path / "shared.key", name)
        return stations[-1]

    yield make
    for station in stations:
        station.close()


@pytest.fixture(scope="module")
def agent_with_linear(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[AgentProcess, Workstation, Linear]]:
    folder = tmp_path_factory.mktemp("agent")
    Workstation.make_key(folder / "shared.key")
    agent = AgentProcess(folder / "agent", key_file=folder / "shared.key")
    station = Workstation()
    station.pair(agent, folder / "shared.key")
    yield agent, station, Linear(8, 3)
    station.close()
    agent.close()
