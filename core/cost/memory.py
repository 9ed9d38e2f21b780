"""How much memory an agent takes before it holds any shard."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import Final

import msgspec
import onnxruntime as ort

from core.cost.speed import speed_graph
from core.paths import cache_dir

TYPICAL_BASE_BYTES: Final = 80 << 20
"""An agent without shards, where it cannot be measured."""
_PROBE_SECONDS: Final = 30.0
_PROBE: Final = """
import sys, numpy, psutil, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
onnxruntime.InferenceSession(sys.stdin.buffer.read(), options, providers=["CPUExecutionProvider"])
print(psutil.Process().memory_info().rss)
"""


class _Base(msgspec.Struct, frozen=True):
    version: str
    nbytes: int


def measured_base_bytes() -> int:
    """Resident bytes of a process that has onnxruntime loaded and a small session open; measured once a version.

    A typical figure where no process can be started for it (a frozen application).
    """
    path = cache_dir() / "runtime-base.json"
    try:
        held = msgspec.json.decode(path.read_bytes(), type=_Base)
        if held.version == ort.__version__:
            return held.nbytes
    except (OSError, msgspec.DecodeError):
        pass  # not measured yet, or by another version
    if getattr(sys, "frozen", False):
        return TYPICAL_BASE_BYTES
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE],
            input=speed_graph()[0],
            capture_output=True,
            timeout=_PROBE_SECONDS,
            check=True,
        )
        nbytes = int(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return TYPICAL_BASE_BYTES
    partial = path.with_suffix(f".{os.getpid()}.{threading.get_ident()}")
    partial.write_bytes(msgspec.json.encode(_Base(ort.__version__, nbytes)))
    partial.replace(path)
    return nbytes
