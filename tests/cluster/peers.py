"""Agents and toy peers on real sockets."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from core.cluster.local import LocalAgent
from core.model.graph import Model
from core.model.reader import open_model
from core.plan.form import NodeId
from core.wire.frames import decode_request, encode_reply
from core.wire.keys import new_keys
from core.wire.messages import Reply, ReplyEnvelope, Request
from core.wire.sockets import Wire


class CodeAgent:
    """An agent without a shared key file, as on another machine: it prints a pairing code."""

    def __init__(self, state: Path) -> None:
        command = [sys.executable, "-m", "agent", "--port", "0", "--bind", "127.0.0.1", "--no-announce"]
        command += ["--ready-json", "--exit-with-stdin", "--threads", "1", "--name", "pi-1", "--state-dir", str(state)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        ready = msgspec.json.decode(self._process.stdout.readline())
        self.id = NodeId(ready["id"])
        self.control_port: int = ready["control_port"]
        self.pairing_port: int = ready["pairing_port"]
        self._stderr = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._stderr += line

    def codes(self) -> list[str]:
        """Every code it has shown, the newest last."""
        return re.findall(r"\b[0-9A-Z]{4}-[0-9A-Z]{4}-[0-9A-Z]{2}\b", self._stderr)

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._reader.join(5)
        self._process.stdout.close()
        self._process.stderr.close()


class ToyAgent:
    """Answers control requests by a function, and trusts everyone."""

    def __init__(self, answer: Callable[[Request], Reply | None]) -> None:
        self._answer = answer
        keys = new_keys()
        self.id = NodeId(keys.public)
        self._wire = Wire(keys)
        self._listener = self._wire.listen("127.0.0.1", 0, allow_any=True)
        self.control_port = self._listener.port
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        poller = self._wire.poller()
        poller.register(self._listener)
        while not self._closing.is_set():
            poller.wait(0.05)
            while (received := self._listener.recv()) is not None:
                request = decode_request(received.frames[0])
                reply = self._answer(request.body)
                if reply is not None:
                    self._listener.send(received.sender, [encode_reply(ReplyEnvelope(request.id, reply))])
        self._listener.close()

    def close(self) -> None:
        self._closing.set()
        self._thread.join(5)
        self._wire.close()


def mlp(folder: Path, *, width: int = 64, layers: int = 3, seed: int = 0, name: str = "mlp") -> Model:
    """``layers`` matrix products of ``width`` by ``width``, with a symbolic batch."""
    rng = np.random.default_rng(seed)
    nodes, weights = [], []
    for layer in range(layers):
        array = rng.standard_normal((width, width), np.float32) / np.sqrt(width)
        weights.append(numpy_helper.from_array(array.astype(np.float32), f"weight{layer}"))
        source = "x" if layer == 0 else f"h{layer - 1}"
        nodes.append(helper.make_node("MatMul", [source, f"weight{layer}"], [f"m{layer}"], name=f"fc{layer}"))
        target = "y" if layer == layers - 1 else f"h{layer}"
        nodes.append(helper.make_node("Tanh", [f"m{layer}"], [target], name=f"tanh{layer}"))
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", width])],
        weights,
    )
    path = folder / f"{name}.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return open_model(path)


def as_address(agent: LocalAgent) -> tuple[str, int]:
    return agent.host, agent.control_port
