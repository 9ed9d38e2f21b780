"""Random networks, random strategies, random shares: whatever is compiled gives what the whole model gives."""

from __future__ import annotations

import os

import onnx
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from core.errors import PlanError
from core.plan.compile import compile_plan, micro_batch_for
from core.plan.form import PlanRequest
from core.plan.verify import verify_outputs
from tests.plan.in_process import InProcessPlan
from tests.plan.models import node_ids, to_model
from tests.plan.partition.image_networks import image_networks, volume_networks
from tests.plan.partition.networks import Network
from tests.plan.partition.sequence_networks import sequence_networks

NESTED = (
    "pipeline(2) > tensor(2)",
    "replicate(2) > spatial(2)",
    "tensor(2) > spatial(2)",
    "spatial(2) > tensor(2)",
    "tensor(2) > tensor(2)",
    "pipeline(2) > replicate(2)",
    "tensor(2) > pipeline(2)",
    "spatial(2) > replicate(2)",
)
SPEEDS = (1.0, 0.5, 0.1, 2.0, 0.77)


@st.composite
def requests(draw: st.DrawFn) -> tuple[PlanRequest, list[float]]:
    """A strategy on 2 to 5 nodes of any speeds; the micro-batch is settled with the model."""
    strategy = draw(st.sampled_from(("tensor", "tensor", "spatial", "spatial", *NESTED)))
    count = 4 if strategy in NESTED else draw(st.integers(2, 5))
    tensor_axis = draw(st.sampled_from((None, "rows", "columns"))) if strategy == "tensor" else None
    spatial_axis = draw(st.sampled_from((None, "columns"))) if strategy == "spatial" else None
    batch = draw(st.sampled_from((1, 2, 4)))
    speeds = draw(st.lists(st.sampled_from(SPEEDS), min_size=count, max_size=count))
    wanted = PlanRequest(strategy, node_ids(count), batch, tensor_axis=tensor_axis, spatial_axis=spatial_axis)
    return wanted, speeds


def check(proto: onnx.ModelProto, request: PlanRequest, speeds: list[float]) -> str:
    """Returns what came of it, for hypothesis to count."""
    model = to_model(proto)
    batch = micro_batch_for(model, request.micro_batch)
    settled = PlanRequest(
        request.strategy, request.nodes, batch, tensor_axis=request.tensor_axis, spatial_axis=request.spatial_axis
    )
    refused: PlanError | None = None
    try:
        compiled = compile_plan(model, settled, speeds=dict(zip(request.nodes, speeds, strict=True)))
    except PlanError as error:
        refused = error
    if refused is not None:
        assert refused.hint, refused  # in words, and with what to do
        return "refused"
    feed = model.random_feed(batch, seed=1)
    results = InProcessPlan(compiled).infer(feed)
    expected = model.reference(threads=1)(feed)
    verdict = verify_outputs(expected, [results[info.name] for info in model.outputs])
    assert verdict.passed, verdict.reason
    return f"{request.strategy}: {len(compiled.plan.shards) // len(request.nodes)} shards a node"


usual = settings(
    max_examples=2000 if os.environ.get("SHARDBOARD_THOROUGH_TESTS") else 60,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)


@usual
@given(proto=image_networks(), asked=requests())
def test_any_division_of_an_image_network(proto: onnx.ModelProto, asked: tuple[PlanRequest, list[float]]) -> None:
    event(check(proto, *asked))


@usual
@given(proto=volume_networks(), asked=requests())
def test_any_division_of_a_signal_or_volume(proto: onnx.ModelProto, asked: tuple[PlanRequest, list[float]]) -> None:
    event(check(proto, *asked))


@usual
@given(proto=sequence_networks(), asked=requests())
def test_any_division_of_a_sequence_network(proto: onnx.ModelProto, asked: tuple[PlanRequest, list[float]]) -> None:
    event(check(proto, *asked))


def test_rows_that_a_window_leaves_out_are_there_for_others() -> None:
    net = Network(0)
    value = net.input(1, 6, 6)
    net.op("MaxPool", [value], (1, 3, 6), kernel_shape=[2, 1], strides=[2, 1], pads=[1, 0, 0, 0])
    net.op("Relu", [value], (1, 6, 6))
    made = net.op("Conv", [net.op("Tanh", [value], (1, 6, 6)), net.weight(2, 1, 1, 1)], (2, 3, 3), strides=[2, 2])
    net.op("Neg", [made], (2, 3, 3))
    assert check(net.model(), PlanRequest("spatial", node_ids(2), 2), [1.0, 1.0]) != "refused"


def test_operators_that_two_levels_write_have_names_of_their_own() -> None:
    net = Network(0)
    inputs = [net.input(3, 18), net.weight(6, 1, 2)]
    value = net.op("Conv", inputs, (6, 16), kernel_shape=[2], dilations=[2], group=3)
    value = net.op("Reshape", [value, net.numbers(0, -1)], (96,))
    value = net.op("Relu", [net.op("MatMul", [value, net.weight(96, 7)], (7,))], (7,))
    value = net.op("MatMul", [value, net.weight(7, 5)], (5,))
    net.op("ArgMax", [value], (), kind=TensorProto.INT64, axis=-1, keepdims=0)
    request = PlanRequest("tensor(2) > tensor(2)", node_ids(4), 4)
    assert check(net.model(), request, [2.0, 2.0, 2.0, 2.0]) != "refused"
