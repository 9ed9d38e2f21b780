from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from pathlib import Path

import pytest

from core import PROTOCOL_VERSION
from core.cluster.client import Cluster
from core.cluster.events import ClusterEvent, NodeChanged, TelemetryArrived
from core.cluster.local import LocalAgents
from core.cluster.node import NodeState
from core.cluster.opening import known_nodes, open_cluster
from core.errors import NodeOwnedError, NoNodesError, UnreachableError
from core.plan.form import NodeId
from core.wire.keys import new_keys
from core.wire.messages import Done, Failure, Hello, Ping, Release, Reply, Request, Reserve, SetLimits
from tests.cluster.peers import CodeAgent, ToyAgent

Start = Callable[..., LocalAgents]
Until = Callable[..., object]


@pytest.fixture
def code_agent(tmp_path: Path) -> Iterator[CodeAgent]:
    agent = CodeAgent(tmp_path / "agent")
    yield agent
    agent.close()


def test_local_agents_are_ready_and_send_telemetry(start: Start, until: Until) -> None:
    agents = start(2)
    events: list[ClusterEvent] = []
    with open_cluster(local=agents.agents, discovery=False, on_event=events.append) as cluster:
        ready = cluster.wait_ready(2, 60)
        assert {node.id for node in ready} == {agent.id for agent in agents.agents}
        assert {node.name for node in ready} == {"local-1", "local-2"}
        assert all(node.source == "local" and node.info is not None for node in ready)
        until(lambda: sum(isinstance(event, TelemetryArrived) for event in tuple(events)) > 4)
        until(lambda: all(node.rtt_s is not None for node in cluster.nodes()))
        first = agents.agents[0].id
        states = [e.node.state for e in tuple(events) if isinstance(e, NodeChanged) and e.node.id == first]
        assert list(dict.fromkeys(states)) == [NodeState.DISCOVERED, NodeState.TRUSTED, NodeState.READY]


def test_a_killed_agent_is_lost_soon_and_the_same_node_when_it_returns(
    start: Start, until: Until, tmp_path: Path
) -> None:
    agents = start(1, state_root=tmp_path)
    with open_cluster(local=agents.agents, discovery=False) as cluster:
        (before,) = cluster.wait_ready(1, 60)
        waiting = cluster.request(before.id, Ping())
        assert waiting.result(60) == Done()
        agents.kill(0)
        assert cluster.wait_until(lambda nodes: nodes[0].state is NodeState.LOST, 30), "3 s are meant"
        assert "no sign of life" in cluster.node(before.id).reason
        with pytest.raises(UnreachableError, match="is lost"):
            cluster.request(before.id, Ping()).result(60)
        (agent,) = start(1, state_root=tmp_path).agents
        assert agent.id == before.id
        assert agent.control_port != before.control_port
        cluster.add_local(agent)
        (after,) = cluster.wait_ready(1, 60)
        assert after.id == before.id
        assert after.control_port == agent.control_port
        assert len(cluster.nodes()) == 1


def test_what_waits_for_an_answer_fails_when_the_node_is_lost(until: Until) -> None:
    silent = ToyAgent(lambda _request: None)
    with Cluster(new_keys(), discovery=False) as cluster:
        cluster.add_known(silent.id, "127.0.0.1", silent.control_port)
        until(cluster.nodes)
        until(lambda: "does not answer" in cluster.node(silent.id).reason)
        assert cluster.node(silent.id).state is NodeState.DISCOVERED
        with pytest.raises(NoNodesError, match=r"127\.0\.0\.1:\d+\): does not answer"):
            cluster.wait_ready(1, 0.1)
    silent.close()


def test_an_agent_of_another_version_is_incompatible(until: Until) -> None:
    def answer(request: Request) -> Reply | None:
        return Failure("version", "this node speaks protocol 99") if isinstance(request, Hello) else None

    newer = ToyAgent(answer)
    with Cluster(new_keys(), discovery=False) as cluster:
        cluster.add_known(newer.id, "127.0.0.1", newer.control_port)
        until(lambda: [n for n in cluster.nodes() if n.state is NodeState.INCOMPATIBLE])
        reason = cluster.node(newer.id).reason
        assert "protocol 99" in reason
        assert f"protocol {PROTOCOL_VERSION}" in reason
    newer.close()


def test_an_unpaired_node_says_how_to_pair_it_and_a_code_does(code_agent: CodeAgent, until: Until) -> None:
    address = ("127.0.0.1", code_agent.control_port)
    until(code_agent.codes)
    with open_cluster(discovery=False) as cluster:
        cluster.add_known(code_agent.id, *address, "address", pairing_port=code_agent.pairing_port)
        until(lambda: cluster.nodes() and "pair it" in cluster.node(code_agent.id).reason)
        assert cluster.node(code_agent.id).state is NodeState.DISCOVERED
        with pytest.raises(UnreachableError, match="did not accept the pairing code"):
            cluster.pair("127.0.0.1", code_agent.pairing_port, "0000-0000-00").result(60)
        assert cluster.pair("127.0.0.1", code_agent.pairing_port, code_agent.codes()[-1]).result(60) == code_agent.id
        cluster.wait_ready(1, 60)
    assert known_nodes().key_of(*address) == code_agent.id
    with open_cluster(discovery=False) as again:  # paired once, known by its address ever after
        assert again.add_address(*address).result(60) == code_agent.id


def test_an_unknown_address_is_refused_in_words(code_agent: CodeAgent, tmp_path: Path) -> None:
    port = code_agent.control_port
    with open_cluster(discovery=False) as cluster:
        with pytest.raises(UnreachableError, match=rf"not paired .* shardboard pair 127\.0\.0\.1:{port} CODE"):
            cluster.add_address("127.0.0.1", port, pairing_port=code_agent.pairing_port).result(60)
        with pytest.raises(UnreachableError, match="nothing listens on port 1"):
            cluster.add_address("127.0.0.1", 1).result(60)
        with pytest.raises(NoNodesError, match="nothing listens on port 1"):
            cluster.wait_ready(1, 0.0)


def test_an_address_is_paired_with_by_the_key_file(start: Start) -> None:
    (agent,) = start(1).agents
    with open_cluster(discovery=False) as cluster:
        found = cluster.add_address(agent.host, agent.control_port, pairing_port=agent.pairing_port).result(60)
        assert found == agent.id
        cluster.wait_ready(1, 60)


def test_a_node_that_another_workstation_holds_is_refused_with_its_name(start: Start, until: Until) -> None:
    agents = start(1)
    (agent,) = agents.agents
    with open_cluster(local=agents.agents, discovery=False, name="lab-1") as first:
        key_file = first_key_file()
        with Cluster(new_keys(), name="lab-2", discovery=False, key_file=key_file) as second:
            second.add_local(agent)
            first.wait_ready(1, 60)
            second.wait_ready(1, 60)
            first.request(agent.id, Reserve("d1", "lab-1", 1000)).result(60)
            with pytest.raises(NodeOwnedError, match="lab-1"):
                second.request(agent.id, Reserve("d2", "lab-2", 1000)).result(60)
            until(lambda: second.node(agent.id).state is NodeState.BUSY)
            assert second.node(agent.id).owner == "lab-1"
            first.request(agent.id, Release("d1")).result(60)
            second.wait_ready(1, 60)
            second.request(agent.id, Reserve("d2", "lab-2", 1000)).result(60)


def test_a_program_that_is_gone_holds_nothing_though_another_of_its_workstation_lives(start: Start) -> None:
    agents = start(1).agents
    (node,) = (agent.id for agent in agents)
    with open_cluster(local=agents, discovery=False, name="lab") as second:
        with open_cluster(local=agents, discovery=False, name="lab") as first:
            first.wait_ready(1, 60)
            first.request(node, Reserve("d1", "lab", 1000)).result(60)
            assert second.wait_until(lambda nodes: nodes[0].state is NodeState.BUSY, 60)
            with pytest.raises(NodeOwnedError, match="lab"):
                second.request(node, Reserve("d2", "lab", 1000)).result(60)
            assert second.node(node).telemetry.deployment == "d1"
        second.wait_ready(1, 60)  # nothing was released: the first is gone
        second.request(node, Reserve("d2", "lab", 1000)).result(60)


def first_key_file() -> bytes:
    from core.cluster.opening import shared_key_path
    from core.wire.keys import load_key_file

    return load_key_file(shared_key_path())


def test_a_changed_limit_is_told_to_everyone(start: Start, until: Until) -> None:
    agents = start(1)
    with open_cluster(local=agents.agents, discovery=False) as cluster:
        (node,) = cluster.wait_ready(1, 60)
        cluster.request(node.id, SetLimits(cpu_limit=0.5)).result(60)

        def limit() -> float | None:
            info = cluster.node(node.id).info
            return info.cpu_limit if info is not None else None

        until(lambda: limit() == 0.5)


def test_speeds_are_measured_and_kept_with_the_nodes(start: Start, until: Until) -> None:
    agents = start(1)
    with open_cluster(local=agents.agents, discovery=False) as cluster:
        (node,) = cluster.wait_ready(1, 60)
        speeds = cluster.measure_speeds([node.id])
        assert speeds[node.id] > 0
        until(lambda: cluster.node(node.id).speed == speeds[node.id])
        cluster.request(node.id, SetLimits(cpu_limit=0.25)).result(60)
        until(lambda: cluster.node(node.id).speed == pytest.approx(speeds[node.id] / 4))


def test_a_drained_node_is_not_ready(start: Start, until: Until) -> None:
    agents = start(1)
    with open_cluster(local=agents.agents, discovery=False) as cluster:
        (node,) = cluster.wait_ready(1, 60)
        cluster.drain(node.id)
        until(lambda: cluster.node(node.id).state is NodeState.DRAINED)
        with pytest.raises(NoNodesError, match="taken out of use"):
            cluster.wait_ready(1, 0.3)
        cluster.resume(node.id)
        cluster.wait_ready(1, 60)


def test_announced_agents_are_found_by_themselves(start: Start, until: Until) -> None:
    agents = start(2, announce=True)
    wanted = {agent.id for agent in agents.agents}
    with open_cluster() as cluster:

        def found() -> bool:
            if cluster.discovery_problem is not None:
                pytest.skip(cluster.discovery_problem)
            return wanted <= {node.id for node in cluster.nodes() if node.state is NodeState.READY}

        until(found)
        assert all(cluster.node(node).source == "mdns" for node in wanted)


def test_a_cluster_closes_while_a_node_hangs(until: Until) -> None:
    silent = ToyAgent(lambda _request: None)
    cluster = Cluster(new_keys(), discovery=False)
    cluster.add_known(silent.id, "127.0.0.1", silent.control_port)
    until(cluster.nodes)
    begun = time.monotonic()
    cluster.close()
    cluster.close()
    assert time.monotonic() - begun < 20.0
    silent.close()


def test_a_failing_listener_does_not_stop_the_cluster(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    def fail(_event: ClusterEvent) -> None:
        raise ValueError("a listener's own fault")

    agents = start(1)
    with open_cluster(local=agents.agents, discovery=False, on_event=fail) as cluster:
        cluster.wait_ready(1, 60)
    assert "a listener of the cluster failed" in caplog.text


def test_an_unknown_node_is_said() -> None:
    with Cluster(new_keys(), discovery=False) as cluster:
        with pytest.raises(NoNodesError, match="not known"):
            cluster.node(NodeId("x" * 40))
        with pytest.raises(NoNodesError, match="not known"):
            cluster.request(NodeId("x" * 40), Ping()).result(60)
        with pytest.raises(NoNodesError, match="none was found"):
            cluster.wait_ready(1, 0.0)


def test_every_request_is_answered_also_while_and_after_the_cluster_closes(start: Start) -> None:
    agents = start(1)
    cluster = open_cluster(local=agents.agents, discovery=False)
    (node,) = cluster.wait_ready(1, timeout=60)
    going = threading.Event()

    def close() -> None:
        going.wait(60)
        cluster.close()

    closer = threading.Thread(target=close)
    closer.start()
    futures = []
    for i in range(400):
        if i == 100:
            going.set()
        futures.append(cluster.request(node.id, Ping(), timeout=30))
    closer.join(60)
    futures.append(cluster.request(node.id, Ping(), timeout=30))
    done, never = wait(futures, timeout=30)
    assert not never
    assert isinstance(futures[-1].exception(), UnreachableError)
    assert len(done) == 401
