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
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from math import ceil
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
from core.errors import Cancelled, ProtocolError, ShardboardError
from core.model.reader import open_model
from core.plan.compile import compile_plan
from core.plan.form import NodeId, PlanRequest, Port
from core.run.runner import run_job
from core.run.sink import Sink
from core.run.source import Batch, Source
from core.wire.messages import Measure, Measured
from core.wire.pacing import SHORT_SECONDS

SMALL: Final = 256
"""Numbers in a tensor."""
LARGE: Final = 128 * 1024
"""512 KiB, as large as those of models."""
NUMBER_BYTES: Final = 4
SECONDS: Final = 0.3
"""Of messages of each size: many ticks of the clock that tells a process's time."""
ALIKE: Final = 3
"""Repeats that have to agree; what disturbs one makes it longer."""
MOST_REPEATS: Final = 9
OTHERS: Final = 0.2
"""Cores that other programs may take of this machine meanwhile; with more it is not the machine that was measured."""
LOOK_SECONDS: Final = 0.3
STEADY: Final = 1.25
"""Times the least of the repeats is as much as it."""
LONG_SECONDS: Final = 3 * SHORT_SECONDS
"""Of the shard that runs in a thread of its own. What that costs is a difference, which a longer one would hide."""
FIRST_STEPS: Final = 100
"""Of a shard by which its length is found."""
RUNS: Final = 50
WARM: Final = 20
UNDER_WAY: Final = 2
_READY_SECONDS: Final = 20.0


def measured_message_costs(
    progress: Callable[[float], None] | None = None, cancel: threading.Event | None = None
) -> MessageCosts:
    """Of this machine, with speed 1; takes some seconds the first time.

    Typical figures where no agent can be started for it, or while other programs keep the machine too busy to tell.
    ``progress`` is told which share is done. Raises Cancelled.
    """
    kept = kept_message_costs()
    if kept is not None:
        return kept
    if not can_measure():
        return TYPICAL
    try:
        return measure_message_costs(progress, cancel)
    except Cancelled:
        raise
    except (OSError, psutil.Error, ShardboardError):
        return TYPICAL


def can_measure() -> bool:
    """Whether this installation can start an agent for it."""
    return not getattr(sys, "frozen", False)


class DisturbedError(ShardboardError):
    """Repeats differ too much to be the machine's own."""

    code = "disturbed"

    def __init__(self) -> None:
        super().__init__(
            "What messages cost was not measured: other programs keep this machine too busy to tell.",
            hint="Typical figures count until it is measured again.",
        )


def measure_message_costs(
    progress: Callable[[float], None] | None = None, cancel: threading.Event | None = None
) -> MessageCosts:
    """Anew, and kept: about 5 s, up to three times as many while something disturbs it.

    ``progress`` is told which share is done. All that this process does meanwhile counts as a cost of messages.
    Raises DisturbedError, Cancelled, or what starting an agent raises.
    """
    costs = _Measuring(progress, cancel).run()
    keep_message_costs(costs)
    return costs


def agree(repeats: Sequence[float]) -> bool:
    """Whether ``ALIKE`` of them are about as much as the least: before, they do not tell what the machine can do."""
    return sum(one <= STEADY * min(repeats) for one in repeats) >= ALIKE


class Taken(msgspec.Struct, frozen=True):
    """For one micro-batch, in seconds."""

    client: float
    """Processor time of this process."""
    agent: float


_PARTS: Final = 6


class _Measuring:
    def __init__(self, progress: Callable[[float], None] | None, cancel: threading.Event | None) -> None:
        self._progress = progress
        self._cancel = cancel
        self._done = 0
        self._agent: psutil.Process | None = None

    def run(self) -> MessageCosts:
        self._look()
        with (
            start_local_agents(1, threads=1) as agents,
            contextlib.closing(open_cluster(local=agents.agents, discovery=False)) as cluster,
        ):
            node = cluster.wait_ready(1, timeout=_READY_SECONDS)[0].id
            process = self._agent = psutil.Process(agents.agents[0].pid)
            self._step()
            with _deployed(cluster, node, _first_numbers(SMALL)) as deployment:
                alone = self._alone(deployment)
                self._step()
                small = self._stream(deployment, process, SMALL)
                self._step()
            with _deployed(cluster, node, _first_numbers(LARGE)) as deployment:
                large = self._stream(deployment, process, LARGE)
                self._step()
            steps = ceil(FIRST_STEPS * LONG_SECONDS / self._within(cluster, node, _long(FIRST_STEPS)))
            self._step()
            beside = self._beside(cluster, node, _long(steps))
            self._step()
        return message_costs(small, large, alone, beside)

    def _step(self) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done / _PARTS)

    def _check(self) -> None:
        if self._cancel is not None and self._cancel.is_set():
            raise Cancelled("Measuring what messages cost was stopped.")

    def _look(self) -> None:
        """Whether it is worth beginning."""
        self._check()
        begun, before = time.perf_counter(), self._others()
        (self._cancel or threading.Event()).wait(LOOK_SECONDS)
        if self._others() - before > OTHERS * (time.perf_counter() - begun):
            self._check()
            raise DisturbedError

    def _others(self) -> float:
        """Processor seconds that this machine has spent on other programs, or that other machines took from it."""
        own = time.process_time() + (_used(self._agent) if self._agent is not None else 0.0)
        times = psutil.cpu_times()
        return sum(getattr(times, kind, 0.0) for kind in ("user", "nice", "system", "steal")) - own

    def _least(self, once: Callable[[], tuple[float, ...]]) -> tuple[float, ...]:
        return tuple(map(min, zip(*self._undisturbed(once), strict=True)))

    def _undisturbed(self, once: Callable[[], tuple[float, ...]]) -> list[tuple[float, ...]]:
        """Figures of ``once``, repeated until enough of each agree, by what nothing else disturbed."""
        taken: list[tuple[float, ...]] = []
        for _ in range(MOST_REPEATS):
            self._check()
            begun, before = time.perf_counter(), self._others()
            figures = once()
            if self._others() - before > OTHERS * (time.perf_counter() - begun):
                continue
            taken.append(figures)
            if all(agree(repeats) for repeats in zip(*taken, strict=True)):
                return taken
        raise DisturbedError

    def _beside(self, cluster: Cluster, node: NodeId, model: onnx.ModelProto) -> float:
        """Seconds that the node takes for a micro-batch beside the run itself, while it always has one to run."""
        with _deployed(cluster, node, model) as deployment:
            self._run(deployment, _Endless(SMALL, WARM))
            # in turns: a machine is not as fast in one second as in the next
            taken = self._undisturbed(lambda: (self._pace(deployment), self._within(cluster, node, model)))
        return statistics.median(between - within for between, within in taken)

    def _within(self, cluster: Cluster, node: NodeId, model: onnx.ModelProto) -> float:
        """Seconds of a run of the model on the node."""
        body = Measure(model.SerializeToString(), (Port("x", "float32", (1, SMALL)),), RUNS)
        answer = cluster.request(node, body, _READY_SECONDS).result()
        if not isinstance(answer, Measured):
            raise ProtocolError(f"An agent answered {type(answer).__name__} to what it was to measure.")
        return answer.seconds

    def _pace(self, deployment: Deployment) -> float:
        """Seconds between two micro-batches that keep the agent's core busy."""
        return 1 / self._run(deployment, _Endless(SMALL))

    def _alone(self, deployment: Deployment) -> float:
        """Median seconds of one micro-batch at a time."""
        feed = _feed(SMALL)
        for _ in range(WARM):
            deployment.infer(feed)

        def once() -> tuple[float, ...]:
            taken: list[float] = []
            while sum(taken) < SECONDS / ALIKE:
                begun = time.perf_counter()
                deployment.infer(feed)
                taken.append(time.perf_counter() - begun)
            return (statistics.median(taken),)

        return self._least(once)[0]

    def _stream(self, deployment: Deployment, process: psutil.Process, numbers: int) -> Taken:
        """Runs of about ``SECONDS``."""
        self._run(deployment, _Endless(numbers, WARM))

        def once() -> tuple[float, ...]:
            source = _Endless(numbers)
            client, agent = time.process_time(), _used(process)
            self._run(deployment, source)
            return (time.process_time() - client) / source.sent, (_used(process) - agent) / source.sent

        return Taken(*self._least(once))

    def _run(self, deployment: Deployment, source: Source) -> float:
        """Micro-batches per second."""
        return run_job(deployment, source, _Discarded(), in_flight=UNDER_WAY, cancel=self._cancel).throughput


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


def _long(steps: int) -> onnx.ModelProto:
    """Takes a few numbers and gives as many back, after so many products with a matrix."""
    weight = np.full(SMALL * SMALL, 1 / SMALL, np.float32).tobytes()
    names = ["x", *(f"v{step}" for step in range(steps - 1)), "y"]
    graph = helper.make_graph(
        [helper.make_node("MatMul", [source, "w"], [made], name=made) for source, made in pairwise(names)],
        "long",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, SMALL])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, SMALL])],
        [helper.make_tensor("w", TensorProto.FLOAT, [SMALL, SMALL], weight, raw=True)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def _feed(numbers: int) -> dict[str, npt.NDArray[Any]]:
    return {"x": np.zeros((1, numbers), np.float32)}


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
