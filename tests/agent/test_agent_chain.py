"""Agents that hand tensors to each other: straight, past killed peers, and failures that find the client."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from onnx import TensorProto, helper

from core.plan.form import CLIENT, Port, Route, ShardId
from core.wire.messages import (
    Attached,
    Done,
    Loaded,
    Release,
    ShardFailed,
    Tensors,
)
from tests.agent.driver import (
    AgentProcess,
    Data,
    Linear,
    Workstation,
    load,
    reserve,
    sha256,
)

X = np.ones((2, 8), np.float32)
Start = Callable[..., AgentProcess]
NewStation = Callable[..., Workstation]


def _chain(
    station: Workstation, first: AgentProcess, second: AgentProcess, models: tuple[Linear, Linear]
) -> tuple[Data, Data]:
    """Two stages on two agents; the client feeds the first and takes from the second."""
    a, b = models
    routes = [
        Route(CLIENT, a.x, ShardId(0), a.x),
        Route(ShardId(0), a.y, ShardId(1), b.x),
        Route(ShardId(1), b.y, CLIENT, b.y),
    ]
    placement = {0: first.id, 1: second.id}
    datas = []
    for number, (agent, model, other) in enumerate(((first, a, second), (second, b, first))):
        control, data = station.control(agent), station.data(agent)
        assert reserve(control, "chain") == Done()
        for blob in model.blobs:
            assert data.ship(blob).received == -1
        shard = model.shard(agent.id, number, f"stage {number}")
        mine = routes[:2] if number == 0 else routes[1:]
        reply = load(control, "chain", 1, [shard], mine, placement, {other.id: other.data_endpoint})
        assert isinstance(reply, Loaded), reply
        datas.append(data)
    for data in datas:
        assert data.attach("chain", 1) == Attached("chain", 1)
    return datas[0], datas[1]


def test_tensors_go_straight_from_agent_to_agent(start: Start, new_station: NewStation) -> None:
    first, second = start(), start()
    models = Linear(8, 16, 1, "x", "h"), Linear(16, 4, 2, "h", "y")
    feed, result = _chain(new_station(first, second), first, second, models)
    for seq in range(50):
        feed.send("chain", 1, seq, {"x": X + seq})
    got = {}
    for _ in range(50):
        seq, outputs = result.result()
        got[seq] = outputs["y"]
    for seq in range(50):
        np.testing.assert_allclose(got[seq], models[1](models[0](X + seq)), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_a_killed_peer_blocks_nothing_and_is_reported(start: Start, new_station: NewStation) -> None:
    first, second = start(), start()
    models = Linear(8, 16, 1, "x", "h"), Linear(16, 4, 2, "h", "y")
    feed, result = _chain(new_station(first, second), first, second, models)
    feed.send("chain", 1, 0, {"x": X})
    assert result.result()[0] == 0
    second.kill()
    time.sleep(0.1)  # the kernel needs a moment to tell the other side
    for seq in range(1, 10):
        feed.send("chain", 1, seq, {"x": X})
    failure = feed.failure()
    assert failure.shard == 0
    assert "cannot be reached" in failure.message


def test_a_failure_downstream_of_the_client_comes_back(start: Start, new_station: NewStation) -> None:
    """The second node has forgotten the deployment: the first passes its refusal on to the client."""
    first, second = start(), start()
    station = new_station(first, second)
    models = Linear(8, 16, 1, "x", "h"), Linear(16, 4, 2, "h", "y")
    feed, result = _chain(station, first, second, models)
    feed.send("chain", 1, 0, {"x": X})
    assert result.result()[0] == 0
    assert station.control(second).ask(Release("chain")) == Done()
    for seq in range(1, 4):
        feed.send("chain", 1, seq, {"x": X})
    assert "nothing is loaded" in feed.failure().message


def test_a_failure_amidst_the_pipeline_finds_its_way_to_the_client(start: Start, new_station: NewStation) -> None:
    """The client is attached to the first and the last of three nodes; the shard of the second fails."""
    agents = start(), start(), start()
    station = new_station(*agents)
    ends = Linear(8, 16, 1, "x", "h"), Linear(16, 4, 2, "r", "y")
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["h", "to"], ["r"])],
        "fails unless there is one row",
        [helper.make_tensor_value_info("h", TensorProto.FLOAT, ["n", 16])],
        [helper.make_tensor_value_info("r", TensorProto.FLOAT, [1, 16])],
        [helper.make_tensor("to", TensorProto.INT64, [2], [1, 16])],
    )
    blob = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    middle = msgspec.structs.replace(
        ends[0].shard(agents[1].id, 1, "the middle"), graph=sha256(blob), weights=(),
        inputs=(Port("h", "float32", (None, 16)),), outputs=(Port("r", "float32", (1, 16)),),
    )  # fmt: skip
    shards = ends[0].shard(agents[0].id, 0), middle, ends[1].shard(agents[2].id, 2)
    blobs = ends[0].blobs, [blob], ends[1].blobs
    routes = [
        Route(CLIENT, "x", ShardId(0), "x"),
        Route(ShardId(0), "h", ShardId(1), "h"),
        Route(ShardId(1), "r", ShardId(2), "r"),
        Route(ShardId(2), "y", CLIENT, "y"),
    ]
    placement = {i: agent.id for i, agent in enumerate(agents)}
    datas = []
    for number, agent in enumerate(agents):
        control, data = station.control(agent), station.data(agent)
        assert reserve(control, "three") == Done()
        for content in blobs[number]:
            assert data.ship(content).received == -1
        near = {i: placement[i] for i in (number - 1, number, number + 1) if i in placement}
        peers = {a.id: a.data_endpoint for a in agents if a is not agent and a.id in near.values()}
        reply = load(control, "three", 1, [shards[number]], routes[number : number + 2], near, peers)
        assert isinstance(reply, Loaded), reply
        datas.append(data)
    for data in (datas[0], datas[2]):
        assert data.attach("three", 1) == Attached("three", 1)
    for seq, rows in enumerate((1, 2, 1)):
        datas[0].send("three", 1, seq, {"x": np.ones((rows, 8), np.float32)})
    for failure in (datas[0].failure(), _failure_among_results(datas[2])):
        assert (failure.seq, failure.shard, failure.code) == (1, 1, "shard")
        assert "the middle" in failure.message


def _failure_among_results(data: Data) -> ShardFailed:
    got = [data.receive()[0] for _ in range(3)]
    assert sorted(h.seq for h in got if isinstance(h, Tensors)) == [0, 2]
    return next(h for h in got if isinstance(h, ShardFailed))
