from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from core.cluster.client import Cluster
from core.cluster.deployment import Deployment, deploy
from core.cluster.local import LocalAgents, start_local_agents
from core.cluster.opening import open_cluster
from core.model.graph import Model
from core.plan.compile import compile_plan, micro_batch_for
from core.plan.form import PlanRequest

Deploy = Callable[..., AbstractContextManager[Deployment]]


class Bed:
    """Local agents and the cluster that knows them."""

    def __init__(self, agents: LocalAgents, cluster: Cluster) -> None:
        self.agents, self.cluster = agents, cluster

    @contextlib.contextmanager
    def deployed(self, model: Model, strategy: str, nodes: int, micro_batch: int = 4) -> Iterator[Deployment]:
        ready = self.cluster.wait_ready(nodes, timeout=60)
        ids = tuple(sorted((node.id for node in ready), key=[a.id for a in self.agents.agents].index))[:nodes]
        request = PlanRequest(strategy, ids, micro_batch_for(model, micro_batch))
        with contextlib.closing(deploy(self.cluster, compile_plan(model, request), owner="test")) as deployment:
            yield deployment


@contextlib.contextmanager
def bed(nodes: int) -> Iterator[Bed]:
    with (
        start_local_agents(nodes) as agents,
        contextlib.closing(open_cluster(local=agents.agents, discovery=False)) as cluster,
    ):
        cluster.wait_ready(nodes, timeout=60)
        yield Bed(agents, cluster)


@pytest.fixture(scope="module")
def three() -> Iterator[Bed]:
    """Three agents for the tests of a module that leave them alive."""
    with bed(3) as made:
        yield made
