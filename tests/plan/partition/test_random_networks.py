"""Random networks, random strategies, random shares: whatever is compiled gives what the whole model gives."""

from __future__ import annotations

import onnx
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from core.errors import PlanError
from core.plan.compile import compile_plan, micro_batch_for
from core.plan.form import PlanRequest
from core.plan.verify import verify_outputs
from tests.plan.in_process import InProcessPlan
from tests.plan.models import node_ids, to_model
from tests.plan.partition.image_networks import image_networks, volume_networks
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


def check(proto: onnx.ModelProto, request: PlanRequest, speeds: list[float]) -> None:
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
        event("refused")
        return
    feed = model.random_feed(batch, seed=1)
    results = InProcessPlan(compiled).infer(feed)
    expected = model.reference(threads=1)(feed)
    verdict = verify_outputs(expected, [results[info.name] for info in model.outputs])
    event(f"{request.strategy}: {len(compiled.plan.shards) // len(request.nodes)} shards a node")
    assert verdict.passed, verdict.reason


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(proto=image_networks(), asked=requests())
def test_any_division_of_an_image_network(proto: onnx.ModelProto, asked: tuple[PlanRequest, list[float]]) -> None:
    check(proto, *asked)


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(proto=sequence_networks(), asked=requests())
def test_any_division_of_a_sequence_network(proto: onnx.ModelProto, asked: tuple[PlanRequest, list[float]]) -> None:
    check(proto, *asked)
