from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from core.cluster import local
from core.cluster.local import LocalAgents, start_local_agents, usable_cores
from core.cluster.opening import open_cluster, shared_key_path
from core.errors import InputError, UnreachableError

Start = Callable[..., LocalAgents]


def test_agents_end_with_their_context_and_their_folder_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local.tempfile, "tempdir", str(tmp_path))
    with start_local_agents(2) as agents:
        processes = [psutil.Process(agent.pid) for agent in agents.agents]
        assert all(process.is_running() for process in processes)
        assert len(list(tmp_path.iterdir())) == 1
        agents.kill(0)
        assert not agents.alive(0)
        assert agents.alive(1)
    _, alive = psutil.wait_procs(processes, timeout=30)
    assert not alive
    assert list(tmp_path.iterdir()) == []
    agents.close()


def test_what_killed_processes_left_is_removed_after_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local.tempfile, "tempdir", str(tmp_path))
    old, new, ours = (
        tmp_path / f"shardboard-local-{name}" for name in ("999999999-a", "999999999-b", f"{os.getpid()}-c")
    )
    for folder in (old, new, ours):
        folder.mkdir()
    for folder in (old, ours):
        os.utime(folder, (time.time() - 90_000,) * 2)
    with start_local_agents(1):
        assert not old.exists()
        assert new.exists()
        assert ours.exists()


def test_each_agent_has_one_thread_and_its_own_core(start: Start) -> None:
    cores = usable_cores()
    agents = start(len(cores) + 1)
    with open_cluster(local=agents.agents, discovery=False) as cluster:
        nodes = cluster.wait_ready(len(cores) + 1, 20)
        assert {node.info.threads for node in nodes if node.info is not None} == {1}
    if sys.platform == "linux":
        pinned = [psutil.Process(agent.pid).cpu_affinity() for agent in agents.agents]
        assert pinned[: len(cores)] == [[core] for core in cores]
        assert len(pinned[-1] or []) == len(cores)


def test_limits_reach_the_agents(start: Start) -> None:
    agents = start(2, cpu_limits=[0.5], memory_limit=1 << 30, link_limit=100_000_000, names=["fast"])
    with open_cluster(local=agents.agents, discovery=False) as cluster:
        infos = {node.name: node.info for node in cluster.wait_ready(2, 60)}
    first, second = infos["fast"], infos["local-2"]
    assert first is not None
    assert second is not None
    assert (first.cpu_limit, second.cpu_limit) == (0.5, 1.0)
    assert first.memory_limit == 1 << 30
    assert first.link_limit == 100_000_000


def test_an_agent_that_cannot_start_says_why() -> None:
    shared_key_path().write_text("not a key")
    with pytest.raises(InputError, match="not a shared key file"):
        start_local_agents(1)
    shared_key_path().unlink()
    with pytest.raises(UnreachableError, match=r"did not start: .*memory-limit"):
        start_local_agents(2, memory_limit=1)


@pytest.mark.parametrize("count", [0, -1, 65])
def test_a_count_that_makes_no_sense_is_refused(count: int) -> None:
    with pytest.raises(InputError, match="choose 1 to 64"):
        start_local_agents(count)
