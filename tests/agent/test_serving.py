"""Where shards run: on the data thread while micro-batches come one at a time, on the compute thread otherwise."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from agent import serving as serving_module
from agent.blobs import BlobStore
from agent.compute import Compute
from agent.dataflow import Dataflow
from agent.executor import load_shard
from agent.limits import Limits
from agent.link_limit import LinkPacer
from agent.outbox import Outbox
from agent.peers import Peers
from agent.serving import Serving
from agent.telemetry import Meter
from core.plan.form import CLIENT, NodeId, Route, ShardId
from core.wire.frames import decode_header, read_tensors
from core.wire.keys import new_keys
from core.wire.messages import Attach, TensorMeta, Tensors
from core.wire.sockets import Channel, Listener, Wire
from tests.agent.driver import Linear, sha256

HERE, OWNER = NodeId("here"), "owner"
X = np.ones((2, 8), np.float32)


class Bench:
    """A chain of linear shards that is served in this thread, and a client that takes its results."""

    def __init__(self, folder: Path, length: int) -> None:
        self.models = [Linear(8, 8, seed, f"t{seed}", f"t{seed + 1}") for seed in range(length)]
        for model in self.models:
            model.w /= 8
        blobs = BlobStore(folder, 1 << 30)
        for blob in {blob for model in self.models for blob in model.blobs}:
            blobs.append(sha256(blob), len(blob), 0, blob)
        shards = [model.shard(HERE, number) for number, model in enumerate(self.models)]
        routes = [Route(CLIENT, "t0", ShardId(0), "t0"), Route(ShardId(length - 1), f"t{length}", CLIENT, "y")]
        routes += [Route(ShardId(n), f"t{n + 1}", ShardId(n + 1), f"t{n + 1}") for n in range(length - 1)]
        placement = {shard.id: HERE for shard in shards}
        self.flow = Dataflow(HERE, OWNER, "d", 1, shards, routes, placement, 1 << 30)
        self.limits, self.meter = Limits(), Meter()
        self.meter.reset([(shard.id, shard.label) for shard in shards])
        self._finished = threading.Semaphore(0)
        self.compute = Compute(self.meter, self.limits, self._finished.release)
        self._wire = Wire(new_keys(), allow=lambda _key: True)
        self._listener: Listener = self._wire.listen("127.0.0.1", 0)
        self._client_wire = Wire(new_keys())
        self.client: Channel = self._client_wire.connect(
            f"tcp://127.0.0.1:{self._listener.port}", self._wire.keys.public
        )
        self.serving = Serving(
            self.flow,
            [load_shard(shard, blobs, 1) for shard in shards],
            Peers(self._wire, self._wire.poller(), {}),
            listener=self._listener,
            compute=self.compute,
            outbox=Outbox(LinkPacer(self.limits)),
            limits=self.limits,
            meter=self.meter,
        )
        self.serving.attach(self.hello(), OWNER, Attach("d", 1))
        for seq in range(2):  # the first run of each shard is always on the compute thread
            self.arrive(1_000 + seq)
            self.compute_all()
            self.result()

    def hello(self) -> bytes:
        """Let a message come in; which connection it came on."""
        self.knock()
        received = self._listener.recv()
        assert received is not None
        return received.sender

    def knock(self) -> None:
        """A message waits to be received from now on."""
        assert self.client.send([b"x"])
        poller = self._wire.poller()
        poller.register(self._listener)
        assert poller.wait(60)
        assert self._listener.waiting

    def take(self) -> None:
        assert self._listener.recv() is not None

    def arrive(self, seq: int, job: int = 1) -> None:
        header = Tensors("d", 1, job, seq, CLIENT, ShardId(0), (TensorMeta("t0", "float32", X.shape, "raw"),))
        assert self.serving.tensors(header, OWNER, [memoryview(X + seq % 10).cast("B")]) is None

    def compute_all(self) -> int:
        """Take in what the compute thread has done until nothing runs; how many shards it ran."""
        count = 0
        while self.flow.running:
            assert self._finished.acquire(timeout=60)
            self.serving.ran(*self.compute.results.popleft())
            count += 1
        deadline = time.monotonic() + 60
        while not self.compute.idle:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        return count

    def result(self) -> int:
        """The number of the micro-batch whose result came, after checking its values."""
        frames = self.client.recv_wait(60)
        assert frames is not None
        header = decode_header(frames[0])
        assert isinstance(header, Tensors)
        expected = X + header.seq % 10
        for model in self.models:
            expected = model(expected)
        np.testing.assert_allclose(read_tensors(header, frames[1:])["y"], expected, rtol=1e-3, atol=1e-3)
        return header.seq

    def close(self) -> None:
        self.serving.close()
        self.compute.close()
        self._client_wire.close()
        self._wire.close()


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """Every shard counts as neither short nor long, however busy this machine is."""
    monkeypatch.setattr(serving_module, "SHORT_SECONDS", 0.0)
    monkeypatch.setattr(serving_module, "LONG_SECONDS", 1e9)
    made = Bench(tmp_path, 3)
    yield made
    made.close()


def test_one_micro_batch_at_a_time_runs_where_it_came(bench: Bench) -> None:
    for seq in range(5):
        bench.arrive(seq)
        assert (bench.flow.held, bench.flow.running) == (0, 0)
        assert bench.result() == seq


def test_what_had_to_wait_runs_apart_from_then_on(bench: Bench) -> None:
    bench.knock()
    bench.arrive(0)
    assert bench.flow.held == 0
    bench.take()
    for seq in (1, 2):
        bench.arrive(seq)
    assert bench.flow.running == 2
    assert bench.compute_all() == 6
    assert [bench.result() for _ in range(3)] == [0, 1, 2]


def test_waiting_for_the_same_micro_batch_is_no_reason_to_leave(bench: Bench) -> None:
    """As in a group whose nodes exchange tensors."""
    bench.knock()
    bench.arrive(0)
    bench.take()
    bench.arrive(0)
    bench.arrive(1)
    assert bench.flow.held == 0
    assert [bench.result() for _ in range(2)] == [0, 1]


def test_limits_and_other_work_keep_shards_off_the_data_thread(bench: Bench) -> None:
    bench.limits.set(cpu=0.99)
    bench.arrive(0)
    assert bench.compute_all() == 3
    bench.limits.set(cpu=1.0, link_bits_per_s=10**12)
    bench.arrive(1)
    assert bench.compute_all() == 3
    bench.limits.set(link_bits_per_s=0)
    bench.arrive(2)
    assert bench.flow.held == 0


def counted(bench: Bench) -> list[tuple[int, int, int]]:
    """(runs, bytes sent, bytes received) of each shard."""
    return [(load.runs, load.sent, load.received) for load in bench.meter.drain()[0]]


def test_what_crosses_is_counted_with_the_run_it_belongs_to(bench: Bench) -> None:
    """Two runs of each shard were there before; only the first one receives, only the last one sends."""
    assert counted(bench) == [(2, 0, 2 * X.nbytes), (2, 0, 0), (2, 2 * X.nbytes, 0)]
    bench.arrive(0)
    bench.knock()
    bench.arrive(1)
    bench.take()
    bench.arrive(2)  # what waits is not counted yet
    assert bench.flow.running == 1
    assert counted(bench)[0] == (4, 0, 4 * X.nbytes)
    assert bench.compute_all() == 3
    assert counted(bench) == [(5, 0, 5 * X.nbytes), (5, 0, 0), (5, 5 * X.nbytes, 0)]
    assert [bench.result() for _ in range(3)] == [0, 1, 2]


def test_what_nobody_wants_any_more_is_not_counted(bench: Bench) -> None:
    bench.limits.set(cpu=0.99)
    bench.arrive(0)
    assert bench._finished.acquire(timeout=60)
    bench.serving.cancel(1)
    bench.serving.ran(*bench.compute.results.popleft())
    assert [runs for runs, _, _ in counted(bench)] == [2, 2, 2]


def test_a_long_chain_on_one_node_needs_no_deep_stack(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 400)
    bench.arrive(0)
    bench.compute_all()
    assert bench.result() == 0
    bench.close()
