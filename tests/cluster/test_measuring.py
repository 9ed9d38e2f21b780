"""Nodes and links are measured with real agents over real sockets. Figures are bounded, never timed against a clock."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from msgspec.structs import asdict, replace

from core.cluster.client import Cluster
from core.cluster.events import ClusterEvent, MeasurementsChanged
from core.cluster.local import LocalAgents, start_local_agents
from core.cluster.measured import MEASUREMENTS_FILE, Measurements, MeasurementStore, local_agents
from core.cluster.measuring import Outcome, measure_links
from core.cluster.node import NodeState
from core.cluster.opening import open_cluster
from core.cost.links import WORKSTATION
from core.errors import Cancelled
from core.plan.form import NodeId
from core.wire.keys import load_key_file, new_keys
from core.wire.messages import Ping, Release, Reserve
from core.wire.probing import SIZES

Until = Callable[..., object]
LIMIT = 16_000_000
"""bit/s: a fiftieth of what any machine does without it."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("measuring-home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHARDBOARD_HOME", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def own_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of all these tests, but none begins with what another measured."""
    monkeypatch.setenv("SHARDBOARD_HOME", str(home))
    (home / "data" / MEASUREMENTS_FILE).unlink(missing_ok=True)
    return home


@pytest.fixture(scope="module")
def agents(home: Path) -> Iterator[LocalAgents]:
    with start_local_agents(2) as started:
        yield started


@pytest.fixture
def cluster(agents: LocalAgents) -> Iterator[Cluster]:
    with open_cluster(local=agents.agents, discovery=False) as opened:
        opened.wait_ready(2, 60)
        yield opened


class First(NamedTuple):
    """A measurement of everything, and what came of it."""

    outcome: Outcome
    nodes: tuple[NodeId, NodeId]
    shares: list[tuple[float, str]]
    events: list[ClusterEvent]
    kept: Measurements
    """On disk."""


@pytest.fixture(scope="module")
def first(agents: LocalAgents) -> First:
    events: list[ClusterEvent] = []
    shares: list[tuple[float, str]] = []
    with open_cluster(local=agents.agents, discovery=False, on_event=events.append) as cluster:
        one, other = (node.id for node in cluster.wait_ready(2, 60))
        outcome = cluster.measure([one, other], progress=lambda share, words: shares.append((share, words)))
        assert outcome.measurements == cluster.measurements
        assert cluster.measure([one, other]).measurements == outcome.measurements  # what is known is not measured again
        assert cluster.wait_until(lambda nodes: all(node.speed is not None for node in nodes), 30)
        cluster.wait_until(lambda _: MeasurementsChanged(outcome.measurements, {}) in events, 30)
    return First(outcome, (one, other), shares, events, MeasurementStore().load())


def test_everything_is_measured(first: First) -> None:
    one, other = first.nodes
    known = first.outcome.measurements
    assert (first.outcome.refused, first.outcome.stale, first.outcome.problems) == ({}, {}, ())
    assert set(known.benchmarks) == {WORKSTATION, one, other, local_agents(1)}
    for benchmark in known.benchmarks.values():
        assert all(value > 0 for name, value in asdict(benchmark).items() if name != "engine")
        assert (benchmark.threads, benchmark.gemm_flops) == (1, benchmark.gemm_core_flops)
    ends = (WORKSTATION, one, other)
    assert set(known.links) == {(a, b) for a in ends for b in ends if a != b} | {(WORKSTATION, WORKSTATION)}
    assert all(link.loopback and link.bound == "processors" for link in known.links.values())
    assert all(0 < link.round_trip_s < 1 and link.way_s == 0 for link in known.links.values())
    assert {sample.nbytes for link in known.links.values() for sample in link.samples} <= set(SIZES)


def test_progress_is_told_and_the_panel_too(first: First) -> None:
    assert [share for share, _ in first.shares] == sorted(share for share, _ in first.shares)
    assert first.shares[-1][0] == 1.0
    assert any("local-1" in words for _, words in first.shares)
    assert any("link" in words for _, words in first.shares)
    assert MeasurementsChanged(first.outcome.measurements, {}) in first.events


def test_throw_away_agents_are_not_kept_but_their_machine_is(first: First, home: Path) -> None:
    assert set(first.kept.benchmarks) == {WORKSTATION, local_agents(1)}
    assert set(first.kept.links) == {(WORKSTATION, WORKSTATION)}
    MeasurementStore().add(first.kept)
    if os.name == "posix":
        assert (home / "data" / MEASUREMENTS_FILE).stat().st_mode & 0o077 == 0


def test_loopback_that_is_known_counts_for_new_agents(cluster: Cluster, first: First) -> None:
    """Of the workstation's own machine, from an earlier program."""
    nodes = [node.id for node in cluster.nodes()]
    again = measure_links(cluster, nodes, known=first.kept.links)
    assert {link.when for link in again.values()} == {first.kept.links[WORKSTATION, WORKSTATION].when}
    assert (nodes[0], nodes[1]) in again


def test_a_node_that_became_slower_or_lost_memory_is_said(agents: LocalAgents, first: First, until: Until) -> None:
    node = first.nodes[0]
    before = first.outcome.measurements.benchmarks[node]
    faster = replace(before, gemm_core_flops=1000 * before.gemm_core_flops, free_memory=1000 * before.free_memory)
    MeasurementStore().add(Measurements({**first.kept.benchmarks, node: faster}))
    events: list[ClusterEvent] = []
    with open_cluster(local=agents.agents, discovery=False, on_event=events.append) as later:
        later.wait_ready(2, 60)
        outcome = later.measure([node], links=False)
        slower, less = outcome.stale[node]
        assert "became slower" in slower
        assert "lost memory" in less
        assert outcome.measurements.benchmarks[node] == faster  # a person decides
        until(lambda: MeasurementsChanged(outcome.measurements, {node: (slower, less)}) in tuple(events))
        stop = threading.Event()
        stop.set()
        with pytest.raises(Cancelled):
            later.measure([node], anew=True, cancel=stop)
        assert later.measurements == outcome.measurements  # an interrupted measurement leaves the old one
        anew = later.measure([node], links=False, anew=True)
        assert anew.stale == {}
        assert anew.measurements.benchmarks[node].when > before.when
        assert anew.measurements.benchmarks[node].gemm_core_flops < faster.gemm_core_flops
        until(lambda: MeasurementsChanged(anew.measurements, {}) in tuple(events))


def test_throw_away_agents_do_what_others_of_their_kind_did(agents: LocalAgents, first: First) -> None:
    kind = first.kept.benchmarks[local_agents(1)]
    for factor, is_adopted in ((1e-3, True), (1e3, False)):  # of what a node does, however busy it is
        known = replace(kind, gemm_core_flops=factor * kind.gemm_core_flops)
        MeasurementStore().add(Measurements({**first.kept.benchmarks, local_agents(1): known}))
        with open_cluster(local=agents.agents[:1], discovery=False) as later:
            (node,) = later.wait_ready(1, 60)
            found = later.measure([node.id], links=False).measurements.benchmarks[node.id]
            assert (found.when == kind.when) is is_adopted


@pytest.mark.parametrize("what", ["this workstation", "local-1"])
def test_a_measurement_can_be_interrupted_at_any_time(cluster: Cluster, what: str) -> None:
    node = cluster.nodes()[0].id
    stop = threading.Event()

    def interrupt(_share: float, words: str) -> None:
        if what in words:
            stop.set()

    with pytest.raises(Cancelled):
        cluster.measure([node], progress=interrupt, cancel=stop)
    assert cluster.measurements.benchmarks.keys().isdisjoint({node})
    stop.clear()
    with pytest.raises(Cancelled):
        measure_links(cluster, [node], interrupt, stop)
    cluster.request(node, Ping()).result(60)


def test_a_node_that_another_workstation_holds_is_said_to_be_busy(
    agents: LocalAgents, cluster: Cluster, until: Until, home: Path
) -> None:
    one, other = cluster.nodes()
    agent = agents.agents[0]
    key_file = load_key_file(home / "config" / "shared.key")
    with Cluster(new_keys(), name="lab-2", discovery=False, key_file=key_file) as lab:
        lab.add_local(agent)
        lab.wait_ready(1, 60)
        lab.request(agent.id, Reserve("d", "lab-2", 1000)).result(60)
        outcome = cluster.measure([one.id, other.id], links=False)
        assert outcome.refused == {one.id: "local-1: This node is in use by lab-2."}
        assert set(outcome.measurements.benchmarks) >= {WORKSTATION, other.id}
        refused: dict[NodeId, str] = {}
        assert measure_links(cluster, [one.id], refused=refused) == {}
        assert refused == outcome.refused
        lab.request(agent.id, Release("d")).result(60)
    until(lambda: cluster.node(one.id).state is NodeState.READY)


def test_a_node_that_is_not_there_is_left_out(cluster: Cluster) -> None:
    refused: dict[NodeId, str] = {}
    assert measure_links(cluster, [NodeId("nobody")], refused=refused) == {}
    assert "not known" in refused[NodeId("nobody")]


def test_limited_links_are_no_faster_than_their_limit() -> None:
    """Through the pacers of both ends, agent to agent too."""
    with (
        start_local_agents(2, link_limit=LIMIT) as limited,
        open_cluster(local=limited.agents, discovery=False) as cluster,
    ):
        one, other = (node.id for node in cluster.wait_ready(2, 60))
        problems: list[str] = []
        links = measure_links(cluster, [one, other], problems=problems)
        assert problems == []
        ends = (WORKSTATION, one, other)
        assert set(links) == {(source, target) for source in ends for target in ends if source != target}
        for link in links.values():
            # a busy machine is slower, and where answers are looked at late they seem up to three times as fast
            assert LIMIT / 8 / 20 < link.bytes_per_s < 3.1 * LIMIT / 8
            assert link.bound in {"limit", "processors"}
            assert {LIMIT} <= {limit for _, limit in link.ends} <= {0, LIMIT}


def test_new_nodes_are_measured_in_the_background_when_nothing_holds_them(agents: LocalAgents, first: First) -> None:
    MeasurementStore().add(first.kept)
    changed = threading.Event()

    def on_event(event: ClusterEvent) -> None:
        if isinstance(event, MeasurementsChanged) and len(event.measurements.links) > len(first.kept.links):
            changed.set()

    with open_cluster(local=agents.agents[:1], discovery=False, on_event=on_event) as cluster:
        (one,) = (node.id for node in cluster.wait_ready(1, 60))
        cluster.request(one, Reserve("d", "desk", 1000)).result(60)
        cluster.wait_until(lambda nodes: any(node.state is NodeState.BUSY for node in nodes), 30)
        cluster.measure_in_background()
        cluster.measure_in_background()
        assert not changed.wait(1.0)
        assert one not in cluster.measurements.benchmarks
        cluster.request(one, Release("d")).result(60)
        assert changed.wait(90)
        assert cluster.measurements.benchmarks.keys() >= {WORKSTATION, one}


def test_closing_ends_what_is_measured_in_the_background(agents: LocalAgents, until: Until) -> None:
    with open_cluster(local=agents.agents, discovery=False, measure=True) as cluster:
        cluster.wait_ready(2, 60)
        until(lambda: "measuring" in {thread.name for thread in threading.enumerate()})
    assert not any(thread.name == "measuring" and thread.is_alive() for thread in threading.enumerate())
