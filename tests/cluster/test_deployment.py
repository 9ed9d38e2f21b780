from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from core.cluster import delivery
from core.cluster.client import Cluster
from core.cluster.deployment import Deployment, DeployProgress, deploy, peer_endpoint
from core.cluster.local import LocalAgents
from core.cluster.node import Node, NodeState
from core.cluster.opening import open_cluster
from core.cluster.verified import deploy_and_verify
from core.errors import (
    Cancelled,
    DoesNotFitError,
    JobError,
    NodeLostError,
    NodeOwnedError,
    NoNodesError,
    VerificationError,
)
from core.model.graph import Model
from core.plan.blobs import BlobSource
from core.plan.compile import CompiledPlan, compile_plan
from core.plan.form import NodeId, PlanRequest, Sha256, memory_bytes
from core.run.runner import run_job
from core.run.sink import MemorySink
from core.run.source import RandomSource
from core.wire.messages import NodeInfo
from tests.cluster.peers import mlp
from tests.plan.models import build, matrix, rows, to_model

Start = Callable[..., LocalAgents]
Until = Callable[..., object]

SLOW_LINK = 160_000_000
"""Bits a second: 20 MB/s, so that there is time to interrupt the sending of a big model."""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return mlp(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """48 MiB of weights."""
    return mlp(tmp_path_factory.mktemp("big"), width=2048, layers=3, name="big")


@pytest.fixture
def two(start: Start) -> Iterator[Cluster]:
    with open_cluster(local=start(2).agents, discovery=False) as cluster:
        cluster.wait_ready(2, 60)
        yield cluster


def ids(cluster: Cluster) -> tuple[NodeId, ...]:
    return tuple(node.id for node in sorted(cluster.nodes(), key=lambda node: node.name))


def compiled_for(cluster: Cluster, model: Model, strategy: str) -> CompiledPlan:
    nodes = ids(cluster)
    return compile_plan(model, PlanRequest(strategy, nodes[:1] if strategy == "single" else nodes, 4))


def all_free(cluster: Cluster) -> bool:
    return cluster.wait_until(lambda nodes: all(n.state is NodeState.READY for n in nodes), 30)


@pytest.mark.parametrize("strategy", ["single", "replicate", "pipeline"])
def test_a_deployment_answers_as_the_whole_model(two: Cluster, small: Model, strategy: str) -> None:
    phases: list[tuple[NodeId, str]] = []
    compiled = compiled_for(two, small, strategy)
    deployment, verdict = deploy_and_verify(
        two, compiled, small, progress=lambda told: phases.append((told.node, told.phase))
    )
    with deployment:
        assert verdict.passed
        for replica in range(compiled.plan.replicas):
            feed = small.random_feed(4, seed=replica)
            (expected,) = small.reference()(feed)
            np.testing.assert_allclose(deployment.infer(feed, replica=replica)["y"], expected, rtol=1e-4, atol=1e-6)
        assert two.wait_until(lambda nodes: sum(n.state is NodeState.BUSY for n in nodes) == len(deployment.nodes), 30)
        for node in deployment.nodes:
            seen = list(dict.fromkeys(phase for told, phase in phases if told == node))
            assert seen == ["reserve", "ship", "load", "verify", "ready"]
    assert all_free(two)


def test_what_is_drawn_at_random_is_compared_by_its_shape(two: Cluster) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["h"]),
        helper.make_node("RandomNormalLike", ["h"], ["noise"]),
        helper.make_node("MatMul", ["h", "w1"], ["y"]),
    ]
    model = to_model(build(nodes, [rows("x")], [rows("noise"), rows("y")], [matrix("w0"), matrix("w1", 1)]))
    deployment, verdict = deploy_and_verify(two, compiled_for(two, model, "pipeline"), model)
    with deployment:
        assert verdict.passed
        assert verdict.drawn == 1
        assert 0 <= verdict.max_rel_error < 1e-4


def test_weights_are_sent_once_ever(two: Cluster, small: Model) -> None:
    last: dict[NodeId, DeployProgress] = {}
    compiled = compiled_for(two, small, "pipeline")
    for expected in (True, False):
        with deploy(two, compiled, progress=lambda told: last.update({told.node: told})):
            assert all((told.total_bytes > 0) is expected for told in last.values())
            assert all(told.sent_bytes == told.total_bytes for told in last.values())


def test_a_new_batch_size_needs_no_new_deployment(two: Cluster, small: Model) -> None:
    with deploy(two, compiled_for(two, small, "pipeline")) as deployment:
        for items in (1, 3, 4):
            assert deployment.infer(small.random_feed(items))["y"].shape == (items, 64)


def test_single_requests_go_on_after_a_job(two: Cluster, small: Model) -> None:
    with deploy(two, compiled_for(two, small, "pipeline")) as deployment:
        for seed in range(2):
            (expected,) = small.reference()(feed := small.random_feed(4, seed=seed))
            np.testing.assert_allclose(deployment.infer(feed, timeout=60)["y"], expected, rtol=1e-4, atol=1e-6)
            assert run_job(deployment, RandomSource(small, 16), MemorySink()).items == 16


def test_cancelling_while_weights_are_sent_frees_the_nodes(start: Start, big: Model) -> None:
    cancel = threading.Event()

    def progress(told: DeployProgress) -> None:
        if told.phase == "ship" and told.sent_bytes > 0:
            cancel.set()

    with open_cluster(local=start(1, link_limit=SLOW_LINK).agents, discovery=False) as cluster:
        cluster.wait_ready(1, 60)
        with pytest.raises(Cancelled):
            deploy(cluster, compiled_for(cluster, big, "single"), progress=progress, cancel=cancel)
        assert all_free(cluster)


def test_a_node_that_vanishes_and_returns_gets_only_the_rest(start: Start, big: Model, tmp_path: Path) -> None:
    agents = start(1, link_limit=SLOW_LINK, state_root=tmp_path)
    restarts: list[threading.Thread] = []
    told: list[DeployProgress] = []

    with open_cluster(local=agents.agents, discovery=False) as cluster:
        cluster.wait_ready(1, 60)

        def restart() -> None:
            agents.kill(0)
            cluster.add_local(start(1, state_root=tmp_path).agents[0])

        def progress(now: DeployProgress) -> None:
            if now.phase != "reserve":
                told.append(now)
            if now.sent_bytes > now.total_bytes // 3 and not restarts:
                restarts.append(threading.Thread(target=restart))
                restarts[0].start()

        deployment, verdict = deploy_and_verify(cluster, compiled_for(cluster, big, "single"), big, progress=progress)
        restarts[0].join()
        with deployment:
            assert verdict.passed
    # What was acknowledged before the restart is never sent again, but for the byte that makes a part incomplete.
    sent = [now.sent_bytes for now in told]
    assert all(after >= before - 1 for before, after in itertools.pairwise(sent))
    assert sent[-1] == told[-1].total_bytes


def test_a_node_that_stays_away_ends_the_deployment_and_the_others_are_freed(
    start: Start, big: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "RETURN_SECONDS", 1.0)
    agents = start(2, link_limit=SLOW_LINK)
    killed = threading.Event()
    with open_cluster(local=agents.agents, discovery=False) as cluster:
        cluster.wait_ready(2, 60)

        def progress(told: DeployProgress) -> None:
            if told.sent_bytes > 0 and not killed.is_set():
                killed.set()
                agents.kill(0)

        with pytest.raises(NodeLostError, match="local-1 went away while weights were sent"):
            deploy(cluster, compiled_for(cluster, big, "replicate"), progress=progress)
        other = agents.agents[1].id
        assert cluster.wait_until(lambda _: cluster.node(other).state is NodeState.READY, 30)


class _Flaky:
    """A blob whose first bytes are wrong ``times`` times."""

    def __init__(self, data: bytes, times: int) -> None:
        self.nbytes = len(data)
        self._data, self._left = data, times

    def view(self) -> memoryview:
        self._left -= 1
        return memoryview(self._data if self._left < 0 else b"wrong" + self._data[5:])


@pytest.mark.parametrize(("times", "arrives"), [(1, True), (99, False)])
def test_a_blob_with_a_wrong_hash_is_sent_again_once(two: Cluster, small: Model, times: int, arrives: bool) -> None:
    compiled = compiled_for(two, small, "single")
    blobs: dict[Sha256, _Flaky] = {}
    for index, sha in enumerate(compiled.blobs.shas()):
        blobs[sha] = _Flaky(bytes(compiled.blobs.read(sha)), times if index == 0 else 0)
    flaky = CompiledPlan(compiled.plan, BlobSource(blobs), compiled.outline)
    if arrives:
        with deploy(two, flaky) as deployment:
            assert deployment.infer(small.random_feed(2))["y"].shape == (2, 64)
    else:
        with pytest.raises(JobError, match=r"local-1 did not take the weights: .*damaged"):
            deploy(two, flaky)
    assert all_free(two)


def test_what_does_not_fit_is_refused_with_figures_and_nothing_is_held(start: Start, big: Model) -> None:
    agents = start(2, memory_limit=32 << 20)
    with open_cluster(local=agents.agents, discovery=False) as cluster:
        cluster.wait_ready(2, 60)
        with pytest.raises(DoesNotFitError, match=r"local-\d.*MiB.*32\.0 MiB"):
            deploy(cluster, compiled_for(cluster, big, "replicate"))
        assert all_free(cluster)


def test_wrong_outputs_are_noticed_before_anything_runs(two: Cluster, small: Model, tmp_path: Path) -> None:
    other = mlp(tmp_path, seed=9)
    with pytest.raises(VerificationError, match="not the whole model's"):
        deploy_and_verify(two, compiled_for(two, small, "pipeline"), other)
    assert all_free(two)


def test_a_lost_node_ends_infer_with_its_name(start: Start, small: Model) -> None:
    agents = start(2)
    with open_cluster(local=agents.agents, discovery=False) as cluster:
        cluster.wait_ready(2, 60)
        with deploy(cluster, compiled_for(cluster, small, "pipeline")) as deployment:
            deployment.infer(small.random_feed(1))
            agents.kill(1)
            with pytest.raises(NodeLostError, match="local-2, which runs"):
                deployment.infer(small.random_feed(1), timeout=60)


def test_a_second_deployment_of_the_same_workstation_is_told_who_holds_the_nodes(two: Cluster, small: Model) -> None:
    compiled = compiled_for(two, small, "replicate")
    with deploy(two, compiled, owner="lab-1"):
        with open_cluster(discovery=False, name="lab-1") as second:
            for node in two.nodes():
                second.add_known(node.id, node.host, node.control_port)
            second.wait_until(lambda nodes: sum(n.state is NodeState.BUSY for n in nodes) == 2, 30)
            with pytest.raises(NodeOwnedError, match="lab-1"):
                deploy(second, compiled)
        assert two.wait_until(lambda nodes: all(n.state is NodeState.BUSY for n in nodes), 30)


def test_a_lost_node_cannot_be_deployed_to(start: Start, small: Model) -> None:
    agents = start(2)
    with open_cluster(local=agents.agents, discovery=False) as cluster:
        cluster.wait_ready(2, 60)
        compiled = compiled_for(cluster, small, "replicate")
        agents.kill(0)
        cluster.wait_until(lambda nodes: any(n.state is NodeState.LOST for n in nodes), 30)
        with pytest.raises(NoNodesError, match=r"local-1.*is lost"):
            deploy(cluster, compiled)


def test_memory_counts_shared_weights_once(two: Cluster, small: Model) -> None:
    compiled = compiled_for(two, small, "single")
    (node,) = {shard.node for shard in compiled.plan.shards}
    weights = sum({w.blob: w.nbytes for s in compiled.plan.shards for w in s.weights}.values())
    assert weights < memory_bytes(compiled.plan.on_node(node)) < weights + (1 << 20)
    assert memory_bytes(compiled.plan.on_node(NodeId("z" * 40))) == 0


def test_a_node_of_another_machine_is_not_sent_to_our_loopback() -> None:
    info = NodeInfo(NodeId("a" * 40), "n", "0", "h", "s", "c", 1, 1, 1, 1, 1.0, 0, 9002, "e")
    here = Node(NodeId("a" * 40), "here", "127.0.0.1", 9000, info=info)
    there = Node(NodeId("b" * 40), "there", "192.0.2.77", 9000, info=info)
    assert peer_endpoint(here, here) == "tcp://127.0.0.1:9002"
    assert peer_endpoint(there, here) == "tcp://192.0.2.77:9002"
    try:
        assert "127.0.0.1" not in peer_endpoint(here, there)
    except NoNodesError:
        pytest.skip("this machine has no way to other networks")


def test_a_deployment_closes_twice(two: Cluster, small: Model) -> None:
    deployment: Deployment = deploy(two, compiled_for(two, small, "single"))
    deployment.close()
    deployment.close()
    assert all_free(two)
