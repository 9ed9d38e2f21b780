from __future__ import annotations

import queue
from collections.abc import Callable
from pathlib import Path

import pytest
from zeroconf import ServiceInfo, Zeroconf

from core import PROTOCOL_VERSION
from core.cluster import discovery
from core.cluster.announce import SERVICE_TYPE
from core.cluster.client import Cluster
from core.cluster.discovery import Discovery, likeliest_first, own_addresses, own_networks
from core.cluster.effects import Sighting
from core.cluster.local import LocalAgents
from core.cluster.node import NodeState
from core.cluster.opening import open_cluster
from core.plan.form import NodeId
from core.wire.keys import new_keys

Start = Callable[..., LocalAgents]
Until = Callable[..., object]


class Watcher:
    """A Discovery whose news can be waited for."""

    def __init__(self) -> None:
        self.sighted: queue.Queue[Sighting] = queue.Queue()
        self.vanished: queue.Queue[NodeId] = queue.Queue()
        self.problems: queue.Queue[str] = queue.Queue()
        self._discovery = Discovery(self.sighted.put, self.vanished.put, self.problems.put)

    def __enter__(self) -> Watcher:
        self._discovery.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._discovery.close()

    def sighting_of(self, node: NodeId) -> Sighting:
        while True:
            try:
                found = self.sighted.get(timeout=30)
            except queue.Empty:
                pytest.skip(self.problems.get_nowait() if self.problems.qsize() else "multicast is slow here")
            if found.id == node:
                return found


def test_an_agent_is_sighted_with_all_it_says_and_vanishes_when_it_stops(start: Start, tmp_path: Path) -> None:
    agents = start(1, announce=True)
    (agent,) = agents.agents
    with Watcher() as watcher:
        seen = watcher.sighting_of(agent.id)
        assert (seen.name, seen.control_port, seen.pairing_port) == (agent.name, agent.control_port, agent.pairing_port)
        assert (seen.protocol, seen.source) == (PROTOCOL_VERSION, "mdns")
        assert seen.addresses
        agents.close()
        assert agent.id in iter(lambda: watcher.vanished.get(timeout=30), None)


def test_an_announcement_of_another_version_is_shown_as_incompatible(until: Until) -> None:
    node = NodeId(new_keys().public)
    txt = {"id": node, "name": "newer", "version": "9.0", "protocol": "99", "data": "7422"}
    service = ServiceInfo(
        SERVICE_TYPE,
        f"newer-{node.encode().hex()[:8]}.{SERVICE_TYPE}",
        port=7420,
        properties=txt,
        server=f"n{node.encode().hex()[:12]}.local.",
        parsed_addresses=list(own_addresses()) or ["127.0.0.1"],
    )
    with Zeroconf() as announcing, open_cluster() as cluster:
        announcing.register_service(service)

        def shown() -> bool:
            if cluster.discovery_problem is not None:
                pytest.skip(cluster.discovery_problem)
            return any(known.id == node for known in cluster.nodes())

        until(shown)
        assert cluster.node(node).state is NodeState.INCOMPATIBLE
        assert "protocol 99" in cluster.node(node).reason


def test_a_probe_that_is_not_seen_is_a_problem_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "PROBE_SECONDS", 0.2)
    monkeypatch.setattr(discovery, "PROBE_TYPE", "_sbnobody._tcp.local.")  # other probes on this network do not count
    monkeypatch.setattr(Zeroconf, "register_service", lambda *_args, **_named: None)
    with Watcher() as watcher:
        problem = watcher.problems.get(timeout=30)
    assert "Multicast does not come through" in problem or "no network connection" in problem
    assert "--node HOST:PORT" in problem


def test_mdns_that_cannot_start_is_a_problem_in_words(monkeypatch: pytest.MonkeyPatch, until: Until) -> None:
    def fail(*_args: object, **_named: object) -> None:
        raise OSError(98, "Address already in use")

    monkeypatch.setattr(discovery, "Zeroconf", fail)
    with Cluster(new_keys()) as cluster:
        until(lambda: cluster.discovery_problem)
        problem = cluster.discovery_problem or ""
    assert "Address already in use" in problem or "no network connection" in problem


def test_addresses_in_our_own_networks_come_first() -> None:
    ours = [str(network.network_address + 1) for network in own_networks() if network.num_addresses > 2]
    if not ours:
        pytest.skip("this machine has no network")
    assert likeliest_first(["203.0.113.9", "127.0.0.1", ours[0]]) == (ours[0], "203.0.113.9", "127.0.0.1")


def test_a_probe_over_loopback_alone_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "own_networks", tuple)  # a machine whose cable is out
    monkeypatch.setattr(discovery, "PROBE_SECONDS", 1.0)
    with Watcher() as watcher:
        assert "no network connection" in watcher.problems.get(timeout=30)
