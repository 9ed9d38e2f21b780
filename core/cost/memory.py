"""How much memory an agent takes before it holds any shard, and what a shard takes beside weights and tensors."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

from core.paths import cache_dir

REVISION: Final = 2
"""Raised when it is measured otherwise."""
WORKING_BYTES: Final = 2_800_000
"""More that an agent takes as soon as it works than while it waits: threads, connections, code that is read for the
first time. Measured with shards of a few KB on 1 to 3 agents: 2.0 to 3.0 MB."""
ARENA: Final = 1.25
"""Bytes that tensors take over those that are alive at the peak: onnxruntime's arena grows by doubling and has gaps,
and messages are encrypted in copies. Measured for MobileNetV2, ResNet-50, BERT-base and GPT-2, whole and divided among
2 and 3 agents: 0.96 to 1.9, in the middle 1.25."""
TYPICAL_BASE_BYTES: Final = 80 << 20
"""An agent that works, without its shards, where no node tells and nothing can be measured."""
TYPICAL_SESSION_BYTES: Final = 64 << 10
TYPICAL_OPERATOR_BYTES: Final = 2_800
"""As measured with onnxruntime 1.31 on Linux, where it cannot be."""
SESSIONS: Final = 40
OPERATORS: Final = 200
LONG_SESSIONS: Final = 10
"""Of so many operators."""
_PROBE_SECONDS: Final = 60.0
_PROBE: Final = """
import ctypes, sys, numpy, psutil, onnxruntime as ort
memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
ort.create_and_register_allocator(memory, None)
options = ort.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
options.add_session_config_entry("session.use_env_allocators", "1")
trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
held = []
def opened(name, count):
    for _ in range(count):
        held.append(ort.InferenceSession(name, options, providers=["CPUExecutionProvider"]))
        held[-1].run(None, {"x": numpy.zeros(16, numpy.float32)})
    if trim is not None:
        trim(0)
    return psutil.Process().memory_info().rss
print(opened(sys.argv[1], 1), opened(sys.argv[1], int(sys.argv[3])), opened(sys.argv[2], int(sys.argv[4])))
"""


class Runtime(NamedTuple):
    """Resident bytes."""

    base: int
    """Of a process that has onnxruntime loaded and a small session open, and of what an agent that works takes more."""
    session: int
    """Of each session beside its operators, weights and tensors."""
    operator: int
    """Of each operator in a session."""


TYPICAL: Final = Runtime(TYPICAL_BASE_BYTES, TYPICAL_SESSION_BYTES, TYPICAL_OPERATOR_BYTES)


class _Kept(msgspec.Struct, frozen=True):
    revision: int
    version: str
    runtime: Runtime


def measured_runtime() -> Runtime:
    """What onnxruntime takes on this workstation, measured once a version with sessions as agents open them.

    Typical figures where no process can be started for it (a frozen application).
    """
    path = cache_dir() / "runtime-memory.json"
    try:
        kept = msgspec.json.decode(path.read_bytes(), type=_Kept)
        if (kept.revision, kept.version) == (REVISION, ort.__version__):
            return kept.runtime
    except (OSError, msgspec.DecodeError):
        pass  # not measured yet, or by another version
    if getattr(sys, "frozen", False):
        return TYPICAL
    try:
        runtime = _measured(path.parent)
    except (OSError, subprocess.SubprocessError, ValueError):
        return TYPICAL
    partial = path.with_suffix(f".{os.getpid()}.{threading.get_ident()}")
    partial.write_bytes(msgspec.json.encode(_Kept(REVISION, ort.__version__, runtime)))
    partial.replace(path)
    return runtime


def _measured(folder: Path) -> Runtime:
    """Raises OSError, SubprocessError, or ValueError for an answer that makes no sense."""
    names = [folder / f"probe-{os.getpid()}-{threading.get_ident()}-{count}.onnx" for count in (1, OPERATORS)]
    try:
        for name, count in zip(names, (1, OPERATORS), strict=True):
            name.write_bytes(_graph(count))
        command = [sys.executable, "-c", _PROBE, *map(str, names), str(SESSIONS), str(LONG_SESSIONS)]
        done = subprocess.run(command, capture_output=True, timeout=_PROBE_SECONDS, check=True)
    finally:
        for name in names:
            name.unlink(missing_ok=True)
    return runtime_of(*map(int, done.stdout.split()))


def runtime_of(one: int, many: int, long: int) -> Runtime:
    """From resident bytes with one short session, with ``SESSIONS`` more, and with ``LONG_SESSIONS`` long ones more.

    ValueError for figures that cannot be.
    """
    short = (many - one) / SESSIONS
    operator = ((long - many) / LONG_SESSIONS - short) / (OPERATORS - 1)
    if not (one > 0 and 0 <= operator <= short):
        raise ValueError("sessions take some memory, and operators less")
    return Runtime(one + WORKING_BYTES, round(short), round(operator))


def _graph(operators: int) -> bytes:
    """So many operators one after another, that onnxruntime neither fuses nor leaves out."""
    names = ["x", *(f"v{place}" for place in range(operators - 1)), "y"]
    types = ["Relu" if place % 2 else "Neg" for place in range(operators)]
    nodes = [helper.make_node(kind, [names[at]], [names[at + 1]]) for at, kind in enumerate(types)]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [16]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "probe", ends[:1], ends[1:])
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return bytes(model.SerializeToString())
