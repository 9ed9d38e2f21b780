"""Models as people have them, divided in every way over unequal nodes, against onnxruntime on the whole model."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from msgspec import Struct
from onnx import numpy_helper

from core.errors import PlanError
from core.model import reference
from core.model.graph import Model
from core.model.reader import open_model
from core.plan.compile import CompiledPlan, compile_plan, micro_batch_for
from core.plan.form import PlanRequest
from core.plan.tolerance import tolerance
from core.plan.verify import verify_outputs
from tests.exports import NAMES, QUANTISED, export, missing
from tests.plan.in_process import InProcessPlan
from tests.plan.models import node_ids, to_model
from tests.plan.partition.expectations import LEAST, REFUSED, UNEVEN

BUNDLED = sorted((Path(__file__).parents[3] / "resources" / "models").glob("*.onnx"))
LIGHT = sorted((Path(onnx.__file__).parent / "backend" / "test" / "data" / "light").glob("light_*.onnx"))
SPEEDS = (1.0, 0.5, 0.8, 0.3)
USUALLY_DIVIDED = 0.95
"""Part of the multiply-adds that a division reaches at least, where ``LEAST`` does not say otherwise."""
USUALLY_UNEVEN = 0.1
"""Part of all weights that a node may hold beyond its share under tensor, where ``UNEVEN`` does not say otherwise."""


class Way(Struct, frozen=True):
    """To divide a model."""

    strategy: str
    nodes: int = 4
    tensor_axis: str | None = None
    spatial_axis: str | None = None

    def __str__(self) -> str:
        """ "tensor 3 rows", "pipeline > tensor"."""
        counted = "" if ">" in self.strategy else f" {self.nodes}"
        axis = self.tensor_axis or self.spatial_axis
        return self.strategy.replace("(2)", "") + counted + (f" {axis}" if axis else "")

    @property
    def any_size(self) -> bool:
        """Whether other sizes than those of the plan may come, as sequences of another length."""
        return "spatial" not in self.strategy and self.strategy not in (
            "pipeline(2) > replicate(2)",
            "tensor(2) > tensor(2)",
        )

    def compiled(self, model: Model, batch: int) -> CompiledPlan:
        axes = {"tensor_axis": self.tensor_axis, "spatial_axis": self.spatial_axis}
        request = PlanRequest(self.strategy, node_ids(self.nodes), batch, **axes)
        return compile_plan(model, request, speeds=dict(zip(request.nodes, SPEEDS, strict=False)))


TENSOR = tuple(Way("tensor", nodes) for nodes in (2, 3, 4))
FORCED = tuple(Way("tensor", 3, tensor_axis=axis) for axis in ("rows", "columns"))
ROWS = tuple(Way("spatial", nodes) for nodes in (2, 3, 4))
COLUMNS = tuple(Way("spatial", nodes, spatial_axis="columns") for nodes in (2, 3))
NESTED = (
    Way("pipeline(2) > tensor(2)"),
    Way("replicate(2) > tensor(2)"),
    Way("pipeline(2) > spatial(2)"),
    Way("pipeline(2) > replicate(2)"),
    Way("tensor(2) > spatial(2)"),
    Way("spatial(2) > tensor(2)"),
    Way("tensor(2) > pipeline(2)"),
    Way("tensor(2) > tensor(2)"),
)
EVERY = (*TENSOR, *FORCED, *ROWS, *COLUMNS, *NESTED)
"""All but plain replicas and pipelines, which have tests of their own."""
USUAL = (TENSOR[0], TENSOR[2], ROWS[1], NESTED[0], NESTED[3])
FEW = (TENSOR[1], ROWS[0])
COMPILED_TWICE = (TENSOR[1], TENSOR[2], NESTED[4])
THOROUGH = bool(os.environ.get("SHARDBOARD_THOROUGH_TESTS"))
"""Every way for every model: ten minutes instead of one."""


def check(name: str, model: Model, ways: Iterable[Way], given: Mapping[str, npt.NDArray[Any]] | None = None) -> None:
    """``given``: a feed of sizes that the model allows, though its plans may be made for others."""
    batch = micro_batch_for(model, len(next(iter(given.values()))) if given else 2)
    usual = model.random_feed(batch)
    whole = compile_plan(model, PlanRequest("single", node_ids(1), batch))
    total = sum(shard.weight_bytes for shard in whole.plan.shards)
    expected = {id(feed): model.reference(threads=1)(feed) for feed in (usual, given) if feed is not None}
    problems = []
    for way in ways:
        feed = given if given is not None and way.any_size else usual
        problem = problem_of(name, model, way, batch, feed, expected[id(feed)], total)
        if problem:
            problems.append(f"{way}: {problem}")
    assert not problems, "\n".join((name, *problems))


def problem_of(
    name: str,
    model: Model,
    way: Way,
    batch: int,
    feed: Mapping[str, npt.NDArray[Any]],
    expected: list[npt.NDArray[Any]],
    total: int,
) -> str:
    """What is wrong with one division; "" where nothing is."""
    refusal = next((why for why, ways in REFUSED.get(name, {}).items() if str(way) in ways), None)
    try:
        compiled = way.compiled(model, batch)
    except PlanError as error:
        return "" if refusal is not None and re.search(refusal, str(error)) else f"refused: {error}"
    if refusal is not None:
        return "is not refused any more: take it from the list"
    if way in COMPILED_TWICE and blobs_of(compiled) != blobs_of(way.compiled(model, batch)):
        return "another plan when compiled again"
    results = InProcessPlan(compiled).infer(feed)
    verdict = verify_outputs(expected, [results[info.name] for info in model.outputs], tolerance(model))
    if not verdict.passed:
        return verdict.reason
    reached, least = compiled.outline.division.split_share, LEAST.get(name, {}).get(str(way), USUALLY_DIVIDED)
    if reached < least:
        return f"only {reached:.3f} is divided, not {least}"
    if way.strategy == "tensor":
        return uneven_weights(compiled, total, UNEVEN.get(name, USUALLY_UNEVEN))
    return ""


def blobs_of(compiled: CompiledPlan) -> list[tuple[str, ...]]:
    return [(shard.graph, *(weight.blob for weight in shard.weights)) for shard in compiled.plan.shards]


def uneven_weights(compiled: CompiledPlan, total: int, allowed: float) -> str:
    """Whether some node holds much more of the weights than its part of the work."""
    nodes = compiled.plan.request.nodes
    speeds = SPEEDS[: len(nodes)]
    for node, speed in zip(nodes, speeds, strict=True):
        held = {w.blob: w.nbytes for shard in compiled.plan.on_node(node) for w in shard.weights}
        part, share = sum(held.values()) / max(1, total), speed / sum(speeds)
        if part > share + allowed:
            return f"a node with {share:.2f} of the work holds {part:.2f} of the weights"
    return ""


@pytest.mark.parametrize("path", BUNDLED, ids=lambda path: path.stem)
def test_bundled_models(path: Path) -> None:
    check(path.stem, open_model(path), EVERY)


def with_weights(path: Path) -> Model:
    """One of onnx's light models, with weights: its own are all alike, which hides what goes to the wrong place.

    It ends where its first layer of more than 40 MB would begin.
    """
    proto = onnx.load(path)
    given = {one.name: one for one in proto.graph.initializer}
    made = {n.output[0]: n.input[0] for n in proto.graph.node if n.op_type == "ConstantOfShape"}
    shapes = {name: tuple(numpy_helper.to_array(given[shape]).tolist()) for name, shape in made.items()}
    nodes = [node for node in proto.graph.node if node.output[0] not in made]
    large = next((n for n in nodes if n.op_type == "Gemm" and np.prod(shapes.get(n.input[1], ())) > 10**7), None)
    if large is not None:
        nodes = nodes[: nodes.index(large)]
        proto.graph.output[0].CopyFrom(onnx.ValueInfoProto(name=large.input[0]))
    variances = {node.input[4] for node in nodes if node.op_type == "BatchNormalization"}
    pool = np.random.default_rng(0).standard_normal(99_991).astype(np.float32)  # a prime, so that no two rows are alike
    for name in dict.fromkeys(name for node in nodes for name in node.input if name in shapes):
        values = np.resize(np.roll(pool, len(given)), shapes[name])
        values *= np.float32(np.sqrt(2 / max(1, np.prod(shapes[name][1:]))))
        given[name] = numpy_helper.from_array(np.abs(values) + 0.5 if name in variances else values, name)
    read = {name for node in nodes for name in node.input}
    del proto.graph.node[:], proto.graph.initializer[:]
    proto.graph.node.extend(nodes)
    proto.graph.initializer.extend(one for name, one in given.items() if name in read)
    return to_model(proto, path.stem)


@pytest.mark.slow
@pytest.mark.parametrize("path", LIGHT, ids=lambda path: path.stem)
def test_onnx_light_models(path: Path) -> None:
    check(path.stem, with_weights(path), EVERY if THOROUGH else FEW)


@pytest.mark.slow
@pytest.mark.parametrize("key", ["resnet50", "mobilenetv2", "bert-base", "gpt2"])
def test_reference_models(key: str, tmp_path: Path) -> None:
    model = open_model(reference.build(key, tmp_path / f"{key}.onnx"))
    check(key, model, EVERY if THOROUGH else (TENSOR[0], ROWS[0]))


@pytest.mark.exports
@pytest.mark.slow
@pytest.mark.skipif(bool(missing()), reason=missing())
@pytest.mark.parametrize("name", [*NAMES, *QUANTISED])
def test_exports(name: str, exports_folder: Path) -> None:
    exported = export(name, exports_folder)
    usual = FEW if name.endswith("-old") else USUAL
    check(f"exported {name}", open_model(exported.path), EVERY if THOROUGH else usual, exported.feed)
