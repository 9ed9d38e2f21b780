"""What agents take for their shards, as it was predicted: real agents, weights of some tens of MB."""

from __future__ import annotations

import numpy as np
import onnx
import psutil
import pytest
from onnx import TensorProto, helper, numpy_helper

from core.cluster.deployment import deploy
from core.cluster.machines import machines_of
from core.cost.balance import estimated_profile
from core.cost.dataflow import predict_outline
from core.cost.memory import SESSIONS, WORKING_BYTES, measured_runtime, runtime_of
from core.model.graph import Model
from core.plan.compile import compile_plan
from core.plan.form import PlanRequest
from tests.plan.models import to_model
from tests.run.conftest import bed

WORDS, WIDTH, FILTERS = 8000, 512, 384
MB = 1e6


def everything() -> Model:
    """An embedding, products and convolutions, 16 to 22 MB of weights each."""
    random = np.random.default_rng(0)

    def held(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(random.standard_normal(shape, np.float32) / np.float32(32.0), name)

    weights = [held("table", WORDS, WIDTH)]
    nodes = [helper.make_node("Gather", ["table", "ids"], ["v0"])]
    for step in range(16):
        weights.append(held(f"w{step}", WIDTH, WIDTH))
        nodes.append(helper.make_node("MatMul", [f"v{step}", f"w{step}"], [f"v{step + 1}"]))
    weights.append(held("first", FILTERS, 32, 1, 1))
    shape = numpy_helper.from_array(np.array([0, 32, 4, 4], np.int64), "as_image")
    nodes += [
        helper.make_node("ReduceMean", ["v16"], ["mean"], axes=[1], keepdims=0),
        helper.make_node("Reshape", ["mean", "as_image"], ["image"]),
        helper.make_node("Conv", ["image", "first"], ["c0"]),
    ]
    for step in range(4):
        weights.append(held(f"f{step}", FILTERS, FILTERS, 3, 3))
        nodes.append(helper.make_node("Conv", [f"c{step}", f"f{step}"], [f"c{step + 1}"], pads=[1] * 4))
    nodes.append(helper.make_node("GlobalAveragePool", ["c4"], ["y"]))
    graph = helper.make_graph(
        nodes,
        "everything",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["N", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", FILTERS, 1, 1])],
        [*weights, shape],
    )
    return to_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


@pytest.mark.slow
def test_an_agent_takes_what_was_predicted() -> None:
    """Weights that kernels reorder count once: what onnxruntime frees while it loads them goes back to the system."""
    model, batch = everything(), 4
    with bed(2) as made:
        nodes = made.cluster.wait_ready(2, timeout=60)
        machines = machines_of(nodes)
        processes = {agent.id: psutil.Process(agent.pid) for agent in made.agents.agents}
        for node, process in processes.items():
            assert machines[node].own_bytes == pytest.approx(process.memory_info().rss, rel=0.05)
        compiled = compile_plan(model, PlanRequest("pipeline", tuple(node.id for node in nodes), batch, (12,)))
        runtime = measured_runtime()
        profile = estimated_profile(model, batch)
        told = predict_outline(profile, compiled.outline, model, {}, machines)
        with deploy(made.cluster, compiled, owner="test") as deployment:
            for seed in range(60):
                deployment.infer(model.random_feed(batch, seed))
            for use in told.nodes:
                taken = processes[use.node].memory_info().rss
                grown, predicted = taken - machines[use.node].own_bytes, use.memory_bytes - machines[use.node].own_bytes
                assert use.weight_bytes > 16 * MB
                assert grown > 0.9 * use.weight_bytes
                assert predicted == pytest.approx(grown, rel=0.2), use
                assert runtime.session + runtime.operator < 1 * MB


def test_runtime_from_three_figures() -> None:
    found = runtime_of(
        50_000_000, 50_000_000 + SESSIONS * 60_000, 50_000_000 + SESSIONS * 60_000 + 10 * (60_000 + 199 * 3000)
    )
    assert found == (50_000_000 + WORKING_BYTES, 60_000, 3000)
    for one, many, long in ((0, 1, 2), (100, 50, 50), (100, 100_100, 100_100)):
        with pytest.raises(ValueError, match="sessions"):
            runtime_of(one, many, long)
