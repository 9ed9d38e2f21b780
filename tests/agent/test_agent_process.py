"""A real agent process, from its first line of output to its end."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import psutil
import pytest
from onnx import TensorProto, helper

from core import PROTOCOL_VERSION
from core.errors import UnreachableError
from core.plan.form import CLIENT, Port, Route, Sha256, ShardId
from core.wire.frames import encode_header
from core.wire.keys import keys_from_code, new_keys
from core.wire.messages import (
    Attached,
    BlobOffsets,
    CancelJob,
    Chunk,
    ChunkAck,
    Done,
    Failure,
    Hello,
    InfoPush,
    Loaded,
    Measure,
    Measured,
    Ping,
    QueryBlobs,
    Release,
    Reserve,
    SetLimits,
    ShardFailed,
    Subscribe,
    TelemetryPush,
    Tensors,
)
from core.wire.pairing import pair
from tests.agent.driver import (
    POSIX,
    ROOT,
    AgentProcess,
    Data,
    Linear,
    Workstation,
    cpu_seconds,
    deploy_linear,
    load,
    reserve,
    sha256,
    until,
)

X = np.ones((2, 8), np.float32)


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


Start = Callable[..., AgentProcess]
NewStation = Callable[..., Workstation]

# ---------------------------------------------------------------- one agent


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
    assert 0 < measured.seconds < 5
    broken = control.ask(Measure(b"not a model", (), 3))
    assert isinstance(broken, Failure)
    assert broken.code == "model"


# ---------------------------------------------------------------- who may


def test_strangers_are_refused_on_both_sockets(agent_with_linear: tuple[AgentProcess, Workstation, Linear]) -> None:
    agent, _, _ = agent_with_linear
    stranger = Workstation()
    try:
        control, data = stranger.control(agent), stranger.data(agent)
        until(lambda: control.channel.problem() == "refused")
        until(lambda: data.channel.problem() == "refused")
    finally:
        stranger.close()


def test_one_deployment_owns_a_node_and_the_other_is_told_who(start: Start, new_station: NewStation) -> None:
    agent = start()
    first, second = new_station(agent, name="lab"), new_station(agent, name="desk")
    control, data = deploy_linear(first, agent, Linear(8, 3))
    rival = second.control(agent)
    told = rival.ask(Reserve("mine", "desk", 100))
    assert isinstance(told, Failure)
    assert told.code == "owned"
    assert "desk" in told.message or "lab" in told.message
    assert isinstance(load(rival, "d", 1, [], [], {}), Failure)
    assert isinstance(rival.ask(Release("d")), Failure)
    assert rival.ask(CancelJob("d", 1)) == Done()
    thief = second.data(agent)
    answer = thief.attach("d", 1)
    assert isinstance(answer, ShardFailed)
    assert "another workstation" in answer.message
    thief.send("d", 1, 0, {"x": X})
    assert "do not come from this sender" in thief.failure().message
    data.send("d", 1, 0, {"x": X})
    assert data.result()[0] == 0
    assert control.ask(Release("d")) == Done()
    assert rival.ask(Reserve("mine", "desk", 100)) == Done()


def test_a_second_program_on_the_same_workstation(start: Start, new_station: NewStation) -> None:
    agent = start()
    station = new_station(agent)
    control, _ = deploy_linear(station, agent, Linear(8, 3))
    other = station.control(agent)
    assert isinstance(other.ask(Reserve("mine", "desk", 100)), Failure)
    control.channel.close()
    until(lambda: other.ask(Reserve("mine", "desk", 100)) == Done())


def test_a_silent_owner_can_be_replaced(start: Start, new_station: NewStation) -> None:
    agent = start()
    first, second = new_station(agent), new_station(agent)
    control, _ = deploy_linear(first, agent, Linear(8, 3))
    began = time.monotonic()
    rival = second.control(agent)
    del control
    until(lambda: rival.ask(Reserve("mine", "desk", 100)) == Done(), timeout=15)
    assert 8 < time.monotonic() - began < 13


def test_memory_limit_is_honoured_with_figures(start: Start, new_station: NewStation) -> None:
    agent = start("--memory-limit", "300M")
    control = new_station(agent).control(agent)
    assert control.hello().info.memory_limit == 300 * 1024**2
    refused = control.ask(Reserve("d", "desk", 290 * 1024**2))
    assert isinstance(refused, Failure)
    assert refused.code == "memory"
    assert "290 MiB" in refused.message
    assert "300 MiB" in refused.message
    assert control.ask(Reserve("d", "desk", 50 * 1024**2)) == Done()


def test_pairing_by_code_from_the_agents_own_output(start: Start) -> None:
    agent = start(shared_key=False)
    code = until(lambda: _after(agent, "code: "))
    keys = new_keys()
    reply = pair("127.0.0.1", agent.pairing_port, keys_from_code(code), keys, "desk")
    assert (reply.id, reply.control_port) == (agent.id, agent.control_port)
    station = Workstation(keys)
    try:
        assert station.control(agent).hello().info.id == agent.id
    finally:
        station.close()
    next_code = until(lambda: _after(agent, "next workstation: "))
    assert next_code != code
    with pytest.raises(UnreachableError):
        pair("127.0.0.1", agent.pairing_port, keys_from_code(code), new_keys(), "thief", timeout=0.5)


def _after(agent: AgentProcess, words: str) -> str:
    return agent.errors.partition(words)[2].strip()


# ---------------------------------------------------------------- two agents


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
    failure = feed.failure(timeout=15)
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


# ---------------------------------------------------------------- limits and telemetry


def test_telemetry_and_limits(start: Start, new_station: NewStation) -> None:
    agent = start()
    control, data = deploy_linear(new_station(agent), agent, Linear(8, 3))
    assert control.ask(Subscribe(0.1)) == Done()
    for seq in range(100):
        data.send("d", 1, seq, {"x": X})
        data.result()
    assert control.ask(SetLimits(cpu_limit=0.5, link_limit=80_000_000)) == Done()
    info = next(p.info for p in control.pushed if isinstance(p, InfoPush))
    assert (info.cpu_limit, info.link_limit) == (0.5, 80_000_000)
    seen = []
    while sum(len(t.executions) for t in seen) < 64 or len(seen) < 5:
        _, push = control.receive()
        if isinstance(push, TelemetryPush):
            seen.append(push.telemetry)
    last = seen[-1]
    assert (last.deployment, last.owner) == ("d", "desk")
    assert last.shards[0].items == 200
    assert last.data_received == 100 * X.nbytes
    assert last.data_sent == 100 * 2 * 3 * 4
    assert isinstance(control.ask(SetLimits(cpu_limit=7.0)), Failure)


def test_a_limited_link_takes_its_time_and_blocks_nothing(start: Start, new_station: NewStation) -> None:
    agent = start("--link-limit", "8mbit")
    control, data = deploy_linear(new_station(agent), agent, Linear(8, 3))
    rows = np.ones((25_000, 8), np.float32)  # 800 kB in, 300 kB out: 0.8 s and 0.3 s
    began = time.monotonic()
    data.send("d", 1, 0, {"x": rows})
    asked = time.monotonic()
    assert control.ask(Ping()) == Done()
    assert time.monotonic() - asked < 0.3
    assert data.result()[1]["y"].shape == (25_000, 3)
    assert 1.0 < time.monotonic() - began < 2.5
    assert control.ask(SetLimits(link_limit=0)) == Done()
    began = time.monotonic()
    data.send("d", 1, 1, {"x": rows})
    data.result()
    assert time.monotonic() - began < 0.5


def test_heartbeats_are_prompt_while_shards_run(start: Start, new_station: NewStation) -> None:
    agent = start()
    control, data = deploy_linear(new_station(agent), agent, Linear(512, 2048))
    rows = np.ones((400, 512), np.float32)
    for seq in range(60):
        data.send("d", 1, seq, {"x": rows})
    slowest = 0.0
    for _ in range(20):
        asked = time.monotonic()
        assert control.ask(Ping()) == Done()
        slowest = max(slowest, time.monotonic() - asked)
    for _ in range(60):
        data.result()
    assert slowest < 0.5


def test_idle_agent_sleeps(start: Start, new_station: NewStation) -> None:
    agent = start()
    control, data = deploy_linear(new_station(agent), agent, Linear(8, 3))
    data.send("d", 1, 0, {"x": X})
    data.result()
    assert control.ask(Ping()) == Done()
    before, began = cpu_seconds(agent.process.pid), time.monotonic()
    time.sleep(3.0)  # what is measured is doing nothing
    share = (cpu_seconds(agent.process.pid) - before) / (time.monotonic() - began)
    assert share < 0.02
    assert psutil.Process(agent.process.pid).memory_info().rss < 160 * 1024**2


# ---------------------------------------------------------------- beginning and end


def test_stdin_signals_and_open_connections_end_it_cleanly(start: Start, new_station: NewStation) -> None:
    agent = start()
    deploy_linear(new_station(agent), agent, Linear(8, 3))
    assert agent.process.stdin is not None
    agent.process.stdin.close()
    assert agent.process.wait(5) == 0


@pytest.mark.skipif(not POSIX, reason="signals are POSIX")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_it(start: Start, number: int) -> None:
    agent = start()
    began = time.monotonic()
    assert agent.terminate(number) == 0
    assert time.monotonic() - began < 4
    assert "Traceback" not in agent.errors


def test_identity_and_trust_survive_a_restart(start: Start, new_station: NewStation) -> None:
    agent = start(name="same")
    station = new_station(agent)
    identity, port = agent.id, agent.control_port
    control = station.control(agent)
    control.hello()
    agent.kill()
    again = start(name="same", port=port)
    assert again.id == identity
    assert control.hello().info.id == identity


def test_words_for_what_cannot_start(start: Start, tmp_path: Path) -> None:
    agent = start(name="one")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for options, words in (
            (["--port", str(port), "--state-dir", str(tmp_path / "two")], f"Port {port} on 127.0.0.1 is in use"),
            (["--port", "0", "--state-dir", str(tmp_path / "one" / "state")], "Another agent is running"),
            (["--port", "0", "--key-file", str(tmp_path / "missing")], "cannot be read"),
        ):
            state = [] if "--state-dir" in options else ["--state-dir", str(tmp_path / "three")]
            command = [sys.executable, "-m", "agent", "--bind", "127.0.0.1", "--no-announce", *options, *state]
            ended = subprocess.run(
                command, cwd=ROOT, capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL, check=False
            )
            assert ended.returncode == 2
            assert words in ended.stderr
            assert "Traceback" not in ended.stderr
    assert agent.process.poll() is None
