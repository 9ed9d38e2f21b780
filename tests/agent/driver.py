"""Starts real ``python -m agent`` processes and talks to them over real, encrypted sockets, as a workstation does."""

from __future__ import annotations

import hashlib
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from onnx import TensorProto, helper

from core import PROTOCOL_VERSION
from core.plan.form import CLIENT, NodeId, Port, Route, Sha256, Shard, ShardId, Weight
from core.wire.frames import (
    decode_header,
    decode_reply,
    encode_header,
    encode_request,
    read_tensors,
    tensor_frames,
)
from core.wire.keys import KeyPair, keys_from_secret, load_or_create_key_file, new_keys
from core.wire.messages import (
    Attach,
    Attached,
    Chunk,
    ChunkAck,
    DataHeader,
    Done,
    Hello,
    Loaded,
    LoadShards,
    Reply,
    Request,
    RequestEnvelope,
    Reserve,
    ShardFailed,
    Tensors,
    Welcome,
)
from core.wire.pairing import pair
from core.wire.sockets import Channel, Wire, endpoint

ROOT = Path(__file__).resolve().parents[2]
WAIT = 60.0


class AgentProcess:
    """A running agent. ``errors`` is what it wrote on stderr so far."""

    def __init__(self, folder: Path, *options: str, key_file: Path | None = None, port: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._log = folder / "stderr.txt"
        command = [sys.executable, "-m", "agent", "--port", str(port), "--bind", "127.0.0.1", "--ready-json"]
        command += ["--no-announce", "--exit-with-stdin", "--threads", "1", "--state-dir", str(folder / "state")]
        command += ["--key-file", str(key_file)] if key_file is not None else []
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, cwd=ROOT
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait(WAIT)
            self.close()
            raise AssertionError(f"the agent ended with {code}: {self.errors}")
        ready = msgspec.json.decode(line)
        self.id = NodeId(ready["id"])
        self.control_port: int = ready["control_port"]
        self.data_port: int = ready["data_port"]
        self.pairing_port: int = ready["pairing_port"]
        assert ready["pid"] == self.process.pid

    @property
    def errors(self) -> str:
        return self._log.read_text()

    @property
    def data_endpoint(self) -> str:
        return endpoint("127.0.0.1", self.data_port)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(WAIT)

    def terminate(self, number: int = signal.SIGTERM) -> int:
        """Ask it to end; its exit code."""
        self.process.send_signal(number)
        return self.process.wait(WAIT)

    def close(self) -> None:
        """End it by closing its stdin, or at once when that does not help."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(WAIT)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        finally:
            self.process.stdout.close()


class Workstation:
    """A client: one Wire, control and data channels to any number of agents."""

    def __init__(self, keys: KeyPair | None = None) -> None:
        self.wire = Wire(keys or new_keys())
        self._numbers = itertools.count(1)

    @staticmethod
    def make_key(path: Path) -> bytes:
        """The shared key file that agents and workstations of a test have in common."""
        return load_or_create_key_file(path)

    def pair(self, agent: AgentProcess, key_file: Path, name: str = "desk") -> None:
        secret = keys_from_secret(self.make_key(key_file))
        assert pair("127.0.0.1", agent.pairing_port, secret, self.wire.keys, name).id == agent.id

    def control(self, agent: AgentProcess) -> Control:
        return Control(self.wire.connect(endpoint("127.0.0.1", agent.control_port), agent.id))

    def data(self, agent: AgentProcess) -> Data:
        return Data(self.wire.connect(agent.data_endpoint, agent.id))

    def close(self) -> None:
        self.wire.close()


class Control:
    """Requests and replies; what is pushed is kept in ``pushed``."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.pushed: list[Reply] = []
        self._number = 0

    def begin(self, body: Request) -> int:
        self._number += 1
        assert self.channel.send([encode_request(RequestEnvelope(self._number, body))])
        return self._number

    def receive(self, timeout: float = WAIT) -> tuple[int, Reply]:
        frames = self.channel.recv_wait(timeout)
        assert frames is not None, f"no answer in {timeout} s ({self.channel.problem()})"
        envelope = decode_reply(frames[0])
        return envelope.id, envelope.body

    def ask(self, body: Request, timeout: float = WAIT) -> Reply:
        number = self.begin(body)
        deadline = time.monotonic() + timeout
        while True:
            got, reply = self.receive(max(0.01, deadline - time.monotonic()))
            if got == number:
                return reply
            self.pushed.append(reply)

    def hello(self) -> Welcome:
        reply = self.ask(Hello(PROTOCOL_VERSION, "0.1.0", "desk"))
        assert isinstance(reply, Welcome)
        return reply


class Data:
    """Blobs and tensors."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel

    def receive(self, timeout: float = WAIT) -> tuple[DataHeader, list[memoryview]]:
        frames = self.channel.recv_wait(timeout)
        assert frames is not None, f"nothing came in {timeout} s ({self.channel.problem()})"
        return decode_header(frames[0]), frames[1:]

    def ship(self, content: bytes, sha: str | None = None, piece: int = 1 << 20) -> ChunkAck:
        name = Sha256(sha or sha256(content))
        ack = None
        for offset in range(0, len(content), piece):
            chunk = content[offset : offset + piece]
            self.channel.send([encode_header(Chunk(name, len(content), offset)), chunk])
            ack, _ = self.receive()
            assert isinstance(ack, ChunkAck)
        assert ack is not None
        return ack

    def attach(self, deployment: str, epoch: int) -> DataHeader:
        self.channel.send([encode_header(Attach(deployment, epoch))])
        return self.receive()[0]

    def send(
        self, deployment: str, epoch: int, seq: int, arrays: dict[str, np.ndarray], *, shard: int = 0, job: int = 1,
        producer: int = CLIENT,
    ) -> None:  # fmt: skip
        named = [(name, array, "raw") for name, array in arrays.items()]
        frames = tensor_frames(deployment, epoch, job, seq, ShardId(producer), ShardId(shard), named)
        assert self.channel.send(frames)

    def result(self, timeout: float = WAIT) -> tuple[int, dict[str, np.ndarray]]:
        header, frames = self.receive(timeout)
        assert isinstance(header, Tensors), header
        assert header.consumer == CLIENT
        return header.seq, read_tensors(header, frames)

    def failure(self, timeout: float = WAIT) -> ShardFailed:
        header, _ = self.receive(timeout)
        assert isinstance(header, ShardFailed), header
        return header


def sha256(content: bytes) -> Sha256:
    return Sha256(hashlib.sha256(content).hexdigest())


class Linear:
    """y = x @ w + b with the weights as external blobs, as one shard's graph."""

    def __init__(self, inputs: int, outputs: int, seed: int = 0, x: str = "x", y: str = "y") -> None:
        rng = np.random.default_rng(seed)
        self.w = rng.standard_normal((inputs, outputs)).astype(np.float32)
        self.b = rng.standard_normal(outputs).astype(np.float32)
        self.x, self.y = x, y
        self.sizes = (inputs, outputs)
        graph = helper.make_graph(
            [helper.make_node("Gemm", [x, "w", "b"], [y])],
            "linear",
            [helper.make_tensor_value_info(x, TensorProto.FLOAT, ["n", inputs])],
            [helper.make_tensor_value_info(y, TensorProto.FLOAT, ["n", outputs])],
            [_external("w", self.w), _external("b", self.b)],
        )
        self.graph = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
        ).SerializeToString()

    @property
    def blobs(self) -> list[bytes]:
        return [self.graph, self.w.tobytes(), self.b.tobytes()]

    def shard(self, node: NodeId, number: int = 0, label: str = "whole model") -> Shard:
        weights = tuple(
            Weight(name, "float32", array.shape, sha256(array.tobytes()), array.nbytes)
            for name, array in (("w", self.w), ("b", self.b))
        )
        return Shard(
            id=ShardId(number), node=node, label=label, replica=0, stage=number, rank=0, graph=sha256(self.graph),
            graph_nbytes=len(self.graph), weights=weights, inputs=(Port(self.x, "float32", (None, self.sizes[0])),),
            outputs=(Port(self.y, "float32", (None, self.sizes[1])),), activation_bytes=1024,
        )  # fmt: skip

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return x @ self.w + self.b


def _external(name: str, array: np.ndarray) -> TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=array.shape, data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="blob")
    return tensor


def reserve(control: Control, deployment: str, memory: int = 1 << 20) -> Reply:
    return control.ask(Reserve(deployment, "desk", memory))


def load(
    control: Control,
    deployment: str,
    epoch: int,
    shards: Sequence[Shard],
    routes: Sequence[Route],
    placement: dict[int, NodeId],
    peers: dict[NodeId, str] | None = None,
) -> Reply:
    return control.ask(
        LoadShards(deployment, epoch, tuple(shards), tuple(routes), placement, peers or {}), timeout=WAIT
    )


def deploy_linear(
    station: Workstation, agent: AgentProcess, model: Linear, deployment: str = "d", epoch: int = 1
) -> tuple[Control, Data]:
    """One linear layer on one agent, ready for tensors."""
    control, data = station.control(agent), station.data(agent)
    control.hello()
    assert reserve(control, deployment) == Done()
    for blob in model.blobs:
        assert data.ship(blob).received == -1
    routes = [
        Route(CLIENT, model.x, ShardId(0), model.x),
        Route(ShardId(0), model.y, CLIENT, model.y),
    ]
    assert isinstance(load(control, deployment, epoch, [model.shard(agent.id)], routes, {0: agent.id}), Loaded)
    assert data.attach(deployment, epoch) == Attached(deployment, epoch)
    return control, data


def until(condition: Callable[[], Any], timeout: float = WAIT) -> Any:
    """The first true value of ``condition``; fails after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, f"the condition did not come true in {timeout} s"
        time.sleep(0.01)
    return value


def cpu_seconds(pid: int) -> float:
    import psutil

    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


POSIX = os.name == "posix"
