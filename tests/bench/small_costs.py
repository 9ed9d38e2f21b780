"""What an agent does over and over, in microseconds of one thread's own time, beside the limit of each: a run of a
shard beyond onnxruntime's own, a sample of its telemetry, telling a graph of thousands of nodes where its weights lie.

python -m tests.bench.small_costs [--repeats 5]
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper

from agent.blobs import BlobStore
from agent.executor import load_shard
from agent.graph_proto import place_weights
from agent.telemetry import Meter, Sampler
from core.plan.form import NodeId, Port, Sha256, Shard, ShardId, Weight
from tests.bench.options import emit, options

SAMPLES_PER_S = 5


def main() -> None:
    chosen = options(__doc__, model="", micro_batch=1)
    sample = least(chosen.repeats, 50, sampling())
    emit(
        "small_costs",
        chosen,
        run_beyond_onnxruntime_us=round(run_beyond_onnxruntime(chosen.repeats), 2),
        run_beyond_onnxruntime_limit_us=10,
        sample_us=round(sample, 1),
        sampling_core_share=round(SAMPLES_PER_S * sample * 1e-6, 5),
        sampling_limit_core_share=0.01,
        weights_of_5000_nodes_us=round(least(chosen.repeats, 3, placing()), 1),
        weights_of_5000_nodes_limit_us=500_000,
    )


def least(repeats: int, calls: int, act: Callable[[], object]) -> float:
    """Microseconds of a call, at the quickest of so many rounds of ``calls``."""
    act()
    taken = []
    for _ in range(repeats):
        begun = time.thread_time()
        for _ in range(calls):
            act()
        taken.append((time.thread_time() - begun) / calls)
    return 1e6 * min(taken)


def run_beyond_onnxruntime(repeats: int) -> float:
    node = helper.make_node("Relu", ["x"], ["y"])
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 8]) for name in ("x", "y")]
    graph = helper.make_graph([node], "relu", ends[:1], ends[1:])
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    feed = {"x": np.ones((1, 8), np.float32)}
    ports = (Port("x", "float32", (1, 8)),), (Port("y", "float32", (1, 8)),)
    with tempfile.TemporaryDirectory() as folder:
        blobs = BlobStore(Path(folder), 1 << 30)
        sha = Sha256(hashlib.sha256(data).hexdigest())
        blobs.append(sha, len(data), 0, data)
        shard = Shard(ShardId(0), NodeId("node"), "relu", 0, 0, 0, sha, len(data), (), *ports, 0)
        loaded = load_shard(shard, blobs, 1)
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        alone = least(repeats, 5000, lambda: session.run(["y"], feed))
        return least(repeats, 5000, lambda: loaded.run(feed)) - alone


def sampling() -> Callable[[], object]:
    sampler, meter = Sampler(), Meter()
    for seq in range(64):
        meter.record(ShardId(1), "a", seq, 1, 0.0, 0.001)
    return lambda: sampler.sample(meter, 0, "", "", 0, 0)


def placing() -> Callable[[], object]:
    count = 500
    weights = {f"w{n}": Weight(f"w{n}", "float32", (64, 64), Sha256(f"{n:064x}"), 64 * 64 * 4) for n in range(count)}
    tensors = []
    for name in weights:
        tensor = TensorProto(name=name, data_type=1, dims=(64, 64), data_location=TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value="blob")
        tensors.append(tensor)
    nodes = [helper.make_node("Abs", [f"v{n}"], [f"v{n + 1}"], name=f"node {n}") for n in range(10 * count)]
    graph = helper.make_graph(nodes, "many", [], [], tensors)
    data = helper.make_model(graph).SerializeToString()
    return lambda: place_weights(data, weights, lambda weight: weight.blob)


if __name__ == "__main__":
    main()
