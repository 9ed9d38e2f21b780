"""Models profiled on a node, by a real agent; interrupted and taken up again."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from msgspec.structs import replace

from core.cluster.client import Cluster
from core.cluster.profiling import at_speed_one, profile_on
from core.commands.output import Progress
from core.commands.planning import measure, predicted
from core.cost.balance import estimated_profile
from core.cost.profile import cached_at
from core.cost.types import Profile
from core.errors import Cancelled, PlanError
from core.model.graph import Model
from core.plan.form import NodeId, PlanRequest
from tests.plan.models import chain
from tests.run.conftest import Bed, bed

MODEL = chain(10, width=192)
BATCH = 128
"""About 0.3 ms a product, so that there are several pieces."""


@pytest.fixture(scope="module")
def two() -> Iterator[Bed]:
    with bed(2) as made:
        yield made


@pytest.fixture
def node(two: Bed) -> NodeId:
    return two.agents.agents[0].id


class Interrupting(threading.Event):
    """Set as soon as so much is done."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self._share = share

    def reached(self, share: float) -> None:
        if share >= self._share:
            self.set()


def test_layers_add_up_and_are_kept_by_node(two: Bed, node: NodeId) -> None:
    found = profile_on(two.cluster, node, MODEL, BATCH)
    assert (found.model, found.batch, found.threads, found.node) == (MODEL.sha256, BATCH, 1, node)
    assert len(found.layer_seconds) == len(MODEL.layers(BATCH))
    assert sum(found.layer_seconds) == pytest.approx(found.total_seconds)
    products, relus = np.array(found.layer_seconds).reshape(10, 2).T
    assert np.median(products) > np.median(relus)
    places = {cached_at(MODEL, BATCH, 1, node=where) for where in (NodeId(""), node, two.agents.agents[1].id)}
    assert len(places) == 3
    assert cached_at(MODEL, BATCH, 1, node=node).exists()
    assert profile_on(two.cluster, node, MODEL, BATCH) == found


def test_an_interrupted_one_goes_on(two: Bed, node: NodeId) -> None:
    model = chain(9, width=256)
    stop, told = Interrupting(0.31), list[float]()
    with pytest.raises(Cancelled):
        profile_on(two.cluster, node, model, 256, progress=stop.reached, cancel=stop)
    path = cached_at(model, 256, 1, node=node)
    assert not path.exists()
    assert path.with_suffix(".partial").exists()
    found = profile_on(two.cluster, node, model, 256, resumed=told.append)
    assert len(told) == 1
    assert 0.1 < told[0] < 1
    assert sum(found.layer_seconds) == pytest.approx(found.total_seconds)
    assert path.exists()
    assert not path.with_suffix(".partial").exists()


def test_what_an_interruption_left_may_be_damaged(two: Bed, node: NodeId) -> None:
    model, told = chain(3), list[float]()
    path = cached_at(model, 2, 1, node=node).with_suffix(".partial")
    path.write_bytes(b'{"seconds": {"who')
    assert profile_on(two.cluster, node, model, 2, resumed=told.append).total_seconds > 0
    assert told == []


def test_a_node_that_is_not_connected(two: Bed, node: NodeId, monkeypatch: pytest.MonkeyPatch) -> None:
    known: Callable[[Cluster, NodeId], object] = Cluster.node
    monkeypatch.setattr(Cluster, "node", lambda self, one: replace(known(self, one), info=None))  # type: ignore[type-var]
    with pytest.raises(PlanError, match="is not connected, so nothing can be measured there"):
        profile_on(two.cluster, node, chain(2), 2)


def test_at_the_speed_of_this_workstation() -> None:
    known = Profile(MODEL.sha256, 1, 2, (1.0, 3.0), 4.0, node=NodeId("x"))
    assert at_speed_one(known, 0.5).layer_seconds == (0.5, 1.5)
    assert at_speed_one(known, 0.5).total_seconds == 2.0


class TestPlanning:
    """As plan, run and bench measure."""

    def costs(self, two: Bed, model: Model, **more: str) -> tuple[Profile, dict[NodeId, float]]:
        nodes = two.cluster.wait_ready(2, 60)
        with contextlib.closing(_Quiet()) as progress:
            made = measure(model, 2, two.cluster, nodes, progress, threading.Event(), **more)  # type: ignore[arg-type]
        assert set(made.machines) == {node.id for node in nodes}
        told = predicted(model, PlanRequest("pipeline", tuple(node.id for node in nodes), 2), made)
        assert told.prediction.throughput > 0
        return made.profile, dict(made.speeds)

    def test_the_workstations_profile_and_the_nodes_benchmarks(self, two: Bed) -> None:
        profile, speeds = self.costs(two, chain(4))
        assert profile.node == ""
        assert {"", *speeds} <= set(two.cluster.measurements.benchmarks)
        assert all(speed > 0 for speed in speeds.values())

    def test_a_nodes_profile(self, two: Bed) -> None:
        name = two.agents.agents[1].name
        profile, speeds = self.costs(two, chain(4), profile_on=name)
        there = two.agents.agents[1].id
        assert profile.node == there
        raw = profile_on(two.cluster, there, chain(4), 2)
        assert profile.total_seconds == pytest.approx(raw.total_seconds * speeds[there])

    def test_no_such_node(self, two: Bed) -> None:
        with pytest.raises(PlanError, match="--profile-on moon: no node has that name") as caught:
            self.costs(two, chain(4), profile_on="moon")
        assert two.agents.agents[0].name in caught.value.hint

    def test_an_interrupted_profile_is_told(self, two: Bed, capsys: pytest.CaptureFixture[str]) -> None:
        model = chain(5)
        stop = threading.Event()
        stop.set()
        nodes = two.cluster.wait_ready(2, 60)
        with contextlib.closing(_Quiet()) as progress, pytest.raises(Cancelled):
            measure(model, 2, two.cluster, nodes, progress, stop)
        self.costs(two, model)
        assert "Measuring this model was interrupted at 0%; it begins anew" in capsys.readouterr().err
        self.costs(two, model)
        assert "interrupted" not in capsys.readouterr().err


class _Quiet(Progress):
    def close(self) -> None:
        self.clear()


def test_a_first_guess_is_no_profile_of_a_node() -> None:
    assert estimated_profile(MODEL, 1).node == ""
