"""A pipeline of two against the slower of its stages, while both stages loop in their own pinned onnxruntime process.

The rate is the steady one; the pipeline's filling is left out.

python -m tests.bench.pipeline [--model resnet50] [--micro-batch 8] [--repeats 3] [--seconds 10]
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from statistics import median

import numpy as np
import onnx

from core.cost.predict import balanced_cuts
from core.cost.profile import profile_model
from core.model.library import resolve_model
from core.plan.compile import CompiledPlan
from core.plan.form import Shard
from tests.bench.bed import deployed, micro_batches_per_second, steady_micro_batches_per_second
from tests.bench.limits import Feed, Limit, call_seconds, ratios, session
from tests.bench.options import emit, options


def main() -> None:
    chosen = options(__doc__, model="resnet50", micro_batch=8)
    model, _ = resolve_model(chosen.model)
    feed = model.random_feed(chosen.micro_batch)
    profile = profile_model(model, chosen.micro_batch)
    cuts = balanced_cuts(profile, model, (1.0, 1.0))
    with (
        tempfile.TemporaryDirectory() as folder,
        deployed(model, "pipeline", 2, chosen.micro_batch, cuts) as deployment,
    ):
        stages = stage_jobs(deployment.compiled, feed, Path(folder))
        call = max(median(call_seconds(path, inputs, 5)) for path, inputs in stages)
        count = max(12, math.ceil(chosen.seconds / call))
        limit = Limit(stages)
        try:
            micro_batches_per_second(deployment, feed, chosen.micro_batch, 8)
            figures = ratios(
                lambda: min(limit.rates(chosen.seconds / 2)),
                lambda: steady_micro_batches_per_second(deployment, feed, chosen.micro_batch, count),
                chosen.repeats,
            )
        finally:
            limit.close()
    crossing = next(cut for cut in model.cuts(chosen.micro_batch) if cut.position == cuts[0])
    emit(
        "pipeline",
        chosen,
        limit="rate of the slower stage while both loop in their own process",
        cut=cuts[0],
        layers=len(model.layers(chosen.micro_batch)),
        crossing_bytes=crossing.nbytes,
        count=count,
        **figures,
    )


def stage_jobs(compiled: CompiledPlan, feed: Feed, folder: Path) -> list[tuple[Path, Feed]]:
    """Each stage as a file of its own, weights inside, with the inputs that reach it."""
    values = dict(feed)
    jobs = []
    for shard in sorted(compiled.plan.shards, key=lambda s: s.stage):
        path = folder / f"stage{shard.stage}.onnx"
        onnx.save(standalone(compiled, shard), path)
        sources = {r.target: r.tensor for r in compiled.plan.routes if r.consumer == shard.id}
        inputs = {port.name: values[sources[port.name]] for port in shard.inputs}
        names = [port.name for port in shard.outputs]
        outputs = session(path).run(names, inputs)
        values |= {name: np.asarray(output) for name, output in zip(names, outputs, strict=True)}
        jobs.append((path, inputs))
    return jobs


def standalone(compiled: CompiledPlan, shard: Shard) -> onnx.ModelProto:
    """The shard's graph with its weights put back in."""
    blobs = compiled.blobs
    proto = onnx.load_model_from_string(bytes(blobs.read(shard.graph, 0, blobs.nbytes(shard.graph))))
    weights = {weight.name: weight for weight in shard.weights}
    for initializer in proto.graph.initializer:
        if initializer.name in weights:
            weight = weights[initializer.name]
            initializer.ClearField("external_data")
            initializer.data_location = onnx.TensorProto.DEFAULT
            initializer.raw_data = bytes(blobs.read(weight.blob, 0, weight.nbytes))
    return proto


if __name__ == "__main__":
    main()
