"""What shards compute in is held once, and given back when they are let go."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import psutil
from onnx import TensorProto, helper

from core.plan.form import CLIENT, NodeId, Port, Route, Shard, ShardId
from core.wire.messages import Attached, Done, Loaded, Release
from tests.agent.driver import AgentProcess, Workstation, load, reserve, sha256, until

Start = Callable[..., AgentProcess]
NewStation = Callable[..., Workstation]

MB = 1 << 20
SHARDS = 8
WIDTH = 8 * MB // 4
"""Floats of the tensors that exist only while a shard runs; it has at least two of them at a time."""


def test_many_shards_take_the_memory_of_one(start: Start, new_station: NewStation) -> None:
    agent = start()
    station = new_station(agent)
    control, data = station.control(agent), station.data(agent)
    control.hello()
    process = psutil.Process(agent.process.pid)
    empty = process.memory_info().rss
    shards = [wide(number, agent.id) for number in range(SHARDS)]
    for graph, _ in shards:
        assert data.ship(graph).received == -1
    routes = [Route(ShardId(n - 1), f"t{n}", ShardId(n), f"t{n}") for n in range(1, SHARDS)]
    routes += [Route(CLIENT, "t0", ShardId(0), "t0"), Route(ShardId(SHARDS - 1), f"t{SHARDS}", CLIENT, "y")]
    assert reserve(control, "d") == Done()
    placement = dict.fromkeys(range(SHARDS), agent.id)
    assert isinstance(load(control, "d", 1, [shard for _, shard in shards], routes, placement), Loaded)
    assert data.attach("d", 1) == Attached("d", 1)
    for seq in range(3):
        data.send("d", 1, seq, {"t0": np.full((1, 1), seq, np.float32)})
        got, outputs = data.result()
        assert (got, outputs["y"].tolist()) == (seq, [[seq]])
    each = 2 * 4 * WIDTH
    used = process.memory_info().rss - empty
    assert each < used < SHARDS * each / 2
    assert control.ask(Release("d")) == Done()
    until(lambda: process.memory_info().rss - empty < each)


def wide(number: int, node: NodeId) -> tuple[bytes, Shard]:
    """A shard that makes one number into many, computes with them, and takes their largest: the number itself."""
    x, y = f"t{number}", f"t{number + 1}"
    graph = helper.make_graph(
        [
            helper.make_node("Expand", [x, "shape"], ["a"]),
            helper.make_node("Neg", ["a"], ["b"]),
            helper.make_node("Abs", ["b"], ["c"]),
            helper.make_node("ReduceMax", ["c"], [y], axes=[1]),
        ],
        "wide",
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, [1, 1])],
        [helper.make_tensor_value_info(y, TensorProto.FLOAT, [1, 1])],
        [helper.make_tensor("shape", TensorProto.INT64, [2], [1, WIDTH])],
    )
    model: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    ).SerializeToString()
    shard = Shard(
        id=ShardId(number), node=node, label=f"part {number}", replica=0, stage=number, rank=0, graph=sha256(model),
        graph_nbytes=len(model), weights=(), inputs=(Port(x, "float32", (1, 1)),),
        outputs=(Port(y, "float32", (1, 1)),), activation_bytes=2 * 4 * WIDTH,
    )  # fmt: skip
    return model, shard
