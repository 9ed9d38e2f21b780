"""What messages and calls cost the processors of this machine: measured with an agent that is started for it, through
the same sockets and the same code that every micro-batch takes, once for each machine and version, and kept.

Two micro-batches are under way, as a runner keeps them. The workstation handles two messages for each, its agent the
same two and a run: what both spend on small tensors and on large ones gives the price of a message, of a byte and of a
run; how long a small one takes alone, less that work, gives the way.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import onnx
import psutil
from onnx import TensorProto, helper

from core.cluster.client import Cluster
from core.cluster.deployment import Deployment, deploy
from core.cluster.local import start_local_agents
from core.cluster.opening import open_cluster
from core.cost.kept_messages import keep_message_costs, kept_message_costs
from core.cost.messages import TYPICAL, MessageCosts
from core.errors import ShardboardError
from core.model.reader import open_model
from core.plan.compile import compile_plan
from core.plan.form import NodeId, PlanRequest, Port
from core.run.runner import run_job
from core.run.sink import Sink
from core.run.source import Batch, Source
from core.wire.messages import Measure, Measured

SMALL: Final = 256
"""Numbers in a tensor."""
LARGE: Final = 128 * 1024
"""512 KiB, as large as those of models."""
NUMBER_BYTES: Final = 4
SECONDS: Final = 0.3
"""Of messages of each size: many ticks of the clock that tells a process's time."""
REPEATS: Final = 3
TRIES: Final = 2
STEADY: Final = 1.25
"""Times the least of the repeats that their median may be."""
STEPS: Final = 800
"""Of the shard that takes longer than ``SHORT_SECONDS`` on any machine."""
RUNS: Final = 50
WARM: Final = 20
UNDER_WAY: Final = 2
_READY_SECONDS: Final = 20.0


def measured_message_costs() -> MessageCosts:
    """Of this machine, with speed 1; takes some seconds the first time.

    Typical figures where no agent can be started for it, or while other programs keep the machine too busy to tell.
    """
    kept = kept_message_costs()
    if kept is not None:
        return kept
    if getattr(sys, "frozen", False):
        return TYPICAL
    for _ in range(TRIES):
        try:
            costs = _measure()
        except DisturbedError:
            continue
        except (OSError, psutil.Error, ShardboardError):
            break
        keep_message_costs(costs)
        return costs
    return TYPICAL


class DisturbedError(Exception):
    """Repeats differ too much to be the machine's own."""


def steady(repeats: Sequence[float]) -> float:
    """The least of the repeats: whatever disturbs one makes it longer. Raises where most of them were disturbed."""
    least = min(repeats)
    if statistics.median(repeats) > STEADY * least:
        raise DisturbedError
    return least


class Taken(msgspec.Struct, frozen=True):
    """For one micro-batch, in seconds."""

    client: float
    """Processor time of this process."""
    agent: float


def _measure() -> MessageCosts:
    with (
        start_local_agents(1, threads=1) as agents,
        contextlib.closing(open_cluster(local=agents.agents, discovery=False)) as cluster,
    ):
        node = cluster.wait_ready(1, timeout=_READY_SECONDS)[0].id
        process = psutil.Process(agents.agents[0].pid)
        with _deployed(cluster, node, _first_numbers(SMALL)) as deployment:
            alone = _alone(deployment, SMALL)
            small = _stream(deployment, process, SMALL)
        with _deployed(cluster, node, _first_numbers(LARGE)) as deployment:
            large = _stream(deployment, process, LARGE)
        long = _long()
        within = _run_seconds(cluster, node, long)
        with _deployed(cluster, node, long) as deployment:
            beside = _pace(deployment) - within
    return message_costs(small, large, alone, beside)


def message_costs(small: Taken, large: Taken, alone: float, beside: float) -> MessageCosts:
    """Each micro-batch brings ``SMALL`` or ``LARGE`` numbers to the agent, and ``SMALL`` ones back. ``beside`` is what
    the agent takes for a small one, beside the run, where that has a thread of its own."""
    more = large.client + large.agent - small.client - small.agent
    byte_s = max(0.0, more) / (2 * NUMBER_BYTES * (LARGE - SMALL))
    message_s = max(0.0, small.client / 2 - NUMBER_BYTES * SMALL * byte_s)
    return MessageCosts(
        message_s=message_s,
        byte_s=byte_s,
        hop_s=max(0.0, alone - small.client - small.agent) / 2,
        run_s=max(0.0, small.agent - small.client),
        switch_s=max(0.0, beside - small.agent),
    )


@contextlib.contextmanager
def _deployed(cluster: Cluster, node: NodeId, model: onnx.ModelProto) -> Iterator[Deployment]:
    with tempfile.TemporaryDirectory(prefix="shardboard-") as folder:
        path = Path(folder) / "shard.onnx"
        onnx.save(model, path)
        compiled = compile_plan(open_model(path), PlanRequest("single", (node,), 1))
        with deploy(cluster, compiled) as deployment:
            yield deployment


def _first_numbers(numbers: int) -> onnx.ModelProto:
    """Takes so many numbers and gives the first few back."""
    bounds = [helper.make_tensor(name, TensorProto.INT64, [1], [at]) for name, at in (("from", 0), ("to", SMALL))]
    axis = helper.make_tensor("axis", TensorProto.INT64, [1], [1])
    graph = helper.make_graph(
        [helper.make_node("Slice", ["x", "from", "to", "axis"], ["y"], name="first")],
        "first",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, numbers])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, SMALL])],
        [*bounds, axis],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def _long() -> onnx.ModelProto:
    """Takes a few numbers and gives as many back, after some milliseconds."""
    weight = np.full(SMALL * SMALL, 1 / SMALL, np.float32).tobytes()
    names = ["x", *(f"v{step}" for step in range(STEPS - 1)), "y"]
    graph = helper.make_graph(
        [helper.make_node("MatMul", [source, "w"], [made], name=made) for source, made in pairwise(names)],
        "long",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, SMALL])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, SMALL])],
        [helper.make_tensor("w", TensorProto.FLOAT, [SMALL, SMALL], weight, raw=True)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def _run_seconds(cluster: Cluster, node: NodeId, model: onnx.ModelProto) -> float:
    """Of the model alone on the node, the least of several measurements."""
    body = Measure(model.SerializeToString(), (Port("x", "float32", (1, SMALL)),), RUNS)
    answers = (cluster.request(node, body, _READY_SECONDS).result() for _ in range(REPEATS))
    return steady([answer.seconds for answer in answers if isinstance(answer, Measured)])


def _feed(numbers: int) -> dict[str, npt.NDArray[Any]]:
    return {"x": np.zeros((1, numbers), np.float32)}


def _alone(deployment: Deployment, numbers: int) -> float:
    """Median seconds of one micro-batch at a time."""
    feed = _feed(numbers)
    for _ in range(WARM):
        deployment.infer(feed)
    taken: list[float] = []
    while sum(taken) < SECONDS:
        begun = time.perf_counter()
        deployment.infer(feed)
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def _stream(deployment: Deployment, process: psutil.Process, numbers: int) -> Taken:
    """The least of ``REPEATS`` runs of about ``SECONDS``."""
    sink = _Discarded()
    run_job(deployment, _Endless(numbers, WARM), sink, in_flight=UNDER_WAY)
    clients, agents = [], []
    for _ in range(REPEATS):
        source = _Endless(numbers)
        client, agent = time.process_time(), _used(process)
        run_job(deployment, source, sink, in_flight=UNDER_WAY)
        clients.append((time.process_time() - client) / source.sent)
        agents.append((_used(process) - agent) / source.sent)
    return Taken(steady(clients), steady(agents))


def _pace(deployment: Deployment) -> float:
    """The least seconds between two micro-batches in ``REPEATS`` runs; they keep the agent's core busy."""
    sink = _Discarded()
    run_job(deployment, _Endless(SMALL, WARM), sink, in_flight=UNDER_WAY)
    rates = [run_job(deployment, _Endless(SMALL), sink, in_flight=UNDER_WAY).throughput for _ in range(REPEATS)]
    return steady([1 / rate for rate in rates])


def _used(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


class _Endless(Source):
    """The same micro-batch, ``most`` times or until ``SECONDS`` are over."""

    def __init__(self, numbers: int, most: int | None = None) -> None:
        self._batch, self._most = Batch(_feed(numbers), 1), most
        self.sent = 0

    @property
    def items(self) -> int:
        return max(1, self.sent)

    def batches(self, size: int) -> Iterator[Batch]:  # noqa: ARG002 - items travel one by one
        end = time.perf_counter() + SECONDS
        while self.sent < self._most if self._most is not None else time.perf_counter() < end:
            self.sent += 1
            yield self._batch


class _Discarded(Sink):
    """Nobody reads these results."""

    def write(self, outputs: dict[str, npt.NDArray[Any]], batch: Batch) -> None:
        """Nothing to keep."""

    def close(self) -> None:
        """Nothing to finish."""

    def abandon(self) -> None:
        """Nothing to drop."""
