"""A real agent process serves one shard, and lives through whatever it is sent."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from onnx import TensorProto, helper

from core import PROTOCOL_VERSION
from core.plan.form import CLIENT, Port, Route, Sha256, ShardId
from core.wire.frames import encode_header
from core.wire.keys import new_keys
from core.wire.messages import (
    Attached,
    BlobOffsets,
    Chunk,
    ChunkAck,
    Done,
    Failure,
    Hello,
    Loaded,
    Measure,
    Measured,
    Ping,
    QueryBlobs,
    Release,
    ShardFailed,
)
from tests.agent.driver import (
    AgentProcess,
    Data,
    Linear,
    Workstation,
    deploy_linear,
    load,
    reserve,
    sha256,
    until,
)

X = np.ones((2, 8), np.float32)
Start = Callable[..., AgentProcess]
NewStation = Callable[..., Workstation]


def test_one_shard_from_deploying_to_releasing(start: Start, new_station: NewStation) -> None:
    agent = start("--name", "kitchen")
    station = new_station(agent)
    model = Linear(8, 3)
    control, data = deploy_linear(station, agent, model)
    info = control.hello().info
    assert (info.id, info.name, info.threads, info.data_port) == (agent.id, "kitchen", 1, agent.data_port)
    for seq in range(20):
        data.send("d", 1, seq, {"x": X * seq})
        got, outputs = data.result()
        assert got == seq
        np.testing.assert_allclose(outputs["y"], model(X * seq), rtol=1e-5)
    offsets = control.ask(QueryBlobs((*map(sha256, model.blobs), Sha256("0" * 64))))
    assert offsets == BlobOffsets((-1, -1, -1, 0))
    assert control.ask(Release("d")) == Done()
    assert control.ask(Release("d")) == Done()
    until(lambda: _refused(data, "nothing is loaded"))


def _refused(data: Data, words: str) -> bool:
    data.send("d", 1, 99, {"x": X})
    header, _ = data.receive()
    return isinstance(header, ShardFailed) and words in header.message


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"epoch": 2}, "Field epoch is 2, but epoch 1"),
        ({"deployment": "other"}, "Field deployment is 'other'"),
        ({"shard": 7}, "Field consumer is 7"),
        ({"producer": 5}, "Field producer is 5"),
        ({"arrays": {"x": X.astype(np.float64)}}, "Field dtype of 'x' is float64"),
        ({"arrays": {"x": X[0]}}, "Field shape of 'x' is (8,)"),
        ({"arrays": {"x": X[:, :5]}}, "but the shard takes (any, 8)"),
        ({"arrays": {"z": X}}, "Field tensors names 'z'"),
    ],
)
def test_bad_tensors_are_refused_by_field_and_the_agent_lives_on(
    agent_with_linear: tuple[AgentProcess, Workstation, Linear], change: dict[str, object], words: str
) -> None:
    agent, station, model = agent_with_linear
    _, data = deploy_linear(station, agent, model)
    sending = {"deployment": "d", "epoch": 1, "seq": 4, "arrays": {"x": X}, **change}
    data.send(**sending)  # type: ignore[arg-type]
    failure = data.failure()
    assert failure.code == "field"
    assert words in failure.message
    assert (failure.job, failure.seq, failure.epoch) == (1, 4, sending["epoch"])
    data.send("d", 1, 5, {"x": X})
    assert data.result()[0] == 5


def test_junk_on_both_sockets(agent_with_linear: tuple[AgentProcess, Workstation, Linear]) -> None:
    agent, station, model = agent_with_linear
    control, data = deploy_linear(station, agent, model)
    rng = np.random.default_rng(0)
    for length in (0, 1, 5, 50, 500):
        junk = rng.bytes(length)
        data.channel.send([junk])
        assert data.failure().code == "field"
        data.channel.send([junk, junk, junk])
        assert data.failure().code == "field"
        control.channel.send([junk])
        number, reply = control.receive()
        assert isinstance(reply, Failure)
        assert (number, reply.code) == (0, "field")
    control.channel.send([b"", b""])
    assert isinstance(control.receive()[1], Failure)
    data.channel.send([encode_header(Attached("d", 1))])
    assert "does not take Attached" in data.failure().message
    data.channel.send([encode_header(Chunk(sha256(b"x"), 1, 0))])
    ack, _ = data.receive()
    assert isinstance(ack, ChunkAck)
    assert "2 frames" in ack.error
    assert control.ask(Ping()) == Done()
    data.send("d", 1, 1, {"x": X})
    assert data.result()[0] == 1


def test_duplicates_are_dropped_and_a_restarted_client_attaches_again(
    agent_with_linear: tuple[AgentProcess, Workstation, Linear],
) -> None:
    agent, station, model = agent_with_linear
    _, data = deploy_linear(station, agent, model)
    for seq in (0, 0, 0, 1):
        data.send("d", 1, seq, {"x": X})
    assert [data.result()[0] for _ in range(2)] == [0, 1]
    again = station.data(agent)
    assert again.attach("d", 1) == Attached("d", 1)
    again.send("d", 1, 0, {"x": X})
    assert again.result()[0] == 0
    assert data.channel.recv() is None
    again.channel.close()
    until(lambda: _answers(data))
    assert isinstance(data.attach("d", 9), ShardFailed)


def _answers(data: Data) -> bool:
    """Results go to the connection before, once the latest is gone."""
    data.send("d", 1, int(time.monotonic() * 1e6), {"x": X})
    return data.channel.recv_wait(0.2) is not None


def test_a_failing_shard_is_reported_and_the_agent_lives_on(start: Start, new_station: NewStation) -> None:
    agent = start()
    control, data = deploy_linear(new_station(agent), agent, Linear(8, 3))
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["x", "to"], ["y"])],
        "fails",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", "m"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 16])],
        [helper.make_tensor("to", TensorProto.INT64, [2], [1, 16])],
    )
    blob = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    assert data.ship(blob).received == -1
    shard = Linear(8, 3).shard(agent.id)
    shard = msgspec.structs.replace(
        shard, graph=sha256(blob), weights=(), inputs=(Port("x", "float32", (None, None)),),
        outputs=(Port("y", "float32", (1, 16)),),
    )  # fmt: skip
    routes = [Route(CLIENT, "x", ShardId(0), "x"), Route(ShardId(0), "y", CLIENT, "y")]
    assert isinstance(load(control, "d", 2, [shard], routes, {0: agent.id}), Loaded)
    assert data.attach("d", 2) == Attached("d", 2)
    for seq, rows in enumerate((2, 3, 2)):
        data.send("d", 2, seq, {"x": np.ones((rows, 8), np.float32)})
        if rows == 3:
            failure = data.failure()
            assert (failure.code, failure.shard, failure.seq) == ("shard", 0, 1)
            assert "whole model" in failure.message
        else:
            assert data.result()[1]["y"].shape == (1, 16)


def test_damaged_missing_and_resumed_blobs(start: Start, new_station: NewStation) -> None:
    agent = start()
    station = new_station(agent)
    control, data = station.control(agent), station.data(agent)
    model = Linear(8, 3)
    assert reserve(control, "d") == Done()
    bad = data.ship(b"not the weights", sha=sha256(model.w.tobytes()))
    assert "damaged" in bad.error
    assert control.ask(QueryBlobs((sha256(model.w.tobytes()),))) == BlobOffsets((0,))
    refused = load(
        control, "d", 1, [model.shard(agent.id)],
        [Route(CLIENT, "x", ShardId(0), "x"), Route(ShardId(0), "y", CLIENT, "y")], {0: agent.id},
    )  # fmt: skip
    assert isinstance(refused, Failure)
    assert refused.code == "blob"
    assert isinstance(control.ask(QueryBlobs((Sha256("../../etc/passwd"),))), Failure)
    big = np.random.default_rng(0).bytes(3_000_000)
    data.channel.send([encode_header(Chunk(sha256(big), len(big), 0)), big[:1_000_000]])
    assert data.receive()[0] == ChunkAck(sha256(big), 1_000_000, "")
    data.channel.close()
    again = station.data(agent)
    assert control.ask(QueryBlobs((sha256(big),))) == BlobOffsets((1_000_000,))
    again.channel.send([encode_header(Chunk(sha256(big), len(big), 1_000_000)), big[1_000_000:]])
    assert again.receive()[0] == ChunkAck(sha256(big), -1, "")


@pytest.mark.parametrize("wrong", ["node", "routes", "placement", "peers", "twice"])
def test_a_plan_that_makes_no_sense_is_refused_by_field(
    agent_with_linear: tuple[AgentProcess, Workstation, Linear], wrong: str
) -> None:
    agent, station, model = agent_with_linear
    control, _ = deploy_linear(station, agent, model)
    other = new_keys().public
    shards = [model.shard(other if wrong == "node" else agent.id)]  # type: ignore[arg-type]
    routes = [Route(CLIENT, "x", ShardId(0), "x"), Route(ShardId(0), "y", CLIENT, "y")]
    placement = {0: agent.id}
    peers = {}
    if wrong == "routes":
        routes = routes[1:]
    if wrong == "placement":
        routes.append(Route(ShardId(0), "y", ShardId(5), "x"))
    if wrong == "peers":
        routes.append(Route(ShardId(0), "y", ShardId(5), "x"))
        placement = {0: agent.id, 5: other}  # type: ignore[dict-item]
        peers = {other: "ftp://nowhere"}
    if wrong == "twice":
        shards *= 2
    reply = load(control, "d", 2, shards, routes, placement, peers)  # type: ignore[arg-type]
    assert isinstance(reply, Failure)
    assert reply.code == "field"
    assert f"Field {'shards' if wrong in ('node', 'twice') else wrong}" in reply.message


def test_hello_of_another_version_and_measuring(agent_with_linear: tuple[AgentProcess, Workstation, Linear]) -> None:
    agent, station, _ = agent_with_linear
    control = station.control(agent)
    reply = control.ask(Hello(PROTOCOL_VERSION + 1, "9.9", "desk"))
    assert isinstance(reply, Failure)
    assert reply.code == "version"
    assert "9.9" in reply.message
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "x"], ["y"])],
        "square",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [64, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [64, 64])],
    )
    blob = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    measured = control.ask(Measure(blob, (Port("x", "float32", (64, 64)),), 3))
    assert isinstance(measured, Measured)
    assert measured.seconds > 0
    broken = control.ask(Measure(b"not a model", (), 3))
    assert isinstance(broken, Failure)
    assert broken.code == "model"


def test_lying_declarations_are_answered_and_survived(start: Start, new_station: NewStation) -> None:
    agent = start()
    model = Linear(8, 3)
    control, data = deploy_linear(new_station(agent), agent, model)
    routes = [Route(CLIENT, "x", ShardId(0), "x"), Route(ShardId(0), "y", CLIENT, "y")]
    good = model.shard(agent.id)
    weight = good.weights[0]
    lies = [
        {"weights": (msgspec.structs.replace(weight, **change), *good.weights[1:])}
        for change in (
            {"shape": (-8, -3)}, {"shape": (1 << 40, 1 << 40)}, {"shape": (3, 3)}, {"dtype": "object"},
            {"dtype": "no such type"}, {"name": "elsewhere"}, {"blob": "../../../etc/passwd"}, {"nbytes": 1 << 62},
        )
    ]  # fmt: skip
    lies += [
        {"inputs": (Port("x", "float64", (None, 8)),)},
        {"inputs": (Port("x", "float32", (None, -8)),)},
        {"outputs": (Port("y", "float32", (None, 3, 3)),)},
        {"graph": sha256(model.w.tobytes())},
        {"activation_bytes": 1 << 62},
    ]
    for epoch, lie in enumerate(lies, 2):
        reply = load(control, "d", epoch, [msgspec.structs.replace(good, **lie)], routes, {0: agent.id})
        assert isinstance(reply, Failure), lie
        assert reply.message
    assert isinstance(load(control, "d", 100, [good], routes, {0: agent.id}), Loaded)
    assert data.attach("d", 100) == Attached("d", 100)
    data.send("d", 100, 0, {"x": X})
    assert data.result()[0] == 0
